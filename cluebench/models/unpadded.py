"""A forward pass that leaves out what no score reads: padding, and in the last layer all but each row's first token.

Heads for classification and multiple choice read the first token of each row only. What is computed at padding, and in
the last layer at any other token, changes neither outputs nor gradients. So PaddleNLP's own layers run on one row of
all real tokens, laid end to end: [1, tokens, hidden]; only attention sees the batch's rows, under the mask it always
has. Nothing of a model is copied or changed: hooks on its layers, there for one call, turn tokens into rows and back.
With dropout the draws differ from a padded pass, since there are fewer of them.

A head that reads every place, as CMRC2018's does (its published loss runs over padded places too), needs all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import numpy as np
import paddle

from cluebench.models.architectures import STANDARD, architecture_of
from cluebench.models.configuration import first_position

#: Heads that read the first token of each row, or what the pooler makes of it.
_HEADS = ("ForSequenceClassification", "ForMultipleChoice")

#: Names of the layers before which tokens become rows, and behind which rows become tokens again.
_INTO_ATTENTION = re.compile(r"(attention(\.self)?\.(query|key|value)|attn\.qkv)$")
_OUT_OF_ATTENTION = re.compile(r"(attention\.(output\.)?dense|attn\.out_proj)$")


def padding_of(model: paddle.nn.Layer) -> int | None:
    """The token id that `leaving_out` can leave out of this model's inputs; None where it is not known to be right.

    It is for an architecture that has been proven equal, under a head that reads first tokens only.
    """
    architecture, backbone = architecture_of(type(model)), model.base_model
    fused = architecture.renamed is STANDARD and not isinstance(backbone.encoder, paddle.nn.TransformerEncoder)
    mean = getattr(model.config, "classifier_pooling", "cls") == "mean"
    positions = hasattr(backbone.embeddings, "position_embeddings")
    given = any("position_ids" in signature(layer.forward).parameters for layer in (backbone, backbone.embeddings))
    known = architecture.leaves_out_padding and not fused and not mean and (given or not positions)
    return model.config.pad_token_id if known and type(model).__name__.endswith(_HEADS) else None


@contextmanager
def leaving_out(model: paddle.nn.Layer, places: Places) -> Iterator[None]:
    """Within it, calling the model with the ids that ``places`` is of gives the same outputs for less work.

    ``model``: one with a `padding_of`, without paddle.DataParallel round it; what is called may have that.
    """
    backbone = model.base_model
    hooks = [backbone.register_forward_pre_hook(_InLine(places, model), with_kwargs=True)]
    if "position_ids" not in signature(backbone.forward).parameters:
        hooks.append(backbone.embeddings.register_forward_pre_hook(_Positions(places, model), with_kwargs=True))
    if isinstance(backbone.encoder, paddle.nn.TransformerEncoder):
        hooks += _on_paddles_layers(backbone, places)
    else:
        for name, layer in backbone.named_sublayers():
            if _INTO_ATTENTION.search(name):
                hooks.append(layer.register_forward_post_hook(places.in_rows))
            elif _OUT_OF_ATTENTION.search(name):
                hooks.append(layer.register_forward_pre_hook(places.in_line))
        hooks.append(backbone.encoder.register_forward_post_hook(places.first_tokens))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _on_paddles_layers(backbone: paddle.nn.Layer, places: Places) -> list[Any]:
    hooks = []
    *layers, last = (layer.self_attn for layer in backbone.encoder.layers)
    for attention in layers:
        hooks.append(attention.q_proj.register_forward_post_hook(places.in_rows))
        hooks.append(attention.out_proj.register_forward_pre_hook(places.in_line))
    for attention in (*layers, last):
        hooks.append(attention.k_proj.register_forward_post_hook(places.in_rows))
        hooks.append(attention.v_proj.register_forward_post_hook(places.in_rows))
    first = _FirstTokens(places)
    hooks.append(backbone.encoder.layers[-1].register_forward_pre_hook(first.before_layer))
    hooks.append(last.register_forward_pre_hook(first.before_attention))
    return hooks


class Places:
    """Where the tokens of a batch stand: the t-th of all at ``places[t]`` of its rows laid end to end.

    Made of ids [..., width] in main memory, where the batch is made: nothing waits for the device to say where padding
    is. Tensors int64: ``places`` [tokens]; ``tokens`` [rows * width], the number of the token at each place, at padding
    one past the last; ``first`` [rows], the number of each row's first token.
    """

    def __init__(self, input_ids: np.ndarray, pad: int):
        real = input_ids.reshape(-1, input_ids.shape[-1]) != pad
        real[:, 0] = True  # a head reads it, whatever it is
        places = np.flatnonzero(real)
        tokens = np.full(real.size, len(places))
        tokens[places] = np.arange(len(places))
        self.rows, self.width = real.shape
        self.places = paddle.to_tensor(places)
        self.tokens = paddle.to_tensor(tokens)
        self.first = paddle.to_tensor(tokens.reshape(real.shape)[:, 0])

    def in_rows(self, layer: paddle.nn.Layer, given: tuple, output: paddle.Tensor) -> paddle.Tensor:
        """Hook after a layer: [1, tokens, hidden] as [rows, width, hidden], 0 at padding."""
        nothing = paddle.zeros([1, output.shape[-1]], output.dtype)  # a gather that takes it costs half of a scatter
        filled = paddle.gather(paddle.concat([output.squeeze(0), nothing]), self.tokens)
        return filled.reshape([self.rows, self.width, -1])

    def in_line(self, layer: paddle.nn.Layer, given: tuple) -> paddle.Tensor:
        """Hook before a layer: [rows, width, hidden] as [1, tokens, hidden]."""
        return paddle.gather(given[0].flatten(0, 1), self.places).unsqueeze(0)

    def first_tokens(self, encoder: paddle.nn.Layer, given: tuple, output: Any) -> Any:
        """Hook after an encoder: of [1, tokens, hidden] each row's first, [rows, 1, hidden].

        Encoders return hidden states, of the last layer or of all, alone or with more behind them.
        """
        if isinstance(output, (tuple, list)):
            place = 0 if isinstance(output, tuple) else -1
            output = list(output)
            output[place] = self.first_tokens(encoder, given, output[place])
            return tuple(output) if place == 0 else output
        return paddle.gather(output.squeeze(0), self.first).unsqueeze(1)

    def positions(self, config: Any) -> paddle.Tensor:
        """Of every token, [1, tokens]."""
        return (self.places % self.width + first_position(config)).unsqueeze(0)


class _InLine:
    """Hook before a backbone: ids [rows, width] as [1, tokens], with their positions and the mask of the rows."""

    def __init__(self, places: Places, model: paddle.nn.Layer):
        self.places, self.config, self.architecture = places, model.config, architecture_of(type(model))

    def __call__(self, backbone: paddle.nn.Layer, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        parameters = list(signature(backbone.forward).parameters)
        named = {**named, **dict(zip(parameters, given))}
        real = named["input_ids"] != self.config.pad_token_id
        if self.architecture.adds_mask:
            named["attention_mask"] = (1.0 - real.astype("float32")).unsqueeze([1, 2]) * -1e4
        else:
            named["attention_mask"] = real if self.architecture.published else real.astype("int64")
        for name in ("input_ids", "token_type_ids"):
            if named.get(name) is not None:
                named[name] = paddle.gather(named[name].flatten(), self.places.places).unsqueeze(0)
        # Without a table of positions attention turns queries and keys, in rows.
        if hasattr(backbone.embeddings, "position_embeddings") and "position_ids" in parameters:
            named["position_ids"] = self.places.positions(self.config)
        return (), named


class _Positions:
    """Hook before embeddings whose backbone takes no positions."""

    def __init__(self, places: Places, model: paddle.nn.Layer):
        self.places, self.config = places, model.config

    def __call__(self, layer: paddle.nn.Layer, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if "position_ids" in signature(layer.forward).parameters:
            named = {**named, "position_ids": self.places.positions(self.config)}
        return given, named


class _FirstTokens:
    """Hooks that let the last layer compute each row's first token only, from keys and values of all."""

    def __init__(self, places: Places):
        self.places = places
        self.all = None

    def before_layer(self, layer: paddle.nn.Layer, given: tuple) -> tuple:
        self.all = given[0]
        return paddle.gather(given[0].squeeze(0), self.places.first).unsqueeze(1), *given[1:]

    def before_attention(self, attention: paddle.nn.Layer, given: tuple) -> tuple:
        query, _, _, *rest = given
        return query, self.all, self.all, *rest
