"""What of an unpacked bundle fits: the protocol, and scores recomputed from predictions and the official dev files."""

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
from cluebench.foundation.text import shown
from cluebench.records import dev_predictions, finished_trials
from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.finished_trials import FinishedTrial
from cluebench.records.grid_file import GRID_FILE, GridFile
from cluebench.records.paths import parse_trial_name
from cluebench.records.result import Result
from cluebench.report import scores

VERIFIED, NOT_HERE, MISFIT = "verified", "not verifiable here", "does not fit"

#: Percentage points by which a recomputed score may differ: F1 is kept with six digits.
_CLOSE = 0.001
#: Characters of a line about a stranger's bundle.
_LONGEST = 300


@dataclass
class Verdict:
    """The outcome for one task."""

    task: Task
    trials: int
    misfits: list[str] = field(default_factory=list)
    not_here: list[str] = field(default_factory=list)  # why something could not be checked
    notes: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        return MISFIT if self.misfits else NOT_HERE if self.not_here else VERIFIED

    def lines(self) -> Iterator[str]:
        notes = [f"{self.trials} trial{'s' * (self.trials != 1)}", *self.notes]
        notes += [] if self.misfits else self.not_here[:1]
        yield f"{self.task.title:<13}{self.state}: {shown('; '.join(notes))[:_LONGEST]}"
        yield from (f"{'':<13}{shown(reason)[:_LONGEST]}" for reason in self.misfits[:5])
        if len(self.misfits) > 5:
            yield f"{'':<13}and {len(self.misfits) - 5} more"


def verify(folder: Path, manifest: Manifest, source: DataSource) -> list[Verdict]:
    """One verdict for each task of the bundle unpacked into ``folder``."""
    grid = json_files.read(folder / GRID_FILE, GridFile)
    names = {name.split("/")[0] for name in manifest.files if "/" in name} | {trial.task for trial in grid.trials}
    return [_Bundled(TASKS[name], folder / name, manifest, grid, source).verdict() for name in TASKS if name in names]


@dataclass
class _Bundled:
    """One task of a bundle. ``results``: by trial, those without a fault; a stranger's result is not read in part."""

    task: Task
    folder: Path
    manifest: Manifest
    grid: GridFile
    source: DataSource
    results: dict[str, Result] = field(default_factory=dict)

    def verdict(self) -> Verdict:
        """Checks go from cheap to expensive, and end with the first kind that finds something."""
        names = sorted(path.stem for path in self.folder.glob("*.json"))
        found = Verdict(self.task, len(names))
        for name in names:
            try:
                self.results[name] = json_files.read(self.folder / f"{name}.json", Result)
            except BadFile:
                found.misfits.append(f"{name}: its result is not whole")
        self._plan(found, names)
        for name, result in self.results.items():
            found.misfits += [f"{name}: {reason}" for reason in self._result(name, result)]
        for check in (self._all_results, self._logs, self._predictions, self._row_facts):
            found.misfits = found.misfits or list(check(found))
        return found

    def _plan(self, found: Verdict, names: Sequence[str]) -> None:
        """What does not fit, and the part of the published grid, and of the plan, that has not run."""
        planned = [trial for trial in self.grid.trials if trial.task == self.task.name]
        found.misfits += [
            f"{trial.name}: the plan says that it is done, but it has no result"
            for trial in planned
            if trial.state == "done" and trial.name not in names
        ]
        others = (path.name for path in self.folder.glob("*") if path.stem not in names)
        found.misfits += [f"{name} belongs to no trial with a result" for name in others]
        points = set(self.task.grid.points())
        tried = points & {named[0] for named in map(parse_trial_name, names) if named}
        if tried < points:
            found.notes.append(f"{len(tried)} of the {len(points)} settings of the published grid")
        if unfinished := sum(trial.state != "done" for trial in planned):
            found.notes.append(f"{unfinished} more planned trials not done")

    def _result(self, name: str, result: Result) -> Iterator[str]:
        task, sums_here = self.task, self.manifest.data.get(self.task.name)
        if result.configuration.get("model") != self.manifest.model.identity:
            yield "it is of another model than the manifest's"
        for whose, sums in ("the official ones", official_md5s(task)), ("those of the manifest", sums_here):
            if sums is not None and fingerprint_of(task, sums) != result.configuration.get("data"):
                yield f"it was trained on other files than {whose}"
        yield from protocol.misfits(task, name, result, self._examples)

    @cached_property
    def _examples(self) -> int | None:
        """The training examples of an epoch. None for windows, which depend on the tokenizer, and without the file."""
        task, source = self.task, self.source
        if task.kind == IDIOM and all(source.has(task, file) for file in task.train_files) and self._is_here():
            # one for each blank; counted in the bytes, which is quicker than reading the records
            return sum(len(IDIOM_TAG.findall(source.read(task, file).decode())) for file in task.train_files)
        return None if task.kind in (IDIOM, SPAN) else usable_rows(task, task.train_files)

    def _all_results(self, found: Verdict) -> Iterator[str]:
        planned = self.grid.protocols.get(self.task.name)
        if {finished_trials.protocol_hash(result.configuration) for result in self.results.values()} - {planned}:
            yield "its trials have another protocol than the plan, or several"
        losses: dict[tuple, str] = {}
        for name, result in self.results.items():
            curve = tuple((point.step, point.loss) for point in result.dev_curve if point.loss is not None)
            if curve and losses.setdefault(curve, name) != name:
                yield f"{name}: its losses are those of {losses[curve]}, to the last digit"
        if self._examples is None and self.results:
            bounds = [protocol.possible_examples(self.task, result) for result in self.results.values()]
            rows = usable_rows(self.task, self.task.train_files) or 1  # at least one example each
            if max(rows, *(low for low, _ in bounds)) > min(high for _, high in bounds):
                yield "no number of training examples gives the steps of all its trials"

    def _logs(self, found: Verdict) -> Iterator[str]:
        paths = {name: self.folder / f"{name}.json" for name in self.results}
        trials = {name: FinishedTrial.of(self.results[name], path, self.task) for name, path in paths.items()}
        best = scores.best_setting([trial for trial in trials.values() if trial])
        for name, trial in trials.items():
            log = paths[name].with_suffix(".log")
            if log.is_file():
                reasons = protocol.log_misfits(self.task, self.results[name], log.read_text(encoding="utf-8"))
                yield from (f"{name}: {reason}" for reason in reasons)
            elif best and trial and trial.setting == best.setting:
                found.not_here.append("the best trial has no log, so its warm-up can't be checked")

    def _predictions(self, found: Verdict) -> Iterator[str]:
        """For every trial: whether its predictions fit its result, and the official dev files if they are here."""
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
            if not path.is_file():
                found.not_here.append(f"{name} kept no dev predictions")
                continue
            try:
                predictions = DevPredictions.read(path)
                reasons = _unlike_result(predictions, result)
                reasons += _unlike_rows(self.task, predictions, result, rows) if rows is not None else []
                yield from (f"{name}: {reason}" for reason in reasons)
            except DataError:
                yield f"{name}: its dev predictions are not a whole file"
            except ImportError:
                found.not_here.append("PaddleNLP, which computes EM and F1, is not installed")

    def _row_facts(self, found: Verdict) -> Iterator[str]:
        """The twins that it names, if the rows are here. Floors change nothing and depend on versions."""
        facts = (json_files.read_if_sound(self.folder.parent / RUN_FILE, dict[str, RowFacts]) or {}).get(self.task.name)
        names = split_files(self.task, "train") + split_files(self.task, "dev")
        if facts is None or not all(self.source.has(self.task, name) for name in names):
            return
        if facts.data == self.source.fingerprint(self.task):
            own = row_facts.found(self.task, facts.data) or row_facts.made(self.task, self.source)
            if replace(facts, floors=own.floors) != own:
                yield f"{RUN_FILE}: its list of dev rows that are also in train is wrong"

    def _is_here(self) -> bool:
        """Whether the official dev files are in the data directory. If no official sums are published: train and dev
        files with the manifest's sums."""
        task, source, official = self.task, self.source, official_md5s(self.task)
        names = split_files(task, "dev") + (() if official else split_files(task, "train"))
        sums = official or self.manifest.data.get(task.name, {})
        return all(source.has(task, name) and sums.get(name) == source.md5(task, name) for name in names)


