"""Two models on the same dev rows: on which tasks one is better, and how sure that is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cluebench.benchmark.published import published_model
from cluebench.benchmark.tasks import TASKS, Task
from cluebench.foundation.errors import DataError, UsageError
from cluebench.foundation.text import Table, as_json, shown
from cluebench.records.dev_predictions import DevPredictions
from cluebench.report import evidence
from cluebench.report.comparability import has_official_sums, unlike_published
from cluebench.report.evidence import Evidence, Pair, facts_of, incomparable, unseen_text
from cluebench.report.examples import Example
from cluebench.report.run import Run, run_directory
from cluebench.statistics import paired, uncertainty
from cluebench.statistics.paired import DRAWS, LEVEL

#: The tests of a difference.
MCNEMAR, BOOTSTRAP, SEEDS, UNPAIRED = "McNemar", "bootstrap", "seeds and rows", "unpaired"

#: ``published:NAME`` means the model's published scores, even if there are runs of it.
PUBLISHED = "published:"

#: Of the bootstrap; each task draws from a stream of its own.
_SEED = 0


@dataclass(frozen=True)
class Contender:
    """A model and the evidence of its scores."""

    name: str  # as the user typed it
    evidence: Mapping[str, Evidence]  # by task name
    left_out: Mapping[str, str] = field(default_factory=dict)  # task name → why there is no evidence
    run: Run | None = None

    def on(self, tasks: Sequence[Task]) -> "Contender":
        """The same with these tasks only."""
        names = {task.name for task in tasks}
        kept = {name: score for name, score in self.evidence.items() if name in names}
        left_out = {name: why for name, why in self.left_out.items() if name in names}
        return replace(self, evidence=kept, left_out=left_out)


def contender(typed: str, run_root: str) -> Contender:
    """The model that the user typed: a run directory, a name, ``published:`` and a name, or a file of dev predictions.

    A name without runs means the published scores. Raises UsageError for anything else, DataError for a broken file.
    """
    path = Path(typed).expanduser()
    if path.is_file():
        predictions = DevPredictions.read(path)
        if predictions.task not in TASKS:
            raise DataError(f"{typed}: dev predictions of the unknown task {predictions.task!r}")
        run = Run(path.absolute().parents[1])
        return Contender(typed, {predictions.task: evidence.measured([predictions])}, run=run)
    row = published_model(typed.removeprefix(PUBLISHED).strip("/"))
    if not typed.startswith(PUBLISHED):
        try:
            run = Run(run_directory(typed, run_root))
            return Contender(typed, run.evidence, run.left_out, run)
        except UsageError:
            if row is None:
                raise
    if row is None:
        raise UsageError(f"{typed}: no such scores were published")
    return Contender(f"{row.name} (published)", evidence.of_published(row))


@dataclass(frozen=True)
class Difference:
    """The first model's score minus the second's, on a task or over several; in points of a percent."""

    task: str  # title, or AVG
    first: float
    second: float
    low: float  # of the 95 % interval
    high: float
    p: float  # two-sided
    test: str
    rows: int | None = None
    clusters: int | None = None  # passages, records, premises or texts that the rows belong to
    only_first_right: int | None = None  # rows, for McNemar's test
    only_second_right: int | None = None
    p_holm: float | None = None  # corrected for the number of tasks; None for AVG

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

    @property
    def differences(self) -> list[Difference]:
        """The differences on the tasks and, if there are several, on their mean."""
        return [*self.tasks, *filter(None, [self.average])]


def compare(first: Contender, second: Contender) -> Comparison:
    """Raises UsageError if the two have no task in common, or were measured on other data, rows or protocols."""
    both = [name for name in TASKS if name in first.evidence and name in second.evidence]
    pairs = {name: Pair(first.evidence[name], second.evidence[name]) for name in both}
    if not pairs:
        reasons = sorted({f"{model.name}: {why}" for model in (first, second) for why in model.left_out.values()})
        because = f" ({'; '.join(reasons)})" if reasons else ""
        raise UsageError(f"{first.name} and {second.name} have no task in common to compare them on{because}")
    for name, pair in pairs.items():
        if why := _why_incomparable(TASKS[name], pair):
            raise UsageError(f"{TASKS[name].title}: {first.name} and {second.name} can't be compared: {why}")
    draws = {name: _draws(name, pair) for name, pair in pairs.items()}
    found = [_on_task(TASKS[name].title, pair, draws[name]) for name, pair in pairs.items()]
    adjusted = paired.holm([difference.p for difference in found])
    tasks = tuple(replace(difference, p_holm=float(p)) for difference, p in zip(found, adjusted, strict=True))
    average = _average([*pairs.values()], [*draws.values()]) if len(pairs) > 1 else None
    return Comparison(first, second, tasks, average)


def _why_incomparable(task: Task, pair: Pair) -> str:
    """Empty if the two may be compared."""
    first, second = pair.first.predictions, pair.second.predictions
    if first and second:
        differing = incomparable(first[0], second[0])
        return differing and f"they differ in {differing}"
    if any(has_official_sums(task, predictions.configuration) is False for predictions in first + second):
        return "published scores belong to the official files, and the run used other files"
    return ""


def _draws(name: str, pair: Pair) -> np.ndarray | None:
    """[draws]: bootstrap of a task's difference; None if the rows are unknown, or if the spread of seeds counts."""
    if not pair.is_paired or pair.has_seeds:
        return None
    return paired.bootstrap_means(pair.by_row, pair.clusters, seed=(_SEED, list(TASKS).index(name)))


