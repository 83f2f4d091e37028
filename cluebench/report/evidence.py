"""The evidence of a score: all its dev rows if the trial kept its predictions, or only a published number.

Everything is in percent and points of a percent, as in the tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cluebench.benchmark.published import PublishedModel, averaged_tasks
from cluebench.benchmark.tasks import TASKS, Task
from cluebench.data import row_facts
from cluebench.data.download import data_home
from cluebench.data.official import usable_rows
from cluebench.data.row_facts import RowFacts
from cluebench.data.source import open_source
from cluebench.foundation.errors import ClueError
from cluebench.foundation.notices import waiting
from cluebench.foundation.text import Phrase
from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.finished_trials import FinishedTrial, OpenedRun
from cluebench.records.identity import BETWEEN_RUNS
from cluebench.statistics import paired, uncertainty
from cluebench.statistics.grids import Selection, selection
from cluebench.statistics.uncertainty import Spread


@dataclass(frozen=True, eq=False)
class Evidence:
    """A score on a task's dev split and how far off it may be.

    score, error: of each metric; the error is one standard error, over passages or records if rows share them.
    by_row: float64 [rows, metrics], the mean over seeds if there are several; no rows if only the score is known.
    predictions: the source of by_row, one for each seed.
    """

    score: tuple[float, ...]
    error: tuple[float, ...]
    by_row: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    predictions: tuple[DevPredictions, ...] = ()

    @property
    def clusters(self) -> np.ndarray | None:
        """The passage, record, premise or text of each row; None if rows share none."""
        return _clusters(self.predictions)


def measured(predictions: Sequence[DevPredictions]) -> Evidence:
    """The evidence of one setting's trials, a seed each. Raises ValueError if their evaluated rows differ."""
    first = predictions[0]
    for other in predictions[1:]:
        if differing := incomparable(first, other):
            raise ValueError(f"seeds differ in {differing}")
    shares = np.mean([seed.scores for seed in predictions], axis=0)
    error = uncertainty.standard_error(100 * shares.T, _clusters(predictions))
    # 100 times a mean, as in results: a mean of values times 100 may round to another last digit.
    return Evidence(tuple(100 * shares.mean(axis=0)), tuple(error), 100 * shares, tuple(predictions))


def published(task: Task, score: Sequence[float]) -> Evidence | None:
    """The evidence of a score in percent on the official dev split, without its rows: the binomial approximation.

    A record of several rows counts as one. None for a task whose official files are unknown.
    """
    rows = usable_rows(task, task.dev_files) or 0
    if not rows:
        return None
    return Evidence(tuple(score), tuple(100 * uncertainty.binomial_error(share / 100, rows) for share in score))


def of_setting(trials: Sequence[FinishedTrial]) -> Evidence | Phrase:
    """The evidence of a setting's trials, a seed each; or why there is none."""
    kept = [trial.predictions for trial in trials if trial.predictions is not None]
    if len(kept) < len(trials):
        return Phrase("its trial kept no dev predictions")
    try:
        found = measured(kept)
    except ValueError as error:
        return Phrase(str(error))
    is_known = not np.isnan(found.error).any()
    return found if is_known else Phrase("a single dev row, or passage, has no standard error")


@dataclass(frozen=True)
class Choice:
    """How certain the choice of a task's best trial is, by the dev rows."""

    selection: Selection  # how much of the winner's lead is selection
    others: int  # trials beside the best
    as_good: int  # of these, trials that do not differ from the best in a paired test at the 5 % level


def choice(trials: Sequence[FinishedTrial]) -> Choice | None:
    """The choice among a task's trials with predictions. None with fewer than two, or if there are no two clusters."""
    kept = [trial.predictions for trial in trials if trial.predictions is not None]
    kept = [predictions for predictions in kept if not incomparable(predictions, kept[0])]
    clusters = _clusters(kept)
    if len(kept) < 2 or len(np.unique(np.arange(len(kept[0].scores)) if clusters is None else clusters)) < 2:
        return None
    shares = np.stack([100 * predictions.scores[:, 0] for predictions in kept])
    best = shares.mean(axis=1).argmax()
    errors = uncertainty.standard_error(shares - shares[best], clusters)
    differences = np.delete(shares.mean(axis=1) - shares[best].mean(), best)
    as_good = [
        paired.by_error(*pair).p > paired.LEVEL for pair in zip(differences, np.delete(errors, best), strict=True)
    ]
    return Choice(selection(shares, clusters), len(as_good), sum(as_good))


def of_published(model: PublishedModel) -> dict[str, Evidence]:
    """Task name → evidence of a row of the published table."""
    found = {name: published(task, score) for name, task in TASKS.items() if (score := model.score(task))}
    return {name: evidence for name, evidence in found.items() if evidence is not None}


def incomparable(first: DevPredictions, second: DevPredictions) -> str:
    """The differences that make two predictions incomparable, with both values; empty if they may be compared."""
    settings = {**first.configuration, **second.configuration}
    pairs = {name: (first.configuration.get(name), second.configuration.get(name)) for name in settings}
    differing = [
        f"{name} ({mine} and {other})"
        for name, (mine, other) in pairs.items()
        if name not in BETWEEN_RUNS and mine != other and not (name == "data" and _same_data(first.task, mine, other))
    ]
    if not differing and not _same_rows(first, second):
        differing = [f"their dev rows ({len(first.scores)} and {len(second.scores)} of them)"]
    return ", ".join(differing)


def _same_data(task: str, one: object, other: object) -> bool:
    """Whether two fingerprints have the same rows: one may be of official files, the other of a copy."""
    return task in TASKS and row_facts.same_rows(TASKS[task], str(one), str(other))


