"""Models side by side: a row a model, the best dev score of every task and their mean, in four formats."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluebench.published import ATTRIBUTION, published_models
from cluebench.report import scores
from cluebench.tasks import TASKS

_MARK = " *"
_COLUMNS = ["model", "AVG", *(task.title for task in TASKS.values())]


_STYLE = """
body { font: 15px/1.5 system-ui, "Noto Sans", sans-serif; margin: 24px; color: #1c2128; background: #fff; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; border-bottom: 1px solid #d8dee4; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.published { color: #656d76; }
"""


@dataclass(frozen=True)
class Row:
    """A model's line."""

    model: str
    average: float | None  # None unless all ten tasks are there
    cells: tuple[str, ...]  # a task each, "-" without a score
    published: bool = False

    def texts(self, mark: bool = True) -> list[str]:
        name = self.model + (_MARK if self.published and mark else "")
        return [name, "-" if self.average is None else f"{self.average:.2f}", *self.cells]


def measured_rows(run_root: Path) -> list[Row]:
    """A row for every folder of the run root that holds a finished trial."""
    rows = []
    for folder in sorted(path for path in run_root.iterdir() if path.is_dir()):
        bests = scores.best_settings(scores.finished_trials(folder))
        if bests:
            cells = tuple(bests[task.name].text(task) if task.name in bests else "-" for task in TASKS.values())
            rows.append(Row(folder.name, scores.average(bests), cells))
    return rows


def published_rows() -> list[Row]:
    """The published table."""
    return [
        Row(
            row.name,
            float(row.average),
            tuple(task.format_score(score) if (score := row.score(task)) else "-" for task in TASKS.values()),
            published=True,
        )
        for row in published_models().values()
    ]


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Highest average first; models without all tasks behind them, those with more tasks first."""
    return sorted(rows, key=lambda row: (row.average is None, -(row.average or 0), row.cells.count("-"), row.model))


def rendered(rows: Sequence[Row], style: str) -> str:
    """The table as ``text``, ``markdown``, ``csv`` or ``html``, with a line about published rows if it has any."""
    note = f"* {ATTRIBUTION}" if any(row.published for row in rows) else ""
    return {"text": _text, "markdown": _markdown, "csv": _csv, "html": _html}[style](rows, note)


def _text(rows: Sequence[Row], note: str) -> str:
    lines = [_COLUMNS, *(row.texts() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    shown = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
    return "\n".join(shown + ([note] if note else [])) + "\n"


def _markdown(rows: Sequence[Row], note: str) -> str:
    lines = [_COLUMNS, ["---", *["---:"] * (len(_COLUMNS) - 1)]]
    lines += [[text.replace("|", "\\|").replace("*", "\\*") for text in row.texts()] for row in rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return table + "\n" + (f"\n\\{note}\n" if note else "")


def _csv(rows: Sequence[Row], note: str) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*(column.lower() for column in _COLUMNS), "source"])
    for row in rows:
        writer.writerow([*row.texts(mark=False), ATTRIBUTION if row.published else "measured"])
    return stream.getvalue()


def _html(rows: Sequence[Row], note: str) -> str:
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    body = "".join(
        f"<tr{' class=published' if row.published else ''}>"
        + "".join(f"<td>{html.escape(text)}</td>" for text in row.texts())
        + "</tr>\n"
        for row in rows
    )
    footer = f"<p>{html.escape(note)}</p>" if note else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>CLUE leaderboard</title>'
        f"<style>{_STYLE}</style></head>\n<body><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
        f"{footer}</body></html>\n"
    )
