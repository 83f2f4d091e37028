"""Where a run's files lie, and the one place that writes AND reads its log and its result.

Log line formats are those of the published CLUE benchmark runs; scripts of users parse them. A result JSON stands
beside each log; a trial counts as done only if that JSON is whole, says so, and carries the configuration hash of the
plan (see `cluebench.identity`).
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

from cluebench import atomic, json_files
from cluebench.json_files import Count, Positive, Score, Seconds, matching
from cluebench.notices import say
from cluebench.search.halving import Curve
from cluebench.tasks import DEFAULT_SEED

if TYPE_CHECKING:
    from cluebench.dev_predictions import DevPredictions

RESULT_FORMAT: Literal[1] = 1

#: Status of a result that is not done: of a run that stands still where --pause_at says, and of one that a search has
#: stopped there. Either goes on from its checkpoint with --resume.
PAUSED: Literal["paused"] = "paused"
STOPPED: Literal["stopped"] = "stopped"

#: The clock when this process began, but for what Python needs to start.
_BEGAN = time.perf_counter()

#: What decides a score, as `cluebench.identity` writes it down; PaddleNLP's Trainer has some of its own, a level below.
#: Tables and commands print them, and the file may be a stranger's: nothing in it steers a terminal.
_Word = Annotated[str, matching(r"^[^\x00-\x1f\x7f-\x9f]*\Z")]
Settings = dict[_Word, bool | int | float | _Word | None | dict[_Word, bool | int | float | _Word | None]]


# Paths ----------------------------------------------------------------------------------------------------------------


def trial_name(learning_rate: float, batch_size: int, dropout: float, seed: int = DEFAULT_SEED) -> str:
    """``3e-05_32_0.1``, with ``_seed43`` behind it for a seed other than 42."""
    name = f"{float(learning_rate)}_{int(batch_size)}_{float(dropout)}"
    return name if seed == DEFAULT_SEED else f"{name}_seed{seed}"


_TRIAL_NAME = re.compile(r"(?P<lr>[0-9.eE+-]+)_(?P<batch>\d+)_(?P<dropout>\d*\.?\d+)(?:_seed(?P<seed>\d+))?$")


def parse_trial_name(name: str) -> tuple[float, int, float, int] | None:
    """The (learning rate, batch size, dropout, seed) behind a file name without suffix; None if it is no trial's."""
    match = _TRIAL_NAME.match(name)
    if match is None:
        return None
    try:
        return float(match["lr"]), int(match["batch"]), float(match["dropout"]), int(match["seed"] or DEFAULT_SEED)
    except ValueError:
        return None


