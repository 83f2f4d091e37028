"""The log of a run: the one place that writes AND reads its lines.

Their formats are those of the published CLUE benchmark runs; scripts of users parse them.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from cluebench.foundation.notices import say
from cluebench.records.paths import STEP_FILE
from cluebench.records.result import DevPoint


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

    def cut(self, bound: float, computed: int, rows: int, seconds: float) -> None:
        """Of an evaluation that can't be the best; no word of it is one that a score is looked for by."""
        self.line(f"dev cut after {computed}/{rows} rows, at most {bound:.4f} % right, {seconds:.2f} s")

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
_CUT = re.compile(
    r"\bdev cut after (?P<computed>\d{1,12})/\d{1,12} rows, at most (?P<bound>[.\d]+) % right, (?P<seconds>[.\d]+) s"
)
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

    def cut(self, bound: float, computed: int, seconds: float) -> None:
        """An evaluation that ended early; its bound is no score."""
        self.eval_seconds += seconds
        if bound <= 100:
            self.dev_curve.append(DevPoint(self.step or 0, self._epoch, (bound,), cut_after=computed))

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
        elif match := _CUT.search(line):
            facts.cut(float(match["bound"]), int(match["computed"]), float(match["seconds"]))
        elif match := _BEST.search(line):
            facts.ended(tuple(float(part) for part in match["score"].split("/")))
        elif match := _EVALUATED_SPAN.search(line):
            facts.evaluated((float(match["em"]), float(match["f1"])))
        elif match := _EVALUATED.search(line):
            facts.evaluated((100 * float(match["acc"]),))
    except ValueError:
        return  # such as "acc: -", or two writers in one line


def furthest_step(facts: LogFacts, output_dir: Path) -> tuple[int, int] | None:
    """(step, total) of a run, by its log or the file between two log lines; None before the first step."""
    known = [(facts.step, facts.total_steps)] if facts.step and facts.total_steps else []
    try:
        step, total = map(int, (output_dir / STEP_FILE).read_text(encoding="utf-8").split("/"))
        known += [(step, total)] if 0 < step <= total else []
    except (OSError, ValueError):  # none, or it is just being written
        pass
    return max(known, default=None)
