"""What the best model of a trial said of every dev row: a small file beside its result, whether or not it is kept.

``<trial>.predictions`` is one gzipped JSON object; ``zcat`` shows it:

    format         1
    configuration  the trial's, as in its result: what decides the score (see `cluebench.records.identity`)
    step           optimizer steps done by the model that predicted
    rows           16 hexadecimal digits of the rows' ids in order, as the file has them; of its row numbers where a row
                   has none, and in what earlier versions wrote of classification and multiple choice
    predicted      a row each: the index of the label, option or candidate; of spans the answer's text
    gold           a row each: the right index; absent for spans
    exact, f1      spans only, a question each: its EM (0 or 1) and F1 (0 to 1), as in the result
    clusters       a row each: the number of the passage, record, premise, abstract or text that it shares with others;
                   absent where no row shares one

A row is what the metric counts: a row of a classification file, a question, a blank. A file of another format is
refused, never guessed at; nothing in one is ever run.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from cluebench.benchmark.tasks import TASKS
from cluebench.data import row_facts
from cluebench.foundation import atomic, json_files
from cluebench.foundation.errors import BadFile, DataError
from cluebench.foundation.json_files import Count, between
from cluebench.foundation.notices import notice_once
from cluebench.records.result import DevPoint, Result, Settings

SUFFIX = ".predictions"

_FORMAT = 1
_MOST_BYTES = 1 << 26  # unpacked; the largest official dev split takes less than 1 MB

Index = Annotated[int, between(0, (1 << 15) - 1)]
Share = Annotated[float, between(0, 1)]


@dataclass(frozen=True, eq=False)
class DevPredictions:
    """What one model said of every dev row, and how right that was.

    scores: float64 [rows, metrics], shares of 1: right or wrong; for spans EM and F1. predicted: int64 [rows], or the
    texts of spans; gold: int64 [rows], None for spans. clusters: int64 [rows], None where rows share nothing.
    configuration, step: of the trial, empty until written. numbered: whether rows is of row numbers.
    """

    rows: str
    scores: np.ndarray
    predicted: np.ndarray | list[str]
    gold: np.ndarray | None = None
    clusters: np.ndarray | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0
    numbered: bool = False

    @classmethod
    def of_choices(
        cls, ids: Sequence[int | str], predicted: np.ndarray, gold: np.ndarray, clusters: np.ndarray | None = None
    ) -> DevPredictions:
        """Of rows with one choice of several; predicted and gold [rows] are indices."""
        rows, scores = rows_fingerprint(ids), _right(predicted, gold)
        return cls(rows, scores, predicted, gold, _numbered(clusters), numbered=_is_of_numbers(rows, len(gold)))

    @classmethod
    def of_spans(
        cls,
        ids: Sequence[str],
        answers: Mapping[str, str],
        exact: Sequence[float],
        f1: Sequence[float],
        clusters: np.ndarray | None = None,
    ) -> DevPredictions:
        """Of questions answered by texts, ``answers`` by id; exact and f1 [questions] in the order of the ids."""
        scores = np.stack([exact, f1], axis=1).astype(np.float64)
        return cls(rows_fingerprint(ids), scores, [answers[name] for name in ids], None, _numbered(clusters))

    @property
    def task(self) -> str:
        """Lower-case name."""
        return str(self.configuration["task"])

    @property
    def one_label(self) -> str | None:
        """``one label (102) for all 2,000 rows``, where a classifier says the same of all; else None."""
        labels = TASKS[self.task].labels if self.task in TASKS else ()
        if not labels or len(self.predicted) < 2 or len(set(_listed(self.predicted))) > 1:
            return None
        return f"one label ({labels[int(self.predicted[0])]}) for all {len(self.predicted):,} rows"

    @property
    def score(self) -> tuple[float, ...]:
        """In percent, as in a result."""
        return tuple(100 * self.scores.mean(axis=0))

    def are_of(self, ids: Sequence[int | str]) -> bool:
        """Whether they are of the rows with these ids, as far as that is known."""
        return self.rows == rows_fingerprint(ids) or (self.numbered and len(self.scores) == len(ids))

    def only(self, kept: np.ndarray) -> DevPredictions:
        """Of the rows that ``kept``, bool [rows], says."""
        of_rows = {name: getattr(self, name)[kept] for name in ("gold", "clusters") if getattr(self, name) is not None}
        predicted = [answer for answer, stays in zip(_listed(self.predicted), kept) if stays]
        return replace(
            self,
            scores=self.scores[kept],
            predicted=predicted if self.gold is None else np.array(predicted, np.int64),
            **of_rows,
        )

    def write(self, path: str | os.PathLike, configuration: Mapping[str, Any], step: int) -> None:
        """Whole or not at all, the same bytes for the same predictions. Raises OSError."""
        content: dict[str, Any] = {"format": _FORMAT, "configuration": dict(configuration), "step": step}
        content |= {"rows": self.rows, "predicted": _listed(self.predicted)}
        if self.gold is None:
            content |= {"exact": self.scores[:, 0].astype(int).tolist(), "f1": self.scores[:, 1].round(6).tolist()}
        else:
            content["gold"] = _listed(self.gold)
        if self.clusters is not None:
            content["clusters"] = _listed(self.clusters)
        packed = gzip.compress(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(), mtime=0)
        with atomic.replacing(path) as temporary:
            temporary.write_bytes(packed)

    @classmethod
    def read(cls, path: str | os.PathLike) -> DevPredictions:
        """Raises DataError in one line when there is no such file, or it is not whole and of this format."""
        try:
            found = json_files.declared(json_files.parse(_unpacked(path)), PredictionsFile, path)
        except BadFile as error:
            raise DataError(f"{error}: this is no whole file of dev predictions") from None
        except FileNotFoundError:
            raise DataError(f"{path}: there is no such file of dev predictions") from None
        except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
            raise DataError(f"{path} is no whole file of dev predictions: {error}") from None
        clusters = None if found.clusters is None else np.array(found.clusters)
        about: dict[str, Any] = dict(configuration=found.configuration, step=found.step, clusters=clusters)
        if found.gold is None:
            return cls(found.rows, np.stack([found.exact, found.f1], axis=1), found.predicted, **about)  # type: ignore
        predicted, gold = np.array(found.predicted), np.array(found.gold)
        about["numbered"] = _is_of_numbers(found.rows, len(gold))
        return cls(found.rows, _right(predicted, gold), predicted, gold, **about)


def rows_fingerprint(ids: Sequence[int | str]) -> str:
    """16 hexadecimal digits of SHA-256 over the ids of rows, in order."""
    return hashlib.sha256(json.dumps(list(ids), ensure_ascii=False).encode()).hexdigest()[:16]


def _is_of_numbers(rows: str, count: int) -> bool:
    return rows == rows_fingerprint(range(count))


def beside(result_path: str | os.PathLike) -> Path:
    """Where the predictions of a trial are, given where its result is."""
    return Path(result_path).with_suffix(SUFFIX)


def of_result(result: Result, path: str | os.PathLike) -> DevPredictions | None:
    """The predictions beside a result at ``path``; None where there are none, or none of its best model.

    Those of another configuration or step, or that don't give the result's score, are none of its best model: an
    earlier version wrote the result, or the trial was ended between the one file and the other.
    """
    if not beside(path).exists():
        return None
    try:
        found = DevPredictions.read(beside(path))
    except DataError as error:
        notice_once(f"warning: {error}; they count for nothing")
        return None
    score = result.best_score or ()
    same = found.configuration == result.configuration and found.step == result.best_step
    fits = len(found.score) == len(score) and np.allclose(found.score, score, rtol=0, atol=0.005)
    return _with_groups(found) if same and fits else None


def _with_groups(found: DevPredictions) -> DevPredictions:
    """With the clusters that a file of an earlier version does not have, where somebody has looked at its data."""
    task, data = TASKS.get(found.task), str(found.configuration.get("data"))
    facts = row_facts.found(task, data) if task and found.clusters is None else None
    if facts is None or facts.dev_rows != len(found.scores):
        return found
    return replace(found, clusters=_numbered(np.array(facts.groups)))


def _right(predicted: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """The scores of rows with one choice of several."""
    return np.equal(predicted, gold).astype(np.float64)[:, None]


def _numbered(clusters: np.ndarray | None) -> np.ndarray | None:
    """Any names of clusters as numbers from 0; None where every row is alone in its own."""
    if clusters is None:
        return None
    names, numbers = np.unique(clusters, return_inverse=True)
    return None if len(names) == len(numbers) else numbers


def _listed(values: np.ndarray | list[str]) -> list:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _unpacked(path: str | os.PathLike) -> bytes:
    with gzip.open(path) as stream:
        content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"it holds more than {_MOST_BYTES >> 20} MiB")
    return content


@dataclass
class PredictionsFile:
    """What such a file holds; see the top of this module."""

    format: Literal[1]
    configuration: Settings
    step: Count
    rows: str
    predicted: list[Index | str]
    gold: list[Index] | None = None
    exact: list[Share] | None = None
    f1: list[Share] | None = None
    clusters: list[Index] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.configuration.get("task"), str):
            raise ValueError("'configuration' is not that of a trial")
        if not self.predicted:
            raise ValueError("'predicted' lists nothing")
        kind, needed = (str, ["exact", "f1"]) if self.gold is None else (int, ["gold"])
        if not all(isinstance(answer, kind) for answer in self.predicted):
            raise ValueError(f"'predicted' holds something other than {'texts' if kind is str else 'whole numbers'}")
        task = TASKS.get(str(self.configuration["task"]))
        options = len(task.labels) or task.num_choices if task and self.gold is not None else 0
        if task and options and max((*self.predicted, *(self.gold or ()))) >= options:
            raise ValueError(f"{task.title} has {options} answers to choose from")
        number = len(self.predicted)
        for name in needed if self.clusters is None else [*needed, "clusters"]:
            if len(getattr(self, name) or ()) != number:
                raise ValueError(f"{name!r} is not a list of {number} numbers")
        if self.clusters and max(self.clusters) >= number:
            raise ValueError(f"'clusters' holds a number outside 0 to {number - 1}")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a pass over dev found. ids, shown, accepted: of each row, what only `cluebench.records.analysis` shows."""

    loss: float
    score: tuple[float, ...]  # percent; EM and F1 for spans
    said: DevPredictions
    ids: Sequence[int | str]
    shown: Sequence[float]  # how sure the model was of its choice (0 to 1); of spans the organisers' F1
    accepted: Sequence[Sequence[str]] = ()  # spans: the answers that are right
    organisers: tuple[float, float] | None = None  # CMRC2018: the organisers' EM and F1, percent

    def point(self, step: int, epoch: int) -> DevPoint:
        """Of the curve, after ``step`` optimizer steps."""
        return DevPoint(step, epoch, self.score, self.loss, self.organisers)


@dataclass(frozen=True)
class CutEvaluation:
    """What a pass over dev found that ended when it could no longer become the best of its run."""

    bound: float  # percent: the accuracy was at most this
    computed: int  # rows
    rows: int  # of dev
    loss = math.nan

    def point(self, step: int, epoch: int) -> DevPoint:
        """Of the curve, after ``step`` optimizer steps."""
        return DevPoint(step, epoch, (self.bound,), cut_after=self.computed)
