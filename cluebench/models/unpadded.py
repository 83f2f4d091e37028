"""A forward pass that leaves out what no score reads: padding, and in the last layer all but each row's first token.

Heads for classification and multiple choice read the first token of each row only. What is computed at padding, and in
the last layer at any other token, changes neither outputs nor gradients. So PaddleNLP's own layers run on one row of
all real tokens, laid end to end: [1, tokens, hidden]; only attention sees the batch's rows, under the mask it always
has. Nothing of a model is copied or changed: hooks on its layers, there for one call, turn tokens into rows and back.
With dropout the draws differ from a padded pass, since there are fewer of them.

A head that reads every place, as CMRC2018's does (its published loss runs over padded places too), needs all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle

from cluebench.models.configuration import first_position

#: Encoders for which this has been proven equal, as PaddleNLP names their classes.
ENCODERS = ("BertModel", "ErnieModel", "ErnieGramModel", "RobertaModel", "RoFormerv2Model", "TinyBertModel")
#: Heads that read the first token of each row, or what the pooler makes of it.
_HEADS = ("ForSequenceClassification", "ForMultipleChoice")


def padding_of(model: paddle.nn.Layer) -> int | None:
    """The token id that `leaving_out` can leave out of this model's inputs; None where it is not known to be right.

    It is for an encoder of `ENCODERS` under a head that reads first tokens only.
    """
    encoder = getattr(model.base_model, "encoder", None)  # Paddle's fused encoders are lists of other layers
    known = type(model.base_model).__name__ in ENCODERS and isinstance(encoder, paddle.nn.TransformerEncoder)
    return model.base_model.pad_token_id if known and type(model).__name__.endswith(_HEADS) else None


@contextmanager
def leaving_out(model: paddle.nn.Layer, places: Places) -> Iterator[None]:
    """Within it, calling the model with the ids that ``places`` is of gives the same outputs for less work.

    ``model``: one with a `padding_of`, without paddle.DataParallel round it; what is called may have that.
    """
    backbone = model.base_model
    hooks = [backbone.register_forward_pre_hook(_InLine(places), with_kwargs=True)]
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
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


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


class _InLine:
    """Hook before a backbone: ids [rows, width] as [1, tokens], with their positions and the mask of the rows."""

    def __init__(self, places: Places):
        self.places = places

    def __call__(self, backbone: paddle.nn.Layer, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        named = {**named, **dict(zip(("input_ids", "token_type_ids"), given))}
        named["attention_mask"] = named["input_ids"] != backbone.pad_token_id
        for name in ("input_ids", "token_type_ids"):
            named[name] = paddle.gather(named[name].flatten(), self.places.places).unsqueeze(0)
        if hasattr(backbone.embeddings, "position_embeddings"):  # else attention turns queries and keys, in rows
            columns = self.places.places % self.places.width
            named["position_ids"] = (columns + first_position(backbone.config)).unsqueeze(0)
        return (), named


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
