"""Submission files for the CLUE leaderboard: one writer per file shape.

Shapes: a JSON object a line (classification, C3), or one JSON object (CHID: tag → candidate, CMRC2018: id → answer).
Names stand in the task table (`cluebench.tasks.TestSet.submission`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from cluebench import atomic


def write_labels(path: str | os.PathLike, ids: Sequence[int], labels: Sequence[str | int]) -> None:
    """One ``{"id": 0, "label": "102"}`` a line, in the given order. Whole or not at all."""
    if len(ids) != len(labels):
        raise ValueError(f"{len(ids)} ids for {len(labels)} labels")
    lines = (json.dumps({"id": number, "label": label}, ensure_ascii=False) for number, label in zip(ids, labels))
    atomic.write_text(path, "".join(line + "\n" for line in lines))


def write_answers(path: str | os.PathLike, answers: Mapping[str, str | int]) -> None:
    """One JSON object, tag → candidate index or question id → answer text. Whole or not at all."""
    atomic.write_text(path, json.dumps(answers, ensure_ascii=False, indent=0) + "\n")