@dataclass(frozen=True)
class TrialPaths:
    """Every file name of one trial: ``<run_root>/<model>/<task>/<trial>{.log,.json,/}``."""

    folder: Path  # <run_root>/<model>/<task>
    name: str

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def result(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def predictions(self) -> Path:
        """What its best model said of dev; see `cluebench.dev_predictions`."""
        return self.folder / f"{self.name}.predictions"

    @property
    def output_dir(self) -> Path:
        """The best model, when it is kept; the periodic checkpoint and the step file while the trial runs."""
        return self.folder / self.name


# Log lines ------------------------------------------------------------------------------------------------------------


class RunLog:
    """Writes the published log lines, on the given stream, flushed line by line. Silent on ranks other than 0."""

    def __init__(self, stream: TextIO | None = None, rank: int = 0):
        self.stream = stream
        self.rank = rank

    def line(self, text: str) -> None:
        if self.rank == 0:
            say(text, self.stream or sys.stdout)

    def train(
        self, step: int, total: int, epoch: int, batch: int, loss: float, lr: float, steps_per_second: float
    ) -> None:
        """``step`` counts optimizer steps from 1, ``batch`` an epoch's micro-batches from 0; ``lr`` is of the next."""
        self.line(
            f"global step {step}/{total}, epoch: {epoch}, batch: {batch}, rank_id: {self.rank}, "
            f"loss: {loss:f}, lr: {lr:.10f}, speed: {steps_per_second:.4f} step/s"
        )

    def evaluated(
        self, loss: float, score: Sequence[float], seconds: float, organisers: Sequence[float] | None = None
    ) -> None:
        """``score`` in percent: accuracy (printed as a share of 1), or EM and F1, the organisers' behind them."""
        behind = "" if organisers is None else ", cmrc2018 organisers' exact: {:.4f}, f1: {:.4f}".format(*organisers)
        self.line(f"eval loss: {loss:f}, {shown_score(score)}, eval done total : {seconds:.2f} s{behind}")

    def best(self, score: str) -> None:
        """``score`` as Task.format_score gives it."""
        self.line(f"best_result: {score}")


_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TRAIN = re.compile(
    r"global step (?P<step>\d{1,12})/(?P<total>\d{1,12}(?:\.\d+)?), epoch: (?P<epoch>\d+), batch: (?P<batch>\d+).*?"
    r"loss: (?P<loss>[-+.\deE]+|nan|inf|-inf), lr: (?P<lr>[.\deE+-]+), speed: (?P<speed>[.\deE+-]+) step/s"
)
_EVALUATED = re.compile(r"\bacc: (?P<acc>[.\deE+-]+)")
_EVALUATED_SPAN = re.compile(r"\bexact: (?P<em>[.\deE+-]+), f1: (?P<f1>[.\deE+-]+)")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_CHUNK, _LONGEST_LINE = 1 << 20, 1 << 12
_EVALUATED_IN = re.compile(r"\beval done total : (?P<seconds>\d{1,9}(?:\.\d+)?) s")
_BEST = re.compile(r"best_result: (?P<score>\d+(?:\.\d+)?(?:/\d+(?:\.\d+)?)?)")

_NUMBER = r"[-+]?(?:\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|inf|nan)"
#: A whole line as `RunLog` writes it, and no more: what other libraries say in a log may name paths.
PUBLISHED_LINE = re.compile(
    rf"global step (?P<step>\d+)/(?P<total>\d+), epoch: \d+, batch: \d+, rank_id: \d+, loss: {_NUMBER}, "
    rf"lr: (?P<lr>{_NUMBER}), speed: {_NUMBER} step/s"
    rf"|eval loss: (?P<loss>{_NUMBER}), (?P<score>acc: {_NUMBER}|exact: {_NUMBER}, f1: {_NUMBER}), "
    rf"eval done total : {_NUMBER} s(?:, cmrc2018 organisers' exact: {_NUMBER}, f1: {_NUMBER})?"
    rf"|best_result: (?P<best>[\d.]+(?:/[\d.]+)?)",
    re.ASCII,
)


def shown_score(score: Sequence[float]) -> str:
    """A score in percent as an evaluation's line has it: accuracy as a share of 1, or EM and F1."""
    return f"acc: {score[0] / 100:.4f}" if len(score) == 1 else f"exact: {score[0]:.4f}, f1: {score[1]:.4f}"


@dataclass
class LogFacts:
    """What a log says so far: of a running trial, or of one by the published tool that has no result JSON."""

    step: int | None = None
    total_steps: int | None = None
    steps_per_second: float | None = None
    last_score: tuple[float, ...] | None = None  # the last evaluation, in percent
    best_score: tuple[float, ...] | None = None  # from best_result: the trial has ended
    last_lines: list[str] = field(default_factory=list)  # up to 20, without colours
    dev_curve: list[DevPoint] = field(default_factory=list)  # a step is that of the last training line before
    train_seconds: float = 0.0  # by the speeds logged
    eval_seconds: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)  # (step, training loss), those that are numbers
    _epoch: int = 0
    _counted: int = 0  # steps whose seconds are in train_seconds

    def trained(self, step: int, total: int, epoch: int, steps_per_second: float, loss: float) -> None:
        if step < (self.step or 0):  # gone on from a checkpoint: what follows it is done, and logged, again
            self.dev_curve = [point for point in self.dev_curve if point.step < step]
            self.losses = [point for point in self.losses if point[0] < step]
        if math.isfinite(loss):
            self.losses.append((step, loss))
        self.step, self.total_steps, self.steps_per_second = step, total, steps_per_second
        self._epoch = epoch
        self._count(step)

    def evaluated(self, score: tuple[float, ...]) -> None:
        if max(score) > 100 or min(score) < 0:  # no such score; 9e999, too, is a float
            return
        self.last_score = score
        self.dev_curve.append(DevPoint(self.step or 0, self._epoch, score))

    def ended(self, best_score: tuple[float, ...]) -> None:
        """The last evaluation follows the last step, wherever the last training line was."""
        self.best_score = best_score
        if self.total_steps and self.dev_curve:
            self.dev_curve[-1] = replace(self.dev_curve[-1], step=self.total_steps)
            self._count(self.total_steps)

    def _count(self, step: int) -> None:
        """The seconds of the steps up to ``step``, at the speed last logged."""
        if self.steps_per_second and 0 < self.steps_per_second < math.inf:
            self.train_seconds += max(0, step - self._counted) / self.steps_per_second
        self._counted = step


def read_log(path: str | Path) -> LogFacts:
    """What a whole log says. Raises OSError when it can't be read."""
    return GrowingLog(path).read()


