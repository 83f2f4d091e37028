"""Models and tokenizers: PaddleNLP's own, the heads it lacks, the dropout rule, and the tiny model of the demo."""

from __future__ import annotations

import copy
import os
import re
import string
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddlenlp.transformers
from paddlenlp.utils.log import logger

from cluebench import environment, model_files
from cluebench.errors import ClueError, NetworkError, UsageError
from cluebench.model_files import ModelFiles
from cluebench.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task
from cluebench.weights import in_paddle, is_hugging_face, read_weights

#: Head of each kind of task, as PaddleNLP names it behind the architecture.
_HEADS = {
    SINGLE: "ForSequenceClassification",
    PAIR: "ForSequenceClassification",
    SPAN: "ForQuestionAnswering",
    CHOICE: "ForMultipleChoice",
    IDIOM: "ForMultipleChoice",
}
_CLASS_NAME = re.compile(r"(?P<prefix>\w+?)(?:Model|For[A-Z]\w*|LMHeadModel)$")

#: Architectures whose Hugging Face weights are known to mean the same in PaddleNLP's model of that name.
_FROM_HUGGING_FACE = ("Bert", "Ernie", "ErnieGram", "Roberta", "TinyBert")

#: Parts of a backbone that files may lack: pretraining leaves them out, or fine-tuning does not use them.
_DISPENSABLE = re.compile(r"pooler\.|fit_dense|rel_pos_embeddings\.|task_type_embeddings\.")

logger.set_level("WARNING")  # PaddleNLP's own chatter would stand between the log lines users parse


# Loading --------------------------------------------------------------------------------------------------------------


def load_tokenizer(name_or_path: str, *, offline: bool = False, **settings: Any) -> Any:
    """The PaddleNLP tokenizer of a model (name or directory). Raises UsageError or NetworkError in one line.

    ``settings`` override the model's own, as ``do_lower_case=False``. ``offline``: the network is not touched.
    """
    files = locate(name_or_path, offline=offline, weights=False)
    with _one_line(files, "tokenizer"):
        kind = _tokenizer_class(files)
        if files.config is not None:
            return kind.from_pretrained(str(files.folder), **settings)
        # from_pretrained of a published name writes into PaddleNLP's home, which other trials are reading.
        tokenizer = kind(str(files.vocabulary), **{**kind.pretrained_init_configuration[files.name], **settings})
        tokenizer.sanitize_special_tokens()
        return tokenizer


def load_model(
    task: Task,
    name_or_path: str,
    dropout: float | None = None,
    *,
    tokenizer: Any = None,
    max_seq_length: int | None = None,
    head_required: bool = False,
    offline: bool = False,
) -> paddle.nn.Layer:
    """The model with the head of the task's kind, weights from a published name or a directory.

    A head that the weights lack is drawn from paddle's generator, so seed it right before (`training.seed`); with
    ``head_required`` it is an error, as it is when the weights were fine-tuned for another task.
    ``dropout``: see `set_dropout`; None keeps the model's own. ``tokenizer``: the one that makes its inputs, which must
    fit. ``max_seq_length``: tokens of the longest input. ``offline``: the network is not touched.
    Raises UsageError when the architecture can't do the task, a setting can't be applied, or the files are not whole.
    """
    files = locate(name_or_path, offline=offline)
    head = _head_class(files, task)
    written = _written_config(files, head)
    if head_required:
        _refuse_other_task(files, written, head, task)
    weights = _read(files)
    config = _configuration(files, head, written, task, tokenizer, is_hugging_face(weights))
    _check_fit(files, config, tokenizer, max_seq_length)
    model = _build(files, head, config)
    _fill(model, weights, files, task, head_required)
    if dropout is not None:
        set_dropout(model, dropout)
    return model


