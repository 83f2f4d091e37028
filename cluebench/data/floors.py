"""Floors of a task: dev scores without reading, to compare a model's score with."""

import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SPAN, Task
from cluebench.data.overlap import Units, label_by_text

#: Rows of train from which the surface baseline learns, evenly spread.
_LEARNED_FROM = 20_000


@dataclass(frozen=True)
class Floors:
    """Dev scores in percent without reading; None where a rule does not apply.

    majority: the most frequent label (or place among the options) of train for every row. twin: the label of the row's
    twin in train, else the majority. surface: a logistic regression on what `surface` names.
    """

    majority: float | None = None
    twin: float | None = None
    surface: float | None = None

    @property
    def best(self) -> float | None:
        return max((floor for floor in astuple(self) if floor is not None), default=None)


def floors(train: Units, dev: Units) -> Floors:
    """The floors of a task; all None for spans, whose answers are texts."""
    if train.task.kind == SPAN or not len(train) or not len(dev):
        return Floors()
    most = Counter(train.gold).most_common(1)[0][0]
    twin_labels = label_by_text(train.normal, train.labels)
    by_majority = [gold == most for gold in dev.gold]
    of_twins = (twin_labels.get(key) for key in dev.normal)
    by_twin = [majority if twin is None else twin == label
               for twin, label, majority in zip(of_twins, dev.labels, by_majority)]  # fmt: skip
    return Floors(*(100 * float(np.mean(right)) for right in (by_majority, by_twin, _surface(train, dev))))


def surface(task: Task) -> str | None:
    """What the surface baseline of a task sees, in words; None without a baseline."""
    if task.kind == SPAN:
        return None
    if task.kind in (CHOICE, IDIOM):
        return "the options alone"
    if task.joined_field:
        return "number and lengths of the keywords alone"
    if task.kind == PAIR:
        return f"{task.text_fields[1]} alone"
    return "lengths and the places of the marks alone" if task.marked_spans else "lengths and kinds of characters alone"


def _surface(train: Units, dev: Units) -> np.ndarray:
    """bool [dev rows]: where the surface baseline is right."""
    task, gold = train.task, np.array(dev.gold)
    rows = range(0, len(train), -(-len(train) // _LEARNED_FROM))
    with warnings.catch_warnings():  # scikit-learn warns of few rows and many labels
        warnings.simplefilter("ignore")
        if task.kind in (CHOICE, IDIOM):
            pairs = [
                (text, place == train.gold[row])
                for row in rows[:: task.num_choices]
                for place, text in enumerate(train.options[row])
            ]
            model = _of_characters().fit(*zip(*pairs))
            scores = iter(model.decision_function([text for options in dev.options for text in options]))
            return gold == [np.argmax([next(scores) for _ in options]) for options in dev.options]
        learned = [train.gold[row] for row in rows]
        if len(set(learned)) < 2:
            return gold == learned[0]
        by_text = task.kind == PAIR and not task.joined_field
        part, model = [*train.parts][by_text], _of_characters() if by_text else _of_shapes(task)
        return gold == model.fit([train.parts[part][row] for row in rows], learned).predict(dev.parts[part])


def _of_characters() -> Any:
    """A logistic regression on many sparse features, by a few passes of gradient descent."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    characters = HashingVectorizer(analyzer="char", ngram_range=(1, 2), n_features=1 << 16)
    return make_pipeline(characters, SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=15, tol=None, random_state=0))


def _of_shapes(task: Task) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    shapes = FunctionTransformer(lambda texts: np.array([_shape(task, text) for text in texts]))
    return make_pipeline(shapes, StandardScaler(), LogisticRegression(max_iter=300))


def _shape(task: Task, text: str) -> Sequence[float]:
    """Numbers that do not depend on what a text means."""
    if task.joined_field:
        lengths = [len(word) for word in text.split(" ")] or [0]
        histogram = [lengths.count(number) for number in range(1, 9)]
        return [len(lengths), sum(lengths), min(lengths), max(lengths), float(np.mean(lengths)), *histogram]
    kinds = Counter(map(unicodedata.category, text))
    numbers: list[float] = [len(text), *(kinds[kind] for kind in ("Lo", "Lu", "Ll", "Nd", "Po", "Ps", "Zs"))]
    if task.marked_spans:
        first, second = text.find("_"), text.find("[")
        span, other = text.find("_", first + 1) - first, text.find("]") - second
        numbers += [first, second, second - first, abs(second - first), float(first < second), span, other]
    return numbers
