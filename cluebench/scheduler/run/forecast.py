"""--dry_run: what a plan will run, and what that will cost: device hours of each task, bytes of disk."""

import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cluebench.benchmark.published import near_published, published_models
from cluebench.benchmark.tasks import Setting, Task
from cluebench.foundation import repository
from cluebench.foundation.errors import UsageError
from cluebench.foundation.notices import notice, waiting
from cluebench.machine import devices, nvidia
from cluebench.machine.nvidia import Device
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model
from cluebench.records.cost import shown
from cluebench.records.finished_trials import OpenedRun
from cluebench.records.log import read_log
from cluebench.records.paths import TrialPaths
from cluebench.records.result import Result
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.estimates import (
    DurationModel,
    estimated_size,
    evaluation_tokens,
    forward_tokens,
    schedule,
)
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job, State, by_task
from cluebench.scheduler.plan.trials import trial_command
from cluebench.scheduler.run.planned_grid import PlannedGrid
from cluebench.search.halving import Curve, Rule, standings

#: Size of a checkpoint in weights: with AdamW's two moments. Like a best model it is whole before the old one goes.
_CHECKPOINT = 3
#: Optimizer steps of --time_it.
_STEPS = 20


def print_plan(grid: PlannedGrid) -> None:
    """The totals, and a line for each task with its cost; with --list also a line for each trial: key, state, score.

    stderr gets what will keep the grid from running, or surprise.
    """
    jobs, flags = grid.jobs(), grid.flags
    forecast = Forecast(grid, jobs)
    if flags.time_it:
        first = {job.trial.row: job for job in reversed(jobs) if job.state is State.WAITING}
        unknown = [job for task, job in reversed(first.items()) if forecast.hours(task) is None]
        forecast = Forecast(grid, jobs, timed(unknown, flags))
        names = ", ".join(job.trial.row.title for job in unknown) or "no task, as trials of each have finished"
        print(f"estimated by {_STEPS} steps and an evaluation: {names}")
    models = len({job.trial.model for job in jobs})
    print(f"{len(jobs)} trials of {models} model{'s' if models > 1 else ''}: {', '.join(_counts(jobs))}")
    if to_come := grid.confirmations_to_come(jobs):
        print(f"{to_come} more with further seeds, of the best settings of each task once its grid is done")
    for task in dict.fromkeys(job.trial.row for job in jobs):
        its = [job for job in jobs if job.trial.row is task]
        print(f"{task.title:<12} {len(its):4} trials {' '.join(_counts(its, 4))}{forecast.of_task(task)}")
    for line in forecast.in_all():
        print(line)
    work, most = (sum(of(job.trial, flags) for job in jobs) for of in (forward_tokens, evaluation_tokens))
    if flags.evaluation == "bounded":
        print(f"evaluations: at most {most / work:.0%} of the work; one that cannot be the best ends early")
    else:
        print(f"evaluations: {most / work:.0%} of the work; less with --evaluation bounded")
    for job in jobs if flags.list_trials else ():
        state = "stopped" if job.state is State.STOPPED else "to run"
        print(f"{job.key}\t" + (f"done\t{job.trial.row.format_score(job.score)}" if job.result else f"{state}\t-"))
    if not flags.list_trials:
        print("--list prints a line for each trial")
    sys.stdout.flush()
    for line in _surprises(grid, jobs):
        print(line, file=sys.stderr)


def _surprises(grid: PlannedGrid, jobs: Sequence[Job]) -> Iterator[str]:
    """What a user should know of a plan before it runs."""
    if again := [job for job in jobs if job.needs_model]:
        yield f"{len(again)} best trials (such as {again[0].key}) run again, as their models were not kept"
    if over := writing_over(jobs):
        yield over
    if without := dict.fromkeys(job.trial.row.title for job in jobs if not job.configuration_hash):
        where = f"not in {grid.flags.data_dir}" if grid.flags.data_dir else "not on this machine yet"
        yield f"the data of {', '.join(without)} is {where}: whether their trials are done is unknown"
    have_run = {job.trial.model for job in jobs if job.result}
    for model in grid.directories:
        if model not in have_run and model.directory is None and model.name not in published_models():
            near = near_published(model.name)
            meant = f": did you mean {', '.join(near)}?" if near else ", nor a directory; the warm-up will look for it"
            yield f"{model} is not a published model{meant}"


def writing_over(jobs: Sequence[Job]) -> str | None:
    """A warning about finished trials with other settings that a plan would write over."""
    over = [job for job in jobs if job.writes_over and job.state is State.WAITING]
    if not over:
        return None
    count = f"{len(over)} finished trial{'s' if len(over) > 1 else ''} of other settings"
    return f"{count} (such as {over[0].key}) will be written over; another --run_root keeps them"


def _counts(jobs: Sequence[Job], width: int = 0) -> list[str]:
    """``12 done``, ``61 stopped`` if any is, ``61 to run``."""
    done, stopped = (sum(job.state is state for job in jobs) for state in (State.DONE, State.STOPPED))
    counts = {"done": done, **({"stopped": stopped} if stopped else {}), "to run": len(jobs) - done - stopped}
    return [f"{count:{width}} {what}" for what, count in counts.items()]


