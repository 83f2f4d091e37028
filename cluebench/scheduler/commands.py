"""A trial's settings → the command that runs it, as an argument list."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cluebench.scheduler.devices import Device
from cluebench.scheduler.jobs import Job
from cluebench.scheduler.plan import SharedFlags


def trial_command(
    job: Job, devices: Sequence[Device], settings: SharedFlags, repository: Path, launcher_logs: Path
) -> list[str]:
    """The fine-tuning script's command for one attempt of a trial on ``devices``.

    Several cards go through paddle.distributed.launch, each with its share of the batch.
    """
    cards = len(devices)
    script = str(repository / job.trial.row.script)
    command = [sys.executable, "-u", script]
    if cards > 1:
        # CUDA_VISIBLE_DEVICES holds UUIDs, and the launcher looks up --gpus among them.
        gpus = ",".join(device.id for device in devices)
        command = [sys.executable, "-u", "-m", "paddle.distributed.launch"]
        command += ["--gpus", gpus, "--log_dir", str(launcher_logs), script]
    return command + _trial_flags(job, cards) + _shared_flags(settings) + ["--device", devices[0].kind]


def _trial_flags(job: Job, cards: int) -> list[str]:
    trial = job.trial
    flags = ["--model_name_or_path", trial.model]
    if trial.row.is_classification:  # one script for all of them
        flags += ["--task_name", trial.row.title]
    return flags + [
        "--learning_rate", str(trial.learning_rate),
        "--batch_size", str(trial.batch_size // cards),
        "--gradient_accumulation_steps", str(job.accumulation(cards)),
        "--dropout", str(trial.dropout),
        "--seed", str(trial.seed),
        "--do_train",
        "--resume",
        "--output_dir", str(job.paths.output_dir),
        "--result_json", str(job.paths.result),
    ]  # fmt: skip


def _shared_flags(settings: SharedFlags) -> list[str]:
    flags = ["--save_best_model", str(settings.save_best_model), "--amp", settings.amp]
    optional = {
        "--num_train_epochs": settings.num_train_epochs,
        "--max_steps": settings.max_steps or None,
        "--limit": settings.limit,
        "--data_dir": settings.data_dir,
        "--cache_dir": settings.cache_dir,
    }
    for name, value in optional.items():
        if value is not None:
            flags += [name, str(value)]
    return flags + (["--offline"] if settings.offline else [])
