"""What the best model of a trial predicted on dev: a small file beside its result, kept even if the model is not.

``<trial>.predictions`` is one gzipped JSON object; ``zcat`` shows it:

    format         1
    configuration  the trial's, as in its result: what decides the score (see `cluebench.records.identity`)
    step           optimizer steps done by the model that predicted
    rows           16 hexadecimal digits of the rows' ids in order; of the row numbers if a row has no id, and in files
                   that earlier versions wrote of classification and multiple choice
    predicted      for each row the index of the label, option or candidate; for spans the answer's text
    gold           for each row the right index; absent for spans
    exact, f1      spans only: each question's EM (0 or 1) and F1 (0 to 1), as in the result
    clusters       for each row the number of the passage, record, premise, abstract or text that it shares with others;
                   absent if no rows share one

A row is what the metric counts: a row of a classification file, a question, a blank. Files of other formats are
refused. Nothing in a file is executed.
"""

import gzip
import hashlib
import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from cluebench.benchmark.tasks import TASKS
from cluebench.data import row_facts
from cluebench.foundation import atomic, json_files
from cluebench.foundation.errors import DataError
from cluebench.foundation.json_files import UNSET, Count, Misfit, Raw, UnsetType, between, list_of
from cluebench.foundation.notices import notice_once
from cluebench.records.result import DevPoint, Result, Settings

SUFFIX = ".predictions"

_FORMAT = 1
_MOST_BYTES = 1 << 26  # unpacked; the largest official dev split takes less than 1 MB

Index = Annotated[int, between(0, (1 << 15) - 1)]
Share = Annotated[float, between(0, 1)]


@dataclass(frozen=True, eq=False)
class DevPredictions:
    """What one model predicted for every dev row, and how right it was.

    scores: float64 [rows, metrics], shares of 1: right or wrong; EM and F1 for spans. predicted: [rows], int64, or
    objects: the texts of spans. gold: int64 [rows], None for spans. clusters: int64 [rows], None if rows share nothing.
    configuration, step: the trial's; empty until written. numbered: whether ``rows`` is a hash of row numbers.
    """

    rows: str
    scores: np.ndarray
    predicted: np.ndarray
    gold: np.ndarray | None = None
    clusters: np.ndarray | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0
    numbered: bool = False

    @classmethod
    def of_choices(
        cls, ids: Sequence[int | str], predicted: np.ndarray, gold: np.ndarray, clusters: np.ndarray | None = None
    ) -> "DevPredictions":
        """For rows with one choice of several; predicted and gold [rows] are indices."""
        return cls._choices(rows_fingerprint(ids), predicted, gold, clusters=_numbered(clusters))

    @classmethod
    def _choices(cls, rows: str, predicted: np.ndarray, gold: np.ndarray, **more: Any) -> "DevPredictions":
        scores = np.equal(predicted, gold).astype(np.float64)[:, None]
        return cls(rows, scores, predicted, gold, numbered=rows == _fingerprint_of_numbers(len(gold)), **more)

    @classmethod
    def of_spans(
        cls,
        ids: Sequence[str],
        answers: Mapping[str, str],
        exact: Sequence[float],
        f1: Sequence[float],
        clusters: np.ndarray | None = None,
    ) -> "DevPredictions":
        """For questions answered by texts, ``answers`` by id; exact and f1 [questions] in the order of the ids."""
        predicted = np.array([answers[name] for name in ids], dtype=object)
        scores = np.stack([exact, f1], axis=1).astype(np.float64)
        return cls(rows_fingerprint(ids), scores, predicted, clusters=_numbered(clusters))

    @property
    def task(self) -> str:
        """Lower-case name."""
        return str(self.configuration["task"])

    @property
    def one_label(self) -> str | None:
        """``one label (102) for all 2,000 rows``, if a classifier predicts the same for all; else None."""
        labels = TASKS[self.task].labels if self.task in TASKS else ()
        if not labels or len(self.predicted) < 2 or (self.predicted != self.predicted[0]).any():
            return None
        return f"one label ({labels[int(self.predicted[0])]}) for all {len(self.predicted):,} rows"

    @property
    def score(self) -> tuple[float, ...]:
        """The score in percent, as in a result."""
        return tuple(100 * self.scores.mean(axis=0))

    def are_of(self, ids: Sequence[int | str]) -> bool:
        """Whether they are of the rows with these ids, as far as the file tells."""
        return self.rows == rows_fingerprint(ids) or (self.numbered and len(self.scores) == len(ids))

    def only(self, kept: np.ndarray) -> "DevPredictions":
        """The same for the rows where ``kept``, bool [rows], is true."""
        names = (name for name in ("scores", "predicted", "gold", "clusters") if getattr(self, name) is not None)
        columns: dict[str, Any] = {name: getattr(self, name)[kept] for name in names}
        return replace(self, **columns)

    def write(self, path: str | os.PathLike, configuration: Mapping[str, Any], step: int) -> None:
        """Whole or not at all; the same predictions give the same bytes. Raises OSError."""
        content: dict[str, Any] = {"format": _FORMAT, "configuration": dict(configuration), "step": step}
        content |= {"rows": self.rows, "predicted": self.predicted.tolist()}
        if self.gold is None:
            content |= {"exact": self.scores[:, 0].astype(int).tolist(), "f1": self.scores[:, 1].round(6).tolist()}
        else:
            content["gold"] = self.gold.tolist()
        if self.clusters is not None:
            content["clusters"] = self.clusters.tolist()
        packed = gzip.compress(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(), mtime=0)
        with atomic.replacing(path) as temporary:
            temporary.write_bytes(packed)

    @classmethod
    def read(cls, path: str | os.PathLike) -> "DevPredictions":
        """Raises DataError in one line if there is no such file, or it is not whole and of this format."""
        try:
            found = json_files.parse(_unpacked(path), PredictionsFile)
        except FileNotFoundError:
            raise DataError(f"{path}: there is no such file of dev predictions") from None
        except (OSError, zlib.error, ValueError) as error:
            raise DataError(f"{path} is not a whole file of dev predictions: {error}") from None
        columns = found.columns
        about = dict(configuration=found.configuration, step=found.step, clusters=columns.get("clusters"))
        if "gold" in columns:
            return cls._choices(found.rows, columns["predicted"], columns["gold"], **about)
        return cls(found.rows, np.stack([columns["exact"], columns["f1"]], axis=1), columns["predicted"], **about)


