"""Models side by side: a row for each model with the best dev score of every task, and their mean, in five formats.

Only comparable runs stand in the ranking (see `cluebench.report.comparability`); the others follow it, with reasons.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cluebench.benchmark.published import ATTRIBUTION, PublishedModel, averaged_tasks, published_models
from cluebench.benchmark.tasks import TASKS
from cluebench.data.row_facts import RowFacts
from cluebench.foundation.environment import uncollected
from cluebench.foundation.errors import UsageError
from cluebench.foundation.file_facts import visible
from cluebench.foundation.text import Phrase, Table, as_json, shown, unit_of
from cluebench.records.cost import Cost
from cluebench.records.cost import shown as shown_amount
from cluebench.records.grid_file import REPORT_FILE
from cluebench.records.result import ModelSize, Result
from cluebench.report import comparability, evidence, page, scores
from cluebench.report.comparability import Mark
from cluebench.report.evidence import Evidence, facts_of, floors_text, unseen
from cluebench.report.run import Run
from cluebench.report.scores import Best
from cluebench.report.submitted import RECORD, Submitted
from cluebench.statistics.paired import shared_ranks

#: The orders of the rows.
ORDERS = ("average", "score_per_hour")


@dataclass(frozen=True, eq=False)
class Row:
    """A model's line; what it has of tasks is by their names. Scores are in percent; EM and F1 for spans."""

    model: str
    average: float | None  # None unless all ten tasks are finished
    bests: Mapping[str, Best]
    evidence: Mapping[str, Evidence]
    marks: tuple[Mark, ...] = ()  # why it is not in the ranking
    run: Path | None = None  # its folder; None for published scores
    trials: int | None = None  # finished ones; None if unknown
    size: ModelSize | None = None
    cost: Cost = Cost(unknown=1)
    test: Mapping[str, float] = field(default_factory=dict)  # task → score on CLUE's leaderboard
    rank: int | None = None
    facts: Mapping[str, RowFacts] = field(default_factory=dict)  # task → facts of its rows

    @property
    def published(self) -> bool:
        return self.run is None

    @property
    def error(self) -> float | None:
        """One standard error of the average; None unless the errors of all ten tasks are known."""
        return evidence.error_of_avg(self.evidence)

    @property
    def score_per_hour(self) -> float | None:
        """Points of AVG per device hour of its trials."""
        return self.cost.score_per_hour(self.average)

    @property
    def report(self) -> Path | None:
        """The page of its run, if it has been written."""
        path = self.run / REPORT_FILE if self.run else None
        return path if path and path.is_file() else None

    @property
    def reasons(self) -> list[Phrase]:
        """Its marks in words."""
        return [mark.text(len(self.bests.keys() & averaged_tasks())) for mark in self.marks]

    @property
    def why_marked(self) -> str:
        return "; ".join(self.reasons)

    @property
    def missing(self) -> list[str]:
        """Titles of the tasks that AVG lacks."""
        return scores.missing_from_average(self.bests)


@dataclass(frozen=True)
class FromBaseline:
    """A row minus the baseline, in points: of the averages, with its two-sided p, and of each task of both."""

    average: float | None
    p: float | None
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Leaderboard:
    """The rows in order: first the ranking, then the models outside it."""

    rows: Sequence[Row]
    baseline: Row | None = None
    without_twins: bool = False  # scores are on the dev rows whose text is not in train

    @classmethod
    def of(
        cls,
        rows: Sequence[Row],
        baseline: str | None = None,
        all_runs: bool = False,
        sort: str = "average",
        without_twins: bool = False,
    ) -> "Leaderboard":
        """baseline: a model, measured rather than published, or ``published:NAME``. sort: one of ORDERS.

        all_runs: rank models with marks too. Raises UsageError if no row is the baseline.
        """
        rows = _ordered(_with_folders(rows), all_runs, attrgetter(sort))
        by_name = {f"published:{row.model}" if row.published else row.model: row for row in rows}
        base = by_name.get(baseline or "", by_name.get(f"published:{baseline}"))
        if baseline is not None and base is None:
            raise UsageError(f"--baseline {baseline}: not among {', '.join(by_name)}")
        return cls(rows, base, without_twins)

    def difference(self, row: Row) -> FromBaseline | None:
        """The difference from the baseline; None without a baseline, and for the baseline itself."""
        base = self.baseline
        if base is None or row is base:
            return None
        both = {
            name: (best.score[0], base.bests[name].score[0]) for name, best in row.bests.items() if name in base.bests
        }
        tasks = {name: round(round(mine, 2) - round(theirs, 2), 2) for name, (mine, theirs) in both.items()}
        if row.average is None or base.average is None:
            return FromBaseline(None, None, tasks)
        have_errors = row.error is not None and base.error is not None
        p = evidence.average_p(base.evidence, row.evidence) if have_errors else None
        return FromBaseline(row.average - base.average, p, tasks)


