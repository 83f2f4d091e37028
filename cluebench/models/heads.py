"""Multiple choice: the scores of a question's options, and the head that PaddleNLP lacks for some architectures."""

import inspect
from typing import Any

import paddle


def score_options(model: paddle.nn.Layer, input_ids: paddle.Tensor, token_type_ids: paddle.Tensor) -> paddle.Tensor:
    """Scores [B, N] of the N options of each question; ids [B, N, T]. N may differ from call to call."""
    unwrapped(model).num_choices = input_ids.shape[1]
    return model(input_ids, token_type_ids)


def unwrapped(model: paddle.nn.Layer) -> paddle.nn.Layer:
    """The model itself, without paddle.DataParallel round it."""
    return model._layers if isinstance(model, paddle.DataParallel) else model


def on_ids_and_types(head: type[Any]) -> type[Any]:
    """The same model class, called with (ids, token types): PaddleNLP's classes differ in order, or have no types."""
    takes_types = "token_type_ids" in inspect.signature(head.forward).parameters
    spans_of_albert = head.__name__ == "AlbertForQuestionAnswering"

    def forward(self: Any, input_ids: Any, token_type_ids: Any = None) -> Any:
        """See the class that this one extends."""
        types = {"token_type_ids": token_type_ids} if takes_types else {}
        if spans_of_albert:  # PaddleNLP returns the starts twice
            return tuple(paddle.unstack(self.qa_outputs(self.transformer(input_ids, **types)[0]), axis=-1))
        outputs = head.forward(self, input_ids=input_ids, **types)
        return outputs[0] if isinstance(outputs, tuple) and len(outputs) == 1 else outputs

    return type(head.__name__, (head,), {"forward": forward})


def multiple_choice_class(prefix: str, backbone: type[Any]) -> type[Any]:
    """A multiple-choice model of an architecture for which PaddleNLP has none; saved and loaded like its own.

    As in PaddleNLP's other multiple-choice models: dropout and one linear unit on the pooled first token. DistilBERT
    has no pooler; there a dense layer with ReLU stands before them, as in Transformers.
    """
    takes_types = "token_type_ids" in inspect.signature(backbone.forward).parameters

    def __init__(self: Any, config: Any) -> None:
        super(head, self).__init__(config)
        setattr(self, self.base_model_prefix, backbone(config))
        self.num_choices = config.num_choices or 2
        if not hasattr(self.base_model, "pooler"):
            self.pre_classifier = paddle.nn.Linear(config.hidden_size, config.hidden_size)
        own = getattr(config, "classifier_dropout", None)
        self.dropout = paddle.nn.Dropout(config.hidden_dropout_prob if own is None else own)
        self.classifier = paddle.nn.Linear(config.hidden_size, 1)

    def forward(self: Any, input_ids: Any, token_type_ids: Any = None) -> Any:
        """Scores [B, N] for ids [B, N, T]."""
        types = {} if token_type_ids is None or not takes_types else {"token_type_ids": token_type_ids.flatten(0, 1)}
        outputs = self.base_model(input_ids.flatten(0, 1), **types)
        if isinstance(outputs, (tuple, list)):
            pooled = outputs[1]
        else:
            pooled = paddle.nn.functional.relu(self.pre_classifier(outputs[:, 0]))
        return self.classifier(self.dropout(pooled)).reshape([-1, self.num_choices])

    pretrained = backbone.__mro__[1]  # <Architecture>PretrainedModel: configuration, weight initialisation, file names
    head: Any = type(f"{prefix}ForMultipleChoice", (pretrained,), {"__init__": __init__, "forward": forward})
    return head
