"""A model on a batch, with or without what no score reads: padding, and in the last layer all but first tokens.

Heads for classification and multiple choice read the first token of each row only. What is computed at padding, and in
the last layer at any other token, changes neither outputs nor gradients. So PaddleNLP's own layers run on one row of
all real tokens, laid end to end: [1, tokens, hidden]; only attention sees the batch's rows, under its usual mask. The
model is neither copied nor changed: hooks on its layers, for one call, turn tokens into rows and back. With dropout the
draws differ from a padded pass, since there are fewer of them.

A head that reads every place, as CMRC2018's does (its published loss runs over padded places too), needs all of them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from inspect import signature
from typing import Any

import numpy as np
import paddle

from cluebench.models.architectures import STANDARD, architecture_of
from cluebench.models.configuration import first_position

#: Heads that read the first token of each row, or what the pooler makes of it.
_HEADS = ("ForSequenceClassification", "ForMultipleChoice")

#: Names of the layers whose outputs become rows, and of those whose inputs become tokens again.
_INTO_ATTENTION = re.compile(r"(attention(\.self)?\.(query|key|value)|attn\.(qkv|[qkv]_proj))$")
_OUT_OF_ATTENTION = re.compile(r"(attention\.(output\.)?dense|attn\.out_proj)$")


def forward(model: paddle.nn.Layer, batch: Mapping[str, Any]) -> tuple[paddle.Tensor, ...]:
    """The outputs of the model's head for a batch of ``input_ids`` and ``token_type_ids``, [B, T] or [B, N, T].

    (logits [B, labels],) of rows, (scores [B, N],) of the N options of each question, (starts [B, T], ends [B, T]) of
    spans; N may differ from call to call. Where the batch has ``places``, only these are computed.
    """
    ids, places = batch["input_ids"], batch.get("places")
    if ids.ndim == 3:
        unwrapped(model).num_choices = ids.shape[1]
    with leaving_out(unwrapped(model), places) if places else nullcontext():
        outputs = model(ids, batch["token_type_ids"])
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def on_device(batch: Mapping[str, np.ndarray], padding: int | None = None) -> dict[str, Any]:
    """The batch as tensors; where ``padding`` names an id to leave out, also the ``places`` of all other tokens."""
    tensors: dict[str, Any] = {name: paddle.to_tensor(values) for name, values in batch.items()}
    return tensors if padding is None else tensors | {"places": Places(batch["input_ids"], padding)}


def made_up_batch(model: paddle.nn.Layer, shape: Sequence[int]) -> dict[str, np.ndarray]:
    """Random ids and token types, the second half of each last row padding."""
    random, pad = np.random.default_rng(0), model.config.pad_token_id
    ids = random.integers(0, model.config.vocab_size, shape)
    ids[ids == pad] = (pad + 1) % model.config.vocab_size
    types = (np.arange(shape[-1]) > shape[-1] // 4) * np.ones(shape, np.int64)
    ids[-1, ..., shape[-1] // 2 :] = pad
    types[-1, ..., shape[-1] // 2 :] = 0
    return {"input_ids": ids, "token_type_ids": types.astype(np.int64)}


def outputs_of(model: paddle.nn.Layer, batch: Mapping[str, np.ndarray], padding: int | None = None) -> list[np.ndarray]:
    """The outputs of the model's head. ``padding``: see `on_device`."""
    with paddle.no_grad():
        return [output.numpy() for output in forward(model, on_device(batch, padding))]


def unwrapped(model: paddle.nn.Layer) -> paddle.nn.Layer:
    """The model itself, without paddle.DataParallel round it."""
    return model._layers if isinstance(model, paddle.DataParallel) else model


def padding_of(model: paddle.nn.Layer) -> int | None:
    """The token id that `leaving_out` can leave out of this model's inputs; None where equality is not proven.

    It is proven for some architectures, under a head that reads first tokens only.
    """
    architecture, backbone = architecture_of(type(model)), model.base_model
    fused = architecture.renamed is STANDARD and not isinstance(backbone.encoder, paddle.nn.TransformerEncoder)
    mean = getattr(model.config, "classifier_pooling", "cls") == "mean"
    positions = hasattr(backbone.embeddings, "position_embeddings")
    takes_positions = any(_takes_positions(layer) for layer in (backbone, backbone.embeddings))
    proven = architecture.leaves_out_padding and not fused and not mean and (takes_positions or not positions)
    return model.config.pad_token_id if proven and type(model).__name__.endswith(_HEADS) else None


def _takes_positions(layer: paddle.nn.Layer) -> bool:
    return "position_ids" in signature(layer.forward).parameters


