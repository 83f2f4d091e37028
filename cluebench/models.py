"""Models and tokenizers: PaddleNLP's own, the heads it lacks, the dropout rule, and the tiny model of the demo."""

from __future__ import annotations

import json
import os
import re
import string
import tempfile
from pathlib import Path
from typing import Any

import paddle
import paddlenlp.transformers
from paddlenlp.transformers import AutoTokenizer
from paddlenlp.utils.log import logger

from cluebench.errors import DataError, NetworkError, UsageError
from cluebench.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task

#: Head of each kind of task, as PaddleNLP names it behind the architecture.
_HEADS = {
    SINGLE: "ForSequenceClassification",
    PAIR: "ForSequenceClassification",
    SPAN: "ForQuestionAnswering",
    CHOICE: "ForMultipleChoice",
    IDIOM: "ForMultipleChoice",
}
_CONFIG_FILES = ("config.json", "model_config.json")
_ARCHITECTURE = re.compile(r"(?P<prefix>\w+?)(?:Model|For[A-Z]\w*|LMHeadModel)$")

logger.set_level("WARNING")  # PaddleNLP's own chatter would stand between the log lines users parse


# Loading --------------------------------------------------------------------------------------------------------------


def load_tokenizer(name_or_path: str, **settings: Any) -> Any:
    """The PaddleNLP tokenizer of a model (name or directory). Raises UsageError or NetworkError in one line.

    ``settings`` override the model's own, as ``do_lower_case=False``.
    """
    with _one_line(name_or_path, "tokenizer"):
        return AutoTokenizer.from_pretrained(name_or_path, **settings)


def load_model(task: Task, name_or_path: str, dropout: float | None = None) -> paddle.nn.Layer:
    """The model with the head of the task's kind, weights from a published name or a directory.

    A head that the weights lack is drawn from paddle's generator, so seed it right before (`training.seed`).
    ``dropout``: see `set_dropout`; None keeps the model's own.
    Raises UsageError when the architecture can't do the task or the dropout can't be applied.
    """
    head = model_class(task, name_or_path)
    settings = {"num_choices": task.num_choices} if task.num_choices else {}
    if task.labels:
        settings = {"num_labels": len(task.labels)}
    with _one_line(name_or_path, "model"):
        model = head.from_pretrained(name_or_path, **settings)
    if dropout is not None:
        set_dropout(model, dropout)
    return model


def model_class(task: Task, name_or_path: str) -> type:
    """The class that `load_model` builds: PaddleNLP's, or the generic multiple-choice head where it has none."""
    prefix = _architecture(name_or_path)
    found = getattr(paddlenlp.transformers, prefix + _HEADS[task.kind], None)
    if found is not None:
        return found
    backbone = getattr(paddlenlp.transformers, f"{prefix}Model", None)
    if backbone is None or task.kind not in (CHOICE, IDIOM):
        raise UsageError(f"{name_or_path}: PaddleNLP has no {prefix}{_HEADS[task.kind]}, so it can't do {task.title}")
    return _multiple_choice_class(prefix, backbone)