@uncollected()
def measured_rows(run_root: Path, without_twins: bool = False) -> list[Row]:
    """A row for every folder of the run root that has a finished trial.

    without_twins: with the scores on the dev rows whose text is not in train, as far as these rows are known.
    """
    runs = (Run(path, whole_grid=True) for path in visible(run_root) if path.is_dir())  # one at a time in memory
    return [_row(run, without_twins) for run in runs if any(run.trials.values())]


def _row(run: Run, without_twins: bool) -> Row:
    bests, found = run.bests, run.evidence
    facts = facts_of(found, run, look=without_twins)
    if without_twins:
        found = {name: apart for name in facts if (apart := unseen(found[name], facts[name]))}
        bests = {name: replace(bests[name], score=apart.score) for name, apart in found.items()}
    marks = [*comparability.marks(run.scored), *([Mark(run.halving_mark, ())] if run.halving_mark else [])]
    for why in dict.fromkeys(run.left_out.values()):
        marks.append(Mark(why, tuple(name for name in run.left_out if run.left_out[name] == why)))
    record = Submitted.read(run.folder / RECORD)
    return Row(
        run.name,
        scores.average(bests),
        bests,
        found,
        tuple(marks),
        run=run.folder,
        trials=sum(map(len, run.scored.values())),
        size=_size(run, [trial.result for of_task in run.scored.values() for trial in of_task if trial.result]),
        cost=sum(run.costs.values(), Cost()),
        test=record.test if record else {},
        facts=facts,
    )


def _size(run: Run, results: Sequence[Result]) -> ModelSize | None:
    """As its trials measured it, with the pooler that only some tasks have; else the published size."""
    sizes = [result.model_size for result in results if result.model_size]
    if sizes:
        return max(sizes, key=attrgetter("parameters"))
    published = published_models().get(run.name) if run.identity in (None, run.name) else None
    return _published_size(published) if published else None


def published_rows() -> list[Row]:
    """The published table."""
    return [
        Row(
            row.name,
            float(row.average),
            {name: Best(row.best_settings[name], score) for name, task in TASKS.items() if (score := row.score(task))},
            evidence.of_published(row),
            size=_published_size(row),
        )
        for row in published_models().values()
    ]


def _published_size(row: PublishedModel) -> ModelSize:
    return ModelSize(row.layers, row.hidden_size, row.parameters)


def _with_folders(rows: Sequence[Row]) -> list[Row]:
    """If a model has several runs, the end of each folder follows its name."""
    folders = defaultdict(list)
    for row in rows:
        if row.run:
            folders[row.model].append(row.run.resolve())
    return [
        replace(row, model=f"{row.model} ({_distinct_end(row.run.resolve(), folders[row.model])})")
        if row.run and len(folders[row.model]) > 1
        else row
        for row in rows
    ]


def _distinct_end(folder: Path, among: Sequence[Path]) -> str:
    """The last two parts of a path, or as many as no other path ends with."""
    for count in range(2, len(folder.parts)):
        if sum(other.parts[-count:] == folder.parts[-count:] for other in among) == 1:
            return "/".join(folder.parts[-count:])
    return str(folder)


def _ordered(rows: Sequence[Row], all_runs: bool, key: Callable[[Row], float | None]) -> list[Row]:
    """The ranking, then the rows without a rank; both by ``key``, highest first. Models that tie share a rank."""
    rows = sorted(rows, key=lambda row: (row.average is None, -(row.average or 0), -len(row.bests), row.model))
    ranked = [row for row in rows if row.error is not None and (all_runs or not row.marks)]
    ranks = shared_ranks(
        [row.average or 0 for row in ranked],
        lambda best, other: evidence.average_p(ranked[best].evidence, ranked[other].evidence),
    )
    ranking = [replace(row, rank=rank) for row, rank in zip(ranked, ranks, strict=True)]
    rest = [row for row in rows if row not in ranked]
    return [row for part in (ranking, rest) for row in sorted(part, key=lambda row: -(key(row) or 0))]


