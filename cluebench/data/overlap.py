"""What rows share: dev and test texts that are in train too, repeated texts, groups.

Texts are compared as they are and `normalised`. A row's *twin* is a row of train with the same normalised texts; its
label may differ.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np

from cluebench.benchmark.tasks import CHOICE, IDIOM, SPAN, Task
from cluebench.data.rows import IDIOM_TAG

_NOT_WORDS = re.compile(r"[\W_]+")
_COMMON_MARKS = re.compile("[，。！？：；（）、“”‘’《》…—,.!?:;()\\s]+")
_MARKS = re.compile(r"[_\[\]]")


@dataclass
class Units:
    """What the metric counts, in order: rows of a classification file, questions, or blanks.

    parts: name → text of each unit. gold: index of the right answer, None in test splits. labels: the same in words.
    options: the choices; empty if all rows have the same labels. groups: what makes rows dependent evidence, such as a
    shared premise.
    """

    task: Task
    parts: dict[str, list[str]]
    gold: list[int | None] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    options: list[tuple[str, ...]] = field(default_factory=list)
    groups: list[Hashable] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.gold)

    @cached_property
    def whole(self) -> list[int]:
        """A hash of all texts of each row."""
        return [*map(hash, zip(*self.parts.values()))]

    @cached_property
    def normal(self) -> list[int]:
        """A hash of all normalised texts of each row."""
        return [*map(hash, zip(*self.normal_parts.values()))]

    @cached_property
    def normal_parts(self) -> dict[str, list[int]]:
        """Name → a hash of the normalised text of each row."""
        once = cache(lambda text: hash(normalised(text)))  # many rows have the same text
        return {name: [*map(once, texts)] for name, texts in self.parts.items()}


def normalised(text: str) -> str:
    """NFKC, lower case, without white space, punctuation and symbols."""
    plain = _COMMON_MARKS.sub("", text)  # for speed: NFKC is slow on them
    return _NOT_WORDS.sub("", unicodedata.normalize("NFKC", plain).lower())


def units_of(task: Task, rows: Sequence[Any]) -> Units:
    """The units of rows that `cluebench.data.rows.load_rows` returns."""
    units = Units(task, {name: [] for name in _PARTS.get(task.kind, task.text_fields)})
    for row in rows:
        for texts, gold, options, group in _units_of_row(task, row):
            for part, text in zip(units.parts.values(), texts):
                part.append(text)
            units.gold.append(gold)
            units.labels.append(None if gold is None else (options or task.labels)[gold])
            units.options.append(options if task.kind in (CHOICE, IDIOM) else ())
            units.groups.append(group)
    return units


_PARTS = {CHOICE: ("context", "question", "options"), IDIOM: ("passage", "candidates"), SPAN: ("context", "question")}
_Unit = tuple[tuple[str, ...], int | None, tuple[str, ...], Hashable]  # texts, right index, options, group


def _units_of_row(task: Task, row: Any) -> Iterator[_Unit]:
    if task.kind == CHOICE:
        yield (row.context, row.question, "\n".join(row.options)), row.answer, row.options, row.context
    elif task.kind == SPAN:
        yield (row.context, row.question), 0 if row.answers else None, row.answers[:1], row.context
    elif task.kind == IDIOM:
        candidates = "\n".join(row.candidates)
        for passage in row.passages:
            text = IDIOM_TAG.sub("#idiom#", passage)
            for tag in IDIOM_TAG.findall(passage):
                yield (text, candidates), row.answers[tag] if row.answers else None, row.candidates, id(row)
    else:
        shared = row.texts[task.group_segment]
        yield row.texts, row.label, (), _MARKS.sub("", shared) if task.marked_spans else shared


def groups_of(task: Task, rows: Sequence[Any]) -> np.ndarray:
    """int64 [rows]: the same number for rows that share a premise, an abstract, a passage, a record or a text."""
    return numbered(units_of(task, rows).groups)


def numbered(groups: Sequence[Hashable]) -> np.ndarray:
    """int64 [groups]: from 0 in order of appearance, the same number for the same group."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)


def are_in(train: Iterable[Hashable], other: Sequence[Hashable]) -> np.ndarray:
    """bool [other]: whether each is in ``train``."""
    keys = set(train)
    return np.fromiter((key in keys for key in other), bool, len(other))


def label_by_text(keys: Iterable[Hashable], labels: Iterable[str | None]) -> dict[Hashable, str]:
    """Key of a row → the label that most rows with this key have; the first of several most frequent labels."""
    counts = Counter((key, label) for key, label in zip(keys, labels) if label is not None)
    found: dict[Hashable, str] = {}
    for (key, label), _ in counts.most_common():
        found.setdefault(key, label)
    return found


@dataclass(frozen=True)
class Repeated:
    """Texts that several rows have: as whole rows, or as what groups rows."""

    texts: int
    rows: int  # that have such a text
    largest: int  # rows of the most frequent text
    texts_of_several_labels: int
    rows_of_several_labels: int


def repeated(keys: Sequence[Hashable], labels: Sequence[str | None]) -> Repeated:
    """Counts the rows that share a key."""
    rows, kinds = Counter(keys), Counter(key for key, _ in set(zip(keys, labels)))
    several = [number for number in rows.values() if number > 1]
    apart = [rows[key] for key, number in kinds.items() if number > 1]
    return Repeated(len(several), sum(several), max(rows.values(), default=0), len(apart), sum(apart))
