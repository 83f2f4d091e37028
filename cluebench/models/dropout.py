"""What --dropout sets."""

import re

import paddle

from cluebench.foundation.errors import UsageError

#: Names of layers for attention dropout. (Paddle's own encoder layers have no layer for it.)
_OF_ATTENTION = re.compile(r"(attention_dropout|(attention\.self|self_attn)\.dropout)$")


def set_dropout(model: paddle.nn.Layer, p: float) -> None:
    """Sets the dropout after the embeddings and in every layer's residual and feed-forward branches to ``p``.

    Attention dropout and the head's dropout stay as configured. Where ``p`` is the configured hidden dropout, nothing
    changes: PaddleNLP builds its encoders without dropout inside the feed-forward branch, and the published runs with
    dropout 0.1 were trained that way. Raises UsageError for a model without dropout layers.
    """
    backbone = model.base_model
    if getattr(backbone.config, "hidden_dropout_prob", None) == p:
        return
    dropouts = [
        layer
        for name, layer in backbone.named_sublayers()
        if isinstance(layer, paddle.nn.Dropout) and not _OF_ATTENTION.search(name)
    ]
    if not dropouts:
        raise UsageError(f"--dropout can't be applied to {type(model).__name__}: it has no dropout layers")
    for dropout in dropouts:
        dropout.p = p
