"""Loads a model's tokenizer, and its network with a task's head and its weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from cluebench.benchmark.tasks import Task
from cluebench.foundation.errors import UsageError
from cluebench.models.classes import architecture, published_tokenizer, tokenizer_class
from cluebench.models.configuration import Target, build, check_fit, configured, in_one_line, warn_of_positions
from cluebench.models.fetching import located
from cluebench.models.filling import (
    check_backbone,
    check_sizes,
    fill,
    in_paddles_names,
    of_all_layers,
    plain_backbone,
    read,
    refuse_other_task,
)
from cluebench.models.tokenizer_file import TokenizerFile
from cluebench.models.wordpiece import wordpiece_tokenizer
from cluebench.pretrained.model import Model
from cluebench.pretrained.wordpiece import read_wordpiece
from cluebench.records.result import ModelSize


def load_tokenizer(model: Model, *, offline: bool = False, **settings: Any) -> Any:
    """The tokenizer of a model: PaddleNLP's for a WordPiece vocabulary, else the one in tokenizer.json.

    ``settings`` override the model's own, as ``do_lower_case=False``. ``offline``: the network is not used. Raises
    UsageError or NetworkError in one line.
    """
    files = located(model, offline=offline, weights=False)
    architecture(files)  # raises for a model that can't be fine-tuned
    files.check_tokenizer()
    wordpiece = read_wordpiece(files) if files.config is not None else None
    if files.config is not None and wordpiece is None and files.tokenizer.is_file():
        if settings:
            raise UsageError(f"--{next(iter(settings))}: {files.tokenizer} decides it; leave the flag out")
        return TokenizerFile(files.tokenizer, files.read_special_tokens())
    with in_one_line(model, "tokenizer"):
        if files.config is not None:
            kind = tokenizer_class(files, wordpiece is not None)
            if wordpiece is not None:
                return wordpiece_tokenizer(kind, files, wordpiece, **settings)
            return kind.from_pretrained(str(files.folder), **settings)
        kind = published_tokenizer(model.name)
        # from_pretrained of a published name writes into PaddleNLP's home, which other trials are reading.
        tokenizer = kind(str(files.vocabulary), **{**kind.pretrained_init_configuration[model.name], **settings})
        tokenizer.sanitize_special_tokens()
        return tokenizer


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
    target = Target(located(model, offline=offline), task, head_required)
    return built(target, read(target.files), tokenizer, max_seq_length)


def built(
    target: Target,
    weights: Mapping[str, np.ndarray],
    tokenizer: Any = None,
    max_seq_length: int | None = None,
    layers: int | None = None,
) -> paddle.nn.Layer:
    """See `load_model`. ``layers``: only the first ones are built, but the weights are checked to the last."""
    if target.head_required:
        refuse_other_task(target)
    stored, hugging_face = in_paddles_names(target, weights)
    config = configured(target, tokenizer, hugging_face)
    check_fit(target, config, tokenizer, max_seq_length)
    if target.head_required:
        warn_of_positions(target, config)
    check_sizes(target, config, stored)
    every = config.num_hidden_layers
    config.num_hidden_layers = min(layers or every, every)
    loaded = build(target, config)
    check_backbone(of_all_layers(plain_backbone(loaded), every), stored, target)
    fill(loaded, stored, target)
    return loaded


def size_of(model: paddle.nn.Layer) -> ModelSize | None:
    """The size of a network without its head; None where its configuration names no layers."""
    config = model.config
    parameters = sum(int(np.prod(array.shape)) for array in model.base_model.parameters())
    layers, hidden_size = (getattr(config, name, None) for name in ("num_hidden_layers", "hidden_size"))
    return ModelSize(layers, hidden_size, parameters) if layers and hidden_size else None