def locate(name_or_path: str, *, offline: bool = False, weights: bool = True) -> ModelFiles:
    """The files of a model, fetched by PaddleNLP if it is a published one that is not here.

    ``weights`` False: only what the tokenizer needs. Raises UsageError and NetworkError.
    """
    files = model_files.find(name_or_path, offline=offline, weights=weights) or _fetch(name_or_path, weights)
    # Of its own models PaddleNLP knows the configuration; whatever lies beside the weights is no part of them.
    return files if files.is_directory or not _published_prefix(files.name) else replace(files, config=None)


def model_class(task: Task, name_or_path: str) -> type:
    """The class that `load_model` builds: PaddleNLP's, or the generic multiple-choice head where it has none."""
    return _head_class(locate(name_or_path, weights=False), task)


class _one_line:
    """Turns whatever PaddleNLP raises while it works on a model into one line that names the model."""

    def __init__(self, files: ModelFiles, what: str):
        self.name, self.what = files.name, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, (ClueError, MemoryError)):
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[-300:]}"
            raise UsageError(f"{self.name}: the {self.what} can't be loaded ({reason})") from error


# Published models -----------------------------------------------------------------------------------------------------


def _published_prefix(name: str) -> str | None:
    """``"Ernie"`` for ``"ernie-3.0-base-zh"``; None for a name that is not built into PaddleNLP."""
    builtin = paddlenlp.transformers.AutoModel._pretrained_model_dict
    return next((kind.removesuffix("Model") for names, kind in builtin.items() if name in names), None)


def _published_tokenizer(name: str) -> type:
    found = [
        kind
        for class_name, kind in vars(paddlenlp.transformers).items()
        if class_name.endswith("Tokenizer") and name in (getattr(kind, "pretrained_init_configuration", None) or ())
    ]
    if not found:
        raise UsageError(f"{name}: PaddleNLP has no tokenizer of that name")
    return found[0]


def _fetch(name: str, weights: bool) -> ModelFiles:
    """Has PaddleNLP fetch what is not in its home yet. Raises UsageError for a name its server does not know."""
    from paddlenlp.utils.download import bos_download

    home = str(model_files.model_home())
    wanted: list[tuple[str, str | None]] = []  # file name, address where it is not that of the community's models
    if prefix := _published_prefix(name):
        backbone = getattr(paddlenlp.transformers, f"{prefix}Model")
        vocabulary = _published_tokenizer(name).pretrained_resource_files_map["vocab_file"][name]
        wanted.append((vocabulary.split("/")[-1], vocabulary))
        if weights:
            wanted.append(("model_state.pdparams", backbone.pretrained_resource_files_map["model_state"][name]))
    try:
        if not wanted:
            wanted = _community_files(name, weights)
        for file, address in wanted:
            bos_download(name, file, url=address, cache_dir=home)
    except ClueError:
        raise
    except Exception as error:  # requests', huggingface_hub's and the system's
        reason = " ".join(str(error).split())[:300]
        raise NetworkError(f"{name}: could not be fetched from {model_files.server()} ({reason}); try again") from error
    held = model_files.held_by_paddlenlp(name, weights)
    if held is None:
        raise UsageError(f"{name}: what PaddleNLP's server has of this model is not whole")
    return held


def _community_files(name: str, weights: bool) -> list[tuple[str, None]]:
    """The files of a model that PaddleNLP's server keeps for someone else."""
    from paddlenlp.utils.download import bos_file_exists

    config = next((file for file in model_files.CONFIG_FILES if bos_file_exists(name, file)), None)
    if config is None:
        raise UsageError(f"{name}: neither a directory nor a model PaddleNLP knows")
    files = [config, model_files.VOCABULARY]
    if bos_file_exists(name, model_files.TOKENIZER_FILE):
        files.append(model_files.TOKENIZER_FILE)
    if weights:
        single = ("model.safetensors", "model_state.pdparams")
        files += [file for file in single if bos_file_exists(name, file)][:1]
    return [(file, None) for file in files]


# Classes --------------------------------------------------------------------------------------------------------------


