"""Which tasks a model can do, before any trial is started."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import paddle

from cluebench.benchmark.tasks import IDIOM, Task
from cluebench.foundation.errors import UsageError
from cluebench.models.classes import HEADS
from cluebench.models.configuration import Target, in_one_line, longest_input
from cluebench.models.filling import read
from cluebench.models.forward_pass import forward, made_up_batch, on_device, outputs_of, padding_of
from cluebench.models.loading import built, located, set_dropout
from cluebench.models.tokenizer import load_tokenizer
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import ModelFiles

#: Layers of the model that is tried: in some encoders the first layer differs from all others.
_LAYERS = 2
#: Tokens of its longest rows. In some encoders padding does harm only where the width is not a multiple of 8.
_WIDTH = 12
#: How far the outputs of a row may differ with the padding around it, relative to the largest.
_TOLERANCE = 1e-4


def preflight(model: Model, tasks: Iterable[Task], *, offline: bool = False) -> dict[str, str | None]:
    """Task name → why the model can't do it at the task's own length, or None when it can.

    Tries the tokenizer and, for each kind of head, what training and evaluation do, on made-up rows with the first
    layers of the model. Raises UsageError or NetworkError for a model that can't be loaded at all.
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
    if absent := [name for name, number in needed.items() if number is None]:
        return f"its vocabulary has no {', '.join(absent)}", None
    target = Target(files, task, tokenizer)
    try:
        model = built(target, weights, _LAYERS)
        set_dropout(model, 0.5)
        with in_one_line(files.model, type(model).__name__):
            _try_steps(target, model)
    except UsageError as error:
        return str(error).removeprefix(f"{files.model.typed}: "), None
    return None, longest_input(model.config)


def _try_steps(target: Target, model: paddle.nn.Layer) -> None:
    """Evaluates with and without padding, and takes the gradient of the loss. Raises UsageError."""
    options = [target.task.num_choices] if target.task.num_choices else []
    batch = made_up_batch(model, [3, *options, _WIDTH])
    model.eval()
    outputs = outputs_of(model, batch)
    alone = outputs_of(model, {name: ids[-1:, ..., : _WIDTH // 2] for name, ids in batch.items()})
    pairs = [(padded[-1:, : row.shape[1]], row) for padded, row in zip(outputs, alone, strict=True)]
    if (pad := padding_of(model)) is not None:
        pairs += list(zip(outputs, outputs_of(model, batch, pad), strict=True))
    for output, other in pairs:
        if not np.abs(output - other).max() <= _TOLERANCE * np.abs(other).max():
            raise target.error("its outputs depend on the padding beside a text, or are no numbers")
    model.train()
    labels = paddle.zeros([len(batch["input_ids"])], "int64")
    loss = sum(paddle.nn.functional.cross_entropy(output, labels) for output in forward(model, on_device(batch)))
    loss.backward()
    gradients = [float(parameter.grad.abs().sum()) for parameter in model.parameters() if parameter.grad is not None]
    if not gradients or not np.isfinite([float(loss), *gradients]).all():
        raise target.error("the gradients of its loss are no numbers")