def _same_rows(first: DevPredictions, second: DevPredictions) -> bool:
    clusters = [of.clusters for of in (first, second) if of.clusters is not None]  # earlier versions wrote fewer
    same = np.array_equal(first.gold, second.gold) and all(np.array_equal(clusters[0], of) for of in clusters)  # type: ignore
    alike = first.rows == second.rows or first.numbered or second.numbered  # files without ids, and earlier versions
    return alike and len(first.scores) == len(second.scores) and same


def _clusters(predictions: Sequence[DevPredictions]) -> np.ndarray | None:
    """The clusters of predictions on the same rows, if one of the files has them."""
    return next((seed.clusters for seed in predictions if seed.clusters is not None), None)


@dataclass(frozen=True, eq=False)
class Pair:
    """The evidence of two models on one task. A difference is the first model's first metric minus the second's."""

    first: Evidence
    second: Evidence

    @cached_property
    def is_paired(self) -> bool:
        """Whether both were measured on the same rows by one protocol."""
        have_rows = self.first.predictions and self.second.predictions
        return bool(have_rows) and not incomparable(self.first.predictions[0], self.second.predictions[0])

    @property
    def has_seeds(self) -> bool:
        """Whether both have several seeds, so that a difference is about their settings, not about one seed."""
        return min(len(self.first.predictions), len(self.second.predictions)) > 1

    @property
    def by_row(self) -> np.ndarray:
        """float64 [rows]: the differences, if the two are paired."""
        return self.first.by_row[:, 0] - self.second.by_row[:, 0]

    @property
    def clusters(self) -> np.ndarray | None:
        """See `Evidence.clusters`; if the two are paired."""
        return _clusters(self.first.predictions + self.second.predictions)

    @property
    def spread(self) -> Spread:
        """The spread of the difference: by the rows if the two are paired, and by the seeds if both have several."""
        if not self.is_paired:
            return Spread(float(np.hypot(self.first.error[0], self.second.error[0])))
        of_rows = float(uncertainty.standard_error(self.by_row, self.clusters))
        if not self.has_seeds:
            return Spread(of_rows)
        models = (self.first.predictions, self.second.predictions)
        scores = (np.array([100 * seed.scores[:, 0].mean() for seed in seeds]) for seeds in models)
        return uncertainty.with_seeds(of_rows, *scores)


def average_p(first: Mapping[str, Evidence], second: Mapping[str, Evidence]) -> float:
    """Two-sided p of the difference of two models' means over the tasks of AVG that both have."""
    pairs = [Pair(first[name], second[name]) for name in first if name in second and name in averaged_tasks()]
    difference = np.mean([pair.second.score[0] - pair.first.score[0] for pair in pairs])
    return paired.by_error(float(difference), *uncertainty.of_mean([pair.spread for pair in pairs])).p


def error_of_avg(found: Mapping[str, Evidence]) -> float | None:
    """One standard error of AVG, percent; None unless there is evidence of all its tasks."""
    if not averaged_tasks() <= found.keys():
        return None
    return uncertainty.of_mean([Spread(found[name].error[0]) for name in TASKS if name in averaged_tasks()]).error


# Rows that are in train, and floors -----------------------------------------------------------------------------------


def facts_of(found: Mapping[str, Evidence], run: OpenedRun | None, *, look: bool) -> dict[str, RowFacts]:
    """Task name → what is known of the rows that a model of this run was trained and evaluated on.

    Only of trials on all rows. ``look``: if nothing is known yet, read the files that the run's grid.json names, or the
    downloaded ones, which takes seconds a task.
    """
    facts = {name: _facts(TASKS[name], evidence, run, look) for name, evidence in found.items()}
    return {name: of_task for name, of_task in facts.items() if of_task is not None}


def _facts(task: Task, evidence: Evidence, run: OpenedRun | None, look: bool) -> RowFacts | None:
    configuration = evidence.predictions[0].configuration if evidence.predictions else {}
    data = configuration.get("data")
    if not isinstance(data, str) or configuration.get("limit"):
        return None
    facts = row_facts.found(task, data, run.folder if run else None)
    if facts is None and look:
        try:
            source = open_source(run and run.grid and run.grid.data_dir or data_home(), offline=True)
            if source.fingerprint(task) == data:
                with waiting(f"looking for dev rows of {task.title} in train"):
                    facts = row_facts.made(task, source)
        except ClueError:  # the data is not on this machine
            return None
    return facts if facts and facts.dev_rows == len(evidence.by_row) else None


def unseen(evidence: Evidence, facts: RowFacts) -> Evidence | None:
    """The evidence on the rows without a twin in train; None without such rows."""
    if not facts.twins:
        return evidence
    kept = ~facts.is_twin()
    return measured([predictions.only(kept) for predictions in evidence.predictions]) if kept.any() else None


def unseen_text(task: Task, evidence: Evidence, facts: RowFacts) -> Phrase | None:
    """``55.31 on the 8,885 rows whose text is not in train``; None if all rows are such rows."""
    apart = unseen(evidence, facts) if facts.twins else None
    if apart is None:
        return None
    score, rows = task.format_score(apart.score), f"{len(apart.by_row):,}"
    return Phrase("{score} on the {rows} rows whose text is not in train", score=score, rows=rows)


def floors_text(found: Mapping[str, RowFacts]) -> Phrase | None:
    """``floors, the best dev scores without reading: TNEWS 18.87, …``; None if none is known."""
    best = {name: found[name].floors.best for name in TASKS if name in found}
    parts = [f"{TASKS[name].title} {score:.2f}" for name, score in best.items() if score is not None]
    return Phrase("floors, the best dev scores without reading: {scores}", scores=", ".join(parts)) if parts else None