def _on_task(title: str, pair: Pair, draws: np.ndarray | None) -> Difference:
    first, second, clusters = float(pair.first.score[0]), float(pair.second.score[0]), pair.clusters
    about: dict[str, Any] = {}
    if pair.is_paired:
        about = {"rows": len(pair.by_row), "clusters": None if clusters is None else len(np.unique(clusters))}
    if draws is None:
        test, found = SEEDS if about else UNPAIRED, paired.by_error(first - second, *pair.spread)
    elif clusters is None and len(pair.first.predictions) == len(pair.second.predictions) == 1:
        # Rows are independent, and each is right or wrong.
        right = (of.by_row[:, 0] == 100 for of in (pair.first, pair.second))
        about["only_first_right"], about["only_second_right"], found = paired.mcnemar(*right)
        test, found = MCNEMAR, found._replace(low=100 * found.low, high=100 * found.high)
    else:
        test, found = BOOTSTRAP, paired.by_draws(draws)
    return Difference(title, first, second, *found, test, **about)


def _average(pairs: Sequence[Pair], draws: Sequence[np.ndarray | None]) -> Difference:
    """The difference of the plain means over tasks, whose errors are independent."""
    first = float(np.mean([pair.first.score[0] for pair in pairs]))
    second = float(np.mean([pair.second.score[0] for pair in pairs]))
    drawn = [means for means in draws if means is not None]
    if len(drawn) == len(draws):
        return Difference("AVG", first, second, *paired.by_draws(np.mean(drawn, axis=0)), BOOTSTRAP)
    found = paired.by_error(first - second, *uncertainty.of_mean([pair.spread for pair in pairs]))
    return Difference("AVG", first, second, *found, SEEDS if all(pair.is_paired for pair in pairs) else UNPAIRED)


