"""Which tasks a model can do, before any trial is started."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import paddle

from cluebench.benchmark.tasks import IDIOM, Task
from cluebench.foundation.errors import UsageError
from cluebench.models.architectures import architecture_of
from cluebench.models.classes import HEADS, head_class
from cluebench.models.configuration import build, check_fit, configured, longest_input, written_config
from cluebench.models.dropout import set_dropout
from cluebench.models.fetching import located
from cluebench.models.filling import check_backbone, check_sizes, plain_backbone, read
from cluebench.models.heads import score_options
from cluebench.models.hugging_face import in_paddle, is_hugging_face
from cluebench.models.loading import load_tokenizer
from cluebench.models.one_line import in_one_line
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import ModelFiles


def preflight(model: Model, tasks: Iterable[Task], *, offline: bool = False) -> dict[str, str | None]:
    """Task name → why the model can't do it at the task's own length, or None when it can.

    Tries the tokenizer, the weights, and for each kind of head a model of one layer with it, the dropout rule and
    a made-up input. Raises UsageError or NetworkError for a model that can't be loaded at all.
    """
    files = located(model, offline=offline)
    tokenizer = load_tokenizer(model, offline=offline)
    weights = read(files)
    by_head: dict[str, tuple[str | None, int | None]] = {}
    found: dict[str, str | None] = {}
    for task in tasks:
        if HEADS[task.kind] not in by_head:
            by_head[HEADS[task.kind]] = _try_head(files, task, tokenizer, weights)
        reason, limit = by_head[HEADS[task.kind]]
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
        head = head_class(files, task)
        config = configured(
            files, head, written_config(files, head), task, tokenizer, is_hugging_face(weights, architecture_of(head))
        )
        check_fit(files, config, tokenizer, None)
        check_sizes(files, config, in_paddle(weights, architecture_of(head)))
        _try_cut_down(files, head, config, task, list(needed.values()), weights)
    except UsageError as error:
        return str(error).removeprefix(f"{files.model.typed}: "), None
    return None, longest_input(config)


def _try_cut_down(
    files: ModelFiles,
    head: type[Any],
    config: Any,
    task: Task,
    tokens: Sequence[int],
    weights: Mapping[str, np.ndarray],
) -> None:
    """One layer on one short input; its arrays are those the weights must have of every layer. Raises UsageError."""
    layers, config = config.num_hidden_layers, copy.deepcopy(config)
    config.num_hidden_layers = 1
    model = build(files, head, config)
    set_dropout(model, 0.5)
    of_all_layers = {
        name.replace(".layers.0.", f".layers.{layer}."): tensor
        for name, tensor in plain_backbone(model).items()
        for layer in range(layers if ".layers.0." in name else 1)
    }
    check_backbone(of_all_layers, in_paddle(weights, architecture_of(type(model))), files)
    with in_one_line(files.model, head.__name__):
        ids = paddle.to_tensor([tokens])
        types = paddle.to_tensor([[0] * (len(tokens) - 1) + [1]])
        if task.num_choices:
            score_options(model, ids.unsqueeze(1).tile([1, 2, 1]), types.unsqueeze(1).tile([1, 2, 1]))
        else:
            model(ids, types)
