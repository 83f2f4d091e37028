"""What of an unpacked bundle fits: scores made anew from predictions and the official dev files, and the protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cluebench import dev_predictions, environment, json_files
from cluebench.bundle import protocol
from cluebench.bundle.contents import GRID
from cluebench.data.official import official_files
from cluebench.data.rows import IDIOM_TAG, load_rows
from cluebench.data.source import DataSource, fingerprint_of, official_md5s, split_files
from cluebench.dev_predictions import DevPredictions, rows_fingerprint
from cluebench.errors import BadFile, DataError
from cluebench.grid_file import GridFile, PlannedTrial
from cluebench.metrics import question_scores
from cluebench.report import scores
from cluebench.report.scores import FinishedTrial
from cluebench.runlog import Result, TrialPaths, parse_trial_name
from cluebench.tasks import IDIOM, SPAN, TASKS, Setting, Task

VERIFIED, NOT_HERE, MISFIT = "verified", "not verifiable here", "does not fit"

#: Points of a percent by which a score made anew may differ: F1 is kept with six digits.
_CLOSE = 0.001


@dataclass
class Verdict:
    """What can be said of a task."""

    task: Task
    trials: int
    misfits: list[str] = field(default_factory=list)
    not_here: list[str] = field(default_factory=list)  # why something could not be looked at
    notes: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        return MISFIT if self.misfits else NOT_HERE if self.not_here else VERIFIED

    def lines(self, most: int = 5) -> Iterator[str]:
        reasons = self.misfits or self.not_here
        told = [f"{self.trials} trial{'s' * (self.trials != 1)}", *self.notes]
        told += [] if self.misfits else self.not_here[:1]
        yield f"{self.task.title:<13}{self.state}: {printable('; '.join(told))}"
        if self.misfits:
            yield from (f"{'':<13}{printable(reason)}" for reason in reasons[:most])
            if len(reasons) > most:
                yield f"{'':<13}and {len(reasons) - most} more"


def verify(folder: Path, manifest: Mapping[str, Any], source: DataSource) -> list[Verdict]:
    """A verdict a task, of the bundle unpacked into ``folder``."""
    grid = json_files.read(folder / GRID, GridFile)
    names = [name.split("/")[0] for name in manifest["files"]] + [trial.task for trial in grid.trials]
    return [_Checked(task, folder, manifest, grid, source).verdict() for task in TASKS.values() if task.name in names]


@dataclass
class _Checked:
    """A task of a bundle."""

    task: Task
    folder: Path
    manifest: Mapping[str, Any]
    grid: GridFile
    source: DataSource

    @cached_property
    def results(self) -> dict[str, Result | None]:
        """Trial → its result, None where the file is none."""
        paths = sorted((self.folder / self.task.name).glob("*.json"))
        return {path.stem: _whole(path) for path in paths}

    @property
    def plan(self) -> list[PlannedTrial]:
        return [trial for trial in self.grid.trials if trial.task == self.task.name]

    def verdict(self) -> Verdict:
        found = Verdict(self.task, len(self.results))
        found.misfits += self._of_the_plan()
        for name, result in self.results.items():
            reasons = ["its result is not whole"] if result is None else self._of_a_result(name, result)
            found.misfits += [f"{name}: {reason}" for reason in reasons]
        if not found.misfits:
            found.misfits += [*self._of_all_together(), *self._of_the_log(found)]
        if not found.misfits:
            self._add_predictions(found)
        found.notes += self._lacking()
        return found

    # The plan ---------------------------------------------------------------------------------------------------------

    def _of_the_plan(self) -> Iterator[str]:
        for trial in self.plan:
            result = self.results.get(trial.name)
            if trial.state == "done" and result is None:
                yield f"{trial.name}: the plan says that it is done, but there is no result of it"
            elif trial.state == "done" and result and result.configuration_hash != trial.configuration_hash:
                yield f"{trial.name}: its result is of another configuration than the plan's"
        for path in (self.folder / self.task.name).glob("*"):
            if path.stem not in self.results:
                yield f"{path.name} is of no trial that has a result"

    def _lacking(self) -> Iterator[str]:
        """What the published grid has and this one has not."""
        named = [parse_trial_name(name) for name in self.results]
        tried = {Setting(*one[:3]) for one in named if one}
        points = list(self.task.grid.points())
        if lacking := [point for point in points if point not in tried]:
            yield f"{len(points) - len(lacking)} of the {len(points)} settings of the published grid"
        if unfinished := [trial for trial in self.plan if trial.state != "done"]:
            yield f"{len(unfinished)} more planned trials not done"

    # Protocol ---------------------------------------------------------------------------------------------------------

    def _of_a_result(self, name: str, result: Result) -> Iterator[str]:
        data, sums = result.configuration.get("data"), self.manifest["data"].get(self.task.name)
        if result.configuration.get("model") != self.manifest["model"]["identity"]:
            yield "it is of another model than the manifest's"
        if self._official and data != fingerprint_of(self.task, self._official):
            yield "it was trained on other files than the official ones"
        elif sums is not None and not (_is_sums(sums) and fingerprint_of(self.task, sums) == data):
            yield "the data files of the manifest are not those it was trained on"
        yield from protocol.misfits(self.task, name, result, self._examples)

    @cached_property
    def _official(self) -> dict[str, str] | None:
        return official_md5s(self.task)

    @cached_property
    def _examples(self) -> int | None:
        """That an epoch trains on; None for windows, which depend on the tokenizer, and where the file isn't here."""
        task, source = self.task, self.source
        if task.kind == IDIOM and all(source.has(task, file) for file in task.train_files) and self._is_here():
            # a blank each; counted in the bytes, as reading all of the records takes longer
            return sum(len(IDIOM_TAG.findall(source.read(task, file).decode())) for file in task.train_files)
        return None if task.kind in (IDIOM, SPAN) else self._known_rows

    @cached_property
    def _known_rows(self) -> int | None:
        """Of the official train files: as many examples as that or more."""
        files = [official_files().get((self.task.name, file)) for file in self.task.train_files]
        rows = [file.usable_rows for file in files if file and file.usable_rows]
        return sum(rows) if len(rows) == len(files) else None

    def _of_all_together(self) -> Iterator[str]:
        results = {name: result for name, result in self.results.items() if result}
        planned = self.grid.protocols.get(self.task.name)
        if {scores.protocol_hash(result.configuration) for result in results.values()} - {planned}:
            yield "its trials are of another protocol than the plan's, or of several"
        losses: dict[tuple, str] = {}
        for name, result in results.items():
            curve = tuple(point.loss for point in result.dev_curve)
            if None not in curve and losses.setdefault(curve, name) != name:
                yield f"{name}: its losses are those of {losses[curve]}, to the last digit"
        if self._examples is None and results:
            bounds = [protocol.possible_examples(self.task, result) for result in results.values()]
            fewest = max(self._known_rows or 1, *(low for low, _ in bounds))
            if fewest > min(high for _, high in bounds):
                yield "no number of training examples gives the steps of all its trials"

    def _of_the_log(self, found: Verdict) -> Iterator[str]:
        finished = [self._finished(name, result) for name, result in self.results.items() if result]
        best = scores.best_setting(finished)
        for (name, result), trial in zip(self.results.items(), finished, strict=True):
            path = TrialPaths(self.folder / self.task.name, name).log
            if path.is_file() and result:
                reasons = protocol.log_misfits(self.task, result, path.read_text(encoding="utf-8"))
                yield from (f"{name}: {reason}" for reason in reasons)
            elif best and trial.setting == best.setting:
                found.not_here.append("there is no log of the best, whose warm-up can't be checked")

    def _finished(self, name: str, result: Result) -> FinishedTrial:
        rate, batch, dropout, seed = parse_trial_name(name) or (0.0, 0, 0.0, 0)  # unpacking refused other names
        return FinishedTrial(self.task.name, Setting(rate, batch, dropout), seed, result.best_score or ())

    # Predictions ------------------------------------------------------------------------------------------------------

    def _add_predictions(self, found: Verdict) -> None:
        """Of every trial; its own arithmetic always, its score made anew where the official dev files are here."""
        rows = None
        try:
            if self._is_here():
                rows = _DevRows(self.task, load_rows(self.source, self.task, "dev"))
            else:
                found.not_here.append("the official dev files are not here: see --data_dir")
        except DataError as error:
            found.not_here.append(str(error))
        for name, result in self.results.items():
            path = self.folder / self.task.name / f"{name}{dev_predictions.SUFFIX}"
            if result is None or not path.is_file():
                found.not_here.append(f"{name} kept no dev predictions")
                continue
            try:
                said = DevPredictions.read(path)
            except DataError:
                found.misfits.append(f"{name}: its dev predictions are no whole file of them")
                continue
            try:
                reasons = [*_of_predictions(result, said), *(rows.misfits(result, said) if rows else [])]
            except ImportError:
                found.not_here.append("PaddleNLP, whose EM and F1 are the published ones, is not installed")
                reasons = []
            found.misfits += [f"{name}: {reason}" for reason in reasons]

    def _is_here(self) -> bool:
        """Whether the files that the trials were evaluated on are in the data directory; where none are known to be the
        official ones, also those that they were trained on."""
        task, source = self.task, self.source
        names = split_files(task, "dev") + (() if self._official else split_files(task, "train"))
        sums = self._official or self.manifest["data"].get(task.name)
        if not _is_sums(sums) or not all(source.has(task, name) for name in names):
            return False
        return all(sums.get(name) == source.md5(task, name) for name in names)


