"""Comparisons as text, markdown and JSON, and the dev rows on which two models part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cluebench.foundation.shown import shown
from cluebench.report.comparison import Comparison, Difference, notes, sentence
from cluebench.report.evidence import Evidence
from cluebench.report.examples import Example
from cluebench.report.tables import Table
from cluebench.statistics.paired import DRAWS
from cluebench.statistics.ranks import LEVEL

FORMATS = ("text", "markdown", "json")

_COLUMNS = ["task", "first", "second", "first − second", "95 % interval", "p", "p (Holm)", "test", "rows"]

#: Characters of a row's text that are shown.
_SHOWN = 160


def rendered(comparisons: Sequence[Comparison], style: str) -> str:
    """All of them in one of FORMATS; JSON is a list."""
    if style == "json":
        return json.dumps([_values(one) for one in comparisons], ensure_ascii=False, indent=2) + "\n"
    bullet = "- " if style == "markdown" else ""
    blocks = []
    for one in comparisons:
        names = shown(one.first.name, style), shown(one.second.name, style)
        blocks.append([f"{bullet}first: {names[0]}", f"{bullet}second: {names[1]}"])
        table = Table(_COLUMNS, [_row(task) for task in (*one.tasks, *filter(None, [one.average]))], {"task"})
        blocks.append(table.markdown() if style == "markdown" else table.text())
        blocks.append([shown(sentence(one), style)])
        blocks.append([bullet + shown(note, style) for note in notes(one)])
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def _values(comparison: Comparison) -> dict[str, Any]:
    """Every number, unrounded."""
    found = [
        {**asdict(one), "difference": one.difference, "significant": one.is_significant}
        for one in (*comparison.tasks, *filter(None, [comparison.average]))
    ]
    return {
        "first": comparison.first.name,
        "second": comparison.second.name,
        "sentence": sentence(comparison),
        "tasks": found[: len(comparison.tasks)],
        "average": found[-1] if comparison.average else None,
        "left_out": {one.name: dict(one.left_out) for one in (comparison.first, comparison.second)},
        "draws": DRAWS,
        "level": LEVEL,
    }


def _row(one: Difference) -> list[str]:
    rows = "-" if one.rows is None else f"{one.rows}" if one.clusters is None else f"{one.rows} in {one.clusters}"
    scores = [f"{one.first:.2f}", f"{one.second:.2f}", f"{one.difference:+.2f}", f"{one.low:+.2f} to {one.high:+.2f}"]
    return [one.task, *scores, _p(one.p), "-" if one.p_holm is None else _p(one.p_holm), one.test, rows]


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


# Rows on which two models part ----------------------------------------------------------------------------------------


def disagreements(first: Evidence, second: Evidence, examples: Sequence[Example]) -> list[dict[str, Any]]:
    """The dev rows that exactly one of two models has right, in their order; of spans, by EM.

    Each with the row's id, texts and right answer, what the ``first`` and ``second`` said, and which is ``right``. Of
    several seeds the first one's predictions are looked at.
    """
    one, other = first.predictions[0], second.predictions[0]
    right, also = (predictions.scores[:, 0] == 1 for predictions in (one, other))
    return [
        {
            "id": examples[row].id,
            **examples[row].texts,
            "answer": examples[row].gold,
            "first": examples[row].name(one.predicted[row]),
            "second": examples[row].name(other.predicted[row]),
            "right": "first" if right[row] else "second",
        }
        for row in np.flatnonzero(right != also).tolist()
    ]


def rendered_disagreements(title: str, comparison: Comparison, found: Sequence[dict], style: str) -> str:
    """All of them in one of FORMATS; long texts are cut but in JSON."""
    if style == "json":
        return json.dumps(found, ensure_ascii=False, indent=2) + "\n"
    names = {"first": shown(comparison.first.name, style), "second": shown(comparison.second.name, style)}
    wins = ", ".join(f"{name} on {sum(one['right'] == side for one in found)}" for side, name in names.items())
    lines = [f"{title}: exactly one is right on {len(found)} dev rows: {wins}"]
    bold, bullet = ("**", "- ") if style == "markdown" else ("", "    ")
    for one in found:
        name = shown(one["id"], style)
        lines += ["", f"{bold}{name}{bold}", ""] if bold else ["", name]
        for key, value in one.items():
            if key in names:
                said = "right" if one["right"] == key else "wrong"
                lines.append(f"{bullet}{names[key]}: {_shortened(value, style)} ({said})")
            elif key not in ("id", "right"):
                lines.append(f"{bullet}{key}: {_shortened(value, style)}")
    return "\n".join(lines) + "\n"


def _shortened(text: str, style: str) -> str:
    text = " ".join(text.split())
    return shown(text if len(text) <= _SHOWN else text[:_SHOWN] + "…", style)