def _unlike_result(predictions: DevPredictions, result: Result) -> list[str]:
    if predictions.configuration != result.configuration:
        return ["its dev predictions are of another trial"]
    if predictions.step != result.best_step:
        return [f"its dev predictions are of step {predictions.step}, its best score of step {result.best_step}"]
    if not _same(predictions.score, result.best_score):
        return [f"its dev predictions give {_shown(predictions.score)}, its result {_shown(result.best_score)}"]
    return protocol.impossible_points(result.dev_curve, len(predictions.scores))


def _unlike_rows(task: Task, predictions: DevPredictions, result: Result, rows: Sequence[Any]) -> list[str]:
    """Scores the predictions again, against the rows of the official dev files."""
    if task.kind == IDIOM:
        answers = [answer for row in rows for answer in row.answers.items()]
        ids, gold = [tag for tag, _ in answers], [index for _, index in answers]
    else:
        ids = list(ids_or_numbers([row.id for row in rows]))
        gold = [None if task.kind == SPAN else row.label if task.is_classification else row.answer for row in rows]
    if not predictions.are_of(ids) or len(predictions.predicted) != len(gold):
        return ["its dev predictions are of other rows than the official dev files"]
    right: Sequence[Any] = [predictions.predicted == gold]
    if task.kind == SPAN:
        environment.import_paddle()  # the published EM and F1 are PaddleNLP's
        right = question_scores({row.id: str(text) for row, text in zip(rows, predictions.predicted)}, rows)
    score = tuple(100 * float(np.mean(shares)) for shares in right)
    if _same(score, result.best_score):
        return []
    return [f"it predicted {_shown(score)} of the official dev files, its result says {_shown(result.best_score)}"]


def _same(score: Sequence[float], other: Sequence[float] | None) -> bool:
    return other is not None and len(score) == len(other) and np.allclose(score, other, rtol=0, atol=_CLOSE)


def _shown(score: Sequence[float] | None) -> str:
    return "/".join(f"{number:.4f}" for number in score or ())
