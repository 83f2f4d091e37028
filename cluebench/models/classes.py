"""Which of PaddleNLP's classes a model is: its architecture, and the model with a task's head."""

import inspect
import re
from typing import Any

import paddle
import paddlenlp.transformers

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task
from cluebench.foundation.errors import UsageError
from cluebench.models import modernbert
from cluebench.models.architectures import ARCHITECTURES, SPELLINGS
from cluebench.pretrained.model_files import CONFIG_FILES, ModelFiles

#: Head of each kind of task, as PaddleNLP names it behind the architecture.
HEADS = {
    SINGLE: "ForSequenceClassification",
    PAIR: "ForSequenceClassification",
    SPAN: "ForQuestionAnswering",
    CHOICE: "ForMultipleChoice",
    IDIOM: "ForMultipleChoice",
}
_CLASS_NAME = re.compile(r"(?P<prefix>\w+?)(?:Model|For[A-Z]\w*|LMHeadModel)$")


def head_class(files: ModelFiles, task: Task) -> type[Any]:
    """The model class with the task's head, called with ids and token types.

    Raises UsageError where PaddleNLP has none and it can't be made here.
    """
    prefix = architecture(files)
    found = _class(prefix + HEADS[task.kind])
    if found is not None:
        return found if ARCHITECTURES[prefix].published else on_ids_and_types(found)
    if task.kind in (CHOICE, IDIOM):
        return multiple_choice_class(prefix, _class(f"{prefix}Model"))
    raise UsageError(f"{files.model.typed}: PaddleNLP has no {prefix}{HEADS[task.kind]}, so it can't do {task.title}")


def _class(name: str) -> Any:
    """PaddleNLP's class of that name, or this project's; None where there is none."""
    return getattr(modernbert, name, None) or getattr(paddlenlp.transformers, name, None)


#: Parts of the names of models that generate text.
_GENERATORS = "CausalLM|LMHead|ConditionalGeneration|gpt|llama|qwen|chatglm|mistral|gemma|deepseek|bloom|bart|t5|opt"


def architecture(files: ModelFiles) -> str:
    """``"Ernie"``, ``"Bert"``, …: a key of `ARCHITECTURES`. Raises UsageError for any other model."""
    config, where = files.read_config(), files.config or files.model.typed
    names = [name for name in config.get("architectures") or [config.get("init_class")] if isinstance(name, str)]
    if files.config is None:
        published = published_prefix(files.model.name)
        if published is None:
            raise UsageError(f"{files.folder}: no {' or '.join(CONFIG_FILES)} in this model directory")
        names = [f"{published}Model"]
    named, model_type = names[-1] if names else "", config.get("model_type")
    if match := _CLASS_NAME.match(named):
        prefix = SPELLINGS.get(match["prefix"], match["prefix"])
    else:
        types = {getattr(_class(f"{name}Config"), "model_type", None): name for name in ARCHITECTURES}
        types |= {row.model_type: name for name, row in ARCHITECTURES.items() if row.model_type}
        prefix = types.get(model_type, "") if model_type else ""
    if prefix in ARCHITECTURES:
        return prefix
    supported = f"encoders of these architectures are: {', '.join(ARCHITECTURES)}"
    named = named or model_type or ""
    if not named:
        raise UsageError(f"{where}: names no model class; {supported}")
    generates = "generates text and " if re.search(_GENERATORS, named, re.IGNORECASE) else ""
    raise UsageError(f"{where}: {named} {generates}can't be fine-tuned here; {supported}")


def published_prefix(name: str) -> str | None:
    """``"Ernie"`` for ``"ernie-3.0-base-zh"``; None for a name that is not built into PaddleNLP."""
    builtin = paddlenlp.transformers.AutoModel._pretrained_model_dict
    return next((kind.removesuffix("Model") for names, kind in builtin.items() if name in names), None)


def published_tokenizer(name: str) -> type[Any]:
    """The tokenizer class of a name built into PaddleNLP. Raises UsageError when it has none."""
    found = [
        kind
        for class_name, kind in vars(paddlenlp.transformers).items()
        if class_name.endswith("Tokenizer") and name in (getattr(kind, "pretrained_init_configuration", None) or ())
    ]
    if not found:
        raise UsageError(f"{name}: PaddleNLP has no tokenizer of that name")
    return found[0]


def on_ids_and_types(head: type[Any]) -> type[Any]:
    """The same model class, called with (ids, token types): PaddleNLP's classes differ in order, or have no types."""
    takes_types = "token_type_ids" in inspect.signature(head.forward).parameters
    spans_of_albert = head.__name__ == "AlbertForQuestionAnswering"

    def forward(self: Any, input_ids: Any, token_type_ids: Any = None) -> Any:
        """See the class that this class extends."""
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
