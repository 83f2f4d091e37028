"""Running a model over a whole split: in eval mode, split over the ranks, results back in the split's order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import paddle

from cluebench import environment
from cluebench.features import length_sorted_batches
from cluebench.training import Precision


def outputs_of(
    model: paddle.nn.Layer,
    features: Any,
    batch_size: int,
    forward: Callable[[dict[str, paddle.Tensor]], Sequence[paddle.Tensor]],
    precision: Precision,
) -> list[np.ndarray]:
    """Model outputs for every example of ``features``, float32 arrays [examples, longest], in order, on every rank.

    ``forward`` maps a batch of tensors to one or more outputs [B, n]; where n differs from batch to batch, shorter rows
    are filled up with -inf. Batches are made of examples of similar length. Dropout is off; the model is left in
    training mode if it was.
    """
    was_training = model.training
    model.eval()
    pieces = []
    with paddle.no_grad():
        for rows in length_sorted_batches(features.lengths, batch_size, environment.rank(), environment.world_size()):
            with precision.context():
                outputs = forward(tensors(features.batch(rows)))
            pieces.append((rows, [output.astype("float32").numpy() for output in outputs]))
    if was_training:
        model.train()
    if environment.world_size() > 1:
        gathered: list[Any] = []
        paddle.distributed.all_gather_object(gathered, pieces)
        pieces = [piece for of_rank in gathered for piece in of_rank]
    return _in_order(pieces, len(features))


def tensors(batch: dict[str, np.ndarray]) -> dict[str, paddle.Tensor]:
    """The batch on the current device."""
    return {name: paddle.to_tensor(values) for name, values in batch.items()}


def _in_order(pieces: list[tuple[np.ndarray, list[np.ndarray]]], examples: int) -> list[np.ndarray]:
    if not pieces:
        return []
    whole = []
    for number in range(len(pieces[0][1])):
        width = max(outputs[number].shape[1] for _, outputs in pieces)
        merged = np.full((examples, width), -np.inf, dtype=np.float32)
        for rows, outputs in pieces:
            merged[rows, : outputs[number].shape[1]] = outputs[number]
        whole.append(merged)
    return whole


def mean_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over rows of -log softmax(logits)[label]; logits [B, N] may hold -inf, labels [B]."""
    logits = logits.astype(np.float64)
    peak = logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(logits - peak).sum(axis=1)) + peak[:, 0]
    return float(np.mean(log_sum - logits[np.arange(len(labels)), labels]))
