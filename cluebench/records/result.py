"""The result JSON that stands beside a trial's log.

A trial counts as done only if that JSON is whole, says so, and carries the configuration hash of the plan (see
`cluebench.records.identity`).
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

from cluebench.foundation import atomic, json_files
from cluebench.foundation.json_files import Count, Positive, Score, Seconds, matching
from cluebench.records import identity
from cluebench.search.halving import Curve

RESULT_FORMAT: Literal[1] = 1

#: Status of a result that is not done: of a run that stands still where --pause_at says, and of one that a search has
#: stopped there. Either goes on from its checkpoint with --resume.
PAUSED: Literal["paused"] = "paused"
STOPPED: Literal["stopped"] = "stopped"

#: The clock when this process began, but for what Python needs to start.
_BEGAN = time.perf_counter()

#: What decides a score, as `cluebench.records.identity` writes it down; PaddleNLP's Trainer has some of its own, a
#: level below. Tables and commands print them, and the file may be a stranger's: nothing in it steers a terminal.
_Word = Annotated[str, matching(r"^[^\x00-\x1f\x7f-\x9f]*\Z")]
Settings = dict[_Word, bool | int | float | _Word | None | dict[_Word, bool | int | float | _Word | None]]


@dataclass
class DevPoint:
    """One evaluation on dev."""

    step: Count  # optimizer steps done
    epoch: Count
    score: Score  # percent; EM and F1 for spans
    loss: float | None = None
    organisers: Score | None = None  # CMRC2018: the organisers' EM and F1, percent
    cut_after: Count | None = None  # rows computed; then the score is only an upper bound, no more than the best before


@dataclass
class Progress:
    """The fields of a result that grow while it runs, and that a checkpoint carries."""

    dev_curve: list[DevPoint]
    best_score: Score | None
    best_step: Count | None
    train_seconds: Seconds
    eval_seconds: Seconds
    device_seconds: Seconds | None = None  # None: as checkpoints were written before it was counted


@dataclass(frozen=True)
class ModelSize:
    """Of a model without the head of a task."""

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
    device_seconds: Seconds | None = None  # what the trial cost, see `spend`; None: of a time when nobody counted
    energy_joules: Seconds | None = None  # of its cards meanwhile, by the scheduler; None: unknown
    peak_memory_bytes: Count | None = None  # of the device; of the process on a CPU
    model_size: ModelSize | None = None
    device: str = "cpu"
    cards: Positive = 1
    accumulation_steps: Positive = 1  # micro-batches an optimizer step: recorded, not part of the trial's identity
    best_model: str | None = None  # directory, when kept
    error: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    started: str | None = None  # ISO 8601, UTC
    finished: str | None = None
    format: Literal[1] = RESULT_FORMAT

    def __post_init__(self) -> None:
        numbers = {"accuracy": 1, "em_f1": 2}.get(self.metric)
        if numbers is None:
            raise ValueError(f"no metric is called {self.metric}")
        for score in (self.best_score, *(point.score for point in self.dev_curve)):
            if score is not None and len(score) != numbers:
                raise ValueError(f"{len(score)} number(s) are no score of metric {self.metric}")

    def add(self, point: DevPoint) -> bool:
        """Takes an evaluation into the curve; True when it is the best so far. Of equal ones that is the earliest.

        It takes the place of one that `adopt_newer_best` took from an earlier process after the same step, unless that
        is the best and this one is no better: on a card the same step need not come out the same twice.
        """
        so_far = (-1.0, 0) if self.best_score is None else (self.best_score[0], -(self.best_step or 0))
        is_best = (point.score[0], -point.step) > so_far
        if not is_best and point.step == self.best_step:
            return False
        others = [other for other in self.dev_curve if other.step != point.step]
        self.dev_curve = sorted([*others, point], key=lambda one: one.step)
        if is_best:
            self.best_score, self.best_step = point.score, point.step
        return is_best

    def evaluation_after(self, step: int) -> DevPoint:
        """The point of its curve. Raises StopIteration when there is none."""
        return next(point for point in self.dev_curve if point.step == step)

    @property
    def is_finished(self) -> bool:
        return self.status == "done" and self.best_score is not None

    @property
    def curve(self) -> Curve:
        """Its evaluations, by the number that ranks."""
        steps, scores = (point.step for point in self.dev_curve), (point.score[0] for point in self.dev_curve)
        return Curve(tuple(steps), tuple(scores), self.total_steps, ended=self.status == "done")

    @property
    def cost(self) -> float:
        """Device seconds; where nobody counted them, those of the steps and evaluations."""
        seconds = self.device_seconds
        return (self.train_seconds + self.eval_seconds) * self.cards if seconds is None else seconds

    _spent_until = _BEGAN

    def spend(self) -> None:
        """Counts the seconds of this process up to now, times its cards, from the first import to the last file.

        With those up to the checkpoints that were taken up they are what the trial cost. What earlier processes did
        behind their last checkpoint, or in vain, is in no result: the scheduler counts it for the grid.
        """
        now = time.perf_counter()
        self.device_seconds = (self.device_seconds or 0.0) + (now - self._spent_until) * self.cards
        self._spent_until = now

    def progress(self) -> Progress:
        """What a run has gathered by a checkpoint; `take_up` gives it back."""
        self.spend()
        return Progress(**{one.name: getattr(self, one.name) for one in fields(Progress)})

    def take_up(self, progress: Progress) -> None:
        """Goes on from what an earlier process of this run had gathered."""
        vars(self).update(vars(progress))
        self.device_seconds = self.cost

    def adopt_newer_best(self, path: str | Path | None) -> None:
        """Keeps result and saved model in step when an earlier process improved after its last checkpoint.

        The best evaluation is adopted with its point of the curve, or not at all.
        """
        earlier = Result.read(path) if path else None
        if earlier is None or earlier.configuration_hash != self.configuration_hash:
            return
        named = earlier.best_step, earlier.best_score
        best = [point for point in earlier.dev_curve if (point.step, point.score) == named]
        if best and (self.best_score is None or best[0].score[0] > self.best_score[0]):
            self.add(best[0])

    def know_as(self, configuration: Settings) -> None:
        """Has the result of a configuration under another name of its model."""
        self.configuration = configuration
        self.configuration_hash = identity.configuration_hash(configuration)

    def write(self, path: str | Path | None) -> None:
        """Atomically; nowhere where None. Raises OSError (disk full, read-only) with nothing at ``path`` changed."""
        if path is not None:
            atomic.write_json(path, asdict(self))

    @classmethod
    def read(cls, path: str | Path) -> Result | None:
        """None when there is no file, or it isn't a whole result of this format, which one line says then."""
        return json_files.read_if_sound(path, cls, ["dev_curve"], "it counts for nothing")

    @classmethod
    def read_finished(cls, path: str | Path, configuration_hash: str | None = None) -> Result | None:
        """The result of a trial that is done, in any configuration or this one: what "done" means, everywhere."""
        result = cls.read(path)
        if result is None or not result.is_finished:
            return None
        return result if configuration_hash in (None, result.configuration_hash) else None