# In plain words -------------------------------------------------------------------------------------------------------

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def sentence(comparison: Comparison) -> str:
    """``B is better on OCNLI and C3; no clear difference on the other eight; over the mean of …``"""
    first, second, tasks = comparison.first.name, comparison.second.name, comparison.tasks
    rest, parts = [task.task for task in tasks if not task.is_significant], []
    for name, sign in ((second, -1), (first, 1)):
        wins = [task.task for task in tasks if task.is_significant and sign * task.difference > 0]
        parts += [f"{name} is better on {_listed(wins)}"] if wins else []
    if not parts:
        where = f"on {rest[0]}" if len(rest) == 1 else f"on any of the {_number(len(rest))} tasks"
        parts.append(f"{first} and {second} do not differ clearly {where}")
    elif rest:
        parts.append(f"no clear difference on {rest[0] if len(rest) == 1 else f'the other {_number(len(rest))}'}")
    if average := comparison.average:
        over = f"over the mean of the {_number(len(tasks))} tasks"
        low, high = sorted(map(abs, (average.low, average.high)))
        winner = first if average.difference > 0 else second
        lead = f"{winner} is better by {abs(average.difference):.2f} ({low:.2f} to {high:.2f})"
        parts.append(f"{over} {lead if average.is_significant else 'neither is better than the other'}")
    return "; ".join(parts) + "."


