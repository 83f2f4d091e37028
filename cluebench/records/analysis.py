"""Error analysis: the best model's prediction for every dev example, and the labels that it confuses."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluebench.benchmark.tasks import Task
from cluebench.data.rows import SpanRow
from cluebench.features.metrics import (
    accuracy,
    decode_choices,
    decode_idioms,
    mean_cross_entropy,
    organisers_question_scores,
    percent,
    question_scores,
)
from cluebench.foundation import atomic
from cluebench.records.dev_predictions import DevPredictions, Evaluation

#: File in --output_dir: the best evaluation on dev, one {"id", "gold", "predicted", "score"} a line.
DEV_PREDICTIONS = "dev_predictions.jsonl"


@dataclass(frozen=True, eq=False)
class Choices:
    """The dev rows of a task with one choice of several, and how logits become answers.

    gold: int [rows], the index of the right option. ids: of the rows in their file; None if it has none, and row
    numbers count. clusters: [rows], equal for rows that share a passage or a record, and so are not independent.
    option_mask: bool [rows, N], the real options; None: all are. records: int [rows], equal for rows that are decoded
    together, each option once; None: each row is decoded alone.
    """

    gold: np.ndarray
    ids: Sequence[int | str] | None = None
    clusters: np.ndarray | None = None
    option_mask: np.ndarray | None = None
    records: np.ndarray | None = None

    def possible(self, logits: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The logits [len(rows), N] of some rows, -inf for options that are padding."""
        return logits if self.option_mask is None else np.where(self.option_mask[rows], logits, -np.inf)

    def decoded(self, logits: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """int64 [len(rows)]: the answers to some rows, by their logits [len(rows), N]; records must be whole."""
        if self.records is not None:
            return decode_idioms(logits, self.records[rows])
        return logits.argmax(axis=1) if self.option_mask is None else decode_choices(logits, self.option_mask[rows])

    def evaluation(self, logits: np.ndarray) -> Evaluation:
        """The evaluation by the logits [rows, N] of all rows."""
        predicted = self.decoded(logits, np.arange(len(self.gold)))
        ids = range(len(self.gold)) if self.ids is None else self.ids
        shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        return Evaluation(
            loss=mean_cross_entropy(logits, self.gold),
            score=(100 * accuracy(predicted, self.gold),),
            predictions=DevPredictions.of_choices(ids, predicted, self.gold, self.clusters),
            ids=ids,
            shown=shifted[np.arange(len(predicted)), predicted] / shifted.sum(axis=1),  # softmax
        )


def evaluated_spans(
    loss: float, answers: Mapping[str, str], rows: Sequence[SpanRow], clusters: np.ndarray | None = None
) -> Evaluation:
    """The evaluation of questions answered by texts, ``answers`` by id. ``clusters`` [rows]: see `Choices`."""
    (exact, f1), organisers = question_scores(answers, rows), organisers_question_scores(answers, rows)
    ids = [row.id for row in rows]
    return Evaluation(
        loss=loss,
        score=(percent(exact), percent(f1)),
        predictions=DevPredictions.of_spans(ids, answers, exact, f1, clusters),
        ids=ids,
        shown=organisers[1],
        accepted=[row.answers for row in rows],
        organisers=(100 * sum(organisers[0]) / len(rows), 100 * sum(organisers[1]) / len(rows)),
    )


def records(task: Task, found: Evaluation) -> Iterator[dict[str, Any]]:
    """For each row its id, the right answer, the predicted one (labels by name), and the evaluation's ``shown``."""
    gold, predicted = list(map(list, found.accepted)), found.predictions.predicted.tolist()
    if found.predictions.gold is not None:
        names = task.labels or range(task.num_choices)
        gold, predicted = ([names[index] for index in of] for of in (found.predictions.gold.tolist(), predicted))
    for name, right, answer, shown in zip(found.ids, gold, predicted, found.shown, strict=True):
        yield {"id": name, "gold": right, "predicted": answer, "score": round(float(shown), 4)}


def write(path: str | os.PathLike, task: Task, found: Evaluation) -> None:
    """One JSON object a line, whole or not at all. Raises OSError."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records(task, found))
    atomic.write_text(path, "".join(lines))


def worst_pairs(task: Task, predictions: DevPredictions, most: int = 10) -> list[str]:
    """Lines of a table of the label pairs that are confused most often, for a task with labels.

    Empty if nothing was wrong. ``of gold``: the share of the gold label's examples with this wrong label.
    """
    columns = (predictions.gold, predictions.predicted)
    gold, predicted = ([task.labels[index] for index in np.asarray(column).tolist()] for column in columns)
    examples = Counter(gold)
    errors = Counter(pair for pair in zip(gold, predicted) if pair[0] != pair[1])
    if not errors:
        return []
    lines = [
        f"dev errors of the best model: {errors.total()} of {len(gold)}",
        "gold             predicted        times  of gold",
    ]
    for (right, other), times in sorted(errors.items(), key=lambda item: (-item[1], item[0]))[:most]:
        lines.append(f"{right:<16} {other:<16} {times:5d}  {100 * times / examples[right]:6.1f}%")
    return lines
