"""Which of PaddleNLP's classes a model is: its architecture, its tokenizer, and the model with a task's head."""

import re
from typing import Any

import paddlenlp.transformers

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task
from cluebench.foundation.errors import UsageError
from cluebench.models import modernbert
from cluebench.models.architectures import ARCHITECTURES, SPELLINGS
from cluebench.models.heads import multiple_choice_class, on_ids_and_types
from cluebench.pretrained.model_files import CONFIG_FILES, VOCABULARY, ModelFiles

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


def architecture(files: ModelFiles) -> str:
    """``"Ernie"``, ``"Bert"``, …: a key of `ARCHITECTURES`. Raises UsageError for any other model."""
    if files.config is None:
        prefix = published_prefix(files.model.name)
        if prefix is None:
            raise UsageError(f"{files.folder}: no {' or '.join(CONFIG_FILES)} in this model directory")
        named = f"{prefix}Model"
    else:
        config = files.read_config()
        names = [name for name in config.get("architectures") or [config.get("init_class")] if isinstance(name, str)]
        match = _CLASS_NAME.match(names[-1]) if names else None
        prefix = match["prefix"] if match else _prefix_of_type(config.get("model_type"))
        named = names[-1] if names else config.get("model_type") or ""
    prefix = SPELLINGS.get(prefix or "", prefix)
    if prefix is not None and prefix in ARCHITECTURES:
        return prefix
    where, supported = (
        files.config or files.model.typed,
        f"encoders of these architectures are: {', '.join(ARCHITECTURES)}",
    )
    if not named:
        raise UsageError(f"{where}: names no model class; {supported}")
    generates = "generates text and " if re.search(_GENERATORS, named, re.IGNORECASE) else ""
    raise UsageError(f"{where}: {named} {generates}can't be fine-tuned here; {supported}")


#: Parts of the names of models that generate text.
_GENERATORS = "CausalLM|LMHead|ConditionalGeneration|gpt|llama|qwen|chatglm|mistral|gemma|deepseek|bloom|bart|t5|opt"


def _prefix_of_type(model_type: str | None) -> str | None:
    """By ``model_type``, where a configuration names no class."""
    for prefix, row in ARCHITECTURES.items():
        if model_type and model_type in (row.model_type, getattr(_class(f"{prefix}Config"), "model_type", None)):
            return prefix
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


def tokenizer_class(files: ModelFiles, is_wordpiece: bool) -> type[Any]:
    """The slow tokenizer that a directory's files name, else the usual one for its architecture and vocabulary.

    PaddleNLP's AutoTokenizer assumes that RoBERTa is English, and needs tokenizer_config.json.
    Raises UsageError when PaddleNLP has none for these files.
    """
    config = files.read_tokenizer_config()
    prefix = architecture(files)
    wordpiece = [f"{prefix}ChineseTokenizer", f"{prefix}Tokenizer", "BertTokenizer"] if is_wordpiece else []
    names = [config.get("tokenizer_class"), config.get("init_class"), *wordpiece, f"{prefix}BPETokenizer"]
    for name in (str(name).removesuffix("Fast") for name in names if name):
        kind = getattr(paddlenlp.transformers, name, None)
        if isinstance(kind, type) and hasattr(kind, "resource_files_names"):
            needed = set(kind.resource_files_names.values()) - ({VOCABULARY} if is_wordpiece else set())
            if kind.resource_files_names and all((files.folder / name).is_file() for name in needed):
                return kind
    raise UsageError(f"{files.folder}: PaddleNLP has no tokenizer for the files in this directory")
