"""From a grid to its results: what is done already, the warm-up, the loop, the tables at the end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from functools import partial

from cluebench.foundation import repository
from cluebench.foundation.command import INTERRUPTED
from cluebench.foundation.errors import ClueError, LeftToOthers, UsageError
from cluebench.machine import devices, nvidia
from cluebench.machine.nvidia import Device
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import kept_weights
from cluebench.records import identity
from cluebench.records.cost import cost_lines
from cluebench.records.grid_file import REPORT_FILE, read_grid
from cluebench.records.result import Result, Settings
from cluebench.records.run_flags import refuse_amp
from cluebench.report.run import Run
from cluebench.report.table import print_table
from cluebench.scheduler.allocation.promises import Promises
from cluebench.scheduler.loop import loop
from cluebench.scheduler.loop.grid_state import GridState
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job, State, by_task, note_failures, recall_failures
from cluebench.scheduler.plan.trials import trial_command
from cluebench.scheduler.processes.engine import Engine, Events, Interrupted, StartOrder
from cluebench.scheduler.run.display import Display, display_for, print_failures
from cluebench.scheduler.run.forecast import writing_over
from cluebench.scheduler.run.planned_grid import AlreadyRunning, PlannedGrid, end_strays
from cluebench.scheduler.run.recorder import Recorder


def run(grid: PlannedGrid) -> int:
    """Runs what is not done, prints the tables, returns the exit code: 0 only if every trial is done.

    A worker concludes the grid if it finds the plan finished. Raises ClueError if a run directory is in use, or for
    errors before the first trial.
    """
    flags, interrupted = grid.flags, None
    with _locked(grid, plans=not flags.worker):
        if not flags.worker:
            for directory in grid.directories.values():
                directory.forget_failures()
        jobs = _joined(grid)
        if not flags.worker:
            for job in jobs:  # what a killed scheduler left
                if job.state is State.DONE:
                    job.paths.remove_leftovers()
        if any(job.state is State.WAITING for job in jobs):
            jobs, interrupted = (_run_on_ray if flags.engine == "ray" else _run_here)(grid, jobs, Events())
        else:
            stopped = sum(job.state is State.STOPPED for job in jobs)
            early = f", {stopped} of them stopped early" if stopped else ""
            print(f"all {len(jobs)} trials are done already{early}", file=sys.stderr)
            if not flags.worker:
                Recorder(grid, jobs).finish()
        return _leave(grid, interrupted) if flags.worker else _print_end(grid, jobs, interrupted)


def conclude(grid: PlannedGrid) -> int:
    """The end of a grid that other processes have run: kept models, report and tables; returns the exit code.

    0 only if every trial is done. Raises AlreadyRunning while a scheduler runs the grid, as that concludes it itself.
    """
    with _locked(grid, plans=True):
        jobs = grid.jobs()
        Recorder(grid, jobs).finish()
        return _print_end(grid, jobs, None)


@contextmanager
def _locked(grid: PlannedGrid, plans: bool) -> Iterator[None]:
    """Releases the run directories at the end; ``plans``: this process is the one that plans and concludes the grid."""
    with ExitStack() as locks:
        for directory in grid.directories.values():
            locks.callback(directory.release)
            if plans:
                directory.acquire()
        yield


def _joined(grid: PlannedGrid, require_data: bool = False) -> list[Job]:
    """The jobs, if no other process runs them with other settings. The first worker writes the plan."""
    if require_data:
        for directory in grid.directories.values():
            directory.adopt_results()
    jobs = grid.jobs(require_data)
    settings: dict[Model, dict[str, Settings]] = {model: {} for model in grid.directories}
    for (model, task), group in by_task(jobs).items():
        if configuration := group[0].configuration:  # its data is on this machine
            settings[model][task] = {key: value for key, value in configuration.items() if key not in identity.VARIED}
    alone = [directory.join(settings[model]) for model, directory in grid.directories.items()]
    if grid.flags.worker and all(alone):
        Recorder(grid, jobs).write_plan()
    return jobs


def _leave(grid: PlannedGrid, interrupted: str | None) -> int:
    """The end of a worker. If the plan is finished, it concludes the grid, unless another process does or did so."""
    jobs = grid.jobs()
    done, failed = sum(job.state is State.DONE for job in jobs), [job for job in jobs if job.state is State.FAILED]
    count = f"{done} of {len(jobs)} trials are done" + (f", {len(failed)} failed" if failed else "")
    with _readable_output():
        if interrupted is not None:
            print(f"stopped by {interrupted}: {count}; the same command goes on", file=sys.stderr)
            return INTERRUPTED
        print(f"{count}, none is left to take", file=sys.stderr)
        if all(job.is_settled or job.state is State.FAILED for job in jobs):
            try:
                with _locked(grid, plans=True):
                    if not _is_concluded(grid, jobs):
                        Recorder(grid, jobs).finish()
                        return _print_end(grid, jobs, None)
                print("another process has concluded the grid", file=sys.stderr)
            except AlreadyRunning as scheduler:
                print(f"it concludes the grid: {scheduler}", file=sys.stderr)
        print_failures(failed)
    return 1 if failed else 0


def _is_concluded(grid: PlannedGrid, jobs: Sequence[Job]) -> bool:
    """Whether each grid.json belongs to a grid that has ended with these jobs, and has a report."""
    ended = set()
    for directory in grid.directories.values():
        found = read_grid(directory.path)
        if found and found.status in ("done", "failed") and (directory.path / REPORT_FILE).is_file():
            ended |= {(entry.configuration_hash, entry.state) for entry in found.trials}
    return ended >= {(job.configuration_hash, job.state.value) for job in jobs}


def _print_end(grid: PlannedGrid, jobs: Sequence[Job], interrupted: str | None) -> int:
    """Prints the tables, where everything is, and what is left to do; returns the exit code."""
    left = [job for job in jobs if not job.is_settled]
    with _readable_output():
        for model, directory in grid.directories.items():
            opened = Run(directory.path)
            print_table(opened, model.name, among_others=len(grid.directories) > 1)
            kept = sum(bool(job.result and job.result.best_model) for job in jobs if job.trial.model == model)
            if grid.flags.rule and interrupted is None and opened.halving_mark is None:
                needed = "two settings, and two evaluations before the last"
                print(f"halving stopped no trial: it needs {needed}", file=sys.stderr)
            for line in cost_lines(opened.costs):
                print(line, file=sys.stderr)
            files = {"report": directory.path / REPORT_FILE, "log": directory.grid_log}
            named = [f"{what}: {path}" for what, path in files.items() if path.is_file()]
            named += [f"{kept} best model{'s' if kept > 1 else ''} below {directory.path}"] if kept else []
            print(", ".join(named), file=sys.stderr)
        if interrupted is not None:
            print(f"stopped by {interrupted} with {len(left)} trials left; the same command goes on", file=sys.stderr)
            return INTERRUPTED
        print_failures([job for job in left if job.state is State.FAILED])
        if waiting := sum(job.state is not State.FAILED for job in left):
            print(f"{waiting} of {len(jobs)} trials are not done", file=sys.stderr)
    return 1 if left else 0


@contextmanager
def _readable_output() -> Iterator[None]:
    """Prints nothing more if the reader has gone (``| head``, a closed terminal)."""
    with suppress(OSError):
        yield
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except OSError:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))


def _run_on_ray(grid: PlannedGrid, jobs: list[Job], events: Events) -> tuple[list[Job], str | None]:
    """Runs the grid by workers on a Ray cluster; the jobs as these have left them, and the signal that ended it."""
    from cluebench.scheduler.run import ray_workers  # Ray is an extra that few have

    cluster = ray_workers.Cluster(grid)
    _warm_up(grid, "cpu")
    recorder = Recorder(grid, _joined(grid, require_data=True))
    recorder.write_plan()

    def note(text: str) -> None:
        recorder.hear(text, None)
        with suppress(OSError):  # the terminal may be gone
            Display().note(text)

    with _signals(events), redirect_stdout(sys.stderr):  # Ray prints on stdout that a node has died
        interrupted = cluster.run(events, note)
    jobs = grid.jobs()
    Recorder(grid, jobs).finish()
    return jobs, interrupted


def _run_here(grid: PlannedGrid, jobs: list[Job], events: Events) -> tuple[list[Job], str | None]:
    """Runs the grid on this machine; the jobs at its end, and the name of the signal that ended it early, or None."""
    request = grid.flags.devices
    driver = None if request.startswith("cpu") else nvidia.answered(nvidia.NvidiaDriver.open)
    find = partial(devices.find_devices, request, os.environ, driver, many_small=grid.flags.demo)
    engine = Engine(nvidia.answered(find), driver, events)
    _refuse_what_fails_everywhere(grid.flags, jobs, engine.devices)
    _warm_up(grid, engine.devices[0].kind)
    jobs = _joined(grid, require_data=True)
    return jobs, _loop(grid, jobs, engine, events)


def _warm_up(grid: PlannedGrid, device: str) -> None:
    """Fetches models and data and fills the cache before any trial. Raises ClueError if it fails."""
    flags, tasks = grid.flags, dict.fromkeys(trial.task for trial in grid.trials)
    script = repository.ROOT / "grid_search_tools" / "warmup_dataset_and_model.py"
    command = [sys.executable, "-u", str(script), *map(str, grid.directories), "--tasks", *tasks]
    command += ["--device", device]
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
    """The loop's `Trials`: the jobs of a grid, and the files in its run directories."""

    recall = staticmethod(recall_failures)
    note_failures = staticmethod(note_failures)

    def __init__(self, grid: PlannedGrid, jobs: list[Job], engine: Engine, recorder: Recorder | None):
        self._grid, self.jobs, self._engine, self._recorder = grid, jobs, engine, recorder
        self.halving, self.written = grid.halving(jobs), grid.on_disk

    def order(self, job: Job) -> StartOrder:
        chosen = [device for device in self._engine.devices if device.id in job.attempt.devices]
        rung, flags = self.halving.pause_at(job) if self.halving else None, self._grid.flags
        command = trial_command(job, chosen, flags, rung)
        environment = devices.child_environment(chosen, len(self._engine.devices), flags.jobs_per_device)
        return StartOrder(command, environment, repository.ROOT, ends_with_us=flags.worker)

    def finished(self, job: Job) -> Result | None:
        result = Result.read_finished(job.paths.result, job.configuration_hash)
        return None if job.needs_model and not kept_weights(job.paths.output_dir) else result

    def unwritable(self) -> str | None:
        return next(filter(None, (directory.unwritable() for directory in self._grid.directories.values())), None)

    def charged(self, job: Job) -> None:
        """Writes the cost of a trial into its result, if it is done, and into grid.json."""
        if job.result is not None:
            with suppress(OSError):  # the old result is complete and correct
                job.result.write(job.paths.result)
                job.failure_notes.unlink(missing_ok=True)
        if self._recorder:
            self._recorder.charged(job)

    def more(self) -> list[Job]:
        return self._grid.confirmations(self.jobs)


