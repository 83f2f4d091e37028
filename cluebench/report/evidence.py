"""What stands behind a score: every dev row of it, where the trial kept its predictions, or only the number published.

Everything here is in percent and points of a percent, as in the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cluebench.benchmark.published import PublishedModel, averaged_tasks
from cluebench.benchmark.tasks import TASKS, Task
from cluebench.data import row_facts
from cluebench.data.official import usable_rows
from cluebench.foundation.phrases import Phrase
from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.finished_trials import FinishedTrial
from cluebench.records.identity import BETWEEN_RUNS
from cluebench.report import scores
from cluebench.statistics import paired, uncertainty
from cluebench.statistics.ranks import LEVEL
from cluebench.statistics.selection import Selection, selection
from cluebench.statistics.uncertainty import Spread

#: Why a score has no evidence.
NO_PREDICTIONS = Phrase("its trial kept no dev predictions")
ONE_ROW = Phrase("a single dev row, or passage, has no standard error")


@dataclass(frozen=True, eq=False)
class Evidence:
    """A score on a task's dev split and how far off it may be.

    score, error: of each metric; the error is one standard error, over passages or records where rows share one.
    by_row: float64 [rows, metrics], the mean over seeds where there are several; no row where only the score is known.
    predictions: a seed each, those that by_row was made from.
    """

    score: tuple[float, ...]
    error: tuple[float, ...]
    by_row: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    predictions: tuple[DevPredictions, ...] = ()

    @property
    def clusters(self) -> np.ndarray | None:
        """The passage, record, premise or text of each row; None where rows share none."""
        return _clusters(self.predictions)


def measured(predictions: Sequence[DevPredictions]) -> Evidence:
    """Of one setting's trials, a seed each. Raises ValueError when they were not evaluated on the same rows."""
    first = predictions[0]
    for other in predictions[1:]:
        if differing := incomparable(first, other):
            raise ValueError(f"seeds differ in {differing}")
    shares = np.mean([one.scores for one in predictions], axis=0)
    error = uncertainty.standard_error(100 * shares.T, _clusters(predictions))
    # 100 times a mean, as in results: the mean of hundreds may round to another last digit.
    return Evidence(tuple(100 * shares.mean(axis=0)), tuple(error), 100 * shares, tuple(predictions))


def published(task: Task, score: Sequence[float]) -> Evidence | None:
    """Of a score in percent on the official dev split, of which no row is known: the binomial approximation.

    A record of several rows counts as one. None for a task whose official files are not known.
    """
    rows = usable_rows(task.name, task.dev_files) or 0
    if not rows:
        return None
    return Evidence(tuple(score), tuple(100 * uncertainty.binomial_error(share / 100, rows) for share in score))


def of_run(trials: Mapping[str, Sequence[FinishedTrial]]) -> tuple[dict[str, Evidence], dict[str, Phrase]]:
    """(evidence of each task's best setting, task name → why there is none), of a model's finished trials."""
    found: dict[str, Evidence] = {}
    left_out: dict[str, Phrase] = {}
    for name, best in scores.best_settings(trials).items():
        of_best = [trial for trial in trials[name] if trial.setting == best.setting]
        kept = [one for one in (trial.predictions for trial in of_best) if one is not None]
        if len(kept) < len(of_best):
            left_out[name] = NO_PREDICTIONS
            continue
        try:
            found[name] = measured(kept)
        except ValueError as error:
            left_out[name] = Phrase(str(error))
    left_out |= {name: ONE_ROW for name, one in found.items() if np.isnan(one.error).any()}
    return {name: one for name, one in found.items() if name not in left_out}, left_out


@dataclass(frozen=True)
class Choice:
    """The choice of a task's best trial, looked at on dev's rows."""

    selection: Selection  # how much of the winner's lead is selection
    others: int  # trials beside the best
    as_good: int  # of these, trials that a paired test at the 5 % level can't tell from the best


