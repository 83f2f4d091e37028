"""What the best model of a trial said of every dev row: a small file beside its result, whether or not it is kept.

``<trial>.predictions`` is one gzipped JSON object; ``zcat`` shows it:

    format         1
    configuration  the trial's, as in its result: what decides the score (see `cluebench.identity`)
    step           optimizer steps done by the model that predicted
    rows           16 hexadecimal digits of the rows' ids, in order
    predicted      a row each: the index of the label, option or candidate; of spans the answer's text
    gold           a row each: the right index; absent for spans
    exact, f1      spans only, a question each: its EM (0 or 1) and F1 (0 to 1), as in the result
    clusters       a row each: the number of the passage or record it shares with others; absent where it shares none

A row is what the metric counts: a row of a classification file, a question, a blank. A file of another format is
refused, never guessed at; nothing in one is ever run.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cluebench import atomic, json_files
from cluebench.errors import DataError
from cluebench.runlog import Result

SUFFIX = ".predictions"

_FORMAT = 1
_MOST_BYTES = 1 << 26  # unpacked; the largest official dev split takes less than 1 MB
_LARGEST_INDEX = (1 << 15) - 1


@dataclass(frozen=True, eq=False)
class DevPredictions:
    """What one model said of every dev row, and how right that was.

    scores: float64 [rows, metrics], shares of 1: right or wrong; for spans EM and F1. predicted: int64 [rows], or the
    texts of spans; gold: int64 [rows], None for spans. clusters: int64 [rows], None where rows share nothing.
    configuration, step: of the trial, empty until written.
    """

    rows: str
    scores: np.ndarray
    predicted: np.ndarray | list[str]
    gold: np.ndarray | None = None
    clusters: np.ndarray | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0

    @classmethod
    def of_choices(
        cls, ids: Sequence[int | str], predicted: np.ndarray, gold: np.ndarray, clusters: np.ndarray | None = None
    ) -> DevPredictions:
        """Of rows with one choice of several; predicted and gold [rows] are indices."""
        right = (predicted == gold).astype(np.float64)[:, None]
        return cls(rows_fingerprint(ids), right, np.asarray(predicted), np.asarray(gold), _numbered(clusters))

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
        return self.configuration["task"]

    @property
    def score(self) -> tuple[float, ...]:
        """In percent, as in a result."""
        return tuple(100 * self.scores.mean(axis=0))

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
            content = json_files.parse(_unpacked(path))
            if not isinstance(content, dict) or content.get("format") != _FORMAT:
                raise ValueError(f"it is not of format {_FORMAT}")
            return cls(**_checked(content))
        except FileNotFoundError:
            raise DataError(f"{path}: there is no such file of dev predictions") from None
        except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
            raise DataError(f"{path} is no whole file of dev predictions: {error}") from None


def rows_fingerprint(ids: Sequence[int | str]) -> str:
    """16 hexadecimal digits of SHA-256 over the ids of rows, in order."""
    return hashlib.sha256(json.dumps(list(ids), ensure_ascii=False).encode()).hexdigest()[:16]


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
        json_files.tell_once(f"warning: {error}; they count for nothing")
        return None
    score = result.best_score or ()
    same = found.configuration == result.configuration and found.step == result.best_step
    fits = len(found.score) == len(score) and np.allclose(found.score, score, rtol=0, atol=0.005)
    return found if same and fits else None


def _numbered(clusters: np.ndarray | None) -> np.ndarray | None:
    """Any names of clusters as numbers from 0."""
    return None if clusters is None else np.unique(clusters, return_inverse=True)[1]


def _listed(values: np.ndarray | list[str]) -> list:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _unpacked(path: str | os.PathLike) -> bytes:
    with gzip.open(path) as stream:
        content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"it holds more than {_MOST_BYTES >> 20} MiB")
    return content


def _checked(content: dict) -> dict[str, Any]:
    """The fields of DevPredictions. Raises ValueError naming the column that is wrong."""
    configuration, step, rows = (content.get(name) for name in ("configuration", "step", "rows"))
    if not isinstance(configuration, dict) or not isinstance(configuration.get("task"), str):
        raise ValueError("'configuration' is not that of a trial")
    if type(step) is not int or not isinstance(rows, str):
        raise ValueError("'step' or 'rows' is missing")
    fields: dict[str, Any] = {"configuration": configuration, "step": step, "rows": rows}
    answers = content.get("predicted")
    if not isinstance(answers, list) or not answers:
        raise ValueError("'predicted' lists nothing")
    number = len(answers)
    if "gold" in content:
        fields["predicted"], fields["gold"] = (_indices(content, name, number) for name in ("predicted", "gold"))
        fields["scores"] = (fields["predicted"] == fields["gold"]).astype(np.float64)[:, None]
    else:
        if not all(isinstance(answer, str) for answer in answers):
            raise ValueError("'predicted' holds something other than texts, and there is no 'gold'")
        exact, f1 = (_column(content, name, number, 1) for name in ("exact", "f1"))
        fields["predicted"], fields["scores"] = answers, np.stack([exact, f1], axis=1).astype(np.float64)
    if "clusters" in content:
        fields["clusters"] = _indices(content, "clusters", number, number - 1)
    return fields


def _indices(content: dict, name: str, number: int, largest: int = _LARGEST_INDEX) -> np.ndarray:
    """A column of whole numbers."""
    values = _column(content, name, number, largest)
    if values.dtype.kind != "i":
        raise ValueError(f"{name!r} holds something other than whole numbers")
    return values


def _column(content: dict, name: str, number: int, largest: int) -> np.ndarray:
    """A column of ``number`` numbers from 0 to ``largest``."""
    values = np.array(content.get(name))
    if values.shape != (number,) or values.dtype.kind not in "if":
        raise ValueError(f"{name!r} is not a list of {number} numbers")
    if not ((values >= 0) & (values <= largest)).all():
        raise ValueError(f"{name!r} holds a number outside 0 to {largest}")
    return values