def _loop(grid: PlannedGrid, jobs: list[Job], engine: Engine, events: Events) -> str | None:
    """Runs the loop, which may add to ``jobs``; returns the name of the signal that ended it early, or None."""
    flags, display = grid.flags, display_for(sys.stderr)
    recorder = None if flags.worker else Recorder(grid, jobs, engine.devices, display.note)
    trials = GridTrials(grid, jobs, engine, recorder)
    state = GridState(trials, engine, [display, recorder] if recorder else [display], events, flags)
    state.promises = Promises(state.note)
    if recorder:
        end_strays(grid.directories.values(), [job.lock for job in jobs], state.note)
    done = sum(job.state is State.DONE for job in jobs)
    labels = [f"{device.label} ({device.name})" if device.name else device.label for device in engine.devices]
    state.note(f"{len(jobs)} trials, {done} done already, on {', '.join(labels)}")
    if not flags.save_best_model:
        state.note("no model is kept; --save_best_model True keeps each task's best, for make_submission.py")
    if over := writing_over(jobs):
        state.note(over)
    state.tell()
    with _signals(events), recorder or nullcontext():
        with suppress(OSError):
            display.attach(state)
        try:
            loop.run(state)
        finally:
            with suppress(OSError):
                display.close()
    if state.broken:
        raise LeftToOthers(f"{state.broken}: this worker leaves the rest to others")
    return state.interrupted


def _refuse_what_fails_everywhere(flags: GridFlags, jobs: Sequence[Job], chosen: Sequence[Device]) -> None:
    """Raises UsageError if --amp or --mrc_cards do not work on these devices, or cards don't divide a batch."""
    refuse_amp(flags.amp, chosen[0].kind)
    if flags.mrc_cards is None or flags.mrc_cards == 1:
        return
    joinable = sum(device.joinable for device in chosen)
    if flags.mrc_cards > joinable:
        raise UsageError(f"--mrc_cards {flags.mrc_cards}: the grid has {joinable} card(s) that can work together")
    for job in (job for job in jobs if job.trial.row.cards > 1):
        try:
            job.trial.row.accumulation_steps(job.trial.setting.batch_size, flags.mrc_cards)
        except ValueError as error:
            raise UsageError(f"--mrc_cards {flags.mrc_cards}: {error}") from None


@contextmanager
def _signals(events: Events) -> Iterator[None]:
    """Turns Ctrl-C, SIGTERM and a closed terminal into events while the loop runs."""
    earlier = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            event = Interrupted(number.name)
            earlier[number] = signal.signal(number, lambda *_, event=event: events.put(event))
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
