"""The encoders that can be fine-tuned: how each differs from the others, as data, and the names of its weights.

Pairs of names have Hugging Face's Transformers 4.57 and 5.24 on the left, PaddleNLP 3.0.0b4 on the right.
`tests/models/test_written_by.py` compares outputs and gradients.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Pairs = Sequence[tuple[str, str]]

#: Encoders on Paddle's own layers.
STANDARD: Pairs = (
    ("encoder.layer.", "encoder.layers."),
    ("attention.self.query.", "self_attn.q_proj."),
    ("attention.self.key.", "self_attn.k_proj."),
    ("attention.self.value.", "self_attn.v_proj."),
    ("attention.output.dense.", "self_attn.out_proj."),
    ("attention.output.LayerNorm.", "norm1."),
    ("intermediate.dense.", "linear1."),
    ("output.dense.", "linear2."),
    ("output.LayerNorm.", "norm2."),
    ("embeddings.LayerNorm.", "embeddings.layer_norm."),
)
_NEZHA: Pairs = (
    ("attention.self.query.", "attention.query."),
    ("attention.self.key.", "attention.key."),
    ("attention.self.value.", "attention.value."),
    ("attention.output.LayerNorm.", "attention.layer_norm."),
    ("attention.output.dense.", "attention.dense."),
    ("intermediate.dense.", "ffn."),
    ("output.dense.", "ffn_output."),
    ("output.LayerNorm.", "layer_norm."),
    ("embeddings.LayerNorm.", "embeddings.layer_norm."),
)
_DISTILBERT: Pairs = (
    ("transformer.layer.", "encoder.layers."),
    ("attention.q_lin.", "self_attn.q_proj."),
    ("attention.k_lin.", "self_attn.k_proj."),
    ("attention.v_lin.", "self_attn.v_proj."),
    ("attention.out_lin.", "self_attn.out_proj."),
    ("sa_layer_norm.", "norm1."),
    ("ffn.lin1.", "linear1."),
    ("ffn.lin2.", "linear2."),
    ("output_layer_norm.", "norm2."),
    ("embeddings.LayerNorm.", "embeddings.layer_norm."),
)
_MODERNBERT: Pairs = (
    ("embeddings.tok_embeddings.", "embeddings.word_embeddings."),
    ("embeddings.norm.", "embeddings.layer_norm."),
    ("layers.", "encoder.layers."),
    ("attn.Wqkv.", "attn.qkv."),
    ("attn.Wo.", "attn.out_proj."),
    ("mlp.Wi.", "mlp.wi."),
    ("mlp.Wo.", "mlp.wo."),
    ("final_norm.", "encoder.final_norm."),
)
_ANSWERS: Mapping[str, Pairs] = {"ForQuestionAnswering": (("qa_outputs.", "classifier."),)}
_DISTILBERT_SETTINGS = {
    "dim": "hidden_size",
    "hidden_dim": "intermediate_size",
    "n_heads": "num_attention_heads",
    "n_layers": "num_hidden_layers",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "seq_classif_dropout": "classifier_dropout",
}


@dataclass(frozen=True)
class Architecture:
    """What differs in one encoder. The defaults are BERT's."""

    prefixes: Sequence[str]  # before the names of a backbone's arrays saved with a head; Transformers' own first
    renamed: Pairs = STANDARD  # in this order; () where both libraries have the same names
    heads: Mapping[str, Pairs] = field(default_factory=lambda: _ANSWERS)  # further names, under one head only
    settings: Mapping[str, str] = field(default_factory=dict)  # config.json's key → PaddleNLP's
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of Transformers, where PaddleNLP has others
    in_transformers: bool = True
    model_type: str | None = None  # in Transformers, where PaddleNLP has another
    unlike: Sequence[str] = ()  # heads that compute something else in Transformers
    needs_mask: bool = False  # PaddleNLP does not mask padding itself
    adds_mask: bool = False  # PaddleNLP adds the given mask to the scores unchanged
    published: bool = False  # PaddleNLP published its scores, so it computes exactly what PaddleNLP does
    always_gelu: Sequence[tuple[str, str]] = ()  # parts of heads that ignore hidden_act, and their activations
    leaves_out_padding: bool = True  # proven equal; see `unpadded`
    in_onnx: bool = True  # Paddle 3.3 never ends turning DeBERTa into a static graph


#: Models of BERT's structure are saved under any of these.
_FAMILY = ("ernie", "ernie_gram", "roberta", "tinybert", "bert", "roformerv2")


def _published(prefix: str, **particular: Any) -> Architecture:
    return Architecture((prefix, *_FAMILY), published=True, **particular)


#: By the prefix of PaddleNLP's class names.
ARCHITECTURES: Mapping[str, Architecture] = {
    "Bert": _published("bert"),
    "Ernie": _published("ernie"),
    "ErnieGram": _published("ernie_gram"),
    "Roberta": _published("roberta"),
    "TinyBert": _published("tinybert"),
    "RoFormerv2": _published("roformerv2", in_transformers=False),
    "Skep": _published("skep", in_transformers=False, leaves_out_padding=False),
    "PPMiniLM": _published("ppminilm", in_transformers=False, leaves_out_padding=False),
    "Electra": Architecture(
        ("electra",),
        heads={**_ANSWERS, "ForMultipleChoice": (("sequence_summary.summary.", "sequence_summary.dense."),)},
        always_gelu=(("classifier", "act"), ("sequence_summary", "activation")),
    ),
    "Albert": Architecture(
        ("albert", "transformer"),
        (("LayerNorm.", "layer_norm."),),
        {},
        defaults={"hidden_act": "gelu_new"},
        needs_mask=True,
    ),
    "NeZha": Architecture(("nezha",), _NEZHA, defaults={"use_relative_position": True}, needs_mask=True),
    "MegatronBert": Architecture(
        ("bert", "megatronbert"), (("ln.", "layer_norm."),), {}, model_type="megatron-bert", adds_mask=True
    ),
    "RoFormer": Architecture(
        ("roformer",),
        heads={
            **_ANSWERS,
            "ForSequenceClassification": (
                ("classifier.dense.", "pooler.dense."),
                ("classifier.out_proj.", "classifier."),
            ),
        },
        unlike=("ForMultipleChoice",),
    ),
    "DistilBert": Architecture(("distilbert",), _DISTILBERT, settings=_DISTILBERT_SETTINGS),
    "DebertaV2": Architecture(
        ("deberta",), (), {}, defaults={"conv_act": "tanh"}, needs_mask=True, leaves_out_padding=False, in_onnx=False
    ),
    "XLMRoberta": Architecture(("roberta",), (), {}, needs_mask=True),
    "ModernBert": Architecture(("model",), _MODERNBERT, {}),
}

#: Transformers' spelling of a prefix → PaddleNLP's.
SPELLINGS = {"Nezha": "NeZha"}


def architecture_of(head: type[Any]) -> Architecture:
    """The row of a model's class, with any head."""
    return ARCHITECTURES[prefix_of(head.__name__)]


def prefix_of(class_name: str) -> str:
    """``"Ernie"`` for ``"ErnieForMultipleChoice"``."""
    return max((prefix for prefix in ARCHITECTURES if class_name.startswith(prefix)), key=len)


# Names of weights -----------------------------------------------------------------------------------------------------

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
