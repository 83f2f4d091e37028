"""What --dropout sets."""

from __future__ import annotations

import paddle

from cluebench.foundation.errors import UsageError


def set_dropout(model: paddle.nn.Layer, p: float) -> None:
    """Sets the dropout after the embeddings and in every layer's residual and feed-forward branches to ``p``.

    Attention dropout and the head's dropout keep the model's configuration. Where ``p`` is the configured hidden
    dropout already, nothing is touched: PaddleNLP builds its encoders without dropout inside the feed-forward branch,
    and the published runs with dropout 0.1 were trained that way. Raises UsageError for a model built otherwise.
    """
    backbone = model.base_model
    if getattr(backbone.config, "hidden_dropout_prob", None) == p:
        return
    try:
        dropouts = [backbone.embeddings.dropout]
        for layer in backbone.encoder.layers:
            dropouts += [layer.dropout, layer.dropout1, layer.dropout2]
    except AttributeError as error:
        raise UsageError(f"--dropout can't be applied to {type(model).__name__}: {error}") from None
    for dropout in dropouts:
        dropout.p = p
