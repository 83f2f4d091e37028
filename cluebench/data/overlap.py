"""What rows share: dev and test texts that are in train too, repeated texts, groups, and scores without reading.

Rows are counted as the metric counts them: a row of a classification file, a question, a blank. Texts are compared as
they are and `normalised`. A row's *twin* is a row of train with the same normalised texts, whatever its label.
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

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task
from cluebench.data.rows import IDIOM_TAG, ChoiceRow, IdiomRecord, SpanRow, TextRow

_NOT_WORDS = re.compile(r"[\W_]+")
_COMMON_MARKS = re.compile("[，。！？：；（）、“”‘’《》…—,.!?:;()\\s]+")
_MARKS = re.compile(r"[_\[\]]")


@dataclass
class Units:
    """What the metric counts, in order.

    parts: name → text of each unit. labels: the right answer in words, None in test splits. gold: the same as an index.
    options: what there is to choose from; empty where all rows have the same labels. groups: what rows share that makes
    them no independent evidence, such as a premise.
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
    return numbered(units_of(task, rows).groups)


def numbered(groups: Sequence[Hashable]) -> np.ndarray:
    """int64 [groups]: from 0 in the order in which they are met, the same number for the same group."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)


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
    """bool [rows of other]: whether the whole row, normalised, is in train."""
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
