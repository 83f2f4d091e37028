"""The log of a run: the one place that writes AND reads its lines.

Their formats are those of the published CLUE benchmark runs; scripts of users parse them.
"""

import math
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TextIO

from cluebench.foundation.notices import say
from cluebench.records.paths import STEP_FILE
from cluebench.records.result import DevPoint


class TrainingLine(NamedTuple):
    """The numbers of a training line."""

    step: int  # optimizer steps, from 1
    total: int
    epoch: int
    batch: int  # micro-batches of the epoch, from 0
    loss: float
    lr: float  # of the next step
    speed: float  # steps per second


class RunLog:
    """Writes the published log lines to the given stream, flushed line by line. Only rank 0 writes."""

    def __init__(self, stream: TextIO | None = None, rank: int = 0):
        self.stream = stream
        self.rank = rank

    def line(self, text: str) -> None:
        if self.rank == 0:
            say(text, self.stream or sys.stdout)

    def train(self, at: TrainingLine) -> None:
        self.line(
            f"global step {at.step}/{at.total}, epoch: {at.epoch}, batch: {at.batch}, rank_id: {self.rank}, "
            f"loss: {at.loss:f}, lr: {at.lr:.10f}, speed: {at.speed:.4f} step/s"
        )

    def evaluated(
        self, loss: float, score: Sequence[float], seconds: float, organisers: Sequence[float] | None = None
    ) -> None:
        """``score`` in percent: accuracy (printed as a share of 1), or EM and F1; the organisers' EM and F1 follow."""
        behind = "" if organisers is None else ", cmrc2018 organisers' exact: {:.4f}, f1: {:.4f}".format(*organisers)
        self.line(f"eval loss: {loss:f}, {shown_score(score)}, eval done total : {seconds:.2f} s{behind}")

    def cut(self, bound: float, computed: int, rows: int, seconds: float) -> None:
        """An evaluation that can't be the best. The line has no word by which other programs find a score."""
        self.line(f"dev cut after {computed}/{rows} rows, at most {bound:.4f} % right, {seconds:.2f} s")

    def best(self, score: str) -> None:
        """``score`` as Task.format_score gives it."""
        self.line(f"best_result: {score}")


_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TRAIN = re.compile(
    r"global step (?P<step>\d{1,12})/(?P<total>\d{1,12}(?:\.\d+)?), epoch: (?P<epoch>\d+), batch: \d+.*?"
    r"loss: (?P<loss>[-+.\deE]+|nan|inf|-inf), lr: [.\deE+-]+, speed: (?P<speed>[.\deE+-]+) step/s"
)
_EVALUATED = re.compile(
    r"(?:\bacc: (?P<acc>[.\deE+-]+)|\bexact: (?P<em>[.\deE+-]+), f1: (?P<f1>[.\deE+-]+))"
    r"(?:.*?\beval done total : (?P<seconds>\d{1,9}(?:\.\d+)?) s)?"
)
_CUT = re.compile(
    r"\bdev cut after (?P<computed>\d{1,12})/\d{1,12} rows, at most (?P<bound>[.\d]+) % right, (?P<seconds>[.\d]+) s"
)
_BEST = re.compile(r"best_result: (?P<score>\d+(?:\.\d+)?(?:/\d+(?:\.\d+)?)?)")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_CHUNK, _LONGEST_LINE, _LAST_LINES = 1 << 20, 1 << 12, 20