def _number(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


def _listed(titles: Sequence[str]) -> str:
    return titles[0] if len(titles) == 1 else ", ".join(titles[:-1]) + " and " + titles[-1]


def _not_as_published(models: Sequence[Contender]) -> list[str]:
    """``not as published: max_steps 100 (TNEWS and C3 of MODEL)``, a line for each such setting of a run."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for model in models:
        for name, found in model.evidence.items():
            unlike = unlike_published(TASKS[name], found.predictions[0].configuration) if found.predictions else {}
            for setting, (value, _) in unlike.items():
                if value is not None:
                    tasks.setdefault((model.name, f"{setting} {value}"), []).append(TASKS[name].title)
    return [f"not as published: {what} ({_listed(titles)} of {name})" for (name, what), titles in tasks.items()]


def _on_unseen_rows(models: Sequence[Contender]) -> Iterator[str]:
    """For each task with dev rows in train, if both models' rows are known: the scores on the other dev rows."""
    facts = [facts_of(model.evidence, model.run, look=True) for model in models]
    for name, task in TASKS.items():
        if all(name in of_model and of_model[name].twins for of_model in facts):
            texts = []
            for model, of_model in zip(models, facts):
                measured = model.evidence[name]
                text = unseen_text(task, measured, of_model[name])
                texts.append(f"{model.name} has {task.format_score(measured.score)}; {text}")
            yield f"{task.title}: {', '.join(texts)}"


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know to read the numbers, a line each."""
    models, tests = (comparison.first, comparison.second), {task.test for task in comparison.tasks}
    one_seed = any(len(found.predictions) == 1 for model in models for found in model.evidence.values())
    texts = {
        f"bootstrap: paired bootstrap on the same dev rows, {DRAWS:,} draws; if rows share a passage, record, "
        "premise or text, it is drawn as a whole": BOOTSTRAP in tests,
        "McNemar: exact test on the rows that only one of the two has right, with the 95 % interval of that test":
            MCNEMAR in tests,
        "seeds and rows: both were run with several seeds; the test counts how much the seeds differ beside the dev "
        "rows, so the 95 % interval is about the settings, not about one seed": SEEDS in tests,
        "these fine-tuned models are compared: the same setting with another seed may differ as much; "
        "grid_search.py --confirm_seeds runs several; if both models have several seeds, their means are compared, and "
        "the test counts how much the seeds differ": one_seed,
        "unpaired: published scores have no rows; this test treats a score as a share of independent rows, and finds "
        "fewer differences than a test on the same rows": UNPAIRED in tests,
    }  # fmt: skip
    found = [*_on_unseen_rows(models), *(text for text, applies in texts.items() if applies)]
    if UNPAIRED in tests:
        found += _not_as_published(models)
    if len(comparison.tasks) > 1:
        corrected = f"it is p corrected for testing {len(comparison.tasks)} tasks"
        found.append(f"better: p (Holm) is at most {LEVEL}; {corrected}")
    for model in models:
        found += [f"left out: {TASKS[name].title} of {model.name}: {why}" for name, why in model.left_out.items()]
    return found


# Formats --------------------------------------------------------------------------------------------------------------

FORMATS = ("text", "markdown", "json")

_COLUMNS = ["task", "first", "second", "first − second", "95 % interval", "p", "p (Holm)", "test", "rows"]

#: Characters of a row's text that are shown.
_SHOWN = 160


def rendered(comparisons: Sequence[Comparison], style: str) -> str:
    """All comparisons in one of FORMATS; JSON is a list."""
    if style == "json":
        return as_json([_values(comparison) for comparison in comparisons])
    bullet = "- " if style == "markdown" else ""
    blocks = []
    for comparison in comparisons:
        names = [shown(model.name, style) for model in (comparison.first, comparison.second)]
        blocks += [
            [f"{bullet}first: {names[0]}", f"{bullet}second: {names[1]}"],
            Table(_COLUMNS, [*map(_row, comparison.differences)], {"task"}).lines(style),
            [shown(sentence(comparison), style)],
            [bullet + shown(note, style) for note in notes(comparison)],
        ]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def _values(comparison: Comparison) -> dict[str, Any]:
    """Every number, unrounded."""
    found = [
        {**asdict(task), "difference": task.difference, "significant": task.is_significant}
        for task in comparison.differences
    ]
    return {
        "first": comparison.first.name,
        "second": comparison.second.name,
        "sentence": sentence(comparison),
        "tasks": found[: len(comparison.tasks)],
        "average": found[-1] if comparison.average else None,
        "left_out": {model.name: dict(model.left_out) for model in (comparison.first, comparison.second)},
        "draws": DRAWS,
        "level": LEVEL,
    }


def _row(task: Difference) -> list[str]:
    rows = "-" if task.rows is None else f"{task.rows}" + (f" in {task.clusters}" if task.clusters is not None else "")
    scores = [f"{task.first:.2f}", f"{task.second:.2f}", f"{task.difference:+.2f}"]
    tested = [_p(task.p), "-" if task.p_holm is None else _p(task.p_holm), task.test]
    return [task.task, *scores, f"{task.low:+.2f} to {task.high:+.2f}", *tested, rows]


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


# Rows that only one model has right -----------------------------------------------------------------------------------


def disagreements(first: Evidence, second: Evidence, examples: Sequence[Example]) -> list[dict[str, Any]]:
    """The dev rows that exactly one of two models has right, in their order; spans are judged by EM.

    Each has the row's id, texts and right answer, what ``first`` and ``second`` predicted, and which is ``right``. The
    predictions of the first seed are compared.
    """
    sides = {"first": first.predictions[0], "second": second.predictions[0]}
    right = {side: predictions.scores[:, 0] == 1 for side, predictions in sides.items()}
    return [
        {
            "id": examples[row].id,
            **examples[row].texts,
            "answer": examples[row].gold,
            **{side: examples[row].name(predictions.predicted[row]) for side, predictions in sides.items()},
            "right": "first" if right["first"][row] else "second",
        }
        for row in np.flatnonzero(right["first"] != right["second"]).tolist()
    ]


def rendered_disagreements(title: str, comparison: Comparison, rows: Sequence[dict], style: str) -> str:
    """All rows in one of FORMATS; long texts are shortened, except in JSON."""
    if style == "json":
        return as_json(rows)
    names = {"first": shown(comparison.first.name, style), "second": shown(comparison.second.name, style)}
    wins = ", ".join(f"{name} on {sum(row['right'] == side for row in rows)}" for side, name in names.items())
    lines = [f"{title}: exactly one is right on {len(rows)} dev rows: {wins}"]
    is_markdown = style == "markdown"
    for row in rows:
        name = shown(row["id"], style)
        lines += ["", f"**{name}**", ""] if is_markdown else ["", name]
        for key in (key for key in row if key not in ("id", "right")):
            verdict = f" ({'right' if row['right'] == key else 'wrong'})" if key in names else ""
            text = " ".join(row[key].split())
            text = shown(text if len(text) <= _SHOWN else text[:_SHOWN] + "…", style)
            lines.append(f"{'- ' if is_markdown else '    '}{names.get(key, key)}: {text}{verdict}")
    return "\n".join(lines) + "\n"
