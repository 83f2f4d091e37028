"""Which tasks a model can do, before any trial is started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import paddle

from cluebench.benchmark.tasks import IDIOM, Task
from cluebench.features import TextEncoder
from cluebench.features.batches import Piece, assemble, token
from cluebench.foundation.errors import UsageError
from cluebench.models.classes import HEADS
from cluebench.models.configuration import Target, longest_input
from cluebench.models.dropout import set_dropout
from cluebench.models.fetching import located
from cluebench.models.filling import read
from cluebench.models.forward_pass import forward
from cluebench.models.loading import built, load_tokenizer
from cluebench.models.one_line import in_one_line
from cluebench.models.unpadded import Places, padding_of
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import ModelFiles

#: Layers of the model that is tried: in some encoders the first differs from all others.
_LAYERS = 2
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
    try:
        model = built(Target(files, task), weights, tokenizer, layers=_LAYERS)
        set_dropout(model, 0.5)
        with in_one_line(files.model, type(model).__name__):
            _try_steps(files, model, *_made_up_rows(tokenizer, task))
    except UsageError as error:
        return str(error).removeprefix(f"{files.model.typed}: "), None
    return None, longest_input(model.config)


def _made_up_rows(tokenizer: Any, task: Task) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A batch of three pairs of texts, as in training, and its shortest row without padding; all options are alike."""
    encoder = TextEncoder(tokenizer)
    special = {encoder.cls_id, encoder.sep_id, encoder.pad_id}
    words = np.resize([number for number in sorted(tokenizer.get_vocab().values()) if number not in special][:8], 8)
    template, starts = encoder.template, np.zeros(3, np.int64)
    first, second = np.array([[3, 1, 4], [2, 1, 4]])  # tokens of each text
    batch = assemble(
        [
            token(template.before, 3),
            Piece(words, starts, first),
            token(template.between, 3),
            Piece(words, starts, second, template.second_type),
            token(template.after, 3, template.second_type),
        ],
        encoder.pad_id,
    )
    if task.num_choices:
        batch = {name: np.stack([ids] * task.num_choices, axis=1) for name, ids in batch.items()}
    real = template.special_tokens(2) + int(first[1] + second[1])
    return batch, {name: ids[1:2, ..., :real] for name, ids in batch.items()}


def _try_steps(
    files: ModelFiles, model: paddle.nn.Layer, batch: Mapping[str, np.ndarray], row: Mapping[str, np.ndarray]
) -> None:
    """Evaluates with and without padding, and takes the gradient of the loss. Raises UsageError."""
    tensors = {name: paddle.to_tensor(ids) for name, ids in batch.items()}
    model.eval()
    with paddle.no_grad():
        outputs = forward(model, tensors)
        alone = forward(model, {name: paddle.to_tensor(ids) for name, ids in row.items()})
        pairs = [(whole[1:2, : one.shape[1]], one) for whole, one in zip(outputs, alone, strict=True)]
        if (pad := padding_of(model)) is not None:
            unpadded = forward(model, tensors | {"places": Places(batch["input_ids"], pad)})
            pairs += list(zip(outputs, unpadded, strict=True))
    for one, other in pairs:
        if not float((one - other).abs().max()) <= _TOLERANCE * float(other.abs().max()):
            raise UsageError(f"{files.model.typed}: its outputs depend on the padding beside a text, or are no numbers")
    model.train()
    labels = paddle.zeros([len(batch["input_ids"])], "int64")
    loss = sum(paddle.nn.functional.cross_entropy(output, labels) for output in forward(model, tensors))
    loss.backward()
    gradients = [float(one.grad.abs().sum()) for one in model.parameters() if one.grad is not None]
    if not gradients or not np.isfinite([float(loss), *gradients]).all():
        raise UsageError(f"{files.model.typed}: the gradients of its loss are no numbers")
