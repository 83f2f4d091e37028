"""The leaderboard as text, markdown, CSV, JSON and a page."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cluebench.benchmark.published import ATTRIBUTION
from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.phrases import Phrase
from cluebench.foundation.shown import shown as shown_text
from cluebench.records.cost import shown
from cluebench.report import page
from cluebench.report.leaderboard import FromBaseline, Leaderboard, Row
from cluebench.report.tables import Table
from cluebench.report.units import unit_of
from cluebench.report.unseen import floors_text

FORMATS = ("text", "markdown", "csv", "json", "html")

_MARK = " *"
_SURE = ["rank", "model", "AVG", *(task.title for task in TASKS.values())]  # columns that are always shown
_SHARED = Phrase("Models share a rank when their AVG can't be told apart at the 5 % level; ± is one standard error.")
_WITHOUT_TWINS = Phrase("Scores are on the dev rows whose text is not in train.")
_APPROXIMATED = Phrase(
    "Published scores: PaddleNLP's CLUE Benchmark document, not measured by this project. Their errors are the "
    "binomial approximation, and tests against them are unpaired."
)
#: Characters of a model's name in a terminal of 120 columns.
_NAME = 29


def rendered(board: Leaderboard, style: str, folder: Path = Path()) -> str:
    """In one of FORMATS. folder: where the page will lie, as it links to the reports of the runs."""
    if style == "html":
        return _page(board, folder)
    if style == "json":
        return json.dumps(contents(board), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    return {"text": _text, "markdown": _markdown, "csv": _csv}[style](board)


def _lines_below(board: Leaderboard) -> list[str]:
    """How to read a table, and of each model that is in no ranking why."""
    found: list[str] = [_SHARED] if any(row.rank for row in board.rows) else []
    found += [_MARK.strip() + " " + _APPROXIMATED] if any(row.published for row in board.rows) else []
    found += [f"Differences: the model's score minus that of {board.baseline.model}."] if board.baseline else []
    found += _about_rows(board)
    return found + [shown_text(f"{row.model}: {row.why_marked}") for row in board.rows if row.marks]


def _about_rows(board: Leaderboard) -> list[Phrase]:
    """On which dev rows the scores are, and the floors, as far as they are known."""
    floors = floors_text({name: facts for row in board.rows for name, facts in row.facts.items()})
    return [_WITHOUT_TWINS] * board.without_twins + ([floors] if floors else [])


def contents(board: Leaderboard) -> dict[str, Any]:
    """Everything that is known, as JSON has it: numbers unrounded, None for what is not known."""
    return {
        "tasks": {name: task.metric for name, task in TASKS.items()},
        "baseline": board.baseline.model if board.baseline else None,
        "models": [_record(board, row) for row in board.rows],
    }


def _record(board: Leaderboard, row: Row) -> dict[str, Any]:
    difference, cost = board.difference(row), row.cost
    known = {name: row.evidence[name].error for name in row.scores if name in row.evidence}
    tasks = {
        name: {"score": score, "error": known.get(name), "test": row.test.get(name), **row.settings[name]._asdict()}
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
        "kilowatt_hours": cost.kilowatt_hours,
        "score_per_hour": row.score_per_hour,
        "run": str(row.run) if row.run else None,
        "report": str(row.report) if row.report else None,
    }


def _wide(board: Leaderboard) -> Table:
    """All that a line of markdown has room for: scores with their errors; in brackets differences and test scores."""
    rows = [_cells(row, board.difference(row)) for row in board.rows]
    return Table([*_SURE, "size", "hours", "AVG/hour"], rows, {"model"}).without_empty(keep=_SURE)


def _cells(row: Row, difference: FromBaseline | None) -> list[str]:
    average = [] if row.average is None else [_with_error(row)]
    average += [f"({difference.average:+.2f})"] if difference and difference.average is not None else []
    cells = [str(row.rank or "-"), row.model + _MARK * row.published, " ".join(average) or "-"]
    for name, task in TASKS.items():
        texts = task.format_score(row.scores[name]).split("/") if name in row.scores else ["-"]
        errors = row.evidence[name].error if name in row.evidence else ()
        more = [f"{difference.scores[name]:+.2f}"] if difference and name in difference.scores else []
        more += [f"test {row.test[name]:.2f}"] if name in row.test else []
        score = "/".join(f"{text}±{error:.2f}" for text, error in zip(texts, errors)) or "/".join(texts)
        cells.append(score + (f" ({', '.join(more)})" if more else ""))
    cells.append(f"{row.size.architecture} {row.size.parameters / 1e6:.0f}M" if row.size else "-")
    per_hour = "-" if row.score_per_hour is None else shown(row.score_per_hour)
    return [*cells, "-" if row.cost.unknown else shown(row.cost.hours), per_hour]


def _with_error(row: Row) -> str:
    return "-" if row.average is None else f"{row.average:.2f}" + (f"±{row.error:.2f}" if row.error else "")


def _narrow(board: Leaderboard) -> Iterator[tuple[Row, list[str]]]:
    """What a terminal of 120 columns has room for: a line a model, below it its differences and test scores."""
    for row in board.rows:
        name = row.model + _MARK * row.published
        name = name if len(name) <= _NAME else name[: _NAME // 2] + "…" + name[-_NAME // 2 + 1 :]
        scores = [task.format_score(row.scores[name]) if name in row.scores else "-" for name, task in TASKS.items()]
        yield row, [str(row.rank or "-"), name, _with_error(row), *scores]
        if difference := board.difference(row):
            average = "" if difference.average is None else f"{difference.average:+.2f}"
            differences = [f"{difference.scores[name]:+.2f}" if name in difference.scores else "" for name in TASKS]
            yield row, ["", "  difference", average, *differences]
        if row.test:
            yield row, ["", "  on the test set", "", *(_two_digits(row.test.get(name)).strip("-") for name in TASKS)]


def _text(board: Leaderboard) -> str:
    lines = list(_narrow(board))
    titles = [title.removesuffix("2020") for title in _SURE]
    head, *printed = Table(titles, [cells for _, cells in lines], {"model"}).text(" ")
    ranked = sum(row.rank is not None for row, _ in lines)
    if 0 < ranked < len(lines):
        printed.insert(ranked, "not in the ranking:")
    more = "More in the other formats: --format markdown, csv, json or html (errors of the tasks, sizes, costs)."
    return "\n".join([head, *printed, *_lines_below(board), more]) + "\n"


def _markdown(board: Leaderboard) -> str:
    below = [shown_text(line, "markdown") for line in _lines_below(board)]
    return "\n\n".join(["\n".join(_wide(board).markdown()), *below]) + "\n"


def _csv(board: Leaderboard) -> str:
    """A row's scores first; what else is known of it behind them, in columns called by what they hold."""
    rows = [_csv_row(board, row) for row in board.rows]
    return Table([*rows[0]], [[*map(str, row.values())] for row in rows]).csv()


