"""The identity of a trial: everything that can move its score, hashed. Standard library only.

The scheduler computes it before a trial starts, the script when it runs; a finished trial counts for a plan when both
agree. Cards and accumulation are left out on purpose: the total batch is the same, so a trial retried with smaller
micro-batches is the same trial.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cluebench.tasks import DEFAULT_SEED, Task

_SAMPLED_BLOCKS, _BLOCK_BYTES = 64, 1 << 16
_WEIGHT_SUFFIXES = {".pdparams", ".safetensors", ".bin"}


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

    ``batch_size`` is the total over all cards and micro-batches. ``dropout`` None is the model's own. ``more`` holds
    settings of a kind of task (doc_stride, …); values equal to the task's row are not written down, so that a script
    that passes them and a scheduler that doesn't agree.
    """
    settings: dict[str, Any] = {
        "task": task.name,
        "model": model_identity(model),
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


def model_identity(model: str) -> str:
    """A published name as it is; of a local directory its content, so that new weights are a new model.

    Configuration and vocabulary files are hashed whole; of weights the size and 64 blocks of 64 KiB spread over the
    file, which takes milliseconds and still tells any two training runs apart.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return model
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.suffix in _WEIGHT_SUFFIXES:
            digest.update(f"{path.name}:{path.stat().st_size}:".encode())
            _update_sampled(digest, path)
        elif path.suffix in (".json", ".txt", ".model"):
            digest.update(f"{path.name}:".encode() + path.read_bytes())
    return f"directory:{digest.hexdigest()[:16]}"


def _update_sampled(digest: hashlib._Hash, path: Path) -> None:
    size = os.path.getsize(path)
    with open(path, "rb") as stream:
        if size <= _SAMPLED_BLOCKS * _BLOCK_BYTES:
            digest.update(stream.read())
            return
        for block in range(_SAMPLED_BLOCKS):
            stream.seek(block * (size - _BLOCK_BYTES) // (_SAMPLED_BLOCKS - 1))
            digest.update(stream.read(_BLOCK_BYTES))