def _head_class(files: ModelFiles, task: Task) -> type:
    prefix = _architecture(files)
    found = getattr(paddlenlp.transformers, prefix + _HEADS[task.kind], None)
    if found is not None:
        return found
    if task.kind not in (CHOICE, IDIOM):
        raise UsageError(f"{files.name}: PaddleNLP has no {prefix}{_HEADS[task.kind]}, so it can't do {task.title}")
    return _multiple_choice_class(prefix, getattr(paddlenlp.transformers, f"{prefix}Model"))


def _architecture(files: ModelFiles) -> str:
    """``"Ernie"``, ``"Bert"``, …: the class-name prefix of a model. Raises UsageError for one PaddleNLP hasn't."""
    if files.config is None:
        prefix = _published_prefix(files.name)
        if prefix is None:
            raise UsageError(f"{files.folder}: no {' or '.join(model_files.CONFIG_FILES)} in this model directory")
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


def _tokenizer_class(files: ModelFiles) -> type:
    """The slow tokenizer that the model's files name, else the one usual for its architecture and vocabulary.

    PaddleNLP's AutoTokenizer takes RoBERTa for the English one, and no directory without tokenizer_config.json.
    """
    if files.config is None:
        return _published_tokenizer(files.name)
    said = files.read_tokenizer_config()
    prefix = _architecture(files)
    wordpiece = [f"{prefix}ChineseTokenizer", f"{prefix}Tokenizer", "BertTokenizer"] if files.vocabulary else []
    names = [said.get("tokenizer_class"), said.get("init_class"), *wordpiece, f"{prefix}BPETokenizer"]
    for name in (str(name).removesuffix("Fast") for name in names if name):
        kind = getattr(paddlenlp.transformers, name, None)
        if isinstance(kind, type) and hasattr(kind, "resource_files_names"):
            vocabulary = kind.resource_files_names.get("vocab_file")
            if vocabulary is None or (files.folder / vocabulary).is_file():
                return kind
    raise UsageError(f"{files.folder}: PaddleNLP has no tokenizer for the files in this directory")


# Configuration --------------------------------------------------------------------------------------------------------

#: Key in a saved configuration of what PaddleNLP's own settings can't express; see `_deviations`.
_DEVIATIONS = "cluebench"


def _written_config(files: ModelFiles, head: type) -> dict[str, Any]:
    """The configuration as published or as its author wrote it. Raises UsageError for what PaddleNLP can't build."""
    if files.config is None:
        return copy.deepcopy(head.pretrained_init_configuration[files.name])
    written = files.read_config()
    positions = written.get("position_embedding_type") or "absolute"
    if positions != "absolute":
        raise UsageError(
            f'{files.config}: "position_embedding_type" is {positions}, but {head.__name__} has absolute ones only'
        )
    return written


def _configuration(
    files: ModelFiles, head: type, written: Mapping[str, Any], task: Task, tokenizer: Any, hugging_face: bool
) -> Any:
    """PaddleNLP's configuration of the model with the task's head."""
    with _one_line(files, "configuration"):
        config = head.config_class.from_dict(copy.deepcopy(dict(written)))
    if task.labels:
        config.num_labels = len(task.labels)
    if task.num_choices:
        config.num_choices = task.num_choices
    if 0 in (written.get("classifier_dropout"), written.get("dropout")):
        config.classifier_dropout = 0.0  # from_dict takes 0 for not given
    config.finetuning_task = task.name
    if deviations := _deviations(head, config, written, hugging_face):
        setattr(config, _DEVIATIONS, deviations)
    if tokenizer is not None:
        config.pad_token_id = tokenizer.pad_token_id  # what batches are padded with is what must be masked
    return config


