"""A trial's settings → the command that runs it, as an argument list."""

import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from cluebench.machine.nvidia import Device
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job
from cluebench.scheduler.plan.trials import shared_flags


def trial_command(
    job: Job,
    devices: Sequence[Device],
    flags: GridFlags,
    repository: Path,
    launcher_logs: Path,
    pause_at: Fraction | None = None,
) -> list[str]:
    """The fine-tuning script's command for one attempt of a trial on ``devices``.

    paddle.distributed.launch runs it on several cards, each with its share of the batch.
    """
    cards = len(devices)
    script = str(repository / job.trial.row.script)
    command = [sys.executable, "-u", script]
    if cards > 1:
        # CUDA_VISIBLE_DEVICES lists UUIDs, and the launcher looks for --gpus among them.
        gpus = ",".join(device.id for device in devices)
        command = [sys.executable, "-u", "-m", "paddle.distributed.launch"]
        command += ["--gpus", gpus, "--log_dir", str(launcher_logs), script]
    values = job.trial.flags(shared_flags(flags)) | {
        "batch_size": job.trial.setting.batch_size // cards,
        "gradient_accumulation_steps": job.accumulation(cards),
        "output_dir": job.paths.output_dir,
        "result_json": job.paths.result,
        "device": devices[0].kind,
    }
    if pause_at is not None:
        values["pause_at"] = pause_at
    if job.trial.row.is_classification:  # one script for all of them
        values["task_name"] = job.trial.row.title
    for name, value in values.items():
        command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return command
