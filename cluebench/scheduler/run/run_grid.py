"""From a grid to its results: what is done already, the warm-up, the loop, the tables at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial

from cluebench.foundation import repository
from cluebench.foundation.command import INTERRUPTED
from cluebench.foundation.errors import ClueError, UsageError
from cluebench.machine import devices, nvidia
from cluebench.machine.nvidia import Device
from cluebench.records.cost import cost_by_task, cost_lines
from cluebench.records.finished_trials import halving_mark
from cluebench.records.result import Result
from cluebench.records.run_flags import refuse_amp
from cluebench.report.grid_page import REPORT_FILE
from cluebench.report.table import print_table
from cluebench.scheduler.allocation.ledger import Ledger
from cluebench.scheduler.allocation.promises import Promises
from cluebench.scheduler.loop.loop import Rules, Scheduler
from cluebench.scheduler.plan.estimates import DurationModel, MemoryModel
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job, State, written
from cluebench.scheduler.processes import launch, trial_command
from cluebench.scheduler.processes.engine import Engine, Events, Interrupted
from cluebench.scheduler.processes.local_engine import LocalEngine
from cluebench.scheduler.processes.trial_process import Holding, StartOrder
from cluebench.scheduler.run.display import display_for
from cluebench.scheduler.run.planned_grid import PlannedGrid
from cluebench.scheduler.run.recorder import Observers, Recorder
from cluebench.scheduler.run.run_directory import end_strays, record_stopped
from cluebench.scheduler.run.status import print_failures, writing_over


def run(grid: PlannedGrid) -> int:
    """Runs what is not done, prints the tables, returns the exit code: 0 only when every trial is done.

    Raises ClueError when a run directory is in use, or before any trial is started.
    """
    with ExitStack() as locks:
        for directory in grid.directories.values():
            directory.acquire(shared=grid.flags.worker)
            locks.callback(directory.release)
        jobs, interrupted = grid.jobs(), None
        for job in (job for job in jobs if job.state is State.STOPPED):
            record_stopped(job)
        if not grid.flags.worker:  # which has company
            for job in (job for job in jobs if job.state is State.DONE):
                job.paths.remove_leftovers()
        if any(job.state is State.WAITING for job in jobs):
            events = Events()
            with closing(_engine(grid, events)) as engine:
                _refuse_what_fails_everywhere(grid.flags, jobs, engine.devices)
                _warm_up(grid, engine.devices)
                for directory in grid.directories.values():
                    directory.adopt_results()
                jobs = grid.jobs(require_data=True)
                interrupted = _search(grid, jobs, engine, events)
        else:
            stopped = sum(job.state is State.STOPPED for job in jobs)
            early = f", {stopped} of them stopped early" if stopped else ""
            print(f"all {len(jobs)} trials are done already{early}", file=sys.stderr)
        left = [job for job in jobs if not job.is_settled]
        if grid.flags.worker:  # the rest is being run by others
            left = [job for job in left if job.state is State.FAILED]
        with _heard():
            _conclude(grid, jobs, interrupted)
    return INTERRUPTED if interrupted is not None else 1 if left else 0


def _conclude(grid: PlannedGrid, jobs: Sequence[Job], interrupted: str | None) -> None:
    """Prints the tables, where everything is, and what is left to do."""
    left = [job for job in jobs if not job.is_settled]
    if grid.flags.worker and interrupted is None:
        print(f"{len(jobs) - len(left)} of {len(jobs)} trials are done, none is left to take", file=sys.stderr)
        return
    for model, directory in grid.directories.items():
        print_table(directory.path, model.name, among_others=len(grid.directories) > 1)
        kept = sum(job.trial.model == model and job.result is not None and bool(job.result.best_model) for job in jobs)
        models = f", {kept} best model{'s' if kept > 1 else ''} below {directory.path}" if kept else ""
        if grid.flags.rule and interrupted is None and halving_mark(directory.path) is None:
            print(
                "halving stopped no trial: it needs two settings, and two evaluations before the last", file=sys.stderr
            )
        for line in cost_lines(cost_by_task(directory.path)):
            print(line, file=sys.stderr)
        print(f"report: {directory.path / REPORT_FILE}, log: {directory.grid_log}{models}", file=sys.stderr)
    if interrupted is not None:
        print(f"stopped by {interrupted} with {len(left)} trials left; the same command goes on", file=sys.stderr)
    else:
        print_failures(left)


@contextmanager
def _heard() -> Iterator[None]:
    """Where whoever should read it has gone (``| head``, a dead terminal), what is printed is given up in silence."""
    with suppress(OSError):
        yield
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except OSError:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))


def _warm_up(grid: PlannedGrid, chosen: Sequence[Device]) -> None:
    """Fetches models and data and fills the cache before any device is taken. Raises ClueError where it fails."""
    flags, tasks = grid.flags, dict.fromkeys(trial.task for trial in grid.trials)
    script = repository.ROOT / "grid_search_tools" / "warmup_dataset_and_model.py"
    command = [sys.executable, "-u", str(script), *map(str, grid.directories), "--tasks", *tasks]
    command += ["--device", chosen[0].kind]
    for name, value in (("--data_dir", flags.data_dir), ("--cache_dir", flags.cache_dir), ("--limit", flags.limit)):
        command += [name, str(value)] if value else []
    command += ["--offline"] if flags.offline else []
    code = subprocess.run(command, cwd=repository.ROOT, stdout=sys.stderr).returncode
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        error = ClueError("the warm-up failed, so no trial was started; its error stands above")
        error.exit_code = code if code > 0 else 1
        raise error


# The loop -------------------------------------------------------------------------------------------------------------


class GridTrials:
    """The loop's `Trials`: the jobs of a grid, and what lies in its run directories."""

    written = staticmethod(written)

    def __init__(self, grid: PlannedGrid, jobs: list[Job], engine: Engine, recorders: Sequence[Recorder]):
        self._grid, self.jobs, self._engine, self._recorders = grid, jobs, engine, recorders
        self.halving = grid.halving(jobs)
        self._result_sums: dict[str, int | None] = {}  # trial key → of its result, when that was last looked at

    def order(self, job: Job, holding: Holding) -> StartOrder:
        taken = [device for device in self._engine.devices if device.id in holding.devices]
        launcher_logs = self._grid.directories[job.trial.model].launcher_logs(job.trial)
        rung, flags = self.halving.pause_at(job) if self.halving else None, self._grid.flags
        command = trial_command.trial_command(job, taken, flags, repository.ROOT, launcher_logs, rung)
        environment = devices.child_environment(taken, len(self._engine.devices), flags.jobs_per_device)
        return StartOrder(job, holding, command, environment, repository.ROOT, self._result_sums.get(job.key))

    def finished(self, job: Job) -> Result | None:
        self._result_sums[job.key] = launch.content_sum(job.paths.result)  # before: what changes meanwhile is seen
        return Result.read_finished(job.paths.result, job.configuration_hash)

    def unwritable(self) -> str | None:
        return next(filter(None, (directory.unwritable() for directory in self._grid.directories.values())), None)

    def charged(self, job: Job) -> None:
        """Writes what a trial has cost into its result, if it is done, and into its grid."""
        if job.result is not None:
            with suppress(OSError):  # as it was, it is whole and true
                job.result.write(job.paths.result)
        for recorder in self._recorders:
            recorder.charged(job)

    def more(self) -> list[Job]:
        return self._grid.confirmations(self.jobs) if self._grid.flags.confirm_seeds > 1 else []


