"""What of an unpacked bundle fits: scores made anew from predictions and the official dev files, and the protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cluebench.benchmark.tasks import IDIOM, SPAN, TASKS, Task
from cluebench.bundle import protocol
from cluebench.bundle.contents import Manifest
from cluebench.data import row_facts
from cluebench.data.official import fingerprint_of, official_md5s, split_files, usable_rows
from cluebench.data.row_facts import RUN_FILE, RowFacts
from cluebench.data.rows import IDIOM_TAG, ids_or_numbers, load_rows
from cluebench.data.source import DataSource
from cluebench.features.metrics import question_scores
from cluebench.foundation import environment, json_files
from cluebench.foundation.errors import BadFile, DataError
from cluebench.foundation.shown import shown
from cluebench.records import dev_predictions, finished_trials
from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.finished_trials import FinishedTrial
from cluebench.records.grid_file import GRID_FILE, GridFile
from cluebench.records.paths import parse_trial_name
from cluebench.records.result import Result
from cluebench.report import scores

VERIFIED, NOT_HERE, MISFIT = "verified", "not verifiable here", "does not fit"

#: Points of a percent by which a score made anew may differ: F1 is kept with six digits.
_CLOSE = 0.001
#: Characters of a line about a stranger's bundle.
_LONGEST = 300


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
        told = [f"{self.trials} trial{'s' * (self.trials != 1)}", *self.notes]
        told += [] if self.misfits else self.not_here[:1]
        yield f"{self.task.title:<13}{self.state}: {shown('; '.join(told))[:_LONGEST]}"
        yield from (f"{'':<13}{shown(reason)[:_LONGEST]}" for reason in self.misfits[:most])
        if len(self.misfits) > most:
            yield f"{'':<13}and {len(self.misfits) - most} more"


def verify(folder: Path, manifest: Manifest, source: DataSource) -> list[Verdict]:
    """A verdict a task, of the bundle unpacked into ``folder``."""
    grid = json_files.read(folder / GRID_FILE, GridFile)
    names = {name.split("/")[0] for name in manifest.files if "/" in name} | {trial.task for trial in grid.trials}
    return [_Checked(TASKS[name], folder / name, manifest, grid, source).verdict() for name in TASKS if name in names]


@dataclass
class _Checked:
    """A task of a bundle."""

    task: Task
    folder: Path
    manifest: Manifest
    grid: GridFile
    source: DataSource

    def verdict(self) -> Verdict:
        found = Verdict(self.task, len(self.names), notes=list(self._lacking()))
        found.misfits += [f"{name}: its result is not whole" for name in self.names if name not in self.results]
        found.misfits += self._of_the_plan()
        for name, result in self.results.items():
            found.misfits += [f"{name}: {reason}" for reason in self._of_a_result(name, result)]
        if not found.misfits:
            found.misfits += [*self._of_all_together(), *self._of_logs(found)]
        if not found.misfits:
            found.misfits += [*self._of_predictions(found), *self._of_row_facts()]
        return found

    @cached_property
    def names(self) -> list[str]:
        """Of the trials that have a result."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    @cached_property
    def results(self) -> dict[str, Result]:
        """Those that are as declared throughout: unlike one's own, a stranger's result is not read in part."""
        found = {}
        for name in self.names:
            try:
                found[name] = json_files.read(self.folder / f"{name}.json", Result)
            except BadFile:
                continue
        return found

    # The plan ---------------------------------------------------------------------------------------------------------

    def _of_the_plan(self) -> Iterator[str]:
        for trial in self.grid.trials:
            if trial.task == self.task.name and trial.state == "done":
                if trial.name not in self.names:
                    yield f"{trial.name}: the plan says that it is done, but there is no result of it"
                elif (result := self.results.get(trial.name)) and result.configuration_hash != trial.configuration_hash:
                    yield f"{trial.name}: its result is of another configuration than the plan's"
        yield from (
            f"{path.name} is of no trial that has a result"
            for path in self.folder.glob("*")
            if path.stem not in self.names
        )

    def _lacking(self) -> Iterator[str]:
        """What the published grid has and this one has not."""
        tried = {named[0] for named in map(parse_trial_name, self.names) if named}
        points = list(self.task.grid.points())
        if lacking := [point for point in points if point not in tried]:
            yield f"{len(points) - len(lacking)} of the {len(points)} settings of the published grid"
        if unfinished := sum(trial.state != "done" for trial in self.grid.trials if trial.task == self.task.name):
            yield f"{unfinished} more planned trials not done"

    # Protocol ---------------------------------------------------------------------------------------------------------

    def _of_a_result(self, name: str, result: Result) -> Iterator[str]:
        data, task = result.configuration.get("data"), self.task
        known = {"the official ones": official_md5s(task), "those of the manifest": self.manifest.data.get(task.name)}
        if result.configuration.get("model") != self.manifest.model.identity:
            yield "it is of another model than the manifest's"
        yield from (
            f"it was trained on other files than {whose}"
            for whose, sums in known.items()
            if sums is not None and fingerprint_of(task, sums) != data
        )
        yield from protocol.misfits(task, name, result, self._examples)

    @cached_property
    def _examples(self) -> int | None:
        """That an epoch trains on; None for windows, which depend on the tokenizer, and where the file isn't here."""
        task, source = self.task, self.source
        if task.kind == IDIOM and all(source.has(task, file) for file in task.train_files) and self._is_here():
            # a blank each; counted in the bytes, as reading all of the records takes longer
            return sum(len(IDIOM_TAG.findall(source.read(task, file).decode())) for file in task.train_files)
        return None if task.kind in (IDIOM, SPAN) else usable_rows(task.name, task.train_files)

    def _of_all_together(self) -> Iterator[str]:
        planned = self.grid.protocols.get(self.task.name)
        if {finished_trials.protocol_hash(result.configuration) for result in self.results.values()} - {planned}:
            yield "its trials are of another protocol than the plan's, or of several"
        losses: dict[tuple, str] = {}
        for name, result in self.results.items():
            curve = tuple((point.step, point.loss) for point in result.dev_curve if point.loss is not None)
            if curve and losses.setdefault(curve, name) != name:
                yield f"{name}: its losses are those of {losses[curve]}, to the last digit"
        if self._examples is None and self.results:
            bounds = [protocol.possible_examples(self.task, result) for result in self.results.values()]
            rows = usable_rows(self.task.name, self.task.train_files) or 1  # as many examples as that, or more
            if max(rows, *(low for low, _ in bounds)) > min(high for _, high in bounds):
                yield "no number of training examples gives the steps of all its trials"

    def _of_logs(self, found: Verdict) -> Iterator[str]:
        paths = {self.folder / f"{name}.json": result for name, result in self.results.items()}
        each = (FinishedTrial.of(result, path, self.task) for path, result in paths.items())
        trials = {trial.name: trial for trial in each if trial}
        best = scores.best_setting(trials.values())
        for name, result in self.results.items():
            path = self.folder / f"{name}.log"
            if path.is_file():
                reasons = protocol.log_misfits(self.task, result, path.read_text(encoding="utf-8"))
                yield from (f"{name}: {reason}" for reason in reasons)
            elif best and trials[name].setting == best.setting:
                found.not_here.append("there is no log of the best, whose warm-up can't be checked")

    # Predictions ------------------------------------------------------------------------------------------------------

    def _of_predictions(self, found: Verdict) -> Iterator[str]:
        """Of every trial; its own arithmetic always, its score made anew where the official dev files are here."""
        rows = None
        try:
            if self._is_here():
                rows = load_rows(self.source, self.task, "dev")
            else:
                found.not_here.append("the official dev files are not here: see --data_dir")
        except DataError as error:
            found.not_here.append(str(error))
        for name, result in self.results.items():
            path = self.folder / f"{name}{dev_predictions.SUFFIX}"
            try:
                if path.is_file():
                    said = DevPredictions.read(path)
                    yield from (f"{name}: {reason}" for reason in self._of_predicted(result, said, rows))
                else:
                    found.not_here.append(f"{name} kept no dev predictions")
            except DataError:
                yield f"{name}: its dev predictions are no whole file of them"
            except ImportError:
                found.not_here.append("PaddleNLP, whose EM and F1 are the published ones, is not installed")

    def _of_predicted(self, result: Result, said: DevPredictions, rows: Sequence | None) -> Iterator[str]:
        if said.configuration != result.configuration:
            yield "its dev predictions are of another trial"
        elif said.step != result.best_step:
            yield f"its dev predictions are of step {said.step}, its best score of step {result.best_step}"
        elif not _same(said.score, result.best_score):
            yield f"its dev predictions give {_shown(said.score)}, its result {_shown(result.best_score)}"
        else:
            yield from protocol.impossible_points(result.dev_curve, len(said.scores))
        if rows is None:
            return
        ids, gold = _right_answers(self.task, rows)
        if not said.are_of(ids) or len(said.predicted) != len(gold):
            yield "its dev predictions are of other rows than the official dev files"
            return
        if self.task.kind == SPAN:
            environment.import_paddle()  # EM and F1 are PaddleNLP's own, as published
            right: Sequence[Any] = question_scores({row.id: str(text) for row, text in zip(rows, said.predicted)}, rows)
        else:
            right = [np.asarray(said.predicted) == gold]
        made = tuple(100 * float(np.mean(one)) for one in right)
        if not _same(made, result.best_score):
            yield f"it predicted {_shown(made)} of the official dev files, its result says {_shown(result.best_score)}"

    def _of_row_facts(self) -> Iterator[str]:
        """What it says of twins, where the rows are here; the floors change nothing and depend on versions."""
        told = (json_files.read_if_sound(self.folder.parent / RUN_FILE, dict[str, RowFacts]) or {}).get(self.task.name)
        names = split_files(self.task, "train") + split_files(self.task, "dev")
        if told is None or not all(self.source.has(self.task, name) for name in names):
            return
        if told.data == self.source.fingerprint(self.task):
            known = row_facts.found(self.task, told.data) or row_facts.made(self.task, self.source)
            if replace(told, floors=known.floors) != known:
                yield f"{RUN_FILE}: it names other dev rows than those whose text is in train"

    def _is_here(self) -> bool:
        """Whether the files that the trials were evaluated on are in the data directory; where none are known to be the
        official ones, also those that they were trained on."""
        task, source, official = self.task, self.source, official_md5s(self.task)
        names = split_files(task, "dev") + (() if official else split_files(task, "train"))
        sums = official or self.manifest.data.get(task.name, {})
        return all(source.has(task, name) and sums.get(name) == source.md5(task, name) for name in names)


def _right_answers(task: Task, rows: Sequence[Any]) -> tuple[Sequence[int | str], list]:
    """What the metric counts, in order: ids, and the right indices; None where the answer is a text."""
    if task.kind == SPAN:
        return [row.id for row in rows], [None] * len(rows)
    if task.kind == IDIOM:
        answers = [answer for row in rows for answer in row.answers.items()]
        return [tag for tag, _ in answers], [index for _, index in answers]
    gold = [row.label if task.is_classification else row.answer for row in rows]
    return ids_or_numbers([row.id for row in rows]), gold


def _same(one: Sequence[float], other: Sequence[float] | None) -> bool:
    return other is not None and len(one) == len(other) and np.allclose(one, other, rtol=0, atol=_CLOSE)


def _shown(score: Sequence[float] | None) -> str:
    return "/".join(f"{one:.4f}" for one in score or ())
