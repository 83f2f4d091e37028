"""What of an unpacked bundle fits: the protocol, and scores recomputed from predictions and the official dev files."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cluebench.benchmark.tasks import IDIOM, SPAN, TASKS, Setting, Task
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
from cluebench.records import dev_predictions, identity
from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.finished_trials import FinishedTrial, protocol_hash
from cluebench.records.grid_file import GRID_FILE, GridFile
from cluebench.records.log import PUBLISHED_LINE, shown_score
from cluebench.records.paths import parse_trial_name
from cluebench.records.result import Result
from cluebench.report import scores
from cluebench.report.comparability import unlike_published

VERIFIED, NOT_HERE, MISFIT = "verified", "not verifiable here", "does not fit"

#: Percentage points by which a recomputed score may differ: F1 is kept with six digits.
_CLOSE = 0.001
#: Characters of a line about a stranger's bundle.
_LONGEST = 300
#: What a setting or a number of the wrong kind raises in the checks of a result.
_WRONG_KIND = (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, IndexError)


def verify(folder: Path, manifest: Manifest, source: DataSource) -> list["Verdict"]:
    """One verdict for each task of the bundle unpacked into ``folder``."""
    grid = json_files.read(folder / GRID_FILE, GridFile)
    names = {name.split("/")[0] for name in manifest.files if "/" in name} | {trial.task for trial in grid.trials}
    verdicts = [Verdict(TASKS[name], folder / name, manifest, grid, source) for name in TASKS if name in names]
    for verdict in verdicts:
        verdict.find()
    return verdicts


@dataclass
class Verdict:
    """The outcome for one task. ``results``: by trial, those without a fault; a stranger's result is not read in part.

    misfits: what does not fit. not_here: why something could not be checked.
    """

    task: Task
    folder: Path
    manifest: Manifest
    grid: GridFile
    source: DataSource
    results: dict[str, Result] = field(default_factory=dict)
    misfits: list[str] = field(default_factory=list)
    not_here: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        return MISFIT if self.misfits else NOT_HERE if self.not_here else VERIFIED

    def lines(self) -> Iterator[str]:
        notes = self.notes + ([] if self.misfits else self.not_here[:1])
        yield f"{self.task.title:<13}{self.state}: {shown('; '.join(notes))[:_LONGEST]}"
        yield from (f"{'':<13}{shown(reason)[:_LONGEST]}" for reason in self.misfits[:5])
        if len(self.misfits) > 5:
            yield f"{'':<13}and {len(self.misfits) - 5} more"

    def find(self) -> None:
        """Checks go from cheap to expensive, and end with the first kind that finds something."""
        names = sorted(path.stem for path in self.folder.glob("*.json"))
        self.notes.append(f"{len(names)} trial{'s' * (len(names) != 1)}")
        for name in names:
            try:
                self.results[name] = json_files.read(self.folder / f"{name}.json", Result)
            except BadFile:
                self.misfits.append(f"{name}: its result is not whole")
        self.misfits += self._plan(names)
        for name, result in self.results.items():
            self.misfits += [f"{name}: {reason}" for reason in self._result(name, result)]
        for check in (self._all_results, self._logs, self._predictions, self._row_facts):
            self.misfits = self.misfits or list(check())

    def _plan(self, names: Sequence[str]) -> Iterator[str]:
        """It also notes the part of the published grid, and of the plan, that has not run."""
        planned = [trial for trial in self.grid.trials if trial.task == self.task.name]
        for trial in planned:
            if trial.state == "done" and trial.name not in names:
                yield f"{trial.name}: the plan says that it is done, but it has no result"
        for path in self.folder.glob("*"):
            if path.stem not in names:
                yield f"{path.name} belongs to no trial with a result"
        points = set(self.task.grid.points())
        tried = points & {named[0] for named in map(parse_trial_name, names) if named}
        if tried < points:
            self.notes.append(f"{len(tried)} of the {len(points)} settings of the published grid")
        if unfinished := sum(trial.state != "done" for trial in planned):
            self.notes.append(f"{unfinished} more planned trials not done")

    def _result(self, name: str, result: Result) -> Iterator[str]:
        data, sums_here = result.configuration.get("data"), self.manifest.data.get(self.task.name)
        if result.configuration.get("model") != self.manifest.model.identity:
            yield "it is of another model than the manifest's"
        for whose, sums in ("the official ones", official_md5s(self.task)), ("those of the manifest", sums_here):
            if sums is not None and fingerprint_of(self.task, sums) != data:
                yield f"it was trained on other files than {whose}"
        try:
            yield from (
                list(_unlike_protocol(self.task, name, result))
                or list(_impossible_steps(self.task, result, self._examples))
                or list(_impossible_curve(self.task, result))
            )
        except _WRONG_KIND as error:
            yield f"it holds a value of the wrong kind ({error})"

    @cached_property
    def _examples(self) -> int | None:
        """The training examples of an epoch. None for windows, which depend on the tokenizer, and without the file."""
        task, source = self.task, self.source
        if task.kind == IDIOM and all(source.has(task, file) for file in task.train_files) and self._is_here():
            # one for each blank; counted in the bytes, which is quicker than reading the records
            return sum(len(IDIOM_TAG.findall(source.read(task, file).decode())) for file in task.train_files)
        return None if task.kind in (IDIOM, SPAN) else usable_rows(task, task.train_files)

    def _all_results(self) -> Iterator[str]:
        planned = self.grid.protocols.get(self.task.name)
        if {protocol_hash(result.configuration) for result in self.results.values()} - {planned}:
            yield "its trials have another protocol than the plan, or several"
        losses: dict[tuple, str] = {}
        for name, result in self.results.items():
            curve = tuple((point.step, point.loss) for point in result.dev_curve if point.loss is not None)
            if curve and losses.setdefault(curve, name) != name:
                yield f"{name}: its losses are those of {losses[curve]}, to the last digit"
        if self._examples is None and self.results:
            fewest, most = usable_rows(self.task, self.task.train_files) or 1, math.inf  # at least one of each row
            for result in self.results.values():  # for any cards and micro-batches
                batch: Any = result.configuration["batch_size"]
                steps = result.total_steps // self.task.epochs
                fewest, most = max(fewest, batch * (steps - 1) + 1), min(most, batch * steps)
            if fewest > most:
                yield "no number of training examples gives the steps of all its trials"

    def _logs(self) -> Iterator[str]:
        paths = {name: self.folder / f"{name}.json" for name in self.results}
        trials = {name: FinishedTrial.of(self.results[name], path, self.task) for name, path in paths.items()}
        best = scores.best_setting([trial for trial in trials.values() if trial])
        for name, trial in trials.items():
            log = paths[name].with_suffix(".log")
            if log.is_file():
                reasons = _unlike_log(self.task, self.results[name], log.read_text(encoding="utf-8"))
                yield from (f"{name}: {reason}" for reason in reasons)
            elif best and trial and trial.setting == best.setting:
                self.not_here.append("the best trial has no log, so its warm-up can't be checked")

    def _predictions(self) -> Iterator[str]:
        """For every trial: whether its predictions fit its result, and the official dev files if they are here."""
        rows = None
        try:
            if self._is_here():
                rows = load_rows(self.source, self.task, "dev")
            else:
                self.not_here.append("the official dev files are not here: see --data_dir")
        except DataError as error:
            self.not_here.append(str(error))
        for name, result in self.results.items():
            path = self.folder / f"{name}{dev_predictions.SUFFIX}"
            if not path.is_file():
                self.not_here.append(f"{name} kept no dev predictions")
                continue
            try:
                predictions = DevPredictions.read(path)
                reasons = [*_unlike_result(predictions, result)]
                reasons += _unlike_rows(self.task, predictions, result, rows) if rows is not None else []
                yield from (f"{name}: {reason}" for reason in reasons)
            except DataError:
                yield f"{name}: its dev predictions are not a whole file"
            except ImportError:
                self.not_here.append("PaddleNLP, which computes EM and F1, is not installed")

    def _row_facts(self) -> Iterator[str]:
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


# The protocol: arithmetic, without data or a model --------------------------------------------------------------------


def _unlike_protocol(task: Task, name: str, result: Result) -> Iterator[str]:
    settings: dict[str, Any] = result.configuration
    if (result.task, settings["task"], result.metric, result.status) != (task.name, task.name, task.metric, "done"):
        yield f"it is not a finished trial of {task.title}"
    if identity.configuration_hash(settings) != result.configuration_hash:
        yield "its hash is not the hash of its configuration"
    setting = Setting(settings["learning_rate"], settings["batch_size"], settings["dropout"])
    if (setting, settings["seed"]) != parse_trial_name(name):
        yield f"its settings are {(*setting, settings['seed'])}; its name says otherwise"
    for key, (value, published) in unlike_published(task, settings).items():
        yield f"another protocol: {key} is {value!r} (published: {published!r})"


def _impossible_steps(task: Task, result: Result, examples: int | None) -> Iterator[str]:
    """``examples``: of an epoch; None if unknown."""
    batch: Any = result.configuration["batch_size"]
    cards, pieces, steps = result.cards, result.accumulation_steps, result.total_steps
    if batch < 1 or batch % (cards * pieces):
        yield f"a batch of {batch} can't be cut into {pieces} micro-batches on each of {cards} cards"
    elif steps < 1 or steps % task.epochs:
        yield f"{steps} steps are not {task.epochs} epochs"
    elif examples is not None and steps != (expected := task.epochs * math.ceil(examples / batch)):
        yield f"{steps} steps; {task.epochs} epochs of {examples:,} examples by {batch} are {expected}"


def _impossible_curve(task: Task, result: Result) -> Iterator[str]:
    """One point after every evaluation's step. The first highest score is the best; a cut point can't be higher."""
    an_epoch, curve = result.total_steps // task.epochs, result.dev_curve
    every = task.eval_every_steps or an_epoch
    if [point.step for point in curve] != [*range(every, result.total_steps, every), result.total_steps]:
        yield f"its curve has {len(curve)} points instead of one after every {every} of {result.total_steps} steps"
        return
    best = curve[0]
    for point in curve:
        if point.epoch != (point.step - 1) // an_epoch:
            yield f"step {point.step} of its curve is not of epoch {point.epoch}"
        if point.cut_after is None:
            best = max(best, point, key=lambda other: other.score[0])
        elif point is curve[0] or point.score[0] > best.score[0]:
            yield f"step {point.step} of its curve was cut at {point.score[0]} %, though nothing before was as good"
    if (result.best_step, result.best_score) != (best.step, best.score):
        yield f"its best score is {result.best_score} at {result.best_step}, of its curve {best.score} at {best.step}"


def _unlike_log(task: Task, result: Result, text: str) -> Iterator[str]:
    """For a log of published lines, which may begin at a checkpoint: its evaluations, its end, its learning rates."""
    lines = [match for line in text.splitlines() if (match := PUBLISHED_LINE.fullmatch(line))]
    points = {(f"{point.loss:f}", shown_score(point.score)) for point in result.dev_curve if point.loss is not None}
    evaluations = [(line["loss"], line["score"]) for line in lines if line["loss"]]
    for loss, score in evaluations:
        if (loss, score) not in points:
            yield f"its log has {score}, loss {loss}, which is not in its curve"
    ends = [line["best"] for line in lines if line["best"]]
    if not evaluations or ends[-1:] != [task.format_score(result.best_score or ())]:
        yield "its log does not end in its score"
    settings: dict[str, Any] = result.configuration
    total, warmup = result.total_steps, math.floor(settings["warmup"] * result.total_steps)
    for line in (line for line in lines if line["step"]):
        step = int(line["step"])  # linear warm-up over a share of the steps, then linear decay to 0
        share = step / max(1, warmup) if step < warmup else max(0.0, (total - step) / max(1, total - warmup))
        rate = settings["learning_rate"] * share
        if int(line["total"]) != total or abs(float(line["lr"]) - rate) > 1e-10:
            yield (
                f"its log has the learning rate {line['lr']} after step {line['step']}/{line['total']}; "
                f"it is {rate:.10f} there with a warm-up of {settings['warmup']}"
            )
            return


# Predictions ----------------------------------------------------------------------------------------------------------


def _unlike_result(predictions: DevPredictions, result: Result) -> Iterator[str]:
    rows = len(predictions.scores)
    if predictions.configuration != result.configuration:
        yield "its dev predictions are of another trial"
    elif predictions.step != result.best_step:
        yield f"its dev predictions are of step {predictions.step}, its best score of step {result.best_step}"
    elif not _same(predictions.score, result.best_score):
        yield f"its dev predictions give {_shown(predictions.score)}, its result {_shown(result.best_score)}"
    else:
        for point in result.dev_curve:  # accuracy or EM
            right = point.score[0] * rows / 100
            if abs(right - round(right)) > 1e-6:
                yield f"step {point.step} of its curve: {point.score[0]} % is not a whole number of {rows} rows"


def _unlike_rows(task: Task, predictions: DevPredictions, result: Result, rows: Sequence[Any]) -> Iterator[str]:
    """Scores the predictions again, against the rows of the official dev files."""
    if task.kind == IDIOM:
        answers = [answer for row in rows for answer in row.answers.items()]
        ids, gold = [tag for tag, _ in answers], [index for _, index in answers]
    else:
        ids = list(ids_or_numbers([row.id for row in rows]))
        gold = [None if task.kind == SPAN else row.label if task.is_classification else row.answer for row in rows]
    if not predictions.are_of(ids) or len(predictions.predicted) != len(gold):
        yield "its dev predictions are of other rows than the official dev files"
        return
    right: Sequence[Any] = [predictions.predicted == gold]
    if task.kind == SPAN:
        environment.import_paddle()  # the published EM and F1 are PaddleNLP's
        right = question_scores({row.id: str(text) for row, text in zip(rows, predictions.predicted)}, rows)
    score = tuple(100 * float(np.mean(shares)) for shares in right)
    if not _same(score, result.best_score):
        yield f"it predicted {_shown(score)} of the official dev files, its result says {_shown(result.best_score)}"


def _same(score: Sequence[float], other: Sequence[float] | None) -> bool:
    return other is not None and len(score) == len(other) and np.allclose(score, other, rtol=0, atol=_CLOSE)


def _shown(score: Sequence[float] | None) -> str:
    return "/".join(f"{number:.4f}" for number in score or ())
