"""From a model to its tokenizer, and to the network with a task's head and its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle

from cluebench.benchmark.tasks import Task
from cluebench.foundation.errors import UsageError
from cluebench.models.architectures import architecture_of
from cluebench.models.classes import architecture, head_class, published_tokenizer, tokenizer_class
from cluebench.models.configuration import build, check_fit, configured, tell_of_positions, written_config
from cluebench.models.dropout import set_dropout
from cluebench.models.fetching import located
from cluebench.models.filling import check_sizes, fill, read, refuse_other_task
from cluebench.models.hugging_face import in_paddle, is_hugging_face
from cluebench.models.one_line import in_one_line
from cluebench.models.tokenizer_file import TokenizerFile
from cluebench.models.wordpiece import wordpiece_tokenizer
from cluebench.pretrained.model import Model
from cluebench.pretrained.wordpiece import read_wordpiece
from cluebench.records.result import ModelSize


def load_tokenizer(model: Model, *, offline: bool = False, **settings: Any) -> Any:
    """The tokenizer of a model: PaddleNLP's for a WordPiece vocabulary, else what tokenizer.json holds.

    Raises UsageError or NetworkError in one line.

    ``settings`` override the model's own, as ``do_lower_case=False``. ``offline``: the network is not touched.
    """
    files = located(model, offline=offline, weights=False)
    architecture(files)  # of a model that can't be fine-tuned, the tokenizer does not matter
    files.check_tokenizer()
    said = read_wordpiece(files) if files.config is not None else None
    if files.config is not None and said is None and files.tokenizer.is_file():
        if settings:
            raise UsageError(f"--{next(iter(settings))}: {files.tokenizer} says so itself; leave the flag out")
        return TokenizerFile(files.tokenizer, files.read_special_tokens())
    with in_one_line(model, "tokenizer"):
        if files.config is not None:
            kind = tokenizer_class(files, said is not None)
            if said is not None:
                return wordpiece_tokenizer(kind, files, said, **settings)
            return kind.from_pretrained(str(files.folder), **settings)
        kind = published_tokenizer(model.name)
        # from_pretrained of a published name writes into PaddleNLP's home, which other trials are reading.
        tokenizer = kind(str(files.vocabulary), **{**kind.pretrained_init_configuration[model.name], **settings})
        tokenizer.sanitize_special_tokens()
        return tokenizer


def load_model(
    task: Task,
    model: Model,
    dropout: float | None = None,
    *,
    tokenizer: Any = None,
    max_seq_length: int | None = None,
    head_required: bool = False,
    offline: bool = False,
) -> paddle.nn.Layer:
    """The network with the head of the task's kind, with the model's weights.

    A head that the weights lack is drawn from paddle's generator, so seed it right before (`training.seed`); with
    ``head_required`` it is an error, as it is when the weights were fine-tuned for another task.
    ``dropout``: see `set_dropout`; None keeps the model's own. ``tokenizer``: the one that makes its inputs, which must
    fit. ``max_seq_length``: tokens of the longest input. ``offline``: the network is not touched.
    Raises UsageError when the architecture can't do the task, a setting can't be applied, or the files are not whole.
    """
    files = located(model, offline=offline)
    head = head_class(files, task)
    written = written_config(files, head)
    if head_required:
        refuse_other_task(files, written, head, task)
    weights = read(files)
    config = configured(files, head, written, task, tokenizer, is_hugging_face(weights, architecture_of(head)))
    check_fit(files, config, tokenizer, max_seq_length)
    if head_required:
        tell_of_positions(files, config, written)
    check_sizes(files, config, in_paddle(weights, architecture_of(head)))
    loaded = build(files, head, config)
    fill(loaded, weights, files, written, task, head_required)
    if dropout is not None:
        set_dropout(loaded, dropout)
    return loaded


def size_of(model: paddle.nn.Layer) -> ModelSize | None:
    """Of a network of `load_model`, its head left out; None where its configuration names no layers."""
    config = model.config
    parameters = sum(int(np.prod(array.shape)) for array in model.base_model.parameters())
    layers, hidden_size = (getattr(config, name, None) for name in ("num_hidden_layers", "hidden_size"))
    return ModelSize(layers, hidden_size, parameters) if layers and hidden_size else None
