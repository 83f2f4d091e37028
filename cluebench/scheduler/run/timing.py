"""A few steps of a task, to estimate how long its trials take before any of them has finished."""

import math
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cluebench.foundation import repository
from cluebench.foundation.notices import notice, waiting
from cluebench.machine import devices, nvidia
from cluebench.machine.nvidia import Device
from cluebench.records.log import read_log
from cluebench.records.paths import TrialPaths
from cluebench.records.result import Result
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.estimates import schedule
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job
from cluebench.scheduler.processes.trial_command import trial_command

#: Optimizer steps of a timing.
STEPS = 20


def timed(jobs: Sequence[Job], flags: GridFlags) -> Iterator[tuple[Trial, float, str]]:
    """(trial, device seconds of the whole trial, kind of device) of each job, one after the other on one device.

    Each runs `STEPS` steps and one evaluation in a temporary directory. One that fails is named and left out.
    """
    driver = None if flags.devices.startswith("cpu") else nvidia.answered(nvidia.NvidiaDriver.open)
    device = devices.find_devices(flags.devices, os.environ, driver)[0]
    for job in jobs:
        with waiting(f"{job.trial.row.title}: {STEPS} steps and an evaluation on {device.label}"):
            result = _short_run(job, flags, device)
        if result is not None:
            steps, every = schedule(job.trial, flags)
            evaluations = math.ceil(steps / every)
            seconds = steps * result.train_seconds / result.total_steps
            yield job.trial, seconds + evaluations * result.eval_seconds, device.kind


def _short_run(job: Job, flags: GridFlags, device: Device) -> Result | None:
    with tempfile.TemporaryDirectory() as folder:
        paths = TrialPaths(Path(folder), job.trial.name)
        paths.output_dir.mkdir()
        short = replace(flags, max_steps=STEPS, save_best_model=False, keep_all_models=False)
        command = trial_command(replace(job, paths=paths), [device], short, repository.ROOT, Path(folder))
        environment = {**os.environ, **devices.child_environment([device], 1)}
        with open(paths.log, "w", encoding="utf-8") as stream:
            subprocess.run(command, cwd=repository.ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        result = Result.read_finished(paths.result)
        if result is None:
            lines = [line for line in read_log(paths.log).last_lines if line.strip()] or ["it printed nothing"]
            notice(f"--time_it: {job.trial.row.title} does not run: {lines[-1]}")
        return result