class GrowingLog:
    """A log in the published formats, whatever prefix or colours its lines carry, read on from where it was left.

    Lines that are not ours, or not whole, are passed over. ``most``: bytes to read at once at most, the last ones.
    """

    def __init__(self, path: str | Path, most: int | None = None):
        self._path, self._most = path, most
        self._file, self._at, self._rest, self._facts = -1, 0, b"", LogFacts()

    def read(self) -> LogFacts:
        """What it says by now. Raises OSError when it can't be read."""
        with open(self._path, "rb") as stream:
            status = os.fstat(stream.fileno())
            if status.st_ino != self._file or status.st_size < self._at:
                self._file, self._at, self._rest, self._facts = status.st_ino, 0, b"", LogFacts()
            if self._most is not None and status.st_size - self._at > self._most:
                self._at, self._rest = status.st_size - self._most, b""
            stream.seek(self._at)
            while chunk := stream.read(_CHUNK):
                self._at += len(chunk)
                *lines, rest = _LINE_END.split(self._rest + chunk)
                self._rest = rest[-_LONGEST_LINE:]
                for line in lines:
                    _take(self._facts, line)
        known = self._facts
        facts = replace(known, last_lines=[*known.last_lines], dev_curve=[*known.dev_curve], losses=[*known.losses])
        if self._rest:  # being written, or the end of a log whose writer was killed
            _take(facts, self._rest)
        return facts


def _take(facts: LogFacts, raw: bytes) -> None:
    line = _ANSI.sub("", raw[-_LONGEST_LINE:].decode("utf-8", errors="replace"))
    facts.last_lines.append(line)
    del facts.last_lines[:-20]
    try:
        if match := _EVALUATED_IN.search(line):
            facts.eval_seconds += float(match["seconds"])
        if match := _TRAIN.search(line):
            step, total, speed = int(match["step"]), int(float(match["total"])), float(match["speed"])
            facts.trained(step, total, int(match["epoch"]), speed, float(match["loss"]))
        elif match := _BEST.search(line):
            facts.ended(tuple(float(part) for part in match["score"].split("/")))
        elif match := _EVALUATED_SPAN.search(line):
            facts.evaluated((float(match["em"]), float(match["f1"])))
        elif match := _EVALUATED.search(line):
            facts.evaluated((100 * float(match["acc"]),))
    except ValueError:
        return  # such as "acc: -", or two writers in one line


#: In --output_dir while a run trains: "12/5004", for displays that would else wait for the next log line.
STEP_FILE = "step.txt"


def furthest_step(facts: LogFacts, output_dir: Path) -> tuple[int, int] | None:
    """(step, total) of a run, by its log or the file between two log lines; None before the first step."""
    known = [(facts.step, facts.total_steps)] if facts.step and facts.total_steps else []
    try:
        step, total = map(int, (output_dir / STEP_FILE).read_text(encoding="utf-8").split("/"))
        known += [(step, total)] if 0 < step <= total else []
    except (OSError, ValueError):  # none, or it is just being written
        pass
    return max(known, default=None)


# Results --------------------------------------------------------------------------------------------------------------


@dataclass
class DevPoint:
    """One evaluation on dev."""

    step: Count  # optimizer steps done
    epoch: Count
    score: Score  # percent; EM and F1 for spans
    loss: float | None = None
    organisers: Score | None = None  # CMRC2018: the organisers' EM and F1, percent


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
class Evaluation:
    """What a pass over dev found."""

    loss: float
    score: tuple[float, ...]  # percent; EM and F1 for spans
    said: DevPredictions
    predictions: Iterable[Mapping[str, Any]]  # records of `cluebench.analysis`, only read when they are the best so far
    organisers: tuple[float, float] | None = None  # CMRC2018: the organisers' EM and F1, percent


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
    metric: str = "accuracy"  # or "em_f1", see cluebench.tasks
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
        """Appends an evaluation; True when it is the best so far. Ties go to the earlier one, as published."""
        self.dev_curve.append(point)
        if self.best_score is not None and point.score[0] <= self.best_score[0]:
            return False
        self.best_score, self.best_step = point.score, point.step
        return True

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
        """Keeps result and saved model in step when an earlier process improved after its last checkpoint."""
        earlier = Result.read(path) if path else None
        if earlier is None or earlier.configuration_hash != self.configuration_hash or earlier.best_score is None:
            return
        if self.best_score is None or earlier.best_score[0] > self.best_score[0]:
            self.best_score, self.best_step = earlier.best_score, earlier.best_step

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
        if result is None or result.status != "done" or result.best_score is None:
            return None
        return result if configuration_hash in (None, result.configuration_hash) else None


def find_logs(folder: str | Path) -> Iterator[tuple[Path, tuple[float, int, float, int]]]:
    """The trial logs directly in a task's folder, with what their names say, in name order."""
    for path in sorted(Path(folder).glob("*.log")):
        if (trial := parse_trial_name(path.stem)) is not None:
            yield path, trial
