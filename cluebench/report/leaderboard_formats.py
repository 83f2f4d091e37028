"""The leaderboard as text, markdown, CSV, JSON and a page."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cluebench.benchmark.published import ATTRIBUTION
from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.text import Phrase, Table, as_json
from cluebench.foundation.text import shown as shown_text
from cluebench.records.cost import shown
from cluebench.report import page
from cluebench.report.leaderboard import FromBaseline, Leaderboard, Row
from cluebench.report.units import unit_of
from cluebench.report.unseen import floors_text

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
    return {"text": _text, "markdown": _markdown, "csv": _csv, "html": _page}[style](board, folder)


def _lines_below(board: Leaderboard, style: str) -> list[str]:
    """How to read a table, and for each model outside the ranking the reasons."""
    found: list[str] = [_SHARED] if any(row.rank for row in board.rows) else []
    found += [_MARK.strip() + " " + _APPROXIMATED] if any(row.published for row in board.rows) else []
    found += [f"Differences: the model's score minus the score of {board.baseline.model}."] if board.baseline else []
    found += _about_rows(board)
    found += [shown_text(f"{row.model}: {row.why_marked}") for row in board.rows if row.marks]
    return [shown_text(line, style) for line in found] if style == "markdown" else found


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
    errors = {name: found.error for name, found in row.evidence.items()}
    tasks = {
        name: {"score": score, "error": errors.get(name), "test": row.test.get(name), **row.settings[name]._asdict()}
        for name, score in row.scores.items()
    }
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
    return TASKS[name].format_score(row.scores[name]) if name in row.scores else "-"


def _markdown(board: Leaderboard, folder: Path) -> str:
    """Scores with their errors; in brackets the differences and the scores on the test set."""
    rows = [_cells(row, board.difference(row)) for row in board.rows]
    table = Table([*_ALWAYS, "size", "hours", "AVG/hour"], rows, {"model"}).without_empty(keep=_ALWAYS)
    return "\n\n".join(["\n".join(table.markdown()), *_lines_below(board, "markdown")]) + "\n"


def _cells(row: Row, difference: FromBaseline | None) -> list[str]:
    lead = difference.average if difference else None
    average = _with_error(row) + (f" ({lead:+.2f})" if lead is not None else "")
    cells = [str(row.rank or "-"), row.model + _MARK * row.published, average]
    for name in TASKS:
        errors = row.evidence[name].error if name in row.evidence and name in row.scores else ()
        score = "/".join(f"{text}±{error:.2f}" for text, error in zip(_score(row, name).split("/"), errors))
        more = [f"{difference.scores[name]:+.2f}"] if difference and name in difference.scores else []
        more += [f"test {row.test[name]:.2f}"] if name in row.test else []
        cells.append((score or _score(row, name)) + (f" ({', '.join(more)})" if more else ""))
    cells.append(f"{row.size.architecture} {row.size.parameters / 1e6:.0f}M" if row.size else "-")
    per_hour = "-" if row.score_per_hour is None else shown(row.score_per_hour)
    return [*cells, "-" if row.cost.unknown else shown(row.cost.hours), per_hour]


def _text(board: Leaderboard, folder: Path) -> str:
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


def _csv(board: Leaderboard, folder: Path) -> str:
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
