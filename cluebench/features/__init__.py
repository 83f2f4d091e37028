"""Rows and a tokenizer to model inputs: made once, kept in a cache, assembled into batches.

    features = load_features(task, "train", source, TextEncoder(tokenizer), FeatureCache(folder), max_seq_length=128)
    for indices in …:
        batch = features.batch(indices)  # {"input_ids": int64 [B, T], "token_type_ids": …, "labels": …}

What is stored is small: each distinct text's tokens once, in flat integer arrays, and numbers that say which texts make
an example. Sequences, options and windows come into being when a batch is made.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

import cluebench
from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task
from cluebench.data.official import split_files
from cluebench.data.overlap import groups_of
from cluebench.data.rows import load_rows, read_rows
from cluebench.data.source import DataSource
from cluebench.features import choice, idiom, pair, span
from cluebench.features.batches import length_sorted_batches
from cluebench.features.cache import FeatureCache
from cluebench.features.choice import ChoiceFeatures
from cluebench.features.idiom import IdiomFeatures
from cluebench.features.pair import PairFeatures
from cluebench.features.span import SpanFeatures
from cluebench.features.tokenization import TextEncoder
from cluebench.foundation.errors import UsageError

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
    texts: int  # in a sequence
    least: int = 2  # tokens of theirs that max_seq_length must have room for
    settings: tuple[str, ...] = ()  # fields of the task, or arguments of load_features, that build takes too


_RECIPES = {
    SINGLE: _Recipe(pair.build, PairFeatures, 1),
    PAIR: _Recipe(pair.build, PairFeatures, 2),
    CHOICE: _Recipe(choice.build, ChoiceFeatures, 3, 3, ("num_choices",)),
    IDIOM: _Recipe(idiom.build, IdiomFeatures, 2, 7, ("num_choices",)),
    SPAN: _Recipe(span.build, SpanFeatures, 2, 2, ("doc_stride", "max_query_length")),
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
    num_proc: int | None = None,
    **settings: int | None,
) -> Features:
    """The features of a split: "train", "dev", or "test" and a version ("test1.1").

    Rows are read only when ``cache`` has no entry for them; None keeps nothing. ``limit``: the first so many rows.
    ``num_proc`` processes tokenise. ``settings``: of windows, the task's where they are left out or None:
    ``doc_stride``, tokens a window advances by; ``max_query_length``, tokens of a question that are kept. Raises
    UsageError for a max_seq_length without room for text, and what load_rows raises.
    """
    recipe = _RECIPES[task.kind]
    shortest = encoder.template.special_tokens(recipe.texts) + recipe.least
    if max_seq_length < shortest:
        raise UsageError(f"--max_seq_length {max_seq_length}: {task.title} needs at least {shortest}")

    def build() -> dict[str, np.ndarray]:
        read: Any = read_rows if task.kind == IDIOM else load_rows  # CHID's records never stand in memory together
        rows, chosen = read(source, task, split, limit), _settings(task, settings)
        arrays = recipe.build(rows, encoder, max_seq_length=max_seq_length, num_proc=num_proc, **chosen)
        if split == "dev" and task.is_classification:  # other kinds of features know their passages and records
            arrays["groups"] = groups_of(task, rows)
        return arrays

    if cache is None:
        return recipe.features(build())
    key = feature_key(task, split, source, encoder, max_seq_length=max_seq_length, limit=limit, **settings)
    return recipe.features(cache.get(key, build, overwrite))


def feature_key(
    task: Task,
    split: str,
    source: DataSource,
    encoder: TextEncoder,
    *,
    max_seq_length: int,
    limit: int | None = None,
    **settings: int | None,
) -> dict[str, Any]:
    """Everything that decides a split's features, as JSON values: the key of its cache entry. See load_features."""
    return {
        "task": task.name,
        "split": split,
        "kind": task.kind,
        "data": source.fingerprint(task, split_files(task, split)),
        "rows": [task.text_fields, task.joined_field, task.marked_spans, task.labels],
        "tokenizer": encoder.fingerprint,
        "max_seq_length": max_seq_length,
        "limit": limit,
        **_settings(task, settings),
        "code": _code_version(),
    }


def _settings(task: Task, given: Mapping[str, int | None]) -> dict[str, Any]:
    """What a recipe takes beyond lengths: the argument if given, else the task's."""
    if unknown := given.keys() - {name for recipe in _RECIPES.values() for name in recipe.settings}:
        raise TypeError(f"no features have the settings {sorted(unknown)}")
    chosen = {name: given.get(name) for name in _RECIPES[task.kind].settings}
    return {name: getattr(task, name) if value is None else value for name, value in chosen.items()}


@lru_cache(maxsize=1)
def _code_version() -> str:
    """Changes with any change to the code between files and features, so that no stale entry is ever used."""
    digest = hashlib.sha256(cluebench.__version__.encode())
    package = Path(cluebench.__file__).parent
    for path in [
        *sorted((package / "features").glob("*.py")),
        package / "data" / "rows.py",
        package / "data" / "overlap.py",
    ]:
        if path.is_file() and path.name != "metrics.py":  # which comes after the features
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