def _csv_row(board: Leaderboard, row: Row) -> dict[str, Any]:
    found = board.difference(row)
    differences = {"avg": found.average, **found.scores} if found else {}
    errors = {"avg": (row.error,) if row.error else (), **{name: one.error for name, one in row.evidence.items()}}
    scores = {name: task.format_score(row.scores[name]) for name, task in TASKS.items() if name in row.scores}
    scores["avg"] = "-" if row.average is None else f"{row.average:.2f}"
    columns = ["avg", *TASKS]
    return {
        "rank": row.rank or "-",
        "model": row.model,
        **{name: scores.get(name, "-") for name in columns},
        "source": ATTRIBUTION if row.published else "measured",
        **{f"{name}_error": "/".join(f"{one:.2f}" for one in errors.get(name, ())) or "-" for name in columns},
        **{f"{name}_test": _two_digits(row.test.get(name)) for name in TASKS},
        **({f"{name}_difference": _two_digits(differences.get(name)) for name in columns} if board.baseline else {}),
        "architecture": row.size.architecture if row.size else "-",
        "parameters": row.size.parameters if row.size else "-",
        "device_hours": "-" if row.cost.unknown else f"{row.cost.hours:.3f}",
        "score_per_hour": "-" if row.score_per_hour is None else f"{row.score_per_hour:.3f}",
        "not_as_published": row.why_marked or "-",
    }


def _two_digits(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"


def _page(board: Leaderboard, folder: Path) -> str:
    links = [quote(os.path.relpath(row.report, folder)) if row.report else None for row in board.rows]
    written = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    unit = unit_of([3600 * row.cost.hours for row in board.rows if not row.cost.unknown])
    notes = dict(notes=[_SHARED, _APPROXIMATED], about_rows=_about_rows(board))
    values = dict(board=board, links=links, tasks=TASKS, unit=unit, written=written, **notes)
    return page.rendered("leaderboard.html", contents(board), **values)
