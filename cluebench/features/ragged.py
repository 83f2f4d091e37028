"""Lists of different lengths in one flat array, and the index arithmetic that moves many of them at once."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np

Item = TypeVar("Item", bound=Hashable)

_NARROW = (np.uint8, np.uint16, np.uint32, np.int64)


class Piece(NamedTuple):
    """One part of every row of a batch: row i gets ``values[starts[i] : starts[i] + lengths[i]]``."""

    values: np.ndarray  # flat token ids
    starts: np.ndarray  # [rows]
    lengths: np.ndarray  # [rows]
    token_type: int = 0


@dataclass(frozen=True)
class Ragged:
    """``len(offsets) - 1`` lists laid end to end: list i is ``values[offsets[i]:offsets[i + 1]]``.

    values: one-dimensional integers; int32 as the encoder makes them, narrower once stored. offsets: int64, from 0.
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @property
    def starts(self) -> np.ndarray:
        return self.offsets[:-1]

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def lengths_at(self, indices: np.ndarray) -> np.ndarray:
        """Lengths of some lists, in any shape, without those of all."""
        return self.offsets[indices + 1] - self.offsets[indices]

    def piece(self, indices: np.ndarray, lengths: np.ndarray | None = None) -> Piece:
        """The beginnings of some lists, or these lists whole."""
        return Piece(self.values, self.offsets[indices], self.lengths_at(indices) if lengths is None else lengths)

    @classmethod
    def stored_in(cls, arrays: Mapping[str, np.ndarray], name: str) -> "Ragged":
        """A column of what `stored` made."""
        return cls(arrays[name], arrays[f"{name}_offsets"])

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> "Ragged":
        """These lists of integers, as int32."""
        offsets = offsets_of([len(values) for values in lists])
        return cls(np.fromiter(chain.from_iterable(lists), np.int32, offsets[-1]), offsets)

    @classmethod
    def concatenate(cls, parts: "Sequence[Ragged]") -> "Ragged":
        """The lists of all parts, in order; at least one part."""
        return cls(
            np.concatenate([part.values for part in parts]),
            offsets_of(np.concatenate([part.lengths for part in parts])),
        )

    def cut(self, length: int) -> "Ragged":
        """Every list cut to its first ``length`` values."""
        lengths = np.minimum(self.lengths, length)
        return Ragged(self.values[flat_positions(self.starts, lengths)], offsets_of(lengths))


def offsets_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """int64 [n + 1]: where each of n lists of these lengths starts when laid end to end, and where the last ends."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def flat_positions(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int64: ``starts[0], starts[0] + 1, … (lengths[0] of them), starts[1], …``, to gather or scatter many slices."""
    lengths = np.asarray(lengths, np.int64)
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(np.asarray(starts, np.int64) - (ends - lengths), lengths) + np.arange(total)


def narrowest(values: np.ndarray) -> np.ndarray:
    """The same integers in the smallest of uint8, uint16, uint32 and int64 that holds them, or as they are."""
    if values.size and int(values.min()) < 0:
        return values
    largest = int(values.max(initial=0))
    return values.astype(next(kind for kind in _NARROW if largest <= np.iinfo(kind).max))


def stored(columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Columns as arrays of their narrowest types. Lists become two arrays; the second is named ``…_offsets``."""
    arrays = {}
    for name, column in columns.items():
        if isinstance(column, Ragged):
            arrays[f"{name}_offsets"] = column.offsets
            column = column.values
        arrays[name] = narrowest(column if isinstance(column, np.ndarray) else np.array(column, np.int64))
    return arrays


def distinct(items: Iterable[Item]) -> tuple[list[Item], np.ndarray]:
    """The items without repeats in order of first appearance, and int64 indices that give all of them back."""
    numbers: dict[Item, int] = {}
    index = np.fromiter((numbers.setdefault(item, len(numbers)) for item in items), np.int64)
    return list(numbers), index


def distinct_numbers(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Small non-negative integers without repeats, sorted, and int64 indices that give all of them back."""
    present = np.flatnonzero(np.bincount(numbers))
    places = np.zeros(int(present.max(initial=-1)) + 1, np.int64)
    places[present] = np.arange(len(present))
    return present, places[numbers]


def pack_strings(strings: Iterable[str]) -> Ragged:
    """Strings as UTF-8 bytes; lone surrogates survive."""
    encoded = [string.encode("utf-8", "surrogatepass") for string in strings]
    return Ragged(np.frombuffer(b"".join(encoded), np.uint8), offsets_of([len(content) for content in encoded]))


def unpack_string(packed: Ragged, index: int) -> str:
    """String ``index`` of what pack_strings made."""
    return packed[index].tobytes().decode("utf-8", "surrogatepass")


def unpack_strings(packed: Ragged) -> list[str]:
    """All strings of what pack_strings made."""
    return [unpack_string(packed, index) for index in range(len(packed))]
