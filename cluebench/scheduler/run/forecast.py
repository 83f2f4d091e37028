"""What a plan will cost, estimated before it runs: device hours of each task, bytes of disk."""

import math
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cluebench.benchmark.tasks import Setting, Task
from cluebench.foundation.errors import UsageError
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model
from cluebench.records.cost import shown
from cluebench.records.finished_trials import OpenedRun
from cluebench.records.result import Result
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.estimates import DurationModel, estimated_size, schedule
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job
from cluebench.scheduler.run.planned_grid import PlannedGrid
from cluebench.search.halving import Curve, Rule, standings

#: Size of a checkpoint in weights: with AdamW's two moments. Like a best model it is whole before the old one goes.
_CHECKPOINT = 3


class Forecast:
    """The cost of the trials that a grid has still to run, by the finished trials under its run root."""

    def __init__(self, grid: PlannedGrid, jobs: Sequence[Job], timed: Iterable[tuple[Trial, float, str]] = ()):
        """``timed``: trials with the device seconds that each would take, by a short run, and the kind of device."""
        self._grid, self._jobs, self._rule = grid, jobs, grid.flags.rule
        by_device: dict[str, DurationModel] = defaultdict(lambda: DurationModel(grid.flags))
        for trial, result in self._finished():
            by_device[result.device.partition(":")[0]].observe(trial, result.cost, _flags_of(result))
        for trial, seconds, kind in timed:
            by_device[kind].observe(trial, seconds)
        asked = grid.flags.devices.partition(":")[0]
        self.device = asked if asked != "auto" else "gpu" if "gpu" in by_device else "cpu"
        self._durations = by_device[self.device]

    def _finished(self) -> Iterator[tuple[Trial, Result]]:
        """The finished trials of all grids under the run root."""
        for folder in sorted({path.parent for path in self._run_root.glob("*/grid.json")}):
            run = OpenedRun(folder)
            try:
                model = Model.of(run.grid.model if run.grid else "")
            except UsageError:  # its directory is gone, so its size is unknown
                continue
            for done in (done for found in run.trials.values() for done in found):
                if done.result and done.result.cost:
                    yield Trial(model, done.task, done.setting, done.seed), done.result

    @property
    def _run_root(self) -> Path:
        return next(iter(self._grid.directories.values())).path.parent

    def _to_run(self, task: Task | None = None) -> list[Job]:
        return [job for job in self._jobs if not job.is_settled and task in (None, job.trial.row)]

    def hours(self, task: Task) -> tuple[float, float] | None:
        """Device hours of a task's trials to run, least and most; None if no trial of it by a similar model has ended.

        They differ if trials are stopped early: each at its first rung, or none at all.
        """
        jobs = self._to_run(task)
        whole = {job.key: found[0] for job in jobs if (found := self._durations.known(job.trial))}
        if len(whole) < len(jobs):
            return None
        done = {job.key: self._done(job) for job in jobs}
        left = {key: (1 - done[key]) * seconds for key, seconds in whole.items()}
        ends = self._first_ends(self._rule, task, left) if self._rule else {}
        least = sum(max(0.0, ends.get(key, 1.0) - done[key]) * seconds for key, seconds in whole.items())
        return least / 3600, sum(left.values()) / 3600

    def _done(self, job: Job) -> float:
        """The share of a trial's steps that the checkpoint of an earlier start has, or nearly so."""
        result = None if job.needs_model else self._grid.on_disk(job)
        return result.curve.share if result else 0.0

    def _first_ends(self, rule: Rule, task: Task, left: Mapping[str, float]) -> dict[str, float]:
        """Trial key → the share of its steps at its first possible stop, if the longest trials are the worst."""
        found: dict[str, float] = {}
        for model in self._grid.directories:
            contest: dict[Setting, list[Job]] = defaultdict(list)
            jobs = [job for job in self._jobs if (job.trial.model, job.trial.row) == (model, task)]
            for job in sorted(jobs, key=lambda job: 0.0 if job.result else left.get(job.key, math.inf)):
                contest[job.trial.setting].append(job)
            curves: dict[Setting, list[Curve]] = {}
            for place, (setting, jobs) in enumerate(contest.items()):
                steps, every = schedule(jobs[0].trial, self._grid.flags)
                evaluated = tuple(dict.fromkeys([*range(every, steps + 1, every), steps]))
                curves[setting] = [Curve(evaluated, (100.0 - place,) * len(evaluated), steps)]
            for setting, standing in standings(rule, curves).items():
                ((pause,), (curve,)) = standing.pauses, curves[setting]
                share = curve.steps[pause - 1] / curve.total_steps if pause else 1.0
                found |= {job.key: share for job in contest[setting]}
        return found

    def of_task(self, task: Task) -> str:
        """``, about 3.2 device hours by ernie-3.0-medium-zh``; empty if nothing is to run."""
        jobs, hours = self._to_run(task), self.hours(task)
        if not jobs:
            return ""
        if hours is None:
            return ", device hours unknown until its first trial ends"
        by = {found[1] for job in jobs if (found := self._durations.known(job.trial))} - {*self._grid.directories}
        return f", about {_hours(*hours)}" + (f" by {', '.join(sorted(map(str, by)))}" if by else "")

    def in_all(self) -> list[str]:
        """Two lines, device hours and disk of the whole plan; none if nothing is to run."""
        hours = {task: self.hours(task) for task in dict.fromkeys(job.trial.row for job in self._to_run())}
        estimated = [pair for pair in hours.values() if pair is not None]
        unknown = [task.title for task, pair in hours.items() if pair is None]
        parts = [f"about {_hours(*map(sum, zip(*estimated)))} ({self.device})"] if estimated else []
        parts += [f"unknown until the first trial of each task ends: {', '.join(unknown)}"] if unknown else []
        return [f"time: {'; '.join(parts)}", self._disk()] if hours else []

    def _disk(self) -> str:
        """The disk space that the plan needs besides logs, results and token ids, and the free space."""
        flags, sizes = self._grid.flags, {model: weight_bytes(model) for model in self._grid.directories}

        def group(job: Job) -> tuple[Model, str]:  # keeps one model
            return job.trial.model, job.key if flags.keep_all_models else job.trial.task

        there = {group(job) for job in self._jobs if job.result and job.result.best_model}
        kept = sum(sizes[model] for model, _ in {group(job) for job in self._to_run()} - there) * flags.save_best_model
        running = max(sizes.values()) * 2 * (_CHECKPOINT + flags.save_best_model)
        parts = [f"up to {_gigabytes(running)} for each trial that runs at a time"]
        if self._rule:  # stopped trials keep a checkpoint, as they can go on later
            stopped = sum(sizes[job.trial.model] for job in self._to_run()) * (_CHECKPOINT + flags.save_best_model)
            parts.append(f"up to {_gigabytes(stopped)} for trials that are paused or stopped")
        parts += [f"{_gigabytes(kept)} for the models to be kept"] if kept else []
        place = next(path for path in (self._run_root, *self._run_root.parents) if path.exists())
        return f"disk: {', '.join(parts)}; {_gigabytes(shutil.disk_usage(place).free)} are free"


def _hours(least: float, most: float) -> str:
    """``1.25 to 3.2 device hours``"""
    return f"{shown(least)} to {shown(most)} device hours" if least < most else f"{shown(most)} device hours"


def _flags_of(result: Result) -> GridFlags:
    """The flags of a result's grid that decide how much work a trial is."""
    limit, epochs, steps = (result.configuration.get(name) for name in ("limit", "epochs", "max_steps"))
    whole = [value if isinstance(value, int) else 0 for value in (limit, epochs, steps)]
    return GridFlags(limit=whole[0] or None, num_train_epochs=whole[1] or None, max_steps=max(0, whole[2]))


def weight_bytes(model: Model) -> int:
    """Bytes of a fine-tuned model in float32: by its weights on this machine, or by its estimated size."""
    try:
        files = model_files.find(model, offline=True)
    except UsageError:
        files = None
    return max(4 * estimated_size(model).parameters, sum(file.stat().st_size for file in files.weights) if files else 0)


def _gigabytes(count: float) -> str:
    return f"{shown(count / 1e9)} GB" if count >= 1e8 else f"{shown(count / 1e6)} MB"
