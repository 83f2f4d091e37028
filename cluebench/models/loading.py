"""Models on disk and in memory: fetched, loaded with a task's head, sized, set to another dropout, saved."""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddlenlp.transformers
from paddlenlp.utils.download import bos_download, bos_file_exists

from cluebench.benchmark.published import unless_published
from cluebench.benchmark.tasks import Task
from cluebench.foundation import atomic
from cluebench.foundation.errors import ClueError, NetworkError, UsageError
from cluebench.models.classes import published_prefix, published_tokenizer
from cluebench.models.configuration import Target, check_fit, configured, warn_of_positions
from cluebench.models.filling import check_sizes, fill, in_paddles_names, read, refuse_other_task
from cluebench.models.forward_pass import unwrapped
from cluebench.models.mending import build
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import WEIGHT_FILES, ModelFiles
from cluebench.records.result import ModelSize

_WEIGHTS = "model_state.pdparams"
_SAVED_FILES = (
    "config.json", "generation_config.json", _WEIGHTS, "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.txt", "tokenizer.json",
)  # fmt: skip

#: Names of layers for attention dropout. (Paddle's own encoder layers have no layer for it.)
_OF_ATTENTION = re.compile(r"(attention_dropout|(attention\.self|self_attn)\.dropout)$")


def load_model(
    task: Task,
    model: Model,
    *,
    tokenizer: Any = None,
    max_seq_length: int | None = None,
    head_required: bool = False,
    offline: bool = False,
) -> paddle.nn.Layer:
    """The network with the head of the task's kind, with the model's weights.

    A head that the weights lack is drawn from paddle's generator, so seed it right before (`training.seed`); with
    ``head_required`` it is an error, as it is when the weights were fine-tuned for another task. ``tokenizer``: the one
    that makes its inputs, which must fit. ``max_seq_length``: tokens of the longest input. ``offline``: the network is
    not touched. Raises UsageError when the architecture can't do the task, or the files are not whole.
    """
    target = Target(located(model, offline=offline), task, tokenizer, max_seq_length, head_required)
    return built(target, read(target.files))


def built(target: Target, weights: Mapping[str, np.ndarray], layers: int | None = None) -> paddle.nn.Layer:
    """See `load_model`. ``layers``: only the first ones are built, but the weights are checked to the last."""
    if target.head_required:
        refuse_other_task(target)
    stored, hugging_face = in_paddles_names(target, weights)
    config = configured(target, hugging_face)
    check_fit(target, config)
    if target.head_required:
        warn_of_positions(target, config)
    check_sizes(target, config, stored)
    every = config.num_hidden_layers
    config.num_hidden_layers = min(layers or every, every)
    loaded = build(target, config)
    fill(loaded, every, stored, target)
    return loaded


def size_of(model: paddle.nn.Layer) -> ModelSize | None:
    """The size of a network without its head; None where its configuration names no layers."""
    config = model.config
    parameters = sum(int(np.prod(array.shape)) for array in model.base_model.parameters())
    layers, hidden_size = (getattr(config, name, None) for name in ("num_hidden_layers", "hidden_size"))
    return ModelSize(layers, hidden_size, parameters) if layers and hidden_size else None


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


def save_model(model: paddle.nn.Layer, tokenizer: Any, folder: str | os.PathLike) -> None:
    """Saves model and tokenizer, over earlier ones.

    Every file is written under a temporary name, synced and renamed, the weights last. Between two saves of one run
    only the weights change, so the directory holds a whole model at every instant. Raises OSError.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{_WEIGHTS}.", suffix=".tmp", dir=folder) as temporary:
        unwrapped(model).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        atomic.sync_tree(temporary)
        files = sorted(Path(temporary).iterdir(), key=lambda path: path.suffix == ".pdparams")
        for path in files:
            os.replace(path, folder / path.name)
        atomic.sync_directory(folder)


def check_output(folder: str | os.PathLike) -> None:
    """Raises UsageError when other weights in ``folder`` would be read instead of those `save_model` writes there."""
    for name in WEIGHT_FILES[: WEIGHT_FILES.index(_WEIGHTS)]:
        if (Path(folder) / name).exists():
            raise UsageError(
                f"--output_dir {folder}: holds {name}, another model's weights, which would be read instead of this "
                "run's; give another directory"
            )


def remove_model(folder: str | os.PathLike) -> None:
    """Removes the files `save_model` wrote, and nothing else."""
    for name in _SAVED_FILES:
        (Path(folder) / name).unlink(missing_ok=True)


def located(model: Model, *, offline: bool = False, weights: bool = True) -> ModelFiles:
    """The files of a model; PaddleNLP fetches a published model that is not here.

    ``weights`` False: only what the tokenizer needs. Raises UsageError and NetworkError.
    """
    files = model_files.find(model, offline=offline, weights=weights) or _fetch(model, weights)
    # PaddleNLP carries the configurations of its own models; a file beside their weights does not count.
    return files if model.directory or not published_prefix(model.name) else replace(files, config=None)


def _fetch(model: Model, weights: bool) -> ModelFiles:
    """PaddleNLP fetches what is not in its home yet. Raises UsageError for a name that its server does not have."""
    name, home = model.name, str(model_files.model_home())
    wanted: list[tuple[str, str | None]] = []  # file name; address, None: the community's models
    if prefix := published_prefix(name):
        backbone = getattr(paddlenlp.transformers, f"{prefix}Model")
        vocabulary = published_tokenizer(name).pretrained_resource_files_map["vocab_file"][name]
        wanted.append((vocabulary.split("/")[-1], vocabulary))
        if weights:
            wanted.append(("model_state.pdparams", backbone.pretrained_resource_files_map["model_state"][name]))
    try:
        for file, address in wanted or _community_files(name, weights):
            bos_download(name, file, url=address, cache_dir=home)
    except ClueError:
        raise
    except Exception as error:  # requests', huggingface_hub's and the system's
        reason = " ".join(str(error).split())[:300]
        raise NetworkError(f"{name}: could not be fetched from {model_files.server()} ({reason}); try again") from error
    files = model_files.in_home(model, weights)
    if files is None:
        raise UsageError(f"{name}: PaddleNLP's server has this model incompletely")
    return files


def _community_files(name: str, weights: bool) -> list[tuple[str, None]]:
    """The files of a model that PaddleNLP's server offers for other authors."""
    config = next((file for file in model_files.CONFIG_FILES if bos_file_exists(name, file)), None)
    if config is None:
        raise UsageError(f"{name}: neither a directory nor a model that PaddleNLP knows{unless_published(name)}")
    files = [config, model_files.VOCABULARY]
    if bos_file_exists(name, model_files.TOKENIZER_FILE):
        files.append(model_files.TOKENIZER_FILE)
    if weights:
        single = ("model.safetensors", "model_state.pdparams")
        files += [file for file in single if bos_file_exists(name, file)][:1]
    return [(file, None) for file in files]
