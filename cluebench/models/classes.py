"""Which of PaddleNLP's classes a model is: its architecture, its tokenizer, and the model with a task's head."""

from __future__ import annotations

import re
from typing import Any

import paddlenlp.transformers

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task
from cluebench.foundation.errors import UsageError
from cluebench.models.heads import multiple_choice_class
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
    """The model class with the task's head. Raises UsageError where PaddleNLP has none and it can't be made here."""
    prefix = architecture(files)
    found = getattr(paddlenlp.transformers, prefix + HEADS[task.kind], None)
    if found is not None:
        return found
    if task.kind not in (CHOICE, IDIOM):
        raise UsageError(
            f"{files.model.typed}: PaddleNLP has no {prefix}{HEADS[task.kind]}, so it can't do {task.title}"
        )
    return multiple_choice_class(prefix, getattr(paddlenlp.transformers, f"{prefix}Model"))


def architecture(files: ModelFiles) -> str:
    """``"Ernie"``, ``"Bert"``, …: the class-name prefix of a model. Raises UsageError for one PaddleNLP hasn't."""
    if files.config is None:
        prefix = published_prefix(files.model.name)
        if prefix is None:
            raise UsageError(f"{files.folder}: no {' or '.join(CONFIG_FILES)} in this model directory")
        return prefix
    config = files.read_config()
    names = [name for name in config.get("architectures") or [config.get("init_class")] if isinstance(name, str)]
    match = _CLASS_NAME.match(names[-1]) if names else None
    prefix = match["prefix"] if match else _prefix_of_type(config.get("model_type"))
    if prefix is None or not hasattr(paddlenlp.transformers, f"{prefix}Model"):
        said = f"{names[-1]}, which PaddleNLP has not" if names else "no model class"
        raise UsageError(
            f'{files.config}: names {said}; "architectures" must be one like BertModel, ErnieModel, ErnieGramModel, '
            "RobertaModel, RoFormerv2Model or TinyBertModel"
        )
    return prefix


def _prefix_of_type(model_type: str | None) -> str | None:
    """By ``model_type``, where a configuration names no class."""
    for name, kind in vars(paddlenlp.transformers).items():
        if model_type and name.endswith("Config") and getattr(kind, "model_type", None) == model_type:
            return name.removesuffix("Config")
    return None


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


def tokenizer_class(files: ModelFiles) -> type[Any]:
    """The slow tokenizer that the model's files name, else the one usual for its architecture and vocabulary.

    PaddleNLP's AutoTokenizer takes RoBERTa for the English one, and no directory without tokenizer_config.json.
    Raises UsageError when PaddleNLP has none for these files.
    """
    if files.config is None:
        return published_tokenizer(files.model.name)
    said = files.read_tokenizer_config()
    prefix = architecture(files)
    wordpiece = [f"{prefix}ChineseTokenizer", f"{prefix}Tokenizer", "BertTokenizer"] if files.vocabulary else []
    names = [said.get("tokenizer_class"), said.get("init_class"), *wordpiece, f"{prefix}BPETokenizer"]
    for name in (str(name).removesuffix("Fast") for name in names if name):
        kind = getattr(paddlenlp.transformers, name, None)
        if isinstance(kind, type) and hasattr(kind, "resource_files_names"):
            vocabulary = kind.resource_files_names.get("vocab_file")
            if vocabulary is None or (files.folder / vocabulary).is_file():
                return kind
    raise UsageError(f"{files.folder}: PaddleNLP has no tokenizer for the files in this directory")
