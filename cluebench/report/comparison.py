"""Two models on the same dev rows: where one is better, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cluebench.benchmark.published import published_model
from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.errors import DataError, UsageError
from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.finished_trials import OpenedRun
from cluebench.report import evidence
from cluebench.report.comparability import has_official_sums, unlike_published
from cluebench.report.evidence import Evidence, clusters_of, difference_spread, incomparable, is_paired, of_seeds
from cluebench.report.table import run_directory
from cluebench.report.unseen import facts_of, unseen_text
from cluebench.statistics import paired, uncertainty
from cluebench.statistics.ranks import LEVEL
from cluebench.statistics.uncertainty import Spread

#: What a difference was tested by.
MCNEMAR, BOOTSTRAP, SEEDS, UNPAIRED = "McNemar", "bootstrap", "seeds and rows", "unpaired"

#: In front of a model's name: its published scores, though there are runs of it.
PUBLISHED = "published:"

#: Of the bootstrap; each task draws from a stream of its own.
_SEED = 0


@dataclass(frozen=True)
class Contender:
    """A model and what is known of its scores."""

    name: str  # as the user typed it
    evidence: Mapping[str, Evidence]  # by task name
    left_out: Mapping[str, str] = field(default_factory=dict)  # task name → why there is no evidence
    run: OpenedRun | None = None


def contender(given: str, run_root: str) -> Contender:
    """Behind a run directory, a model's name, ``published:`` and a name, or a file of dev predictions.

    A name without runs stands for the published scores. Raises UsageError when it is none of these, DataError when a
    file is broken.
    """
    path = Path(given).expanduser()
    if path.is_file():
        predictions = DevPredictions.read(path)
        if predictions.task not in TASKS:
            raise DataError(f"{given}: dev predictions of the unknown task {predictions.task!r}")
        run = OpenedRun(path.absolute().parents[1])
        return Contender(given, {predictions.task: evidence.measured([predictions])}, run=run)
    row = published_model(given.removeprefix(PUBLISHED).strip("/"))
    if not given.startswith(PUBLISHED):
        try:
            run = OpenedRun(run_directory(given, run_root))
            return Contender(given, *evidence.of_run(run.trials), run)
        except UsageError:
            if row is None:
                raise
    if row is None:
        raise UsageError(f"{given}: no such scores were published")
    return Contender(f"{row.name} (published)", evidence.of_published(row))


@dataclass(frozen=True)
class Difference:
    """The first model's score minus the second's, on a task or over several; all in points of a percent."""

    task: str  # title, or AVG
    first: float
    second: float
    low: float  # of the 95 % interval
    high: float
    p: float  # two-sided
    test: str
    rows: int | None = None
    clusters: int | None = None  # passages, records, premises or texts that the rows belong to
    only_first_right: int | None = None  # rows, where McNemar's test applies
    only_second_right: int | None = None
    p_holm: float | None = None  # all tasks of the comparison taken together; None for AVG

    @property
    def difference(self) -> float:
        return self.first - self.second

    @property
    def is_significant(self) -> bool:
        return (self.p if self.p_holm is None else self.p_holm) <= LEVEL


@dataclass(frozen=True)
class Comparison:
    """Two models on the tasks of both."""

    first: Contender
    second: Contender
    tasks: tuple[Difference, ...]
    average: Difference | None  # None for a single task


def compare(first: Contender, second: Contender) -> Comparison:
    """Raises UsageError when the two have no task in common, or were measured on other data, rows or protocols."""
    shared = [name for name in TASKS if name in first.evidence and name in second.evidence]
    if not shared:
        reasons = {f"{one.name}: {reason}" for one in (first, second) for reason in one.left_out.values()}
        because = f" ({'; '.join(sorted(reasons))})" if reasons else ""
        raise UsageError(f"{first.name} and {second.name} have no task in common to compare them on{because}")
    pairs = {name: (first.evidence[name], second.evidence[name]) for name in shared}
    for name, (one, other) in pairs.items():
        if one.predictions and other.predictions:
            if differing := incomparable(one.predictions[0], other.predictions[0]):
                raise UsageError(
                    f"{TASKS[name].title}: {first.name} and {second.name} can't be compared: they differ in {differing}"
                )
        elif any(
            has_official_sums(TASKS[name], said.configuration) is False for said in one.predictions + other.predictions
        ):
            raise UsageError(
                f"{TASKS[name].title}: {first.name} and {second.name} can't be compared: published scores are of the "
                "official files, and the run is of others"
            )
    drawn = {name: _drawn(name, *pair) for name, pair in pairs.items()}
    found = [_on_task(name, *pair, drawn[name]) for name, pair in pairs.items()]
    adjusted = paired.holm([one.p for one in found])
    tasks = tuple(replace(one, p_holm=float(p)) for one, p in zip(found, adjusted, strict=True))
    return Comparison(first, second, tasks, _average(pairs, drawn) if len(shared) > 1 else None)


def _drawn(name: str, first: Evidence, second: Evidence) -> np.ndarray | None:
    """[draws]: bootstrap of the difference on a task; None where the rows are not known, or seeds count too."""
    if not is_paired(first, second) or of_seeds(first, second):
        return None
    seed = (_SEED, list(TASKS).index(name))
    return paired.bootstrap_means(first.by_row[:, 0] - second.by_row[:, 0], clusters_of(first, second), seed=seed)


def _on_task(name: str, first: Evidence, second: Evidence, drawn: np.ndarray | None) -> Difference:
    title, scores = TASKS[name].title, (float(first.score[0]), float(second.score[0]))
    about: dict[str, Any] = {}
    clusters = clusters_of(first, second)
    if is_paired(first, second):
        about = {"rows": len(first.by_row), "clusters": None if clusters is None else len(np.unique(clusters))}
    if drawn is None:
        test = SEEDS if about else UNPAIRED
        return _by_error(title, *scores, difference_spread(first, second), test, **about)
    if clusters is None and len(first.predictions) == len(second.predictions) == 1:
        # Rows are independent, and each is right or wrong.
        right, also = first.by_row[:, 0] == 100, second.by_row[:, 0] == 100
        only_first, only_second, p = paired.mcnemar(right, also)
        low, high = (100 * bound for bound in paired.mcnemar_interval(only_first, only_second, len(right)))
        about |= {"only_first_right": only_first, "only_second_right": only_second}
        return Difference(title, *scores, low, high, p, MCNEMAR, **about)
    return Difference(title, *scores, *paired.interval(drawn), paired.two_sided_p(drawn), BOOTSTRAP, **about)


def _by_error(title: str, first: float, second: float, spread: Spread, test: str, **about: Any) -> Difference:
    low, high = paired.normal_interval(first - second, *spread)
    return Difference(title, first, second, low, high, paired.normal_p(first - second, *spread), test, **about)


def _average(pairs: Mapping[str, tuple[Evidence, Evidence]], drawn: Mapping[str, np.ndarray | None]) -> Difference:
    """Of the plain mean over tasks, which err independently of each other."""
    first, second = (float(np.mean([pair[side].score[0] for pair in pairs.values()])) for side in (0, 1))
    known = [means for means in drawn.values() if means is not None]
    if len(known) < len(drawn):
        spread = uncertainty.together([difference_spread(*pair) for pair in pairs.values()])
        spread = spread._replace(error=spread.error / len(pairs))
        test = SEEDS if all(is_paired(*pair) for pair in pairs.values()) else UNPAIRED
        return _by_error("AVG", first, second, spread, test)
    means = np.mean(known, axis=0)
    low, high = paired.interval(means)
    return Difference("AVG", first, second, low, high, paired.two_sided_p(means), BOOTSTRAP)


# In plain words -------------------------------------------------------------------------------------------------------

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def sentence(comparison: Comparison) -> str:
    """``B is better on OCNLI and C3; the other eight can't be told apart; over the mean of …``"""
    first, second, tasks = comparison.first.name, comparison.second.name, comparison.tasks
    apart = [one for one in tasks if one.is_significant]
    parts = []
    for name, wins in (
        (second, [one for one in apart if one.difference < 0]),
        (first, [one for one in apart if one.difference > 0]),
    ):
        if wins:
            parts.append(f"{name} is better on {_listed([one.task for one in wins])}")
    rest = [one.task for one in tasks if not one.is_significant]
    if not apart:
        where = f"on {rest[0]}" if len(rest) == 1 else f"on any of the {_number(len(rest))} tasks"
        parts.append(f"{first} and {second} can't be told apart {where}")
    elif rest:
        parts.append(f"{rest[0] if len(rest) == 1 else f'the other {_number(len(rest))}'} can't be told apart")
    if comparison.average is not None:
        parts.append(_of_average(comparison.average, first, second, _number(len(tasks))))
    return "; ".join(parts) + "."