# Its cost ------------------------------------------------------------------------------------------------------------


class Forecast:
    """The cost of the trials that a grid has still to run, by the finished trials under its run root."""

    def __init__(self, grid: PlannedGrid, jobs: Sequence[Job], timed: Iterable[tuple[Trial, float, str]] = ()):
        """``timed``: trials with the device seconds that each would take, by a short run, and the kind of device."""
        self._grid, self._jobs, self._rule = grid, jobs, grid.flags.rule
        self._run_root = next(iter(grid.directories.values())).path.parent
        by_device: dict[str, DurationModel] = defaultdict(lambda: DurationModel(grid.flags))
        for trial, result in self._finished():
            by_device[result.device.partition(":")[0]].observe(trial, result.cost, _flags_of(result))
        for trial, seconds, kind in timed:
            by_device[kind].observe(trial, seconds)
        asked = grid.flags.devices.partition(":")[0]
        self.device = asked if asked != "auto" else "gpu" if "gpu" in by_device else "cpu"
        self._to_run: dict[Task, list[Job]] = defaultdict(list)
        self._known: dict[str, tuple[float, Model]] = {}  # trial key → device seconds, by trials of this model
        for job in jobs:
            if not job.is_settled:
                self._to_run[job.trial.row].append(job)
                if estimate := by_device[self.device].by_task(job.trial):
                    self._known[job.key] = estimate

    def _finished(self) -> Iterator[tuple[Trial, Result]]:
        """The finished trials of all grids under the run root."""
        for path in sorted(self._run_root.glob("*/grid.json")):
            run = OpenedRun(path.parent)
            try:
                model = Model.of(run.grid.model if run.grid else "")
            except UsageError:  # its directory is gone, so its size is unknown
                continue
            for done in (done for found in run.trials.values() for done in found):
                if done.result and done.result.cost:
                    yield Trial(model, done.task, done.setting, done.seed), done.result

    def hours(self, task: Task) -> tuple[float, float] | None:
        """Device hours of a task's trials to run, least and most; None if no trial of it by a similar model has ended.

        They differ if trials are stopped early: each at its first rung, or none at all.
        """
        jobs = self._to_run[task]
        whole = {job.key: self._known[job.key][0] for job in jobs if job.key in self._known}
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
        for jobs in by_task(job for job in self._jobs if job.trial.row is task).values():
            contest: dict[Setting, list[Job]] = defaultdict(list)
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
        jobs, hours = self._to_run[task], self.hours(task)
        if not jobs:
            return ""
        if hours is None:
            return ", device hours unknown until its first trial ends"
        by = {self._known[job.key][1] for job in jobs} - {*self._grid.directories}
        return f", about {_hours(*hours)}" + (f" by {', '.join(sorted(map(str, by)))}" if by else "")

    def in_all(self) -> list[str]:
        """Two lines, device hours and disk of the whole plan; none if nothing is to run."""
        hours = {task: self.hours(task) for task, jobs in self._to_run.items() if jobs}
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

        to_run = [job for jobs in self._to_run.values() for job in jobs]
        there = {group(job) for job in self._jobs if job.result and job.result.best_model}
        kept = sum(sizes[model] for model, _ in {group(job) for job in to_run} - there) * flags.save_best_model
        running = max(sizes.values()) * 2 * (_CHECKPOINT + flags.save_best_model)
        parts = [f"up to {_gigabytes(running)} for each trial that runs at a time"]
        if self._rule:  # stopped trials keep a checkpoint, as they can go on later
            stopped = sum(sizes[job.trial.model] for job in to_run) * (_CHECKPOINT + flags.save_best_model)
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


def timed(jobs: Sequence[Job], flags: GridFlags) -> Iterator[tuple[Trial, float, str]]:
    """(trial, device seconds of the whole trial, kind of device) of each job, one after the other on one device.

    Each runs `_STEPS` steps and one evaluation in a temporary directory. One that fails is named and left out.
    """
    driver = None if flags.devices.startswith("cpu") else nvidia.answered(nvidia.NvidiaDriver.open)
    device = devices.find_devices(flags.devices, os.environ, driver)[0]
    for job in jobs:
        with waiting(f"{job.trial.row.title}: {_STEPS} steps and an evaluation on {device.label}"):
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
        short = replace(flags, max_steps=_STEPS, save_best_model=False, keep_all_models=False)
        command = trial_command(replace(job, paths=paths), [device], short)
        environment = {**os.environ, **devices.child_environment([device], 1)}
        with open(paths.log, "w", encoding="utf-8") as stream:
            subprocess.run(command, cwd=repository.ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        result = Result.read_finished(paths.result)
        if result is None:
            lines = [line for line in read_log(paths.log).last_lines if line.strip()] or ["it printed nothing"]
            notice(f"--time_it: {job.trial.row.title} does not run: {lines[-1]}")
        return result
