"""What an encoder computes for made-up inputs."""

import numpy as np


def inputs(tokens=200):
    """Ids below ``tokens`` and token types; two of three rows end in padding."""
    import paddle

    rng = np.random.default_rng(0)
    ids = rng.integers(6, tokens, (3, 17))
    ids[0, 12:] = ids[1, 5:] = 0
    types = np.where(np.arange(17) > 4, 1, 0)[None].repeat(3, axis=0)
    return paddle.to_tensor(ids), paddle.to_tensor(types)


def hidden(model, ids, types) -> np.ndarray:
    """Hidden states of the tokens that are no padding."""
    model.eval()
    states = model.base_model(ids, types)
    states = states[0] if isinstance(states, (tuple, list)) else states
    return states.numpy()[ids.numpy() != 0]
