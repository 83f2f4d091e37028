"""What rows share: texts of dev and test rows that stand in train too, repeated texts, groups, and scores that need no reading.

Everything counts rows as the metric does: a row of a classification file, a question, a blank. Texts are compared as they
are, and `normalised`; a row's *twin* is a row of train with the same normalised texts, whatever their labels.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from cluebench.data.rows import IDIOM_TAG, ChoiceRow, IdiomRecord, SpanRow, TextRow
from cluebench.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task

_NOT_WORDS = re.compile(r"[\W_]+")
_COMMON_MARKS = re.compile("[，。！？：；（）、“”‘’《》…—,.!?:;()\\s]+")
_MARKS = re.compile(r"[_\[\]]")

#: Rows of train from which the surface baseline learns, evenly spread.
_LEARNED_FROM = 20_000


@dataclass
class Units:
    """What the metric counts, in order.

    parts: name → text of each. labels: what is right of each, in words; None in test splits. gold: the same as an index,
    None for spans. options: of each, those to choose from; none where all rows have the same labels. groups: what a row
    shares with others that are no independent evidence.
    """

    parts: dict[str, list[str]]
    labels: list[str | None]
    gold: list[int | None]
    options: list[tuple[str, ...]]
    groups: list[Hashable]
    _normalised: dict[str, list[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def whole(self) -> list[int]:
        """All texts of each row as one value."""
        return [*map(hash, zip(*self.parts.values()))]

    @cached_property
    def normal(self) -> list[int]:
        """The same of the normalised texts."""
        return [*map(hash, zip(*(self.normalised_part(name) for name in self.parts)))]

    def normalised_part(self, name: str) -> list[int]:
        """A hash of each normalised text; every distinct one is normalised once."""
        if name not in self._normalised:
            known = {text: hash(normalised(text)) for text in set(self.parts[name])}
            self._normalised[name] = [known[text] for text in self.parts[name]]
        return self._normalised[name]


def normalised(text: str) -> str:
    """NFKC, lower case, without white space, punctuation and symbols."""
    plain = _COMMON_MARKS.sub("", text)  # which go in the end: without them NFKC takes a fifth of the time
    return _NOT_WORDS.sub("", unicodedata.normalize("NFKC", plain).lower())


def units_of(task: Task, rows: Sequence[Any]) -> Units:
    """Of rows as `cluebench.data.rows` loads them."""
    units = Units({name: [] for name in _PARTS.get(task.kind, task.text_fields)}, [], [], [], [])
    for row in rows:
        for texts, gold, options, group in _UNITS[task.kind](task, row):
            for of_part, text in zip(units.parts.values(), texts):
                of_part.append(text)
            units.gold.append(gold)
            units.labels.append(None if gold is None else (options or task.labels)[gold])
            units.options.append(options if task.kind in (CHOICE, IDIOM) else ())
            units.groups.append(group)
    return units


def groups_of(task: Task, rows: Sequence[Any]) -> np.ndarray:
    """int64 [rows]: the same number for rows that share a premise, an abstract, a passage, a record or a text."""
    return np.unique([hash(group) for group in units_of(task, rows).groups], return_inverse=True)[1].astype(np.int64)


_Unit = tuple[tuple[str, ...], int | None, tuple[str, ...], Hashable]  # texts, right index, options, group


def _of_text(task: Task, row: TextRow) -> Iterable[_Unit]:
    shared = row.texts[task.group_segment]
    yield row.texts, row.label, (), _MARKS.sub("", shared) if task.marked_spans else shared


def _of_question(task: Task, row: ChoiceRow) -> Iterable[_Unit]:
    yield (row.context, row.question, "\n".join(row.options)), row.answer, row.options, row.context


def _of_record(task: Task, row: IdiomRecord) -> Iterable[_Unit]:
    candidates = "\n".join(row.candidates)
    for passage in row.passages:
        text = IDIOM_TAG.sub("#idiom#", passage)
        for tag in IDIOM_TAG.findall(passage):
            yield (text, candidates), row.answers[tag] if row.answers else None, row.candidates, id(row)


def _of_span(task: Task, row: SpanRow) -> Iterable[_Unit]:
    yield (row.context, row.question), 0 if row.answers else None, row.answers[:1], row.context


_PARTS = {CHOICE: ("context", "question", "options"), IDIOM: ("passage", "candidates"), SPAN: ("context", "question")}
_UNITS: dict[str, Callable[[Task, Any], Iterable[_Unit]]] = {
    SINGLE: _of_text, PAIR: _of_text, CHOICE: _of_question, IDIOM: _of_record, SPAN: _of_span,
}  # fmt: skip


# Twins ----------------------------------------------------------------------------------------------------------------


def twins(train: Units, other: Units) -> np.ndarray:
    """bool [rows of other]: whether the whole row, normalised, stands in train."""
    return stand_in(train.normal, other.normal)


def stand_in(train: Iterable[Hashable], other: Sequence[Hashable]) -> np.ndarray:
    """bool [other]: which of them are among ``train``."""
    known = set(train)
    return np.fromiter((one in known for one in other), bool, len(other))


def label_by_text(train: Units, keys: Sequence[Hashable], wanted: Iterable[Hashable]) -> dict[Hashable, str]:
    """Wanted key of a row of train → the label most of the rows with this key have, the first met where several do."""
    counts: dict[Hashable, Counter] = defaultdict(Counter)
    asked = set(wanted)
    for key, label in zip(keys, train.labels):
        if key in asked and label is not None:
            counts[key][label] += 1
    return {key: of_key.most_common(1)[0][0] for key, of_key in counts.items()}


@dataclass(frozen=True)
class Repeated:
    """Texts that several rows have: as whole rows, or as what groups rows."""

    texts: int
    rows: int  # that have one of them
    largest: int  # rows of the most frequent one
    texts_of_several_labels: int
    rows_of_several_labels: int


def repeated(keys: Sequence[Hashable], labels: Sequence[str | None]) -> Repeated:
    """Of rows with these keys."""
    found: dict[Hashable, list[str | None]] = defaultdict(list)
    for key, label in zip(keys, labels):
        found[key].append(label)
    several = [of_key for of_key in found.values() if len(of_key) > 1]
    apart = [of_key for of_key in several if len(set(of_key)) > 1]
    largest = max(map(len, found.values()), default=0)
    return Repeated(len(several), sum(map(len, several)), largest, len(apart), sum(map(len, apart)))


# Floors ---------------------------------------------------------------------------------------------------------------


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
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    by_option, by_text = task.kind in (CHOICE, IDIOM), task.kind == PAIR and not task.joined_field
    if by_option or by_text:  # many sparse features: a few passes of gradient descent do
        characters = HashingVectorizer(analyzer="char", ngram_range=(1, 2), n_features=1 << 16)
        model = make_pipeline(
            characters, SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=15, tol=None, random_state=0)
        )
    else:
        shapes = FunctionTransformer(lambda texts: np.array([_shape(task, one) for one in texts]))
        model = make_pipeline(shapes, StandardScaler(), LogisticRegression(max_iter=300))
    of_part = list(train.parts)[1 if by_text else 0]
    chosen = range(0, len(train), -(-len(train) // _LEARNED_FROM) * (10 if by_option else 1))
    gold = [train.gold[row] for row in chosen]
    if not by_option:
        if len(set(gold)) < 2:
            return np.array(dev.gold) == gold[0]
        model.fit([train.parts[of_part][row] for row in chosen], gold)
        return model.predict(dev.parts[of_part]) == np.array(dev.gold)
    pairs = [(text, place == train.gold[row]) for row in chosen for place, text in enumerate(train.options[row])]
    model.fit(*zip(*pairs))
    scores = iter(model.decision_function([text for options in dev.options for text in options]))
    said = [np.argmax([next(scores) for _ in options]) for options in dev.options]
    return np.array(said) == np.array(dev.gold)


def _shape(task: Task, text: str) -> list[float]:
    """Numbers that say nothing of what a text means."""
    if task.joined_field:
        lengths = [len(word) for word in text.split(" ")] or [0]
        histogram = [sum(length == number for length in lengths) for number in range(1, 9)]
        return [len(lengths), sum(lengths), min(lengths), max(lengths), float(np.mean(lengths)), *histogram]
    kinds = Counter(map(unicodedata.category, text))
    numbers = [len(text), *(kinds[kind] for kind in ("Lo", "Lu", "Ll", "Nd", "Po", "Ps", "Zs"))]
    if task.marked_spans:
        first, second = text.find("_"), text.find("[")
        span, other = text.find("_", first + 1) - first, text.find("]") - second
        numbers += [first, second, second - first, abs(second - first), float(first < second), span, other]
    return numbers