def _deviations(head: type, config: Any, written: Mapping[str, Any], hugging_face: bool) -> dict[str, Any]:
    """Where this model differs from the one PaddleNLP 3.0.0b4 would build; saved with it.

    ``first_position``: of the first token. Chinese RoBERTa was pretrained and, for the published scores, fine-tuned
    with positions from 0; PaddleNLP now counts from pad_token_id + 1 as the English one does, one too many for an
    input of 512 tokens. ``layer_norm_eps``: PaddleNLP has its own, fixed, for ERNIE and ERNIE-Gram.
    """
    if _DEVIATIONS in written:
        return dict(written[_DEVIATIONS])
    found: dict[str, Any] = {}
    if head.base_model_prefix == "roberta":
        # As PaddleNLP itself decided when the published scores were made: English tokenizers have [CLS] at 0.
        from_zero = not hugging_face and config.cls_token_id != 0
        pad = written.get("pad_token_id", 1) if hugging_face else config.pad_token_id
        found["first_position"] = 0 if from_zero else pad + 1
    if hugging_face and written.get("layer_norm_eps") is not None:
        found["layer_norm_eps"] = float(written["layer_norm_eps"])
    return found


def _check_fit(files: ModelFiles, config: Any, tokenizer: Any, max_seq_length: int | None) -> None:
    """Raises UsageError when inputs are longer, or hold other tokens, than the model has embeddings for."""
    limit = longest_input(config)
    if max_seq_length and limit is not None and max_seq_length > limit:
        raise UsageError(
            f"--max_seq_length {max_seq_length}: {files.name} has positions for {limit} tokens only; give at most that"
        )
    if tokenizer is None or files.config is None:
        return
    tokens = max(tokenizer.get_vocab().values()) + 1
    if tokens > config.vocab_size:
        raise UsageError(
            f"{files.name}: its tokenizer has {tokens:,} tokens, the model embeddings for {config.vocab_size:,}: "
            f"vocabulary and {files.config.name} belong to different models"
        )


def longest_input(config: Any) -> int | None:
    """Tokens of the longest input that a model has positions for; None where nothing limits it."""
    positions = getattr(config, "max_position_embeddings", None)
    first = getattr(config, _DEVIATIONS, {}).get("first_position", 0)
    return None if positions is None else positions - first


def _build(files: ModelFiles, head: type, config: Any) -> paddle.nn.Layer:
    """The model with weights drawn anew, and what differs from PaddleNLP's seen to."""
    with _one_line(files, "model"):
        model = head(config)
    deviations = getattr(config, _DEVIATIONS, {})
    if (epsilon := deviations.get("layer_norm_eps")) is not None:
        for layer in model.sublayers():
            if isinstance(layer, paddle.nn.LayerNorm):
                layer._epsilon = epsilon
    first_position = deviations.get("first_position")
    one_type = getattr(config, "type_vocab_size", 2) == 1
    if first_position is not None or one_type:
        hook = _EmbeddingInputs(first_position, one_type)
        model.base_model.embeddings.register_forward_pre_hook(hook, with_kwargs=True)
    return model


class _EmbeddingInputs:
    """Hook before an embedding layer: positions that begin where they should, only token types there are."""

    def __init__(self, first_position: int | None, one_token_type: bool):
        self.first_position, self.one_token_type = first_position, one_token_type

    def __call__(self, layer: paddle.nn.Layer, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        named = {**dict(zip(("input_ids", "token_type_ids", "position_ids"), given)), **named}
        if self.one_token_type:
            named["token_type_ids"] = None
        if self.first_position is not None and named.get("position_ids") is None:
            ones = paddle.ones_like(named["input_ids"])
            named["position_ids"] = paddle.cumsum(ones, axis=-1) + (self.first_position - 1)
        return (), named


# Weights --------------------------------------------------------------------------------------------------------------


def _read(files: ModelFiles) -> dict[str, np.ndarray]:
    try:
        return read_weights(files.weights)
    except UsageError:
        if files.is_directory or any(file.suffix != ".pdparams" for file in files.weights):
            raise
        try:  # published by PaddleNLP itself, maybe long ago: what its own reader makes of it can be trusted
            loaded = paddle.load(str(files.weights[0]), return_numpy=True)
            return {name: np.asarray(value) for name, value in loaded.items()}
        except Exception:
            raise UsageError(f"{files.weights[0]}: damaged; remove it, and it is fetched again") from None


def _fill(
    model: paddle.nn.Layer, weights: Mapping[str, np.ndarray], files: ModelFiles, task: Task, head_required: bool
) -> None:
    """Copies the weights into the model. Raises UsageError when they are not those of this model."""
    prefix = model.base_model_prefix
    if is_hugging_face(weights) and not type(model).__name__.startswith(_FROM_HUGGING_FACE):
        raise UsageError(
            f"{files.name}: Hugging Face weights can't be converted for {type(model).__name__}; "
            f"they can for {', '.join(_FROM_HUGGING_FACE)}"
        )
    stored = in_paddle(weights, prefix)
    backbone = _plain_backbone(model)
    head = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(f"{prefix}.")}
    _check_backbone(backbone, stored, files)
    lacking = [name for name, tensor in head.items() if not _fits(stored.get(name), tensor)]
    if lacking and head_required:
        raise UsageError(_no_head(files, task, lacking, stored))
    _tell_of_new_parts(files, [name for name in backbone if name not in stored], [n for n in lacking if n in stored])
    for name, tensor in (*backbone.items(), *head.items()):
        if name in stored and name not in lacking:
            tensor.set_value(np.ascontiguousarray(stored[name]))


