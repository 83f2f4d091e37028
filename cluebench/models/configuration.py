"""The configuration of a model: as its author wrote it, and as PaddleNLP takes it."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cluebench.benchmark.tasks import Task
from cluebench.foundation.errors import ClueError, UsageError
from cluebench.foundation.notices import notice
from cluebench.models.architectures import Architecture, architecture_of
from cluebench.models.classes import head_class
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import ModelFiles

#: Rows of the embeddings, or share of them, that a vocabulary may lack: some are padded to a round number.
_PADDING_ROWS, _LEAST_SHARE = 128, 0.9

#: Key in a saved configuration for what PaddleNLP's own settings can't express; see `_deviations`.
DEVIATIONS = "cluebench"

# Any key of config.json beside these is a size, which the weights prove, or PaddleNLP follows it, or it has no effect
# on an encoder. `tests/models/test_settings.py` goes through all keys of PaddleNLP's configurations.

#: Keys that only add outputs, or choose another way to compute the same.
SET_HERE: Mapping[str, Any] = {
    "return_dict": False,
    "output_hidden_states": False,
    "output_attentions": False,
    "use_cache": False,  # true in every BERT that Transformers writes: PaddleNLP then returns (logits, caches)
    "problem_type": None,  # chooses a loss that PaddleNLP's classes compute where they are given labels
    "dtype": "float32",  # weights are read as float32; --amp chooses what training computes in
    "add_pooling_layer": True,
    "fuse": False,
    "recompute": False,
    "sequence_parallel": False,
    "tensor_parallel_degree": 1,
}

#: Keys that change the numbers but that PaddleNLP's encoders ignore: key → the values that they compute.
ONLY: Mapping[str, tuple[Any, ...]] = {
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "cross_attention_hidden_size": (None,),
    "position_embedding_type": ("absolute",),
    "pruned_heads": ({},),
    "quantization_config": ({},),
    "summary_type": ("first",),
    "summary_use_proj": (True,),
    "summary_activation": ("gelu",),
}

#: Other names of activations that PaddleNLP has.
_ACTIVATIONS = {"gelu_pytorch_tanh": "gelu_new", "gelu_python": "gelu", "swish": "silu"}


@dataclass(frozen=True)
class Target:
    """What is to be built: the model in these files, with the head of a task.

    ``tokenizer``: makes the inputs, of at most ``max_seq_length`` tokens; None: not known yet. ``head_required``: the
    weights must have that head; otherwise a missing head is drawn.
    """

    files: ModelFiles
    task: Task
    tokenizer: Any = None
    max_seq_length: int | None = None
    head_required: bool = False

    @cached_property
    def head(self) -> type[Any]:
        """PaddleNLP's class. Raises UsageError where there is none for the task."""
        return head_class(self.files, self.task)

    @property
    def architecture(self) -> Architecture:
        return architecture_of(self.head)

    @cached_property
    def written(self) -> dict[str, Any]:
        """The configuration as published or written by its author, with `SET_HERE`; a null value counts as not given.

        Raises UsageError for a value that `ONLY` refuses.
        """
        files, where = self.files, self.files.config or self.files.folder
        published = files.config is None
        given = self.head.pretrained_init_configuration[files.model.name] if published else files.read_config()
        for key, values in ONLY.items():
            value = given.get(key)
            if value is not None and value not in values:
                raise UsageError(f'{where}: "{key}" is {value}, which PaddleNLP\'s encoders do not compute')
        settings = {**{key: value for key, value in given.items() if key != "torch_dtype"}, **SET_HERE}
        if settings.get("hidden_act") in _ACTIVATIONS:
            settings["hidden_act"] = _ACTIVATIONS[settings["hidden_act"]]
        return settings

    def error(self, reason: str) -> UsageError:
        """An error of one line that names the model."""
        return UsageError(f"{self.files.model.typed}: {reason}")

    def notice(self, line: str) -> None:
        notice(f"{self.files.model.typed}: {line}")


@contextmanager
def in_one_line(model: Model, what: str) -> Iterator[None]:
    """An error of PaddleNLP in the block becomes a UsageError: ``what`` of this model can't be loaded, and why."""
    try:
        yield
    except (ClueError, MemoryError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[-300:]}"
        raise UsageError(f"{model.typed}: the {what} can't be loaded ({reason})") from error


