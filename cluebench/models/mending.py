"""Builds a model, and repairs from outside what PaddleNLP 3.0.0b4 computes differently from the original libraries."""

import copy
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import paddle
from paddlenlp.transformers.activations import ACT2FN
from paddlenlp.transformers.deberta_v2 import modeling as deberta_v2

from cluebench.models.architectures import Architecture
from cluebench.models.configuration import DEVIATIONS, Target, in_one_line


def build(target: Target, config: Any) -> paddle.nn.Layer:
    """The model with newly drawn weights, which computes what its author's library does."""
    with in_one_line(target.files.model, "model"):
        model = _with_any_activation(target.head, config)
        if not target.architecture.published:
            _mend(model, target.architecture)
    deviations, backbone = getattr(config, DEVIATIONS, {}), model.base_model
    if (epsilon := deviations.get("layer_norm_eps")) is not None:
        for layer in model.sublayers():
            if isinstance(layer, paddle.nn.LayerNorm):
                layer._epsilon = epsilon
    if getattr(config, "type_vocab_size", 2) == 1:
        _before(backbone.embeddings, lambda given: {"token_type_ids": paddle.zeros_like(given["input_ids"])})
    first_position = deviations.get("first_position")
    if target.architecture.published and first_position is not None:
        _before(backbone.embeddings, partial(_positions, first_position))
    return model


def _mend(model: paddle.nn.Layer, architecture: Architecture) -> None:
    backbone, config, name = model.base_model, model.config, type(model).__name__
    backbone.embeddings.word_embeddings._padding_idx = None  # else the embedding of padding is 0
    if architecture.needs_mask:
        _before(backbone, partial(_mask, config.pad_token_id))
    for part, attribute in architecture.always_gelu:
        if hasattr(getattr(model, part, None), attribute):
            setattr(getattr(model, part), attribute, ACT2FN["gelu"])
    if name.startswith("Albert"):
        backbone.get_head_mask = lambda *_: _NoHeadMasks()
    if name.startswith("DebertaV2"):
        _mend_deberta(model, config)


def _before(layer: paddle.nn.Layer, inputs_of: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Before each call of the layer, sets the inputs that ``inputs_of`` computes from all inputs by name."""
    names = list(inspect.signature(layer.forward).parameters)

    def hook(layer: paddle.nn.Layer, inputs: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        given = {**named, **dict(zip(names, inputs))}
        return (), {**given, **inputs_of(given)}

    layer.register_forward_pre_hook(hook, with_kwargs=True)


def _mask(pad: int, given: dict[str, Any]) -> dict[str, Any]:
    """A mask of padding, int64 [rows, width], where PaddleNLP makes none."""
    if given.get("attention_mask") is not None:
        return {}
    return {"attention_mask": (given["input_ids"] != pad).astype("int64")}


def _positions(first: int, given: dict[str, Any]) -> dict[str, Any]:
    """Positions that begin with ``first``."""
    if given.get("position_ids") is not None:
        return {}
    return {"position_ids": paddle.cumsum(paddle.ones_like(given["input_ids"]), axis=-1) + (first - 1)}


def _with_any_activation(head: type[Any], config: Any) -> paddle.nn.Layer:
    """Paddle's encoder layers accept only the activations of paddle.nn.functional, so not "gelu_new"."""
    act = getattr(config, "hidden_act", None)
    if act is None or hasattr(paddle.nn.functional, act):
        return head(config)
    replaced = copy.deepcopy(config)
    replaced.hidden_act = "gelu"
    if not isinstance(getattr(head(replaced).base_model, "encoder", None), paddle.nn.TransformerEncoder):
        return head(config)
    model = head(replaced)
    model.config.hidden_act = model.base_model.config.hidden_act = act
    for layer in model.base_model.encoder.layers:
        layer.activation = ACT2FN[act]
    return model


class _NoHeadMasks:
    """An endless list of None: PaddleNLP's list is too short for several groups of layers."""

    def __getitem__(self, place: int | slice) -> "_NoHeadMasks | None":
        return self if isinstance(place, slice) else None


# DeBERTa --------------------------------------------------------------------------------------------------------------


def _mend_deberta(model: paddle.nn.Layer, config: Any) -> None:
    encoder = model.base_model.encoder
    if encoder.conv is not None:
        encoder.conv = _Convolution(config)
    for layer in encoder.layer:
        layer.intermediate.intermediate_act_fn = ACT2FN[getattr(config, "hidden_act", "gelu")]
    if hasattr(model, "pooler"):
        model.pooler = _Pooler(config)
    for layer in model.sublayers(include_self=True):
        for name, dropout in list(layer.named_children()):
            if isinstance(dropout, deberta_v2.StableDropout):  # Paddle 3.3 refuses its backward pass
                setattr(layer, name, paddle.nn.Dropout(dropout.drop_prob))
    encoder.register_forward_pre_hook(_every_query_sees_a_key)


def _every_query_sees_a_key(encoder: paddle.nn.Layer, inputs: tuple) -> tuple:
    """Hook before the encoder: queries at padding see the same keys as all others.

    With PaddleNLP's own mask they see nothing: a softmax over -inf, which is NaN on a CPU unless the padded width is a
    multiple of 8. In the next layer NaN reaches every token.
    """
    hidden, mask, *rest = inputs
    return hidden, mask.unsqueeze(1).expand([-1, mask.shape[-1], -1]), *rest


class _Convolution(deberta_v2.ConvLayer):
    """PaddleNLP's, with the configuration's activation."""

    def forward(self, hidden_states: Any, residual_states: Any, input_mask: Any) -> Any:
        real = input_mask.unsqueeze(-1).astype(hidden_states.dtype)
        convolved = self.conv(hidden_states.transpose([0, 2, 1])).transpose([0, 2, 1]) * real
        return self.LayerNorm(residual_states + ACT2FN[self.conv_act](self.dropout(convolved))) * real


class _Pooler(deberta_v2.ContextPooler):
    """PaddleNLP's, with the configuration's activation."""

    def forward(self, hidden_states: Any) -> Any:
        return ACT2FN[getattr(self.config, "pooler_hidden_act", "gelu")](self.dense(self.dropout(hidden_states[:, 0])))
