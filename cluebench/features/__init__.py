"""Rows and a tokenizer to model inputs: made once, kept in a cache, assembled into batches.

    features = load_features(task, "train", source, TextEncoder(tokenizer), FeatureCache(folder), max_seq_length=128)
    for indices in …:
        batch = features.batch(indices)  # {"input_ids": int64 [B, T], "token_type_ids": …, "labels": …}

What is stored is small: each distinct text's tokens once, in flat integer arrays, and numbers that say which texts make
an example. Sequences, options and windows come into being when a batch is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

import cluebench
from cluebench.data.rows import load_rows
from cluebench.data.source import DataSource, split_files
from cluebench.errors import UsageError
from cluebench.features import choice, idiom, pair, span
from cluebench.features.batches import length_sorted_batches
from cluebench.features.cache import FeatureCache
from cluebench.features.choice import ChoiceFeatures
from cluebench.features.idiom import IdiomFeatures
from cluebench.features.pair import PairFeatures
from cluebench.features.span import SpanFeatures
from cluebench.features.tokenization import TextEncoder
from cluebench.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task

__all__ = [
    "ChoiceFeatures",
    "FeatureCache",
    "Features",
    "IdiomFeatures",
    "PairFeatures",
    "SpanFeatures",
    "TextEncoder",
    "feature_key",
    "length_sorted_batches",
    "load_features",
]


class Features(Protocol):
    """Model inputs of one split. An example is what a sampler draws: a row, a question, a blank or a window."""

    lengths: np.ndarray  # int64 [examples]: tokens of each example, of its longest sequence where it has several

    @property
    def ids(self) -> list[int] | list[str] | None: ...  # as the file gives them; see the class of each kind

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]: ...


class _Recipe(NamedTuple):
    """How rows of one kind become arrays, and arrays features."""

    build: Callable[..., dict[str, np.ndarray]]
    features: Callable[[dict[str, np.ndarray]], Features]
    settings: tuple[str, ...] = ()  # fields of the task, or arguments of load_features, that build takes too
    shortest: int = 4  # max_seq_length with room for special tokens and at least a token or two


_RECIPES = {
    SINGLE: _Recipe(pair.build, PairFeatures),
    PAIR: _Recipe(pair.build, PairFeatures, shortest=5),
    CHOICE: _Recipe(choice.build, ChoiceFeatures, ("num_choices",), shortest=7),
    IDIOM: _Recipe(idiom.build, IdiomFeatures, ("num_choices",), shortest=10),
    SPAN: _Recipe(span.build, SpanFeatures, ("doc_stride", "max_query_length"), shortest=5),
}


def load_features(
    task: Task,
    split: str,
    source: DataSource,
    encoder: TextEncoder,
    cache: FeatureCache | None,
    *,
    max_seq_length: int,
    limit: int | None = None,
    overwrite: bool = False,
    doc_stride: int | None = None,
    max_query_length: int | None = None,
    num_proc: int | None = None,
) -> Features:
    """The features of a split: "train", "dev", or "test" and a version ("test1.1").

    Rows are read only when ``cache`` has no entry for them; None keeps nothing. ``limit``: the first so many rows.
    ``doc_stride`` (tokens a window advances by) defaults to the task's; ``max_query_length`` None keeps whole
    questions. ``num_proc`` processes tokenise. Raises UsageError for a max_seq_length without room for text, and what
    load_rows raises.
    """
    recipe = _RECIPES[task.kind]
    if max_seq_length < recipe.shortest:
        raise UsageError(f"--max_seq_length {max_seq_length}: {task.title} needs at least {recipe.shortest}")
    settings = _settings(task, recipe, doc_stride=doc_stride, max_query_length=max_query_length)

    def build() -> dict[str, np.ndarray]:
        rows = load_rows(source, task, split, limit)
        return recipe.build(rows, encoder, max_seq_length=max_seq_length, num_proc=num_proc, **settings)

    if cache is None:
        return recipe.features(build())
    key = feature_key(
        task,
        split,
        source,
        encoder,
        max_seq_length=max_seq_length,
        limit=limit,
        doc_stride=doc_stride,
        max_query_length=max_query_length,
    )
    return recipe.features(cache.get(key, build, overwrite))


def feature_key(
    task: Task,
    split: str,
    source: DataSource,
    encoder: TextEncoder,
    *,
    max_seq_length: int,
    limit: int | None = None,
    doc_stride: int | None = None,
    max_query_length: int | None = None,
) -> dict[str, Any]:
    """Everything that decides a split's features, as JSON values: the key of its cache entry."""
    settings = _settings(task, _RECIPES[task.kind], doc_stride=doc_stride, max_query_length=max_query_length)
    return {
        "task": task.name,
        "split": split,
        "kind": task.kind,
        "data": source.fingerprint(task, split_files(task, split)),
        "rows": [task.text_fields, task.joined_field, task.marked_spans, task.labels],
        "tokenizer": encoder.fingerprint,
        "max_seq_length": max_seq_length,
        "limit": limit,
        **settings,
        "code": _code_version(),
    }


def _settings(task: Task, recipe: _Recipe, **given: int | None) -> dict[str, Any]:
    """What a recipe takes beyond lengths: the argument if given, else the task's."""
    chosen = {name: given.get(name) for name in recipe.settings}
    return {name: getattr(task, name) if value is None else value for name, value in chosen.items()}


@lru_cache(maxsize=1)
def _code_version() -> str:
    """Changes with any change to the code between files and features, so that no stale entry is ever used."""
    digest = hashlib.sha256(cluebench.__version__.encode())
    package = Path(cluebench.__file__).parent
    for path in [*sorted((package / "features").glob("*.py")), package / "data" / "rows.py"]:
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
