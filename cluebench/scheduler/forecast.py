"""What a plan will cost, as far as it is known before: device hours of each task, bytes of disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluebench import model_files
from cluebench.errors import UsageError
from cluebench.grid_file import read_grid
from cluebench.model import Model
from cluebench.report.cost import shown
from cluebench.report.scores import finished_trials
from cluebench.runlog import Result
from cluebench.scheduler.estimates import DurationModel, model_size
from cluebench.scheduler.flags import GridFlags
from cluebench.scheduler.grid import Grid
from cluebench.scheduler.jobs import Job
from cluebench.scheduler.plan import Trial
from cluebench.tasks import Task

#: A checkpoint holds weights and AdamW's two moments, and is whole before the one before it goes; so is a best model.
_CHECKPOINTS, _BEST_MODELS = 2 * 3, 2


class Forecast:
    """What is known of the trials that a grid has still to run, from what lies under its run root."""

    def __init__(self, grid: Grid, jobs: Sequence[Job]):
        self._grid, self._jobs = grid, jobs
        by_device: dict[str, DurationModel] = {}
        for trial, result in self._finished():
            kind = result.device.partition(":")[0]
            by_device.setdefault(kind, DurationModel(grid.flags)).observe(trial, result.cost, _flags_of(result))
        asked = grid.flags.devices.partition(":")[0]
        self.device = asked if asked != "auto" else "gpu" if "gpu" in by_device else "cpu"
        self._durations = by_device.get(self.device, DurationModel(grid.flags))

    def _finished(self) -> Iterator[tuple[Trial, Result]]:
        """The finished trials of all grids under the run root."""
        for folder in sorted({path.parent for path in self._run_root.glob("*/grid.json")}):
            written = read_grid(folder)
            try:
                model = Model.of(written.model if written else "")
            except UsageError:  # a directory that is gone: its size is not known
                continue
            for done in (done for found in finished_trials(folder).values() for done in found):
                if done.result and done.result.cost:
                    yield Trial(model, done.task, *done.setting, done.seed), done.result

    @property
    def _run_root(self) -> Path:
        return next(iter(self._grid.directories.values())).path.parent

    def hours(self, task: Task) -> float | None:
        """Device hours of a task's trials to run; None where no trial of it by a model of such a size has finished."""
        seconds = [self._durations.known_seconds(job.trial) for job in self._to_run(task)]
        known = [one for one in seconds if one is not None]
        return sum(known) / 3600 if len(known) == len(seconds) else None

    def _to_run(self, task: Task) -> list[Job]:
        return [job for job in self._jobs if job.trial.row is task and job.result is None]

    def of_task(self, task: Task) -> str:
        """``, about 3.2 device hours, by ernie-3.0-medium-zh``; empty where nothing is to run."""
        jobs, hours = self._to_run(task), self.hours(task)
        if not jobs:
            return ""
        if hours is None:
            return ", for a time unknown until its first trial ends"
        others = {self._durations.known_by(job.trial)[0] for job in jobs} - {*self._grid.directories}
        return f", about {shown(hours)} device hours" + (f" by {', '.join(sorted(map(str, others)))}" if others else "")

    def in_all(self) -> list[str]:
        """Two lines, device hours and disk of the whole plan; none where nothing is to run."""
        tasks = [task for task in dict.fromkeys(job.trial.row for job in self._jobs) if self._to_run(task)]
        if not tasks:
            return []
        known = [hours for task in tasks if (hours := self.hours(task)) is not None]
        unknown = [task.title for task in tasks if self.hours(task) is None]
        parts = [f"about {shown(sum(known))} device hours ({self.device})"] if known else []
        parts += [f"unknown until the first trial of each task ends: {', '.join(unknown)}"] if unknown else []
        return [f"time: {'; '.join(parts)}", self._disk()]

    def _disk(self) -> str:
        """How much of it is needed, beside logs, results and token ids, and how much is free."""
        flags, sizes = self._grid.flags, {model: weight_bytes(model) for model in self._grid.directories}
        kept = {}
        for job in (job for job in self._jobs if job.result is None):
            group = (job.trial.model, job.key if flags.keep_all_models else job.trial.task)
            kept[group] = sizes[job.trial.model] if flags.save_best_model else 0
        if not flags.keep_all_models:  # the next best replaces the one that is there
            for job in (job for job in self._jobs if job.result and job.result.best_model):
                kept.pop((job.trial.model, job.trial.task), None)
        running = max(sizes.values()) * (_CHECKPOINTS + (_BEST_MODELS if flags.save_best_model else 0))
        parts = [f"up to {_gigabytes(running)} for each trial that runs at a time"]
        parts += [f"{_gigabytes(sum(kept.values()))} for the models to be kept"] if any(kept.values()) else []
        place = next(path for path in (self._run_root, *self._run_root.parents) if path.exists())
        return f"disk: {', '.join(parts)}; {_gigabytes(shutil.disk_usage(place).free)} are free"


def _flags_of(result: Result) -> GridFlags:
    """As far as they decide how much work a trial was."""
    limit, epochs, steps = (result.configuration.get(name) for name in ("limit", "epochs", "max_steps"))
    whole = [value if isinstance(value, int) else 0 for value in (limit, epochs, steps)]
    return GridFlags(limit=whole[0] or None, num_train_epochs=whole[1] or None, max_steps=max(0, whole[2]))


def weight_bytes(model: Model) -> int:
    """Of a fine-tuned model in float32: as its weights on this machine, by its size where they are not here yet."""
    try:
        files = (model.directory and model_files.in_directory(model, model.directory)) or None
    except UsageError:
        files = None
    files = files or model_files.held_by_paddlenlp(model)
    found = sum(file.stat().st_size for file in files.weights) if files else 0
    return max(found, 4 * model_size(model).parameters)


def _gigabytes(count: float) -> str:
    return f"{shown(count / 1e9)} GB"