def configured(target: Target, hugging_face: bool) -> Any:
    """PaddleNLP's configuration of the model with the task's head.

    ``hugging_face``: whether the weights are named as Hugging Face's Transformers names them.
    """
    head, task, written = target.head, target.task, target.written
    if hugging_face:
        written = _as_paddlenlp_says(written, head)
    with in_one_line(target.files.model, "configuration"):
        config = head.config_class.from_dict(copy.deepcopy(dict(written)))
    if task.labels:
        config.id2label = dict(enumerate(task.labels))  # saved with the model: what an index of its logits means
        config.label2id = {label: index for index, label in config.id2label.items()}
    if head.__name__.endswith("ForQuestionAnswering"):
        config.num_labels = 2  # starts and ends; some classes read it
    if task.num_choices:
        config.num_choices = task.num_choices
    if 0 in (written.get("classifier_dropout"), written.get("dropout")):
        config.classifier_dropout = 0.0  # from_dict takes 0 for not given
    config.finetuning_task = task.name
    if deviations := _deviations(head, config, written, hugging_face):
        setattr(config, DEVIATIONS, deviations)
    if target.tokenizer is not None:
        config.pad_token_id = target.tokenizer.pad_token_id  # what batches are padded with is what must be masked
    return config


def _as_paddlenlp_says(written: Mapping[str, Any], head: type[Any]) -> dict[str, Any]:
    """The settings of a configuration that Transformers wrote, under PaddleNLP's keys, with Transformers' defaults."""
    architecture = architecture_of(head)
    renamed = {key: written[name] for name, key in architecture.settings.items() if name in written}
    settings = {**written, **renamed}
    if settings.get("embedding_size") is None:
        settings.pop("embedding_size", None)
        if hasattr(head.config_class(), "embedding_size"):
            settings["embedding_size"] = written.get("hidden_size")
    if head.__name__ == "RoFormerForSequenceClassification":  # its dense layer is PaddleNLP's pooler, which has tanh
        settings["pool_act"] = settings.get("hidden_act", "gelu")
    return {**architecture.defaults, **settings}


def _deviations(head: type[Any], config: Any, written: Mapping[str, Any], hugging_face: bool) -> dict[str, Any]:
    """Where this model differs from the model that PaddleNLP 3.0.0b4 would build; saved with it.

    ``first_position``: of the first token. Chinese RoBERTa was pretrained and, for the published scores, fine-tuned
    with positions from 0; PaddleNLP now counts from pad_token_id + 1, as English RoBERTa does, and so has one position
    too few for an input of 512 tokens. ``layer_norm_eps``: PaddleNLP has its own, fixed, for ERNIE and ERNIE-Gram.
    """
    if DEVIATIONS in written:
        return dict(written[DEVIATIONS])
    found: dict[str, Any] = {}
    if head.base_model_prefix == "roberta":
        # As PaddleNLP itself decided when the published scores were made: English tokenizers have [CLS] at 0.
        from_zero = architecture_of(head).published and not hugging_face and config.cls_token_id != 0
        pad = written.get("pad_token_id", 1) if hugging_face else config.pad_token_id
        found["first_position"] = 0 if from_zero else pad + 1
    if hugging_face and written.get("layer_norm_eps") is not None:
        found["layer_norm_eps"] = float(written["layer_norm_eps"])
    return found


def warn_of_positions(target: Target, config: Any) -> None:
    """Prints that PaddleNLP may have trained this RoBERTa with other positions; no file says which."""
    if DEVIATIONS not in target.written and getattr(config, DEVIATIONS, {}).get("first_position") == 0:
        target.notice(
            f"positions count from 0 here, but from {config.pad_token_id + 1} in PaddleNLP 2.8.1 and 3.0.0b4; "
            "a model that one of those fine-tuned gives other predictions here"
        )


def check_fit(target: Target, config: Any) -> None:
    """Raises UsageError when inputs are longer, or hold other tokens, than the model has embeddings for."""
    files, tokenizer = target.files, target.tokenizer
    files.check_length(target.max_seq_length, longest_input(config))
    if tokenizer is None or files.config is None:
        return
    tokens, rows = max(tokenizer.get_vocab().values()) + 1, config.vocab_size
    if tokens > rows:
        raise target.error(
            f"its tokenizer has {tokens:,} tokens, the model embeddings for {rows:,}: "
            f"vocabulary and {files.config.name} belong to different models"
        )
    if tokens < min(_LEAST_SHARE * rows, rows - _PADDING_ROWS):
        raise target.error(
            f"its tokenizer has {tokens:,} tokens only, the model embeddings for {rows:,}: "
            "the vocabulary was cut off, or is another model's"
        )


def longest_input(config: Any) -> int | None:
    """Tokens of the longest input that a model has positions for; None where nothing limits it."""
    positions = getattr(config, "max_position_embeddings", None)
    return None if positions is None else positions - first_position(config)


def first_position(config: Any) -> int:
    """The position of a row's first token."""
    return getattr(config, DEVIATIONS, {}).get("first_position", 0)
