"""Rows and a tokenizer to model inputs: made once, kept in a cache, assembled into batches.

    request = FeatureRequest(task, "train", source, TextEncoder(tokenizer))
    features = load_features(request, FeatureCache(folder))
    for indices in …:
        batch = features.batch(indices)  # {"input_ids": int64 [B, T], "token_type_ids": …, "labels": …}

What is stored is small: each distinct text's tokens once, in flat integer arrays, and numbers that say which texts make
an example. Sequences, options and windows come into being when a batch is made.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import cluebench
from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task
from cluebench.data.official import split_files
from cluebench.data.overlap import groups_of
from cluebench.data.rows import load_rows, read_rows
from cluebench.data.source import DataSource
from cluebench.features import choice, idiom, pair, span
from cluebench.features.cache import FeatureCache
from cluebench.features.choice import ChoiceFeatures
from cluebench.features.idiom import IdiomFeatures
from cluebench.features.pair import PairFeatures
from cluebench.features.sequences import Features
from cluebench.features.span import SpanFeatures
from cluebench.features.tokenization import TextEncoder
from cluebench.foundation.environment import uncollected
from cluebench.foundation.errors import UsageError


class _Recipe(NamedTuple):
    """How rows of one kind become arrays, and arrays features."""

    build: Callable[..., dict[str, np.ndarray]]
    features: Callable[[dict[str, np.ndarray]], Features]
    texts: int  # in a sequence
    least: int  # tokens of theirs that max_seq_length must have room for
    settings: tuple[str, ...]  # of the request, or the task's, that build takes


_RECIPES = {
    SINGLE: _Recipe(pair.build, PairFeatures, 1, 2, ("max_seq_length",)),
    PAIR: _Recipe(pair.build, PairFeatures, 2, 2, ("max_seq_length",)),
    CHOICE: _Recipe(choice.build, ChoiceFeatures, 3, 3, ("max_seq_length", "num_choices")),
    IDIOM: _Recipe(idiom.build, IdiomFeatures, 2, 7, ("max_seq_length", "num_choices")),
    SPAN: _Recipe(span.build, SpanFeatures, 2, 2, ("max_seq_length", "doc_stride", "max_query_length")),
}


@dataclass(frozen=True)
class FeatureRequest:
    """Which features: the model inputs of a split's rows for a tokenizer. None means the task's own value.

    ``split``: "train", "dev", or "test" and a version ("test1.1"). ``limit``: only the first rows. For windows:
    ``doc_stride``, tokens between the starts of two windows; ``max_query_length``, the longest question in tokens.
    """

    task: Task
    split: str
    source: DataSource
    encoder: TextEncoder
    max_seq_length: int | None = None
    limit: int | None = None
    doc_stride: int | None = None
    max_query_length: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Lengths and numbers that the recipe of this kind of task takes."""
        given = {name: getattr(self, name, None) for name in _RECIPES[self.task.kind].settings}
        return {name: getattr(self.task, name) if value is None else value for name, value in given.items()}

    @property
    def key(self) -> dict[str, Any]:
        """Everything that decides the features, as JSON values: the key of their cache entry."""
        task = self.task
        return {
            "task": task.name,
            "split": self.split,
            "kind": task.kind,
            "data": self.source.fingerprint(task, split_files(task, self.split)),
            "rows": [task.text_fields, task.joined_field, task.marked_spans, task.labels],
            "tokenizer": self.encoder.fingerprint,
            "limit": self.limit,
            **self.settings,
            "code": _code_version(),
        }


def load_features(
    request: FeatureRequest, cache: FeatureCache | None, *, overwrite: bool = False, num_proc: int | None = None
) -> Features:
    """The features of a request. Rows are read only when ``cache`` has no entry for them; None keeps nothing.

    ``overwrite`` makes them again. ``num_proc`` processes tokenise. Raises UsageError for a max_seq_length without room
    for text, and what load_rows raises.
    """
    task, split, encoder, settings = request.task, request.split, request.encoder, request.settings
    recipe = _RECIPES[task.kind]
    shortest = encoder.template.special_tokens(recipe.texts) + recipe.least
    if settings["max_seq_length"] < shortest:
        raise UsageError(f"--max_seq_length {settings['max_seq_length']}: {task.title} needs at least {shortest}")

    def build() -> dict[str, np.ndarray]:
        read: Any = read_rows if task.kind == IDIOM else load_rows  # CHID's records never stand in memory together
        with uncollected():
            rows = read(request.source, task, split, request.limit)
            arrays = recipe.build(rows, encoder, num_proc=num_proc, **settings)
        if split == "dev" and task.is_classification:  # other kinds of features know their passages and records
            arrays["groups"] = groups_of(task, rows)
        return arrays

    return recipe.features(build() if cache is None else cache.get(request.key, build, overwrite))


@lru_cache(maxsize=1)
def _code_version() -> str:
    """Changes with any change to the code between files and features, so that no stale entry is ever used."""
    digest = hashlib.sha256(cluebench.__version__.encode())
    package = Path(cluebench.__file__).parent
    between = [
        *sorted((package / "features").glob("*.py")),
        package / "data" / "rows.py",
        package / "data" / "overlap.py",
    ]
    for path in between:
        if path.name != "metrics.py":  # which comes after the features
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
