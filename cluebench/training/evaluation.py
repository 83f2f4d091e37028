"""Running a model forward: over a batch, and over a whole split with the results in the split's order."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle

from cluebench import models
from cluebench.features import Features, length_sorted_batches
from cluebench.foundation import environment
from cluebench.foundation.notices import progress
from cluebench.training.device import gathered
from cluebench.training.optimization import Precision


def on_device(batch: Mapping[str, np.ndarray], padding: int | None = None) -> dict[str, Any]:
    """The batch as tensors; where ``padding`` names an id to leave out, also the ``places`` of all other tokens."""
    tensors: dict[str, Any] = {name: paddle.to_tensor(values) for name, values in batch.items()}
    return tensors if padding is None else tensors | {"places": models.Places(batch["input_ids"], padding)}


@dataclass(frozen=True)
class Inference:
    """A model over a split, without dropout; every rank gets the outputs of all ranks.

    ``padding``: see `on_device`; ``between``: called before each batch. The model stays in training mode if it was.
    """

    model: paddle.nn.Layer
    features: Features
    precision: Precision
    padding: int | None
    between: Callable[[], None]

    def outputs(self, batch_size: int) -> tuple[np.ndarray, ...]:
        """`models.forward` for every example of the split: float32 arrays [examples, longest], in order.

        Where outputs differ in length from batch to batch, shorter rows are filled up with -inf. A batch has examples
        of similar length.
        """
        batches = length_sorted_batches(self.features.lengths, batch_size, environment.rank(), environment.world_size())
        rows, outputs = zip(*self._computed(progress("evaluating", len(batches), "batch", iterable=batches)))
        whole = []
        for pieces in zip(*outputs):
            merged = np.full((len(self.features), max(piece.shape[1] for piece in pieces)), -np.inf, np.float32)
            for of_batch, piece in zip(rows, pieces):
                merged[of_batch, : piece.shape[1]] = piece
            whole.append(merged)
        return tuple(whole)

    def first_outputs(self, batches: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """From batches of rows, one a rank, to the rows and the first output of each; see `bounded.Compute`."""
        own = batches[environment.rank() :: environment.world_size()]
        return [(rows, outputs[0]) for rows, outputs in self._computed(own)]

    def _computed(self, batches: Iterable[np.ndarray]) -> list[tuple[np.ndarray, list[np.ndarray]]]:
        """The rows of each batch of all ranks, and each output of the model's head for them."""
        was_training = self.model.training
        self.model.eval()
        pieces = []
        with paddle.no_grad():
            for rows in batches:
                self.between()
                with self.precision.context():
                    outputs = models.forward(self.model, on_device(self.features.batch(rows), self.padding))
                pieces.append((rows, [output.astype("float32").numpy() for output in outputs]))
        if was_training:
            self.model.train()
        return [piece for of_rank in gathered(pieces) for piece in of_rank]
