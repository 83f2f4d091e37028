"""The identity of a trial: everything that can move its score, hashed. Standard library only.

The scheduler computes it before a trial starts, the script when it runs; a finished trial counts for a plan when both
agree. Cards and accumulation are left out on purpose: the total batch is the same, so a trial retried with smaller
micro-batches is the same trial.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from cluebench.tasks import DEFAULT_SEED, Task


def configuration(
    task: Task,
    model: str,
    data_fingerprint: str,
    learning_rate: float,
    batch_size: int,
    dropout: float | None,
    *,
    seed: int = DEFAULT_SEED,
    epochs: int | None = None,
    max_seq_length: int | None = None,
    warmup_steps: int = 0,
    warmup_proportion: float | None = None,
    weight_decay: float = 0.01,
    adam_epsilon: float = 1e-8,
    max_grad_norm: float | None = None,
    max_steps: int = 0,
    limit: int | None = None,
    amp: str = "off",
    eval_every_steps: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The settings of a trial that decide its score; None and 0 mean the task's row.

    ``model`` is a `Model.identity`, ``batch_size`` the total over all cards and micro-batches, ``dropout`` None the
    model's own. ``more`` holds settings of a kind of task (doc_stride, …); values equal to the task's row are not
    written down, so that a script that passes them and a scheduler that doesn't agree.
    """
    settings: dict[str, Any] = {
        "task": task.name,
        "model": model,
        "data": data_fingerprint,
        "learning_rate": float(learning_rate),
        "batch_size": int(batch_size),
        "dropout": None if dropout is None else float(dropout),
        "seed": int(seed),
        "epochs": task.epochs if epochs is None else int(epochs),
        "max_seq_length": int(max_seq_length or task.max_seq_length),
        "warmup": int(warmup_steps)
        if warmup_steps
        else float(task.warmup_proportion if warmup_proportion is None else warmup_proportion),
        "weight_decay": float(weight_decay),
        "adam_epsilon": float(adam_epsilon),
        "max_grad_norm": float((task.max_grad_norm if max_grad_norm is None else max_grad_norm) or 0),
        "max_steps": int(max_steps or 0),
        "limit": limit,
        "amp": amp,
        "eval_every_steps": eval_every_steps or task.eval_every_steps,
    }
    settings.update(
        {key: value for key, value in more.items() if value is not None and value != getattr(task, key, None)}
    )
    return settings


def configuration_hash(settings: dict[str, Any]) -> str:
    """16 hexadecimal digits of SHA-256 over the settings, whatever their order."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
