"""Hugging Face's names of an encoder's weights, and PaddleNLP's. numpy only."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from cluebench.models.architectures import Architecture, Pairs, architecture_of

#: Names of a norm's parameters in older checkpoints.
_NORM: Pairs = (("gamma.", "weight."), ("beta.", "bias."))

#: Tables, [tokens, size] in both libraries; any other matrix is a linear layer's.
_TABLE = re.compile(r"embeddings\.weight$")


def is_hugging_face(weights: Mapping[str, np.ndarray], architecture: Architecture) -> bool:
    """Whether weights have the names of Hugging Face's Transformers, whatever file they came in.

    Where both libraries have the same names, shapes tell: PyTorch's matrices have a row for each bias.
    """
    if architecture.renamed:
        return any(f".{architecture.renamed[0][0]}" in f".{name}" for name in weights)
    feed_forward = next((name for name in weights if name.endswith(".intermediate.dense.weight")), "")
    bias = weights.get(feed_forward.removesuffix("weight") + "bias")
    return bias is not None and weights[feed_forward].shape[:1] == bias.shape


def plain_name(name: str, architecture: Architecture) -> str:
    """The name without the backbone's prefix: ``"ernie.pooler.dense.weight"`` → ``"pooler.dense.weight"``."""
    first, _, rest = name.partition(".")
    return rest if rest and first in architecture.prefixes else name


def in_paddle(weights: Mapping[str, np.ndarray], architecture: Architecture) -> dict[str, np.ndarray]:
    """Weights under PaddleNLP's plain names; Hugging Face's are renamed, and their linear layers transposed.

    PyTorch keeps the matrix of a linear layer as [outputs, inputs], Paddle as [inputs, outputs]; embeddings are
    [tokens, size] in both.
    """
    if not is_hugging_face(weights, architecture):
        return {plain_name(name, architecture): array for name, array in weights.items()}
    pairs = [*_NORM, *architecture.renamed, *(pair for of_head in architecture.heads.values() for pair in of_head)]
    renamed = {}
    for name, array in weights.items():
        name = _replaced(plain_name(name, architecture), pairs)
        renamed[name] = array.T if array.ndim == 2 and not _TABLE.search(name) else array
    return renamed


def _replaced(name: str, pairs: Pairs) -> str:
    """The name with each part replaced, at its beginning and after dots."""
    name = f".{name}."
    for part, replacement in pairs:
        name = name.replace(f".{part}", f".{replacement}")
    return name[1:-1]


def in_hugging_face(model: Any) -> dict[str, np.ndarray]:
    """The weights of a model under Hugging Face's names; the opposite of `in_paddle`."""
    architecture, backbone = architecture_of(type(model)), f"{model.base_model_prefix}."
    of_head = [pairs for head, pairs in architecture.heads.items() if type(model).__name__.endswith(head)]
    head_pairs = [(ours, theirs) for pairs in of_head for theirs, ours in reversed(pairs)]
    pairs = [(ours, theirs) for theirs, ours in reversed(architecture.renamed)]
    weights = {}
    for name, parameter in model.named_parameters():
        plain = name.removeprefix(backbone)
        renamed = _replaced(plain, head_pairs)
        if renamed == plain and name != plain:
            renamed = f"{architecture.prefixes[0]}.{_replaced(plain, pairs)}"
        array = parameter.numpy()
        weights[renamed] = array.T if array.ndim == 2 and not _TABLE.search(plain) else array
    return weights
