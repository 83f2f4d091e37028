"""Hugging Face's names of an encoder's weights, and PaddleNLP's. numpy only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

#: In front of a backbone's names when it was saved with a head.
_PREFIXES = {"bert", "ernie", "ernie_gram", "roberta", "roformerv2", "tinybert"}

#: Hugging Face's names of a BERT-like encoder's parts, and PaddleNLP's.
_RENAMED = (
    (re.compile(r"\bgamma$"), "weight"),
    (re.compile(r"\bbeta$"), "bias"),
    (re.compile(r"\bembeddings\.LayerNorm\."), "embeddings.layer_norm."),
    (re.compile(r"\bencoder\.layer\."), "encoder.layers."),
    (re.compile(r"\battention\.self\.(query|key|value)\."), lambda match: f"self_attn.{match[1][0]}_proj."),
    (re.compile(r"\battention\.output\.dense\."), "self_attn.out_proj."),
    (re.compile(r"\battention\.output\.LayerNorm\."), "norm1."),
    (re.compile(r"(?<=\d\.)intermediate\.dense\."), "linear1."),
    (re.compile(r"(?<=\d\.)output\.dense\."), "linear2."),
    (re.compile(r"(?<=\d\.)output\.LayerNorm\."), "norm2."),
    (re.compile(r"^qa_outputs\."), "classifier."),
)


def is_hugging_face(names: Iterable[str]) -> bool:
    """Whether weights are named as Hugging Face's Transformers names them, whatever file they came in."""
    return any(re.search(r"\bencoder\.layer\.\d", name) for name in names)


def plain_name(name: str, prefix: str = "") -> str:
    """The name without the backbone's prefix: ``"ernie.pooler.dense.weight"`` → ``"pooler.dense.weight"``."""
    first, _, rest = name.partition(".")
    return rest if rest and (first == prefix or first in _PREFIXES) else name


def in_paddle(weights: Mapping[str, np.ndarray], prefix: str = "") -> dict[str, np.ndarray]:
    """Weights under PaddleNLP's plain names. Those of Hugging Face are renamed, and linear layers transposed.

    PyTorch keeps the matrix of a linear layer as [outputs, inputs], Paddle as [inputs, outputs]; embeddings are
    [tokens, size] in both.
    """
    if not is_hugging_face(weights):
        return {plain_name(name, prefix): array for name, array in weights.items()}
    renamed = {}
    for name, array in weights.items():
        name = plain_name(name, prefix)
        for pattern, replacement in _RENAMED:
            name = pattern.sub(replacement, name)
        renamed[name] = array.T if array.ndim == 2 and "embeddings" not in name else array
    return renamed
