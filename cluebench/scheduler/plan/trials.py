"""What a grid search is to run: the trials, in the order of the task table, their flags and their commands.

The plan knows the task table and the published settings. It starts nothing and reads no data.
"""

import sys
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from typing import Any

from cluebench.benchmark.published import published_model, unless_published
from cluebench.benchmark.tasks import TASKS, Grid, Setting, Task, tasks_named
from cluebench.foundation import repository
from cluebench.foundation.errors import UsageError
from cluebench.machine.nvidia import Device
from cluebench.pretrained.model import Model
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job


def build_plan(models: Sequence[Model], flags: GridFlags) -> list[Trial]:
    """All trials: by model as given, by task in the table's order, by the grid's order, by seed.

    Raises UsageError with the flag's name: for an unknown task, a batch size that a task's micro-batches can't divide,
    two models with the same run directory, or best_only for a model without published settings.
    """
    tasks = [task for task in TASKS.values() if task in tasks_named(flags.tasks)]
    owners: dict[str, Model] = {}
    for model in models:
        if owners.setdefault(model.folder, model) != model:
            raise UsageError(
                f"models {owners[model.folder]} and {model} would share the run directory {model.folder}/: "
                "rename one of them, or run them with two --run_root"
            )
    trials: dict[Trial, None] = {}
    for model, task in product(models, tasks):
        for point, seed in product(_points(model, task, flags), flags.seeds):
            try:
                task.accumulation_steps(point.batch_size)
            except ValueError as error:
                raise UsageError(f"--batch_sizes: {error}") from None
            trials[Trial(model, task.name, point, seed)] = None
    return list(trials)


def _points(model: Model, task: Task, flags: GridFlags) -> list[Setting]:
    """The task's grid, with the user's values in place of its own."""
    if flags.best_only:
        row = published_model(model.name)
        if row is None:
            raise UsageError(f"--best_only: {model} has no published settings{unless_published(model.name)}")
        if task.name not in row.best_settings:
            able = " ".join(TASKS[name].title for name in row.best_settings)
            raise UsageError(
                f"--best_only: {task.title} has no published settings; the tasks that have: --tasks {able}"
            )
        return [row.best_settings[task.name]]
    grid = Grid(
        tuple(flags.learning_rates) or task.grid.learning_rates,
        tuple(flags.batch_sizes) or task.grid.batch_sizes,
        tuple(flags.dropouts) or task.grid.dropouts,
    )
    return list(grid.points())


def shared_flags(flags: GridFlags) -> dict[str, Any]:
    """The fine-tuning scripts' flags that all trials of a grid share, as fields of `RunFlags`."""
    given = {
        "do_train": True,
        "resume": True,
        "overwrite_output_dir": True,  # a plan with new settings runs, whatever an earlier one left
        "save_best_model": flags.save_best_model,
        "amp": flags.amp,
        "padding": flags.padding or None,
        "evaluation": flags.evaluation if flags.evaluation != "full" else None,
        "num_train_epochs": flags.num_train_epochs,
        "max_steps": flags.max_steps if flags.max_steps > 0 else None,
        "limit": flags.limit,
        "data_dir": flags.data_dir,
        "cache_dir": flags.cache_dir,
        "offline": flags.offline or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def trial_command(job: Job, devices: Sequence[Device], flags: GridFlags, pause_at: Fraction | None = None) -> list[str]:
    """The fine-tuning script's command for one attempt of a trial on ``devices``.

    paddle.distributed.launch runs it on several cards, each with its share of the batch.
    """
    cards = len(devices)
    script = str(repository.ROOT / job.trial.row.script)
    command = [sys.executable, "-u", script]
    if cards > 1:
        # CUDA_VISIBLE_DEVICES lists UUIDs, and the launcher looks for --gpus among them.
        gpus = ",".join(device.id for device in devices)
        command = [sys.executable, "-u", "-m", "paddle.distributed.launch"]
        command += ["--gpus", gpus, "--log_dir", str(job.launcher_logs), script]
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
