"""Running a model forward: over a batch, and over a whole split with the results in the split's order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import paddle

from cluebench import models
from cluebench.features import Features, length_sorted_batches
from cluebench.foundation import environment
from cluebench.foundation.notices import progress
from cluebench.models.forward_pass import forward
from cluebench.training.bounded import Compute
from cluebench.training.optimization import Precision


def on_device(batch: Mapping[str, np.ndarray], padding: int | None = None) -> dict[str, Any]:
    """The batch as tensors; with the id of ``padding`` that is to be left out, also the ``places`` of all else."""
    tensors: dict[str, Any] = {name: paddle.to_tensor(values) for name, values in batch.items()}
    return tensors if padding is None else tensors | {"places": models.Places(batch["input_ids"], padding)}


def nothing() -> None:
    """Is done between two batches."""


def outputs_of(
    model: paddle.nn.Layer,
    features: Features,
    batch_size: int,
    precision: Precision,
    padding: int | None = None,
    between: Callable[[], None] = nothing,
) -> tuple[np.ndarray, ...]:
    """`forward` for every example of a split: float32 arrays [examples, longest], in order, on every rank.

    Where outputs differ in length from batch to batch, shorter rows are filled up with -inf. Batches are made of
    examples of similar length. ``padding``: see `on_device`; ``between``: called before each batch. Dropout is off; the
    model is left in training mode if it was.
    """
    batches = length_sorted_batches(features.lengths, batch_size, environment.rank(), environment.world_size())
    batches = progress("evaluating", len(batches), "batch", iterable=batches)
    return _in_order(_gathered(_computed(model, features, batches, precision, padding, between)), len(features))


def outputs_in_turns(
    model: paddle.nn.Layer,
    features: Features,
    precision: Precision,
    padding: int | None = None,
    between: Callable[[], None] = nothing,
) -> Compute:
    """As `outputs_of` computes: from batches, one a rank, to the rows and the first output of each, on every rank."""

    def compute(batches: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        own = batches[environment.rank() :: environment.world_size()]
        pieces = _gathered(_computed(model, features, own, precision, padding, between))
        return [(rows, outputs[0]) for rows, outputs in pieces]

    return compute


_Piece = tuple[np.ndarray, list[np.ndarray]]  # rows of a batch, and each output of the model's head for them


def _computed(
    model: paddle.nn.Layer,
    features: Features,
    batches: Iterable[np.ndarray],
    precision: Precision,
    padding: int | None,
    between: Callable[[], None],
) -> list[_Piece]:
    was_training = model.training
    model.eval()
    pieces = []
    with paddle.no_grad():
        for rows in batches:
            between()
            with precision.context():
                outputs = forward(model, on_device(features.batch(rows), padding))
            pieces.append((rows, [output.astype("float32").numpy() for output in outputs]))
    if was_training:
        model.train()
    return pieces


def _gathered(pieces: list[_Piece]) -> list[_Piece]:
    """Those of all ranks."""
    if environment.world_size() == 1:
        return pieces
    of_ranks: list[Any] = []
    paddle.distributed.all_gather_object(of_ranks, pieces)
    return [piece for of_rank in of_ranks for piece in of_rank]


def _in_order(pieces: list[_Piece], examples: int) -> tuple[np.ndarray, ...]:
    whole = []
    for outputs in zip(*(outputs for _, outputs in pieces)):
        merged = np.full((examples, max(output.shape[1] for output in outputs)), -np.inf, dtype=np.float32)
        for (rows, _), output in zip(pieces, outputs):
            merged[rows, : output.shape[1]] = output
        whole.append(merged)
    return tuple(whole)
