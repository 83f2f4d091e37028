"""Facts about a task's rows: which dev rows have a twin in train, groups, and the floors.

They are kept in ``rows/<task>-<fingerprint of the data>.json`` in the cache directory, and in ``rows.json`` of a run
directory that came out of a bundle. Scores without twins need them. Floors are dev scores without reading, to compare a
model's score with.
"""

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SPAN, Task
from cluebench.data import overlap
from cluebench.data.overlap import Units, label_by_text
from cluebench.data.rows import hash_of_rows, load_rows
from cluebench.data.source import DataSource
from cluebench.foundation import atomic, environment, json_files
from cluebench.foundation.file_facts import version_of
from cluebench.foundation.json_files import Count, Meta, Positive
from cluebench.foundation.notices import notice

#: In a run directory: task name → its facts, as in a bundle.
RUN_FILE = "rows.json"

_HASH = re.compile("[0-9a-f]{16}")
Hash = Annotated[str, Meta(pattern=f"^{_HASH.pattern}$")]

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


@dataclass
class RowFacts:
    """Facts about the data with this fingerprint. twins: numbers of the dev rows whose normalised texts are in train.

    groups: for each dev row the number of its group, see `cluebench.data.overlap.groups_of`.
    """

    format: Literal[1]
    task: str
    data: Hash  # see `DataSource.fingerprint`
    train: Hash  # see `cluebench.data.rows.hash_of_rows`
    dev: Hash
    dev_rows: Positive
    twins: list[Count]
    groups: list[Count]
    floors: Floors

    def __post_init__(self) -> None:
        if self.twins != sorted(set(self.twins)) or (self.twins and self.twins[-1] >= self.dev_rows):
            raise ValueError("'twins' lists something other than dev rows")
        if len(self.groups) != self.dev_rows:
            raise ValueError(f"'groups' is not a list of {self.dev_rows} numbers")

    @classmethod
    def of(cls, data: str, hashes: tuple[str, str], train: Units, dev: Units) -> "RowFacts":
        """``hashes``: of the rows of train and dev."""
        twins = np.flatnonzero(overlap.are_in(train.normal, dev.normal)).tolist()
        groups = overlap.numbered(dev.groups).tolist()
        return cls(1, train.task.name, data, *hashes, len(dev), twins, groups, floors(train, dev))

    def is_twin(self) -> np.ndarray:
        """bool [dev rows]."""
        return np.isin(np.arange(self.dev_rows), self.twins)


def found(task: Task, data: str, run: Path | None = None) -> RowFacts | None:
    """The facts about the data with this fingerprint, from a run directory or the cache; None if neither has them."""
    if not _HASH.fullmatch(data):  # it may come from a stranger's result
        return None
    own = _read_once(run / RUN_FILE, dict[str, RowFacts]) if run else None
    facts = (own or {}).get(task.name) or _read_once(_path(task.name, data), RowFacts)
    return facts if facts and (facts.task, facts.data) == (task.name, data) else None


def _read_once(path: Path, kind: Any) -> Any:
    """A sound file as ``kind``, or None. It is read once: every trial of a task asks for it, and it may be large."""
    with suppress(OSError):
        return _read(path, kind, version_of(path))


@lru_cache(maxsize=64)
def _read(path: Path, kind: Any, version: str) -> Any:
    return json_files.read_if_sound(path, kind)


def made(task: Task, source: DataSource) -> RowFacts:
    """Computes and keeps the facts about train and dev of a source, which takes seconds. Raises DataError."""
    rows = [load_rows(source, task, split) for split in ("train", "dev")]
    train, dev = (overlap.units_of(task, of_split) for of_split in rows)
    hashes = (hash_of_rows(task, rows[0]), hash_of_rows(task, rows[1]))
    facts = RowFacts.of(source.fingerprint(task), hashes, train, dev)
    keep(facts)
    return facts


def keep(facts: RowFacts) -> None:
    """Writes them to the cache directory; a notice says if that is not possible."""
    path = _path(facts.task, facts.data)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(path, asdict(facts))
    except OSError as error:
        notice(f"{path} can't be written ({error.strerror or error}): what rows share is computed again each time")


def same_rows(task: Task, data: str, other_data: str) -> bool:
    """Whether two fingerprints are of the same train and dev rows; False if this machine lacks the facts."""
    if data == other_data:
        return True
    first, second = found(task, data), found(task, other_data)
    return first is not None and second is not None and (first.train, first.dev) == (second.train, second.dev)


def _path(task: str, data: str) -> Path:
    return environment.cache_home() / "rows" / f"{task}-{data}.json"


# Floors ---------------------------------------------------------------------------------------------------------------


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