def _whole(path: Path) -> Result | None:
    """None when any part of it is not as declared: unlike one's own, a stranger's result is not read in part."""
    try:
        return json_files.read(path, Result)
    except BadFile:
        return None


def _is_sums(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _of_predictions(result: Result, said: DevPredictions) -> Iterator[str]:
    if said.configuration != result.configuration:
        yield "its dev predictions are of another trial"
    elif said.step != result.best_step:
        yield f"its dev predictions are of step {said.step}, its best score of step {result.best_step}"
    elif not _same(said.score, result.best_score):
        yield f"its dev predictions give {_shown(said.score)}, its result {_shown(result.best_score)}"
    else:
        yield from protocol.impossible_points(result.dev_curve, len(said.scores))


class _DevRows:
    """The right answers of a dev split."""

    def __init__(self, task: Task, rows: Sequence[Any]):
        self.task, self.rows = task, rows
        self.gold: np.ndarray | None = None
        self.ids: list[Any] = list(range(len(rows)))
        if task.kind == SPAN:
            self.ids = [row.id for row in rows]
        elif task.kind == IDIOM:
            answers = [pair for row in rows for pair in row.answers.items()]
            self.ids, self.gold = [tag for tag, _ in answers], np.array([answer for _, answer in answers])
        else:
            self.gold = np.array([row.label if task.is_classification else row.answer for row in rows])

    def misfits(self, result: Result, said: DevPredictions) -> Iterator[str]:
        if said.rows != rows_fingerprint(self.ids) or len(said.predicted) != len(self.ids):
            yield "its dev predictions are of other rows than the official dev files"
            return
        if self.gold is None:
            answers = {name: str(text) for name, text in zip(self.ids, said.predicted)}
            environment.import_paddle()  # EM and F1 are PaddleNLP's own, as published
            made = tuple(100 * float(np.mean(one)) for one in question_scores(answers, self.rows))
        else:
            made = (100 * float(np.mean(np.asarray(said.predicted) == self.gold)),)
        if not _same(made, result.best_score):
            yield f"it predicted {_shown(made)} of the official dev files, its result says {_shown(result.best_score)}"


def _same(one: Sequence[float], other: Sequence[float] | None) -> bool:
    return other is not None and len(one) == len(other) and np.allclose(one, other, rtol=0, atol=_CLOSE)


def printable(text: str, longest: int = 300) -> str:
    """Without what would steer a terminal: a bundle's words are a stranger's."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:longest])


def _shown(score: Sequence[float] | None) -> str:
    return "/".join(f"{one:.4f}" for one in score or ())
