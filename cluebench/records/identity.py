"""The identity of a trial: a hash of every setting that can change its score. Never imports Paddle.

The scheduler computes it before a trial starts, the script when it runs; a finished trial counts for a plan if both
agree. The number of cards and the accumulation are left out: the total batch is the same, so a trial that is retried
with smaller micro-batches is the same trial.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from cluebench.benchmark.tasks import Setting, Task
from cluebench.records.run_flags import NOT_SCORED, RunFlags

#: The settings that a grid varies.
VARIED = (*Setting._fields, "seed")
#: What may differ between comparable runs: these settings, and ways of computing.
COMPARABLE = frozenset({*VARIED, "amp", "padding"})
#: Its three uses: trials of one table, whose grid has one precision; two runs compared row by row; a run beside the
#: published scores, whose data is checked separately.
WITHIN_A_GRID = COMPARABLE - {"amp"}
BETWEEN_RUNS = COMPARABLE | {"model"}
BESIDE_PUBLISHED = COMPARABLE | {"model", "data"}

#: Flags that every configuration states, some of them under other names. The names are part of the hash.
_STATED = frozenset({
    "model_name_or_path", "learning_rate", "batch_size", "dropout", "seed", "num_train_epochs", "max_seq_length",
    "warmup_steps", "warmup_proportion", "weight_decay", "adam_epsilon", "max_grad_norm", "max_steps", "limit", "amp",
    "save_steps", "padding",
})  # fmt: skip


def configuration(
    task: Task, flags: RunFlags, model: str, data_fingerprint: str, *, cards: int = 1, **more: Any
) -> dict[str, Any]:
    """The settings of a trial that decide its score.

    ``flags``: resolved, of the trial's script or the ones all scripts share. ``model``: a `Model.identity`. ``more``:
    settings of a program that has others. Every flag counts but `NOT_SCORED`. A flag outside `_STATED` is included only
    if it differs from the task's row and its default: so results keep their identity when flags are added, and a
    scheduler need not know the flags of every script.
    """
    settings: dict[str, Any] = {
        "task": task.name,
        "model": model,
        "data": data_fingerprint,
        "learning_rate": float(flags.learning_rate),
        "batch_size": int(flags.batch_size) * cards,  # over all cards and micro-batches
        "dropout": None if flags.dropout is None else float(flags.dropout),  # None: the model's own
        "seed": int(flags.seed),
        "epochs": int(flags.num_train_epochs),
        "max_seq_length": int(flags.max_seq_length),
        "warmup": int(flags.warmup_steps) if flags.warmup_steps else float(flags.warmup_proportion),
        "weight_decay": float(flags.weight_decay),
        "adam_epsilon": float(flags.adam_epsilon),
        "max_grad_norm": float(flags.max_grad_norm or 0),
        "max_steps": int(flags.max_steps),
        "limit": flags.limit,
        "amp": flags.amp,
        "eval_every_steps": flags.save_steps,
    }
    if not flags.padding:
        settings["padding"] = False  # older results lack the key: padding was always computed
    for flag in fields(flags):
        value = getattr(flags, flag.name)
        counts = flag.name not in NOT_SCORED | _STATED
        if counts and value is not None and value != getattr(task, flag.name, flag.default):
            settings[flag.name] = value
    return settings | more


def configuration_hash(settings: dict[str, Any]) -> str:
    """16 hexadecimal digits of SHA-256 over the settings, in any order."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def different_settings(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """``learning_rate 3e-05 there, 5e-05 here; …``"""
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    texts = [f"{key} {there.get(key)} there, {here.get(key)} here" for key in keys[:4]]
    return "; ".join(texts + ([f"{len(keys) - 4} more"] if len(keys) > 4 else [])) or "it does not say which"