def _plain_backbone(model: paddle.nn.Layer) -> dict[str, paddle.Tensor]:
    """Its parameters under names without the backbone's prefix."""
    prefix = f"{model.base_model_prefix}."
    state = model.state_dict()
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _check_backbone(backbone: Mapping[str, Any], stored: Mapping[str, np.ndarray], files: ModelFiles) -> None:
    where = ", ".join(file.name for file in files.weights[:1])
    for name, tensor in backbone.items():
        if name in stored and not _fits(stored[name], tensor):
            raise UsageError(
                f"{files.name}: {name} is {list(stored[name].shape)} in {where}, but {list(tensor.shape)} by "
                f"{files.config.name if files.config else 'its configuration'}"
            )
    missing = [name for name in backbone if name not in stored and not _DISPENSABLE.match(name)]
    if missing:
        raise UsageError(
            f"{files.name}: {where} lacks {len(missing)} of the {len(backbone)} arrays of the model that "
            f"{files.config.name if files.config else 'its configuration'} describes ({', '.join(missing[:3])}, …), "
            "so it holds another model, or not all of this one"
        )


def _fits(array: np.ndarray | None, tensor: Any) -> bool:
    return array is not None and list(array.shape) == list(tensor.shape)


def _refuse_other_task(files: ModelFiles, written: Mapping[str, Any], head: type, task: Task) -> None:
    """Heads of different tasks can have the same names and shapes, so what the files say is checked too."""
    tuned = written.get("finetuning_task")
    names = [name for name in written.get("architectures") or [written.get("init_class")] if name]
    if isinstance(tuned, str) and tuned != task.name:
        reason = f"was fine-tuned for {tuned.upper()}"
    elif names and names[-1] != head.__name__:
        reason = f"is a {names[-1]}, not a {head.__name__}"
    else:
        return
    raise UsageError(f"{files.name}: {reason}, so it can't be used for {task.title} without --do_train")


def _no_head(files: ModelFiles, task: Task, lacking: Sequence[str], stored: Mapping[str, np.ndarray]) -> str:
    other = [f"{name} of shape {list(stored[name].shape)}" for name in lacking if name in stored]
    reason = f"have another head ({other[0]})" if other else f"have no head ({lacking[0]})"
    return f"{files.name}: the weights {reason}: fine-tune on {task.title} first, or add --do_train"


def _tell_of_new_parts(files: ModelFiles, backbone: Sequence[str], resized: Sequence[str]) -> None:
    """On stderr, once a run. That a pretrained model has no head yet goes without saying."""
    if environment.rank() != 0:
        return
    if parts := sorted({name.split(".")[0] for name in backbone}):
        print(f"{files.name}: not in the weights, so drawn anew: {', '.join(parts)}", file=sys.stderr)
    if resized:
        print(f"{files.name}: the weights have a head of another size; a new one is drawn", file=sys.stderr)


