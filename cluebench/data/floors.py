"""Floors of a task: dev scores that need no reading, with which a model's score has to be compared."""

from __future__ import annotations

import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SPAN, Task
from cluebench.data.overlap import Units, label_by_text

#: Rows of train from which the surface baseline learns, evenly spread.
_LEARNED_FROM = 20_000


@dataclass(frozen=True)
class Floors:
    """Dev scores in percent that need no reading; None where a rule does not apply.

    majority: the most frequent label (or place among the options) of train for every row. twin: the label of the row's
    twin in train, else the majority. surface: a logistic regression on what `surface` names.
    """

    majority: float | None = None
    twin: float | None = None
    surface: float | None = None

    @property
    def best(self) -> float | None:
        return max((one for one in (self.majority, self.twin, self.surface) if one is not None), default=None)


def floors(task: Task, train: Units, dev: Units) -> Floors:
    """None of spans, whose answers are texts."""
    if task.kind == SPAN or not len(train) or not len(dev):
        return Floors()
    most = Counter(train.gold).most_common(1)[0][0]
    by_majority = np.array([gold == most for gold in dev.gold])
    known = label_by_text(train, train.normal, dev.normal)
    said = [known.get(key) for key in dev.normal]
    by_twin = [majority if one is None else one == label for one, label, majority in zip(said, dev.labels, by_majority)]
    return Floors(_percent(by_majority), _percent(by_twin), _percent(_surface(task, train, dev)))


def surface(task: Task) -> str | None:
    """What the surface baseline of a task sees, in words."""
    if task.kind == SPAN:
        return None
    if task.kind in (CHOICE, IDIOM):
        return "the options alone"
    if task.joined_field:
        return "number and lengths of the keywords alone"
    if task.kind == PAIR:
        return f"{task.text_fields[1]} alone"
    return "lengths and the places of the marks alone" if task.marked_spans else "lengths and kinds of characters alone"


def _percent(right: Sequence[bool] | np.ndarray) -> float:
    return 100 * float(np.mean(right))


def _surface(task: Task, train: Units, dev: Units) -> np.ndarray:
    """bool [dev rows]: where the surface baseline is right."""
    by_option, by_text = task.kind in (CHOICE, IDIOM), task.kind == PAIR and not task.joined_field
    model = _classifier(None if by_option or by_text else task)
    chosen = range(0, len(train), -(-len(train) // _LEARNED_FROM))
    with warnings.catch_warnings():  # of scikit-learn, on few rows and many labels
        warnings.simplefilter("ignore")
        if by_option:
            chosen = chosen[:: task.num_choices]
            pairs = [
                (text, place == train.gold[row]) for row in chosen for place, text in enumerate(train.options[row])
            ]
            model.fit(*zip(*pairs))
            scores = iter(model.decision_function([text for options in dev.options for text in options]))
            said = np.array([np.argmax([next(scores) for _ in options]) for options in dev.options])
        else:
            gold, part = [train.gold[row] for row in chosen], list(train.parts)[1 if by_text else 0]
            if len(set(gold)) < 2:
                return np.array(dev.gold) == gold[0]
            said = model.fit([train.parts[part][row] for row in chosen], gold).predict(dev.parts[part])
    return said == np.array(dev.gold)


def _classifier(shapes_of: Task | None) -> Any:
    """Of texts: by their shape, for a task that is given, else by their characters."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    if shapes_of is None:  # many sparse features: logistic regression by a few passes of gradient descent
        characters = HashingVectorizer(analyzer="char", ngram_range=(1, 2), n_features=1 << 16)
        settings = dict(alpha=1e-5, max_iter=15, tol=None, random_state=0)
        return make_pipeline(characters, SGDClassifier(loss="log_loss", **settings))
    shapes = FunctionTransformer(lambda texts: np.array([_shape(shapes_of, text) for text in texts]))
    return make_pipeline(shapes, StandardScaler(), LogisticRegression(max_iter=300))


def _shape(task: Task, text: str) -> Sequence[float]:
    """Numbers that say nothing of what a text means."""
    if task.joined_field:
        lengths = [len(word) for word in text.split(" ")] or [0]
        histogram = [sum(length == number for length in lengths) for number in range(1, 9)]
        return [len(lengths), sum(lengths), min(lengths), max(lengths), float(np.mean(lengths)), *histogram]
    kinds = Counter(map(unicodedata.category, text))
    numbers: list[float] = [len(text), *(kinds[kind] for kind in ("Lo", "Lu", "Ll", "Nd", "Po", "Ps", "Zs"))]
    if task.marked_spans:
        first, second = text.find("_"), text.find("[")
        span, other = text.find("_", first + 1) - first, text.find("]") - second
        numbers += [first, second, second - first, abs(second - first), float(first < second), span, other]
    return numbers
