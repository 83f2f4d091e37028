"""Whether a model that was written elsewhere computes the same."""

from collections.abc import Sequence

import numpy as np
import paddle

from cluebench.models.forward_pass import forward

#: The largest difference of outputs that counts as none, relative to the largest output.
TOLERANCE = 1e-5


def input_names(model: paddle.nn.Layer) -> list[str]:
    """The model's inputs: ids, and token types where it has more than one type."""
    types = getattr(model.config, "type_vocab_size", 0) > 1 and hasattr(
        model.base_model.embeddings, "token_type_embeddings"
    )
    return ["input_ids", "token_type_ids"] if types else ["input_ids"]


def made_up_rows(model: paddle.nn.Layer, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Random ids and token types, the second half of each last row padding."""
    random, pad = np.random.default_rng(0), model.config.pad_token_id
    ids = random.integers(0, model.config.vocab_size, shape)
    ids[ids == pad] = (pad + 1) % model.config.vocab_size
    types = (np.arange(shape[-1]) > shape[-1] // 4) * np.ones(shape, np.int64)
    ids[-1, ..., shape[-1] // 2 :] = pad
    types[-1, ..., shape[-1] // 2 :] = 0
    return ids, types.astype(np.int64)


def outputs_of(model: paddle.nn.Layer, ids: np.ndarray, types: np.ndarray) -> list[np.ndarray]:
    """The outputs of the model's head."""
    batch = {"input_ids": paddle.to_tensor(ids), "token_type_ids": paddle.to_tensor(types)}
    with paddle.no_grad():
        return [output.numpy() for output in forward(model, batch)]


def largest_difference(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Relative to the largest output. Starts and ends of spans are compared everywhere, at padding too."""
    largest = max(np.abs(output).max() for output in expected)
    return float(max(np.abs(ours - theirs).max() for ours, theirs in zip(found, expected, strict=True)) / largest)