# Preflight ------------------------------------------------------------------------------------------------------------


def preflight(name_or_path: str, tasks: Iterable[Task], *, offline: bool = False) -> dict[str, str | None]:
    """Task name → why the model can't do it at the task's own length, or None when it can.

    Tries the tokenizer, the weights, and for each kind of head a model of one layer with it, the dropout rule and
    a made-up input. Raises UsageError or NetworkError for a model that can't be loaded at all.
    """
    files = locate(name_or_path, offline=offline)
    tokenizer = load_tokenizer(name_or_path, offline=offline)
    weights = _read(files)
    by_head: dict[str, tuple[str | None, int | None]] = {}
    found: dict[str, str | None] = {}
    for task in tasks:
        if _HEADS[task.kind] not in by_head:
            by_head[_HEADS[task.kind]] = _try_head(files, task, tokenizer, weights)
        reason, limit = by_head[_HEADS[task.kind]]
        if reason is None and limit is not None and limit < task.max_seq_length:
            reason = f"its inputs have up to {task.max_seq_length} tokens, the model has positions for {limit}"
        if reason is None and task.kind == IDIOM and tokenizer.mask_token_id is None:
            reason = "its vocabulary has no [MASK], which stands for the blanks"
        found[task.name] = reason
    return found


def _try_head(
    files: ModelFiles, task: Task, tokenizer: Any, weights: Mapping[str, np.ndarray]
) -> tuple[str | None, int | None]:
    """Why the model can't do tasks with this task's head, and its longest input."""
    needed = {"[CLS]": tokenizer.cls_token_id, "[SEP]": tokenizer.sep_token_id, "[PAD]": tokenizer.pad_token_id}
    if absent := [token for token, number in needed.items() if number is None]:
        return f"its vocabulary has no {', '.join(absent)}", None
    try:
        head = _head_class(files, task)
        config = _configuration(files, head, _written_config(files, head), task, tokenizer, is_hugging_face(weights))
        _check_fit(files, config, tokenizer, None)
        _try_cut_down(files, head, config, task, list(needed.values()), weights)
    except UsageError as error:
        return str(error).removeprefix(f"{files.name}: "), None
    return None, longest_input(config)


def _try_cut_down(
    files: ModelFiles, head: type, config: Any, task: Task, tokens: Sequence[int], weights: Mapping[str, np.ndarray]
) -> None:
    """One layer on one short input; its arrays are those the weights must have of every layer. Raises UsageError."""
    layers, config = config.num_hidden_layers, copy.deepcopy(config)
    config.num_hidden_layers = 1
    model = _build(files, head, config)
    set_dropout(model, 0.5)
    backbone = _plain_backbone(model)
    of_all_layers = {
        name.replace(".layers.0.", f".layers.{layer}."): tensor
        for name, tensor in backbone.items()
        for layer in range(layers if ".layers.0." in name else 1)
    }
    _check_backbone(of_all_layers, in_paddle(weights, model.base_model_prefix), files)
    with _one_line(files, head.__name__):
        ids = paddle.to_tensor([tokens])
        types = paddle.to_tensor([[0] * (len(tokens) - 1) + [1]])
        if task.num_choices:
            score_options(model, ids.unsqueeze(1).tile([1, 2, 1]), types.unsqueeze(1).tile([1, 2, 1]))
        else:
            model(ids, types)


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


def check_output(folder: str | os.PathLike) -> None:
    """Raises UsageError when weights in ``folder`` would be taken for those `save_model` writes there."""
    for name in model_files.WEIGHT_FILES[: model_files.WEIGHT_FILES.index("model_state.pdparams")]:
        if (Path(folder) / name).exists():
            raise UsageError(
                f"--output_dir {folder}: holds {name}, another model's weights, which would be taken for this run's; "
                "give a directory of its own"
            )


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
