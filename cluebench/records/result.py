"""The result JSON that stands beside a trial's log.

A trial counts as done only if that JSON is whole, says so, and carries the configuration hash of the plan (see
`cluebench.records.identity`).
"""

import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

from cluebench.foundation import atomic, json_files
from cluebench.foundation.json_files import Count, Meta, Positive, Score, Seconds
from cluebench.records import identity
from cluebench.search.halving import Curve

#: Status of a result that is not done: of a run that has paused at --pause_at, and of a trial that a search has stopped
#: at such a point. --resume continues either from its checkpoint.
PAUSED: Literal["paused"] = "paused"
STOPPED: Literal["stopped"] = "stopped"

#: The clock when this process began, without the start of Python itself.
_BEGAN = time.perf_counter()

#: The settings that decide a score, see `cluebench.records.identity`; PaddleNLP's Trainer adds nested ones. They are
#: printed, and the file may come from a stranger: control characters are refused.
_Word = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]*\Z")]
Settings = dict[_Word, bool | int | float | _Word | None | dict[_Word, bool | int | float | _Word | None]]


@dataclass
class DevPoint:
    """One evaluation on dev."""

    step: Count  # optimizer steps done
    epoch: Count
    score: Score  # percent; EM and F1 for spans
    loss: float | None = None
    organisers: Score | None = None  # CMRC2018: the organisers' EM and F1, percent
    cut_after: Count | None = None  # rows computed; the score is an upper bound, at most the best score before it


@dataclass
class Progress:
    """The fields of a result that grow while it runs. A checkpoint holds them."""

    dev_curve: list[DevPoint]
    best_score: Score | None
    best_step: Count | None
    train_seconds: Seconds
    eval_seconds: Seconds
    device_seconds: Seconds | None = None  # None: in checkpoints of earlier versions


@dataclass(frozen=True)
class ModelSize:
    """The size of a model without a task's head."""

    layers: Count
    hidden_size: Count
    parameters: Count

    @property
    def architecture(self) -> str:
        """``12L768H``, as in the published table."""
        return f"{self.layers}L{self.hidden_size}H"


@dataclass
class Result:
    """The result JSON of a trial."""

    task: str
    model: str
    configuration: Settings
    configuration_hash: str
    status: Literal["running", "done", "failed", "paused", "stopped"] = "running"  # see `PAUSED`, `STOPPED`
    metric: str = "accuracy"  # or "em_f1", see cluebench.benchmark.tasks
    best_score: Score | None = None  # percent
    best_step: Count | None = None
    dev_curve: list[DevPoint] = field(default_factory=list)
    total_steps: Count = 0
    train_seconds: Seconds = 0.0
    eval_seconds: Seconds = 0.0
    device_seconds: Seconds | None = None  # the trial's cost, see `spend`; None: in results of earlier versions
    peak_memory_bytes: Count | None = None  # of the device; on a CPU of the process
    model_size: ModelSize | None = None
    device: str = "cpu"
    cards: Positive = 1
    accumulation_steps: Positive = 1  # micro-batches per optimizer step: not part of the trial's identity
    best_model: str | None = None  # directory, if kept
    error: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    started: str | None = None  # ISO 8601, UTC
    finished: str | None = None
    format: Literal[1] = 1

    def __post_init__(self) -> None:
        numbers = {"accuracy": 1, "em_f1": 2}.get(self.metric)
        if numbers is None:
            raise ValueError(f"no metric is called {self.metric}")
        for score in (self.best_score, *(point.score for point in self.dev_curve)):
            if score is not None and len(score) != numbers:
                raise ValueError(f"{len(score)} number(s) are no score of metric {self.metric}")

    def add(self, point: DevPoint) -> bool:
        """Adds an evaluation to the curve; True if it is the best so far. If scores tie, the earliest is the best.

        It replaces an evaluation after the same step that `adopt_newer_best` has added, unless that is the best and
        this one is not better: on a card the same step may give different numbers.
        """
        so_far = (-1.0, 0) if self.best_score is None else (self.best_score[0], -(self.best_step or 0))
        is_best = (point.score[0], -point.step) > so_far
        if not is_best and point.step == self.best_step:
            return False
        others = [other for other in self.dev_curve if other.step != point.step]
        self.dev_curve = sorted([*others, point], key=lambda other: other.step)
        if is_best:
            self.best_score, self.best_step = point.score, point.step
        return is_best

    def evaluation_after(self, step: int) -> DevPoint:
        """The point of its curve. Raises StopIteration if there is none."""
        return next(point for point in self.dev_curve if point.step == step)

    @property
    def is_finished(self) -> bool:
        return self.status == "done" and self.best_score is not None

    @property
    def curve(self) -> Curve:
        """Its evaluations, each with the number that ranks."""
        steps, scores = zip(*((point.step, point.score[0]) for point in self.dev_curve)) if self.dev_curve else ((), ())
        return Curve(steps, scores, self.total_steps, ended=self.status == "done")

    @property
    def cost(self) -> float:
        """Device seconds; if they were not counted, the seconds of steps and evaluations."""
        seconds = self.device_seconds
        return (self.train_seconds + self.eval_seconds) * self.cards if seconds is None else seconds

    _spent_until = _BEGAN

    def spend(self) -> None:
        """Counts the seconds of this process up to now, times its cards, from the first import to the last file.

        A resumed run adds the seconds up to its checkpoint. Seconds of earlier processes after their last checkpoint
        are in no result: the scheduler counts them for the grid.
        """
        now = time.perf_counter()
        self.device_seconds = (self.device_seconds or 0.0) + (now - self._spent_until) * self.cards
        self._spent_until = now

    def progress(self) -> Progress:
        """The state of the result at a checkpoint, for `take_up`."""
        self.spend()
        return Progress(**{one.name: getattr(self, one.name) for one in fields(Progress)})

    def take_up(self, progress: Progress) -> None:
        """Continues from the state that an earlier process of this run has written."""
        vars(self).update(vars(progress))
        self.device_seconds = self.cost

    def adopt_newer_best(self, path: str | Path | None) -> None:
        """If an earlier process improved after its last checkpoint, the saved model is its best: so is the result.

        The best evaluation is added with its point of the curve, or not at all.
        """
        earlier = Result.read(path) if path else None
        if earlier is None or earlier.configuration_hash != self.configuration_hash:
            return
        for point in earlier.dev_curve:
            is_best = (point.step, point.score) == (earlier.best_step, earlier.best_score)
            if is_best and (self.best_score is None or point.score[0] > self.best_score[0]):
                self.add(point)

    def know_as(self, configuration: Settings) -> None:
        """Sets the configuration, which names the same model differently."""
        self.configuration = configuration
        self.configuration_hash = identity.configuration_hash(configuration)

    def write(self, path: str | Path | None) -> None:
        """Whole or not at all; does nothing without a path. Raises OSError (disk full, read-only)."""
        if path is not None:
            atomic.write_json(path, asdict(self))

    @classmethod
    def read(cls, path: str | Path) -> "Result | None":
        """None without a file, and for a broken one, which is reported in one line."""
        return json_files.read_if_sound(path, cls, ["dev_curve"], "it counts for nothing")

    @classmethod
    def read_finished(cls, path: str | Path, configuration_hash: str | None = None) -> "Result | None":
        """The result of a finished trial, in any configuration or this one: the one rule for "done"."""
        result = cls.read(path)
        is_done = result and result.is_finished and configuration_hash in (None, result.configuration_hash)
        return result if is_done else None