def _search(grid: PlannedGrid, jobs: list[Job], engine: Engine, events: Events) -> str | None:
    """Runs the loop, which may add to ``jobs``; returns the name of the signal that ended it early, or None."""
    flags, directories = grid.flags, grid.directories
    display = display_for(sys.stderr)
    kept = [] if flags.worker else directories.values()  # by whoever planned the grid
    details = {
        "command": sys.argv,
        "data_dir": flags.data_dir,
        "search": str(flags.rule) if flags.rule else None,
        "devices": [f"{device.label} {device.name}".strip() for device in engine.devices],
        "commit": repository.commit(),
    }
    only_best = flags.save_best_model and not flags.keep_all_models
    recorders = [
        Recorder(directory, jobs, details, keep_only_best=only_best, complain=display.note) for directory in kept
    ]
    observers = Observers([display, *recorders])
    if flags.engine == "local" and not flags.worker:
        end_strays(directories.values(), [job.lock for job in jobs], observers.note)
    scheduler = Scheduler(
        GridTrials(grid, jobs, engine, recorders),
        engine,
        Ledger(engine.devices, flags.jobs_per_device),
        DurationModel(flags),
        MemoryModel(flags.amp),
        observers,
        events,
        Rules(flags.max_attempts, flags.trial_timeout, flags.mrc_cards, leaves=flags.worker),
        Promises(observers.note) if flags.engine == "local" else None,
    )
    observers.note(_opening(jobs, engine.devices))
    if over := writing_over(jobs):
        observers.note(over)
    with _signals(events):
        with suppress(OSError):
            display.attach(scheduler)
        try:
            scheduler.run()
        finally:
            with suppress(OSError):
                display.close()
            for recorder in recorders:
                recorder.finish()
    return scheduler.interrupted


def _engine(grid: PlannedGrid, events: Events) -> Engine:
    flags = grid.flags
    if flags.engine == "ray":
        from cluebench.scheduler.processes.ray_engine import RayEngine  # Ray is an extra that most don't have

        paths = [repository.ROOT / "mrc", *(directory.private for directory in grid.directories.values())]
        return RayEngine(flags.devices, flags.ray_address, flags.jobs_per_device, events, paths)
    asks = not flags.devices.startswith("cpu")
    driver = nvidia.answered(nvidia.NvidiaDriver.open) if asks else None
    find = partial(devices.find_devices, flags.devices, os.environ, driver, many_small=flags.demo)
    return LocalEngine(nvidia.answered(find), driver, events)


def _refuse_what_fails_everywhere(flags: GridFlags, jobs: Sequence[Job], chosen: Sequence[Device]) -> None:
    """Raises UsageError when --amp or --mrc_cards can't be had on these devices, or cards don't cut a batch evenly."""
    refuse_amp(flags.amp, chosen[0].kind)
    if flags.mrc_cards is None or flags.mrc_cards == 1:
        return
    joinable = devices.most_together(chosen)
    if flags.mrc_cards > joinable:
        raise UsageError(f"--mrc_cards {flags.mrc_cards}: the grid has {joinable} card(s) that can work together")
    for job in jobs:
        if job.trial.row.cards > 1:
            try:
                job.trial.row.accumulation_steps(job.trial.setting.batch_size, flags.mrc_cards)
            except ValueError as error:
                raise UsageError(f"--mrc_cards {flags.mrc_cards}: {error}") from None


@contextmanager
def _signals(events: Events) -> Iterator[None]:
    """Turns Ctrl-C, SIGTERM and a closed terminal into events while the loop runs."""
    earlier = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as it is under nohup
            event = Interrupted(number.name)
            earlier[number] = signal.signal(number, lambda *_, event=event: events.put(event))
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _opening(jobs: Sequence[Job], chosen: Sequence[Device]) -> str:
    done = sum(job.state is State.DONE for job in jobs)
    labels = ", ".join(f"{device.label} ({device.name})" if device.name else device.label for device in chosen)
    return f"{len(jobs)} trials, {done} done already, on {labels}"