class Places:
    """The places of a batch's tokens: the t-th of all tokens stands at ``places[t]`` of its rows laid end to end.

    Made from ids [..., width] in main memory, where the batch is made, so that nothing waits for the device.
    Tensors int64: ``places`` [tokens]; ``tokens`` [rows * width], the number of the token at each place, at padding
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


@contextmanager
def leaving_out(model: paddle.nn.Layer, places: Places) -> Iterator[None]:
    """Inside this context, a call of the model with the ids that ``places`` was made from computes tokens only.

    The outputs are the same. ``model``: one with a `padding_of`, without paddle.DataParallel round it; the caller may
    call it through that.
    """
    backbone, hooks = model.base_model, _Hooks(model, places)
    removable = [backbone.register_forward_pre_hook(hooks.lay_in_line, with_kwargs=True)]
    if not _takes_positions(backbone) and _takes_positions(backbone.embeddings):
        removable.append(backbone.embeddings.register_forward_pre_hook(hooks.add_positions, with_kwargs=True))
    left_alone: list[paddle.nn.Layer] = []
    if isinstance(backbone.encoder, paddle.nn.TransformerEncoder):
        last = backbone.encoder.layers[-1]
        left_alone = [last.self_attn.q_proj, last.self_attn.out_proj]  # they see each row's first token only
        removable.append(last.register_forward_pre_hook(hooks.keep_first_tokens))
        removable.append(last.self_attn.register_forward_pre_hook(hooks.give_all_keys))
    else:
        removable.append(backbone.encoder.register_forward_post_hook(hooks.take_first_tokens))
    for name, layer in backbone.named_sublayers():
        if any(layer is other for other in left_alone):
            continue
        if _INTO_ATTENTION.search(name):
            removable.append(layer.register_forward_post_hook(hooks.in_rows))
        elif _OUT_OF_ATTENTION.search(name):
            removable.append(layer.register_forward_pre_hook(hooks.in_line))
    try:
        yield
    finally:
        for hook in removable:
            hook.remove()


class _Hooks:
    """The hooks of one call: rows [rows, width, hidden] to one line of tokens [1, tokens, hidden], and back."""

    def __init__(self, model: paddle.nn.Layer, places: Places):
        self.config, self.architecture, self.places = model.config, architecture_of(type(model)), places
        self.all_tokens: paddle.Tensor | None = None  # inputs of the last layer

    def in_rows(self, layer: paddle.nn.Layer, inputs: tuple, output: paddle.Tensor) -> paddle.Tensor:
        """After a layer: tokens as rows, 0 at padding."""
        zeros = paddle.zeros([1, output.shape[-1]], output.dtype)  # gathering it costs half of a scatter
        filled = paddle.gather(paddle.concat([output.squeeze(0), zeros]), self.places.tokens)
        return filled.reshape([self.places.rows, self.places.width, -1])

    def in_line(self, layer: paddle.nn.Layer, inputs: tuple) -> paddle.Tensor:
        """Before a layer: rows as tokens."""
        return paddle.gather(inputs[0].flatten(0, 1), self.places.places).unsqueeze(0)

    def take_first_tokens(self, encoder: paddle.nn.Layer, inputs: tuple, output: Any) -> Any:
        """After an encoder: each row's first token, [rows, 1, hidden].

        Encoders return hidden states, of the last layer or of all layers, alone or with more behind them.
        """
        if isinstance(output, (tuple, list)):
            place = 0 if isinstance(output, tuple) else -1
            outputs = list(output)
            outputs[place] = self.take_first_tokens(encoder, inputs, outputs[place])
            return type(output)(outputs)
        return paddle.gather(output.squeeze(0), self.places.first).unsqueeze(1)

    def keep_first_tokens(self, layer: paddle.nn.Layer, inputs: tuple) -> tuple:
        """Before the last of Paddle's own layers, which then computes each row's first token only."""
        self.all_tokens = inputs[0]
        return self.take_first_tokens(layer, (), inputs[0]), *inputs[1:]

    def give_all_keys(self, attention: paddle.nn.Layer, inputs: tuple) -> tuple:
        """Before the attention of that layer: keys and values are of all tokens."""
        return inputs[0], self.all_tokens, self.all_tokens, *inputs[3:]

    def lay_in_line(self, backbone: paddle.nn.Layer, inputs: tuple, named: dict[str, Any]) -> tuple[tuple, dict]:
        """Before a backbone: ids [rows, width] as [1, tokens], with their positions and the mask of the rows."""
        named = {**named, **dict(zip(signature(backbone.forward).parameters, inputs))}
        real = named["input_ids"] != self.config.pad_token_id
        if self.architecture.adds_mask:
            named["attention_mask"] = (1.0 - real.astype("float32")).unsqueeze([1, 2]) * -1e4
        else:
            named["attention_mask"] = real if self.architecture.published else real.astype("int64")
        for name in ("input_ids", "token_type_ids"):
            if named.get(name) is not None:
                named[name] = paddle.gather(named[name].flatten(), self.places.places).unsqueeze(0)
        # Without a table of positions attention turns queries and keys, in rows.
        if hasattr(backbone.embeddings, "position_embeddings") and _takes_positions(backbone):
            return self.add_positions(backbone, (), named)
        return (), named

    def add_positions(self, layer: paddle.nn.Layer, inputs: tuple, named: dict[str, Any]) -> tuple[tuple, dict]:
        """Before a layer that takes the position of every token, [1, tokens]."""
        positions = (self.places.places % self.places.width + first_position(self.config)).unsqueeze(0)
        return inputs, {**named, "position_ids": positions}