# Formats --------------------------------------------------------------------------------------------------------------

FORMATS = ("text", "markdown", "csv", "json", "html")

_MARK = " *"
_ALWAYS = ["rank", "model", "AVG", *(task.title for task in TASKS.values())]  # columns that are never left out
_SHARED = Phrase("Models share a rank if their AVG does not differ at the 5 % level; ± is one standard error.")
_WITHOUT_TWINS = Phrase("Scores are on the dev rows whose text is not in train.")
_APPROXIMATED = Phrase(
    "Published scores: PaddleNLP's CLUE Benchmark document, not measured by this project. Their errors are the "
    "binomial approximation, and tests against them are unpaired."
)
#: Characters of a model's name in a terminal of 120 columns.
_NAME = 29


def rendered(board: Leaderboard, style: str, folder: Path = Path()) -> str:
    """In one of FORMATS. folder: the page's, for its links to the reports of the runs."""
    if style == "json":
        return as_json(contents(board), indent=1)
    if style == "html":
        return _page(board, folder)
    return {"text": _text, "markdown": _markdown, "csv": _csv}[style](board)


def _lines_below(board: Leaderboard, style: str) -> list[str]:
    """How to read a table, and for each model outside the ranking the reasons."""
    found: list[str] = [_SHARED] if any(row.rank for row in board.rows) else []
    found += [_MARK.strip() + " " + _APPROXIMATED] if any(row.published for row in board.rows) else []
    found += [f"Differences: the model's score minus the score of {board.baseline.model}."] if board.baseline else []
    found += _about_rows(board)
    found += [shown(f"{row.model}: {row.why_marked}") for row in board.rows if row.marks]
    return [shown(line, style) for line in found] if style == "markdown" else found


def _about_rows(board: Leaderboard) -> list[Phrase]:
    """The dev rows that were scored, and the floors, as far as they are known."""
    floors = floors_text({name: facts for row in board.rows for name, facts in row.facts.items()})
    return [_WITHOUT_TWINS] * board.without_twins + ([floors] if floors else [])


def contents(board: Leaderboard) -> dict[str, Any]:
    """Everything that is known, as JSON values: numbers unrounded, None if unknown."""
    return {
        "tasks": {name: task.metric for name, task in TASKS.items()},
        "baseline": board.baseline.model if board.baseline else None,
        "models": [_record(board, row) for row in board.rows],
    }


def _record(board: Leaderboard, row: Row) -> dict[str, Any]:
    difference, cost = board.difference(row), row.cost
    tasks = {}
    for name, best in row.bests.items():
        error = row.evidence[name].error if name in row.evidence else None
        tasks[name] = {"score": best.score, "error": error, "test": row.test.get(name), **best.setting._asdict()}
    return {
        "rank": row.rank,
        "model": row.model,
        "published": row.published,
        "average": row.average,
        "error": row.error,
        "tasks": tasks,
        "difference": asdict(difference) if difference else None,
        "not_as_published": [asdict(mark) for mark in row.marks],
        "trials": row.trials,
        "size": asdict(row.size) | {"architecture": row.size.architecture} if row.size else None,
        "device_hours": None if cost.unknown else cost.hours,
        "score_per_hour": row.score_per_hour,
        "run": str(row.run) if row.run else None,
        "report": str(row.report) if row.report else None,
    }