def _architecture(name_or_path: str) -> str:
    """``"Ernie"``, ``"Bert"``, …: the class-name prefix of the model behind a name or directory."""
    builtin = paddlenlp.transformers.AutoModel._pretrained_model_dict
    for names, class_name in builtin.items():
        if name_or_path in names:
            return class_name.removesuffix("Model")
    config_file = _config_file(name_or_path)
    try:
        config = json.loads(Path(config_file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{config_file}: not valid JSON ({error})") from None
    names = config.get("architectures") or [config.get("init_class")]
    match = _ARCHITECTURE.match(names[-1] or "")
    if match is None:
        raise UsageError(f"{config_file}: neither architectures nor init_class names a model class")
    return match["prefix"]


def _config_file(name_or_path: str) -> str:
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        for name in _CONFIG_FILES:
            if (folder / name).is_file():
                return str(folder / name)
        raise UsageError(f"{folder}: no {' or '.join(_CONFIG_FILES)} in this model directory")
    with _one_line(name_or_path, "model configuration"):
        found = paddlenlp.utils.download.resolve_file_path(name_or_path, list(_CONFIG_FILES))
    if found is None:
        raise UsageError(f"{name_or_path}: neither a directory nor a model PaddleNLP knows")
    return found


class _one_line:
    """Turns whatever PaddleNLP raises while it looks for a model into one line that says what to do."""

    def __init__(self, name_or_path: str, what: str):
        self.name, self.what = name_or_path, what

    def __enter__(self) -> None:
        if not Path(self.name).expanduser().is_dir() and (
            self.name.startswith((".", "/", "~")) or self.name.count("/") > 1
        ):
            raise UsageError(f"--model_name_or_path {self.name}: no such directory")

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if error is None or not isinstance(error, Exception) or isinstance(error, (UsageError, NetworkError)):
            return
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        message = f"{self.name}: the {self.what} can't be loaded ({reason})"
        if Path(self.name).expanduser().is_dir():
            raise UsageError(message) from error
        raise NetworkError(f"{message}; download it where there is a network and give its directory") from error


# Dropout --------------------------------------------------------------------------------------------------------------


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


# Multiple choice ------------------------------------------------------------------------------------------------------


def score_options(model: paddle.nn.Layer, input_ids: paddle.Tensor, token_type_ids: paddle.Tensor) -> paddle.Tensor:
    """Scores [B, N] of the N options of each question; ids [B, N, T]. N may differ from call to call."""
    unwrapped(model).num_choices = input_ids.shape[1]
    return model(input_ids, token_type_ids)


def unwrapped(model: paddle.nn.Layer) -> paddle.nn.Layer:
    """The model itself, without paddle.DataParallel round it."""
    return model._layers if isinstance(model, paddle.DataParallel) else model


def _multiple_choice_class(prefix: str, backbone: type) -> type:
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
    head = type(f"{prefix}ForMultipleChoice", (pretrained,), {"__init__": __init__, "forward": forward})
    return head


# Saving ---------------------------------------------------------------------------------------------------------------


def save_model(model: paddle.nn.Layer, tokenizer: Any, folder: str | os.PathLike) -> None:
    """Saves model and tokenizer in PaddleNLP's layout, over what stands there.

    Every file is written beside its place and renamed, the weights last. Between two saves of one run only the
    weights change, so the directory holds a whole model at every instant. Raises OSError.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as temporary:
        unwrapped(model).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        files = sorted(Path(temporary).iterdir(), key=lambda path: path.suffix == ".pdparams")
        for path in files:
            os.replace(path, folder / path.name)


def remove_model(folder: str | os.PathLike) -> None:
    """Removes the files `save_model` wrote, and nothing else."""
    for name in _SAVED_FILES:
        (Path(folder) / name).unlink(missing_ok=True)


_SAVED_FILES = {
    "config.json",
    "generation_config.json",
    "model_state.pdparams",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
}


# The demo model -------------------------------------------------------------------------------------------------------


def write_demo_model(folder: str | os.PathLike, characters: str, seed: int = 0) -> None:
    """Writes a randomly initialised 2-layer, 128-wide ERNIE with a character vocabulary into ``folder``.

    It is no pretrained model: it is there to run the whole tool in minutes, on data made to be learnable.
    ``characters``: what the vocabulary holds besides special tokens and ASCII, in order. The same seed gives the same
    weights.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    special = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"] + [f"[unused{number}]" for number in range(1, 10)]
    letters = string.ascii_lowercase + string.digits
    ascii_pieces = list(letters + string.punctuation) + [f"##{letter}" for letter in letters]
    vocabulary = list(dict.fromkeys(special + ascii_pieces + list(characters)))
    vocabulary_file = folder / "vocab.txt"
    vocabulary_file.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = paddlenlp.transformers.ErnieTokenizer(str(vocabulary_file), do_lower_case=True)
    config = paddlenlp.transformers.ErnieConfig(
        vocab_size=len(vocabulary),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=512,
        max_position_embeddings=512,
        type_vocab_size=2,
        initializer_range=0.05,
        use_task_id=False,
        pad_token_id=0,
    )
    before = paddle.get_rng_state()
    paddle.seed(seed)
    model = paddlenlp.transformers.ErnieModel(config)
    paddle.set_rng_state(before)
    save_model(model, tokenizer, folder)
