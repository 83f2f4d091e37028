"""Comparisons as text, markdown and JSON, and the dev rows that only one of two models has right."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cluebench.foundation.text import Table, as_json, shown
from cluebench.report.comparison import Comparison, Difference, notes, sentence
from cluebench.report.evidence import Evidence
from cluebench.report.examples import Example
from cluebench.statistics.paired import DRAWS
from cluebench.statistics.ranks import LEVEL

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
        models = {"first": comparison.first.name, "second": comparison.second.name}
        blocks += [
            [f"{bullet}{side}: {shown(name, style)}" for side, name in models.items()],
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
            text = _shortened(row[key], style)
            lines.append(f"{'- ' if is_markdown else '    '}{names.get(key, key)}: {text}{verdict}")
    return "\n".join(lines) + "\n"


def _shortened(text: str, style: str) -> str:
    text = " ".join(text.split())
    return shown(text if len(text) <= _SHOWN else text[:_SHOWN] + "…", style)