def _two_digits(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"


def _with_error(row: Row) -> str:
    return _two_digits(row.average) + (f"±{row.error:.2f}" if row.error else "")


def _score(row: Row, name: str) -> str:
    return TASKS[name].format_score(row.bests[name].score) if name in row.bests else "-"


def _markdown(board: Leaderboard) -> str:
    """Scores with their errors; in brackets the differences and the scores on the test set."""
    rows = [_cells(row, board.difference(row)) for row in board.rows]
    table = Table([*_ALWAYS, "size", "hours", "AVG/hour"], rows, {"model"}).without_empty(keep=_ALWAYS)
    return "\n\n".join(["\n".join(table.markdown()), *_lines_below(board, "markdown")]) + "\n"


def _cells(row: Row, difference: FromBaseline | None) -> list[str]:
    lead = difference.average if difference else None
    average = _with_error(row) + (f" ({lead:+.2f})" if lead is not None else "")
    cells = [str(row.rank or "-"), row.model + _MARK * row.published, average]
    for name in TASKS:
        errors = row.evidence[name].error if name in row.evidence else ()
        score = "/".join(f"{text}±{error:.2f}" for text, error in zip(_score(row, name).split("/"), errors))
        more = [f"{difference.scores[name]:+.2f}"] if difference and name in difference.scores else []
        more += [f"test {row.test[name]:.2f}"] if name in row.test else []
        cells.append((score or _score(row, name)) + (f" ({', '.join(more)})" if more else ""))
    cells.append(f"{row.size.architecture} {row.size.parameters / 1e6:.0f}M" if row.size else "-")
    per_hour = "-" if row.score_per_hour is None else shown_amount(row.score_per_hour)
    return [*cells, "-" if row.cost.unknown else shown_amount(row.cost.hours), per_hour]


def _text(board: Leaderboard) -> str:
    """For a terminal of 120 columns: a line a model, below it its differences and scores on the test set."""
    lines = list(_lines(board))
    titles = [title.removesuffix("2020") for title in _ALWAYS]
    head, *printed = Table(titles, [cells for _, cells in lines], {"model"}).text(" ")
    ranked = sum(row.rank is not None for row, _ in lines)
    if 0 < ranked < len(lines):
        printed.insert(ranked, "not in the ranking:")
    more = "More in the other formats: --format markdown, csv, json or html (errors of the tasks, sizes, costs)."
    return "\n".join([head, *printed, *_lines_below(board, "text"), more]) + "\n"


def _lines(board: Leaderboard) -> Iterator[tuple[Row, list[str]]]:
    for row in board.rows:
        name = row.model + _MARK * row.published
        name = name if len(name) <= _NAME else name[: _NAME // 2] + "…" + name[-_NAME // 2 + 1 :]
        yield row, [str(row.rank or "-"), name, _with_error(row), *(_score(row, task) for task in TASKS)]
        if difference := board.difference(row):
            differences = [difference.average, *(difference.scores.get(name) for name in TASKS)]
            yield row, ["", "  difference", *("" if number is None else f"{number:+.2f}" for number in differences)]
        if row.test:
            tests = [f"{row.test[name]:.2f}" if name in row.test else "" for name in TASKS]
            yield row, ["", "  on the test set", "", *tests]


def _csv(board: Leaderboard) -> str:
    """The scores first, then everything else."""
    rows = [_csv_row(board, row) for row in board.rows]
    return Table([*rows[0]], [[*map(str, row.values())] for row in rows]).csv()


def _csv_row(board: Leaderboard, row: Row) -> dict[str, Any]:
    found = board.difference(row)
    differences = {"avg": found.average, **found.scores} if found else {}
    errors = {"avg": (row.error,) if row.error else (), **{name: found.error for name, found in row.evidence.items()}}
    columns = ["avg", *TASKS]
    return {
        "rank": row.rank or "-",
        "model": row.model,
        "avg": _two_digits(row.average),
        **{name: _score(row, name) for name in TASKS},
        "source": ATTRIBUTION if row.published else "measured",
        **{f"{name}_error": "/".join(f"{error:.2f}" for error in errors.get(name, ())) or "-" for name in columns},
        **{f"{name}_test": _two_digits(row.test.get(name)) for name in TASKS},
        **({f"{name}_difference": _two_digits(differences.get(name)) for name in columns} if board.baseline else {}),
        "architecture": row.size.architecture if row.size else "-",
        "parameters": row.size.parameters if row.size else "-",
        "device_hours": "-" if row.cost.unknown else f"{row.cost.hours:.3f}",
        "score_per_hour": "-" if row.score_per_hour is None else f"{row.score_per_hour:.3f}",
        "not_as_published": row.why_marked or "-",
    }


def _page(board: Leaderboard, folder: Path) -> str:
    return page.rendered(
        "leaderboard.html",
        contents(board),
        board=board,
        tasks=TASKS,
        links=[quote(os.path.relpath(row.report, folder)) if row.report else None for row in board.rows],
        unit=unit_of([3600 * row.cost.hours for row in board.rows if not row.cost.unknown]),
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        notes=[_SHARED, _APPROXIMATED],
        about_rows=_about_rows(board),
    )
