"""Multiple choice: the scores of a question's options, and the head that PaddleNLP lacks for some architectures."""

from __future__ import annotations

from typing import Any

import paddle


def score_options(model: paddle.nn.Layer, input_ids: paddle.Tensor, token_type_ids: paddle.Tensor) -> paddle.Tensor:
    """Scores [B, N] of the N options of each question; ids [B, N, T]. N may differ from call to call."""
    unwrapped(model).num_choices = input_ids.shape[1]
    return model(input_ids, token_type_ids)


def unwrapped(model: paddle.nn.Layer) -> paddle.nn.Layer:
    """The model itself, without paddle.DataParallel round it."""
    return model._layers if isinstance(model, paddle.DataParallel) else model


def multiple_choice_class(prefix: str, backbone: type[Any]) -> type[Any]:
    """A multiple-choice model of an architecture for which PaddleNLP has none; saved and loaded like its own.

    As in PaddleNLP's other multiple-choice models: dropout and one linear unit on the pooled first token.
    """

    def __init__(self, config):
        super(head, self).__init__(config)
        setattr(self, self.base_model_prefix, backbone(config))
        self.num_choices = config.num_choices or 2
        own = getattr(config, "classifier_dropout", None)
        self.dropout = paddle.nn.Dropout(config.hidden_dropout_prob if own is None else own)
        self.classifier = paddle.nn.Linear(config.hidden_size, 1)

    def forward(self, input_ids, token_type_ids=None):
        """Scores [B, N] for ids [B, N, T]."""
        flat_types = None if token_type_ids is None else token_type_ids.reshape([-1, token_type_ids.shape[-1]])
        outputs = getattr(self, self.base_model_prefix)(
            input_ids.reshape([-1, input_ids.shape[-1]]), token_type_ids=flat_types
        )
        pooled = outputs[1] if isinstance(outputs, (tuple, list)) else outputs[:, 0]
        return self.classifier(self.dropout(pooled)).reshape([-1, self.num_choices])

    pretrained = backbone.__mro__[1]  # <Architecture>PretrainedModel: configuration, weight initialisation, file names
    head: Any = type(f"{prefix}ForMultipleChoice", (pretrained,), {"__init__": __init__, "forward": forward})
    return head
