"""Models side by side: a row a model, the best dev score of every task and their mean, in four formats."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluebench.published import ATTRIBUTION, published_models
from cluebench.report import evidence, scores
from cluebench.report.evidence import Evidence
from cluebench.report.markup import Markup, fill
from cluebench.report.submitted import RECORD, Submitted
from cluebench.statistics.ranks import shared_ranks
from cluebench.tasks import TASKS

_MARK = " *"
_COLUMNS = ["rank", "model", "AVG", *(task.title for task in TASKS.values())]
_SHARED = "models share a rank when their AVG can't be told apart at the 5 % level; ± is one standard error"
_APPROXIMATED = f"* {ATTRIBUTION}; its errors are the binomial approximation, and tests against it unpaired"
_UNRANKED = "rank -: not all ten tasks, or trials that kept no dev predictions"


_STYLE = Markup("""
body { font: 15px/1.5 system-ui, "Noto Sans", sans-serif; margin: 24px; color: #1c2128; background: #fff; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; border-bottom: 1px solid #d8dee4; text-align: right; }
th:nth-child(2), td:nth-child(2) { text-align: left; }
.published { color: #656d76; }
""")


@dataclass(frozen=True)
class Row:
    """A model's line."""

    model: str
    average: float | None  # None unless all ten tasks are there
    cells: tuple[str, ...]  # a task each, "-" without a score
    evidence: Mapping[str, Evidence]  # by task name
    published: bool = False
    rank: int | None = None
    test: Mapping[str, float] = field(default_factory=dict)  # task → what CLUE's leaderboard said

    @property
    def error(self) -> float | None:
        """One standard error of the average; None unless all ten are known."""
        return None if self.average is None else evidence.error_of_avg(self.evidence)

    def texts(self) -> list[str]:
        """The cells with their errors, as people read them."""
        cells = [
            "/".join(f"{score}±{error:.2f}" for score, error in zip(cell.split("/"), self.evidence[name].error))
            if name in self.evidence
            else cell
            for name, cell in zip(TASKS, self.cells, strict=True)
        ]
        cells = [
            f"{cell} (test {self.test[name]:.2f})" if name in self.test else cell for name, cell in zip(TASKS, cells)
        ]
        average = "-" if self.average is None else f"{self.average:.2f}"
        average += "" if self.error is None else f"±{self.error:.2f}"
        return ["-" if self.rank is None else str(self.rank), self.model + _MARK * self.published, average, *cells]


def measured_rows(run_root: Path) -> list[Row]:
    """A row for every folder of the run root that holds a finished trial."""
    rows = []
    for folder in sorted(path for path in run_root.iterdir() if path.is_dir()):
        trials = scores.finished_trials(folder)
        bests = scores.best_settings(trials)
        if bests:
            cells = tuple(
                task.format_score(bests[name].score) if name in bests else "-" for name, task in TASKS.items()
            )
            record = Submitted.read(folder / RECORD)
            test = record.test if record else {}
            rows.append(Row(folder.name, scores.average(bests), cells, evidence.of_run(trials)[0], test=test))
    return rows


def published_rows() -> list[Row]:
    """The published table."""
    return [
        Row(
            row.name,
            float(row.average),
            tuple(task.format_score(score) if (score := row.score(task)) else "-" for task in TASKS.values()),
            evidence.of_published(row),
            published=True,
        )
        for row in published_models().values()
    ]


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Highest average first, with ranks; models without all tasks behind them, those with more tasks first."""
    rows = sorted(rows, key=lambda row: (row.average is None, -(row.average or 0), row.cells.count("-"), row.model))
    known = [row for row in rows if row.error is not None]
    ranks = shared_ranks(
        [row.average or 0 for row in known],
        lambda best, other: evidence.average_p(known[best].evidence, known[other].evidence),
    )
    rank_of = {id(row): rank for row, rank in zip(known, ranks, strict=True)}
    return [replace(row, rank=rank_of.get(id(row))) for row in rows]


def rendered(rows: Sequence[Row], style: str) -> str:
    """The table as ``text``, ``markdown``, ``csv`` or ``html``, with lines that say how to read it."""
    notes = [_SHARED] if any(row.rank for row in rows) else []
    notes += [_UNRANKED] if any(row.rank is None for row in rows) else []
    notes += [_APPROXIMATED] if any(row.published for row in rows) else []
    return {"text": _text, "markdown": _markdown, "csv": _csv, "html": _html}[style](rows, notes)


def _text(rows: Sequence[Row], notes: Sequence[str]) -> str:
    lines = [_COLUMNS, *(row.texts() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    shown = [
        "  ".join([line[0].rjust(widths[0]), line[1].ljust(widths[1]), *map(str.rjust, line[2:], widths[2:])]).rstrip()
        for line in lines
    ]
    return "\n".join([*shown, *notes]) + "\n"


def _markdown(rows: Sequence[Row], notes: Sequence[str]) -> str:
    lines = [_COLUMNS, ["---:", "---", *["---:"] * (len(_COLUMNS) - 2)]]
    lines += [[text.replace("|", "\\|").replace("*", "\\*") for text in row.texts()] for row in rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n\n".join([table, *(note.replace("*", "\\*") for note in notes)]) + "\n"


def _csv(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """Scores and, in columns behind them, their standard errors and the scores of test sets."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = [column.lower() for column in _COLUMNS]
    errors, tests = ([f"{column}_{what}" for column in columns[first:]] for what, first in (("error", 2), ("test", 3)))
    writer.writerow([*columns, "source", *errors, *tests])
    for row in rows:
        average = "-" if row.average is None else f"{row.average:.2f}"
        source = ATTRIBUTION if row.published else "measured"
        known = [row.evidence[name].error if name in row.evidence else () for name in TASKS]
        errors = [
            "/".join(f"{error:.2f}" for error in of_task) or "-"
            for of_task in ((row.error,) if row.error else (), *known)
        ]
        tests = [f"{row.test[name]:.2f}" if name in row.test else "-" for name in TASKS]
        writer.writerow([row.rank or "-", row.model, average, *row.cells, source, *errors, *tests])
    return stream.getvalue()


def _html(rows: Sequence[Row], notes: Sequence[str]) -> str:
    kinds = {True: "<tr class=published>{}</tr>\n", False: "<tr>{}</tr>\n"}
    return fill(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>CLUE leaderboard</title>'
        "<style>{}</style></head>\n<body><table><thead><tr>{}</tr></thead><tbody>\n{}</tbody></table>"
        "{}</body></html>\n",
        _STYLE,
        [fill("<th>{}</th>", column) for column in _COLUMNS],
        [fill(kinds[row.published], [fill("<td>{}</td>", text) for text in row.texts()]) for row in rows],
        [fill("<p>{}</p>", note) for note in notes],
    )