def choice(trials: Sequence[FinishedTrial]) -> Choice | None:
    """Of those of a task's trials that kept their predictions.

    None with fewer than two, or where rows can't be cut in halves.
    """
    kept = [one for one in (trial.predictions for trial in trials) if one is not None]
    kept = [one for one in kept if not incomparable(one, kept[0])]
    clusters = _clusters(kept)
    if len(kept) < 2 or len(np.unique(np.arange(len(kept[0].scores)) if clusters is None else clusters)) < 2:
        return None
    shares = np.stack([100 * one.scores[:, 0] for one in kept])
    best = shares.mean(axis=1).argmax()
    errors = uncertainty.standard_error(shares - shares[best], clusters)
    differences = np.delete(shares.mean(axis=1) - shares[best].mean(), best)
    as_good = [paired.normal_p(*pair) > LEVEL for pair in zip(differences, np.delete(errors, best), strict=True)]
    return Choice(selection(shares, clusters), len(as_good), sum(as_good))


def of_published(model: PublishedModel) -> dict[str, Evidence]:
    """Task name → evidence of a row of the published table."""
    found = {name: published(task, score) for name, task in TASKS.items() if (score := model.score(task))}
    return {name: one for name, one in found.items() if one is not None}


def incomparable(first: DevPredictions, second: DevPredictions) -> str:
    """What two predictions differ in that makes them no pair, with both values; empty when they may be compared."""
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
    """Whether two fingerprints are of the same rows: one of official files, one of a copy."""
    return task in TASKS and row_facts.same_rows(TASKS[task], str(one), str(other))


def _same_rows(first: DevPredictions, second: DevPredictions) -> bool:
    known = [one.clusters for one in (first, second) if one.clusters is not None]  # older files know fewer of them
    same = np.array_equal(first.gold, second.gold) and all(np.array_equal(known[0], one) for one in known)  # type: ignore
    alike = first.rows == second.rows or first.numbered or second.numbered  # as files without ids, and older versions
    return alike and len(first.scores) == len(second.scores) and same


def _clusters(predictions: Sequence[DevPredictions]) -> np.ndarray | None:
    """Of predictions on the same rows, as far as one of them knows."""
    return next((one.clusters for one in predictions if one.clusters is not None), None)


def difference_spread(first: Evidence, second: Evidence) -> Spread:
    """Of the difference of the first metric: paired where rows are known and the same; of seeds too, see `of_seeds`."""
    if not is_paired(first, second):
        return Spread(float(np.hypot(first.error[0], second.error[0])))
    difference = first.by_row[:, 0] - second.by_row[:, 0]
    of_rows = float(uncertainty.standard_error(difference, clusters_of(first, second)))
    if not of_seeds(first, second):
        return Spread(of_rows)
    scores = (np.array([100 * one.scores[:, 0].mean() for one in each.predictions]) for each in (first, second))
    return uncertainty.with_seeds(of_rows, *scores)


def of_seeds(first: Evidence, second: Evidence) -> bool:
    """Whether both have several seeds, so that a difference is of their settings, whatever the seed."""
    return min(len(first.predictions), len(second.predictions)) > 1


def clusters_of(*found: Evidence) -> np.ndarray | None:
    """Of evidence on the same rows; see `Evidence.clusters`."""
    return _clusters([one for each in found for one in each.predictions])


def is_paired(first: Evidence, second: Evidence) -> bool:
    """Whether both were measured on the same rows by one protocol."""
    known = first.predictions and second.predictions
    return bool(known) and not incomparable(first.predictions[0], second.predictions[0])


def average_p(first: Mapping[str, Evidence], second: Mapping[str, Evidence]) -> float:
    """Two-sided p of the difference of two models' means over the tasks of AVG that both have, task name → evidence."""
    shared = [name for name in first if name in second and name in averaged_tasks()]
    difference = np.mean([second[name].score[0] - first[name].score[0] for name in shared])
    spread = uncertainty.together([difference_spread(first[name], second[name]) for name in shared])
    return paired.normal_p(float(difference), spread.error / len(shared), spread.freedom)


def error_of_avg(found: Mapping[str, Evidence]) -> float | None:
    """One standard error of AVG, percent; None unless there is evidence of every task that AVG is the mean of."""
    if not averaged_tasks() <= found.keys():
        return None
    return uncertainty.error_of_average([found[name].error[0] for name in TASKS if name in averaged_tasks()])