def _of_average(average: Difference, first: str, second: str, tasks: str) -> str:
    over = f"over the mean of the {tasks} tasks"
    if not average.is_significant:
        return f"{over} neither is better than the other"
    low, high = sorted(map(abs, (average.low, average.high)))
    winner = first if average.difference > 0 else second
    return f"{over} {winner} is better by {abs(average.difference):.2f} ({low:.2f} to {high:.2f})"


def _number(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


def _listed(titles: Sequence[str]) -> str:
    return titles[0] if len(titles) == 1 else ", ".join(titles[:-1]) + " and " + titles[-1]


def _not_as_published(comparison: Comparison) -> list[str]:
    """``not as published: max_steps 100 (TNEWS and C3 of MODEL)``, a line for each such setting of a run."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for side in (comparison.first, comparison.second):
        for name, one in side.evidence.items():
            unlike = unlike_published(TASKS[name], one.predictions[0].configuration) if one.predictions else {}
            for setting, (value, _) in unlike.items():
                if value is not None:
                    tasks.setdefault((side.name, f"{setting} {value}"), []).append(TASKS[name].title)
    return [f"not as published: {what} ({_listed(titles)} of {name})" for (name, what), titles in tasks.items()]


def _on_unseen_rows(comparison: Comparison) -> Iterator[str]:
    """A line a task of which dev rows are in train, as far as both models' rows are known."""
    sides = [(one, facts_of(one.evidence, one.run, look=True)) for one in (comparison.first, comparison.second)]
    for name, task in TASKS.items():
        if all(name in facts and facts[name].twins for _, facts in sides):
            texts = [
                f"{model.name} has {task.format_score(model.evidence[name].score)}; "
                f"{unseen_text(task, model.evidence[name], facts[name])}"
                for model, facts in sides
            ]
            yield f"{task.title}: {', '.join(texts)}"


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know to read the numbers, a line each."""
    first, second, tests = comparison.first, comparison.second, {one.test for one in comparison.tasks}
    found = [*_on_unseen_rows(comparison)]
    if BOOTSTRAP in tests:
        found.append(
            f"bootstrap: paired bootstrap on the same dev rows, {paired.DRAWS:,} draws, of whole passages, "
            "records, premises or texts where rows share one"
        )
    if MCNEMAR in tests:
        found.append(
            "McNemar: exact test on the rows that only one of the two has right, with the 95 % interval of that test"
        )
    if SEEDS in tests:
        found.append(
            "seeds and rows: both were run with several seeds, and how much these differ counts beside the dev rows; "
            "the 95 % interval is of the settings, whatever the seed"
        )
    if any(len(one.predictions) == 1 for side in (first, second) for one in side.evidence.values()):
        found.append(
            "what is compared are these fine-tuned models: the same setting with another seed may differ as much; "
            "grid_search.py --confirm_seeds runs several; if both models have them, their means are compared, and the "
            "test counts how much seeds differ"
        )
    if UNPAIRED in tests:
        found.append(
            "unpaired: of published scores no row is known; this test takes a score as a share of independent rows, "
            "and tells apart less than one on the same rows"
        )
        found += _not_as_published(comparison)
    if len(comparison.tasks) > 1:
        found.append(
            f"better: p (Holm) is at most {LEVEL}; it is p corrected for testing {len(comparison.tasks)} tasks"
        )
    for one in (first, second):
        found += [f"left out: {TASKS[name].title} of {one.name}: {reason}" for name, reason in one.left_out.items()]
    return found
