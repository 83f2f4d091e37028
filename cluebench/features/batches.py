"""Batches: which examples go together, and padded arrays out of slices of flat ones."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cluebench.features.ragged import flat_positions


class Piece(NamedTuple):
    """One part of every row of a batch: row i gets ``values[starts[i] : starts[i] + lengths[i]]``."""

    values: np.ndarray  # flat token ids
    starts: np.ndarray  # [rows]
    lengths: np.ndarray  # [rows]
    token_type: int = 0


def token(ids: int | Sequence[int], rows: int, token_type: int = 0) -> Piece:
    """The same token or tokens in every row."""
    values, zeros = np.array(ids, np.int64, ndmin=1), np.zeros(rows, np.int64)
    return Piece(values, zeros, zeros + len(values), token_type)


def assemble(pieces: Sequence[Piece], pad_id: int) -> dict[str, np.ndarray]:
    """Rows of pieces laid end to end: ``input_ids`` and ``token_type_ids``, int64 [rows, longest row].

    Shorter rows are filled up with ``pad_id`` and token type 0.
    """
    rows = len(pieces[0].starts)
    width = int(np.sum([piece.lengths for piece in pieces], axis=0, dtype=np.int64).max()) if rows else 0
    input_ids = np.full(rows * width, pad_id, np.int64)
    token_type_ids = np.zeros(rows * width, np.int64)
    place = np.arange(rows, dtype=np.int64) * width
    for piece in pieces:
        target = flat_positions(place, piece.lengths)
        input_ids[target] = piece.values[flat_positions(piece.starts, piece.lengths)]
        if piece.token_type:
            token_type_ids[target] = piece.token_type
        place = place + piece.lengths
    return {"input_ids": input_ids.reshape(rows, width), "token_type_ids": token_type_ids.reshape(rows, width)}


def length_sorted_batches(lengths: np.ndarray, batch_size: int, rank: int = 0, world_size: int = 1) -> list[np.ndarray]:
    """Indices of the examples of each batch of one rank, for evaluation: neighbours in length share a batch.

    Over all ranks every index stands in exactly one batch. The longest come first, so that memory that doesn't suffice
    shows at once; ranks take turns, so that their work is alike. Raises ValueError for a rank outside the world.
    """
    if batch_size < 1 or not 0 <= rank < world_size:
        raise ValueError(f"batches of {batch_size} for rank {rank} of {world_size}")
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return batches[rank::world_size]
