"""Error analysis: what the best model said of every dev example, and which labels it mixes up."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluebench.data.rows import SpanRow
from cluebench.features.metrics import (
    accuracy,
    decode_choices,
    decode_idioms,
    mean_cross_entropy,
    organisers_span_scores,
)
from cluebench.foundation import atomic, json_files
from cluebench.records.dev_predictions import DevPredictions, Evaluation

#: File in --output_dir: one {"id", "gold", "predicted", "score"} a line, of the best evaluation on dev.
DEV_PREDICTIONS = "dev_predictions.jsonl"


@dataclass(frozen=True, eq=False)
class Choices:
    """The dev rows of a task with one choice of several each, and how a model's logits become answers.

    gold: int [rows], the index of the right option. clusters: [rows], which rows share a passage or a record, and so
    are not independent. names: what to call the indices, see `choices`. option_mask: bool [rows, N], the real options;
    None: all are. records: int [rows], equal where rows are decoded together, each option once; None: rows are alone.
    """

    gold: np.ndarray
    ids: Sequence[Any]
    clusters: np.ndarray | None = None
    names: Sequence[str] | None = None
    option_mask: np.ndarray | None = None
    records: np.ndarray | None = None

    def possible(self, logits: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The logits [len(rows), N] of some rows, -inf where an option is only padding."""
        return logits if self.option_mask is None else np.where(self.option_mask[rows], logits, -np.inf)

    def decoded(self, logits: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """int64: the answers to some rows by their logits [len(rows), N]; records must be whole."""
        if self.records is not None:
            return decode_idioms(logits, self.records[rows])
        return logits.argmax(axis=1) if self.option_mask is None else decode_choices(logits, self.option_mask[rows])

    def evaluation(self, logits: np.ndarray) -> Evaluation:
        """What a pass over all rows found."""
        predicted = self.decoded(logits, np.arange(len(self.gold)))
        return Evaluation(
            loss=mean_cross_entropy(logits, self.gold),
            score=(100 * accuracy(predicted, self.gold),),
            said=DevPredictions.of_choices(self.ids, predicted, self.gold, self.clusters),
            predictions=choices(self.ids, self.gold, predicted, logits, self.names),
        )


def choices(
    ids: Sequence[Any], gold: np.ndarray, predicted: np.ndarray, logits: np.ndarray, names: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Records of examples with one choice of several; gold and predicted [B] index logits [B, N].

    ``names``: what to call the indices, the indices themselves if None. ``score``: the softmax of the predicted one.
    """
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares = shifted[np.arange(len(predicted)), predicted] / shifted.sum(axis=1)
    for name, right, said, share in zip(ids, gold.tolist(), predicted.tolist(), shares.tolist()):
        right, said = (names[right], names[said]) if names else (right, said)
        yield {"id": name, "gold": right, "predicted": said, "score": round(share, 4)}


def spans(rows: Sequence[SpanRow], answers: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Records of questions; ``gold`` lists the accepted answers, ``score`` is the F1 by the organisers' definition."""
    for row in rows:
        _, f1 = organisers_span_scores(answers, [row])
        yield {"id": row.id, "gold": list(row.answers), "predicted": answers[row.id], "score": round(f1 / 100, 4)}


def write(path: str | os.PathLike, records: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line, whole or not at all. Raises OSError."""
    atomic.write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


@dataclass
class _Labelled:
    """Of a record of a row with a label, what `worst_pairs` reads."""

    gold: str
    predicted: str


def worst_pairs(path: str | os.PathLike, most: int = 10) -> list[str]:
    """Lines of a table of the label pairs mixed up most often, by the predictions `write` left in ``path``.

    Empty when nothing was wrong. ``of gold``: the share of the gold label's examples that went this way.
    """
    records = json_files.read_lines(path, _Labelled)
    examples = Counter(record.gold for record in records)
    errors = Counter((record.gold, record.predicted) for record in records if record.gold != record.predicted)
    if not errors:
        return []
    wrong = sum(errors.values())
    lines = [
        f"dev errors of the best model: {wrong} of {len(records)}",
        "gold             predicted        times  of gold",
    ]
    for (gold, predicted), times in sorted(errors.items(), key=lambda item: (-item[1], item[0]))[:most]:
        lines.append(f"{gold:<16} {predicted:<16} {times:5d}  {100 * times / examples[gold]:6.1f}%")
    return lines