def rows_fingerprint(ids: Sequence[int | str]) -> str:
    """16 hexadecimal digits of SHA-256 over the ids of rows, in order."""
    return hashlib.sha256(json.dumps(list(ids), ensure_ascii=False).encode()).hexdigest()[:16]


@lru_cache
def _fingerprint_of_numbers(count: int) -> str:
    return rows_fingerprint(range(count))


def beside(result_path: str | os.PathLike) -> Path:
    """Where the predictions of a trial are, given where its result is."""
    return Path(result_path).with_suffix(SUFFIX)


def of_result(result: Result, path: str | os.PathLike) -> DevPredictions | None:
    """The predictions beside a result at ``path``; None without any by its best model.

    Predictions of another configuration or step, or with another score, are not the best model's: an earlier version
    wrote the result, or the process ended between the two files.
    """
    if not beside(path).exists():
        return None
    try:
        found = DevPredictions.read(beside(path))
    except DataError as error:
        notice_once(f"warning: {error}; they are ignored")
        return None
    score, own = result.best_score or (), found.score
    same = found.configuration == result.configuration and found.step == result.best_step
    fits = len(own) == len(score) and all(abs(mine - theirs) <= 0.005 for mine, theirs in zip(own, score))
    return _with_clusters(found) if same and fits else None


def _with_clusters(found: DevPredictions) -> DevPredictions:
    """Files of earlier versions have no clusters: those that this machine has found in the same data."""
    task, data = TASKS.get(found.task), str(found.configuration.get("data"))
    facts = row_facts.found(task, data) if task and found.clusters is None else None
    if facts is None or facts.dev_rows != len(found.scores):
        return found
    return replace(found, clusters=_numbered(np.array(facts.groups)))


def _numbered(clusters: np.ndarray | None) -> np.ndarray | None:
    """Any names of clusters as numbers from 0; None if every row is alone in its cluster."""
    if clusters is None:
        return None
    names, numbers = np.unique(clusters, return_inverse=True)
    return None if len(names) == len(numbers) else numbers