_NUMBER = r"[-+]?(?:\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|inf|nan)"
#: A whole line as `RunLog` writes it. Lines of other libraries don't match: they may name paths.
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
    """The content of a log so far: of a running trial, or one by the published tool, which writes no result JSON."""

    step: int | None = None
    total_steps: int | None = None
    steps_per_second: float | None = None
    last_score: tuple[float, ...] | None = None  # the last evaluation, in percent
    best_score: tuple[float, ...] | None = None  # from best_result: the trial has ended
    last_lines: list[str] = field(default_factory=list)  # up to 20, without colours
    dev_curve: list[DevPoint] = field(default_factory=list)  # a step is the one of the last training line before
    train_seconds: float = 0.0  # by the speeds logged
    eval_seconds: float = 0.0
    _epoch: int = 0
    _counted: int = 0  # steps whose seconds are in train_seconds

    def add(self, raw: bytes) -> None:
        """One line of the log. Lines in other formats count only among the last lines."""
        line = raw[-_LONGEST_LINE:].decode("utf-8", errors="replace")
        line = _ANSI.sub("", line) if "\x1b" in line else line
        self.last_lines = [*self.last_lines[1 - _LAST_LINES :], line]
        try:
            if "global step" in line and (match := _TRAIN.search(line)):
                self._train(match)
            elif match := _CUT.search(line):
                self.eval_seconds += float(match["seconds"])
                self._evaluate((float(match["bound"]),), int(match["computed"]))
            elif match := _BEST.search(line):
                self._end(tuple(float(part) for part in match["score"].split("/")))
            elif match := _EVALUATED.search(line):
                self.eval_seconds += float(match["seconds"] or 0)
                spans = match["acc"] is None
                self._evaluate((float(match["em"]), float(match["f1"])) if spans else (100 * float(match["acc"]),))
        except ValueError:  # such as "acc: -", or two writers in one line
            return

    def _train(self, match: re.Match[str]) -> None:
        step, total, epoch = int(match["step"]), int(float(match["total"])), int(match["epoch"])
        if step < (self.step or 0):  # resumed from a checkpoint: the steps after it are logged again
            self.dev_curve = [point for point in self.dev_curve if point.step < step]
        self.step, self.total_steps, self.steps_per_second, self._epoch = step, total, float(match["speed"]), epoch
        self._count(step)

    def _evaluate(self, score: tuple[float, ...], cut_after: int | None = None) -> None:
        if max(score) > 100 or min(score) < 0:  # no score; 9e999 is a float, too
            return
        self.dev_curve.append(DevPoint(self.step or 0, self._epoch, score, cut_after=cut_after))
        if cut_after is None:
            self.last_score = score

    def _end(self, best_score: tuple[float, ...]) -> None:
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
    """The content of a whole log. Raises OSError if it can't be read."""
    return GrowingLog(path).read()


def read_losses(path: str | Path) -> list[tuple[int, float]]:
    """(step, training loss) of a whole log, finite ones. Raises OSError."""
    losses: list[tuple[int, float]] = []
    text = Path(path).read_text(encoding="utf-8", errors="replace")  # each kind of line end becomes a line feed
    for match in _TRAIN.finditer(_ANSI.sub("", text) if "\x1b" in text else text):
        with suppress(ValueError):
            step, loss = int(match["step"]), float(match["loss"])
            if losses and step < losses[-1][0]:  # resumed from a checkpoint: the steps after it are logged again
                losses = [point for point in losses if point[0] < step]
            if math.isfinite(loss):
                losses.append((step, loss))
    return losses


class GrowingLog:
    """A log in the published formats, whatever prefix or colours its lines have; each read goes on after the last.

    ``most``: the most bytes to read at once, the last ones.
    """

    def __init__(self, path: str | Path, most: int | None = None):
        self._path, self._most = path, most
        self._file, self._at, self._rest, self._facts = -1, 0, b"", LogFacts()

    def read(self) -> LogFacts:
        """Its content so far. Raises OSError if it can't be read."""
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
                    self._facts.add(line)
        facts = replace(self._facts, dev_curve=[*self._facts.dev_curve])
        if self._rest:  # a line that is being written, or whose writer was killed
            facts.add(self._rest)
        return facts


def furthest_step(facts: LogFacts, output_dir: Path) -> tuple[int, int] | None:
    """(step, total) of a run, by its log or the file between two log lines; None before the first step."""
    steps = [(facts.step or 0, facts.total_steps or 0)]
    with suppress(OSError, ValueError):  # no file, or one that is being written
        step, total = map(int, (output_dir / STEP_FILE).read_text(encoding="utf-8").split("/"))
        steps.append((step, total))
    return max(((step, total) for step, total in steps if 0 < step <= total), default=None)