def _unpacked(path: str | os.PathLike) -> bytes:
    unpacking = zlib.decompressobj(wbits=31)  # gzip's format
    content = unpacking.decompress(Path(path).read_bytes(), _MOST_BYTES)
    if unpacking.unconsumed_tail:
        raise ValueError(f"it holds more than {_MOST_BYTES >> 20} MiB")
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("it was cut, or something follows its end")
    return content


#: The columns of a file, and what each lists. Those of spans predict texts.
_COLUMNS: dict[str, Any] = {"predicted": Index, "gold": Index, "exact": Share, "f1": Share, "clusters": Index}


@dataclass
class PredictionsFile:
    """What such a file holds; see the top of this module."""

    format: Literal[1]
    configuration: Settings
    step: Count
    rows: str
    predicted: Annotated[Raw, list_of(Index | str)]
    gold: Annotated[Raw, list_of(Index)] | UnsetType = UNSET
    exact: Annotated[Raw, list_of(Share)] | UnsetType = UNSET
    f1: Annotated[Raw, list_of(Share)] | UnsetType = UNSET
    clusters: Annotated[Raw, list_of(Index)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        kinds = _COLUMNS if self.gold is not UNSET else _COLUMNS | {"predicted": str}
        texts = {name: bytes(text) for name in kinds if (text := getattr(self, name)) is not UNSET}
        self.columns = {name: _column(name, text, kinds[name]) for name, text in texts.items()}
        self._check()

    def _check(self) -> None:
        """Raises ValueError if the columns don't fit each other, or the task."""
        columns, name = self.columns, self.configuration.get("task")
        rows = len(columns["predicted"])
        if not isinstance(name, str):
            raise ValueError("'configuration' is not a trial's")
        if not rows:
            raise ValueError("'predicted' lists nothing")
        needed = {*columns} | ({"gold"} if "gold" in columns else {"exact", "f1"})
        if uneven := [column for column in sorted(needed) if len(columns.get(column, ())) != rows]:
            raise ValueError(f"{uneven[0]!r} is not a list of {rows} numbers")
        if task := TASKS.get(name) if "gold" in columns else None:
            options = len(task.labels) or task.num_choices
            if options and max(columns["predicted"].max(), columns["gold"].max()) >= options:
                raise ValueError(f"{task.title} has {options} answers to choose from")
        if "clusters" in columns and columns["clusters"].max() >= rows:
            raise ValueError(f"'clusters' holds a number outside 0 to {rows - 1}")


@lru_cache(maxsize=16)  # the files of a task have most columns in common
def _column(name: str, text: bytes, kind: Any) -> np.ndarray:
    """[values] of a list in JSON: int64 of indices, float64 of shares, objects of texts. Raises ValueError."""
    is_plain = kind is Index and len(text) > 2 and text.translate(None, b"0123456789,") == b"[]"
    values = np.fromstring(text[1:-1], np.int64, sep=",") if is_plain else np.array(())
    if not len(values) or values.max() >= 1 << 15:
        try:
            listed = json_files.parse(text, list[kind])
        except Misfit as error:
            raise ValueError(f"{name}{error.path or ''}: {error.what}") from None
        values = np.array(listed, np.int64 if kind is Index else np.float64 if kind is Share else object)
    values.flags.writeable = False
    return values


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The outcome of a pass over dev. ids, shown, accepted: [rows], only for `cluebench.records.analysis`."""

    loss: float
    score: tuple[float, ...]  # percent; EM and F1 for spans
    predictions: DevPredictions
    ids: Sequence[int | str]
    shown: Sequence[float]  # how sure the model was of its choice (0 to 1); for spans the organisers' F1
    accepted: Sequence[Sequence[str]] = ()  # spans: the right answers
    organisers: tuple[float, float] | None = None  # CMRC2018: the organisers' EM and F1, percent

    def point(self, step: int, epoch: int) -> DevPoint:
        """Its point of the curve, after ``step`` optimizer steps."""
        return DevPoint(step, epoch, self.score, self.loss, self.organisers)


@dataclass(frozen=True)
class CutEvaluation:
    """The outcome of a pass over dev that ended early, when it could no longer be the best of its run."""

    bound: float  # percent: the accuracy was at most this
    computed: int  # rows
    rows: int  # of dev
    loss = math.nan

    def point(self, step: int, epoch: int) -> DevPoint:
        """Its point of the curve, after ``step`` optimizer steps."""
        return DevPoint(step, epoch, (self.bound,), cut_after=self.computed)
