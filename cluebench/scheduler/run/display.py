"""What people see of a grid: a live table or plain lines while it runs, --status, and the failures at its end."""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluebench.foundation.text import duration
from cluebench.records import dev_predictions
from cluebench.records.cost import Cost, cost_by_task, cost_lines
from cluebench.records.finished_trials import OpenedRun
from cluebench.records.grid_file import PlannedTrial
from cluebench.records.result import Result
from cluebench.records.trial import Trial
from cluebench.scheduler.allocation.job_queue import Sparingly
from cluebench.scheduler.loop.grid_state import GridState
from cluebench.scheduler.plan.estimates import DurationModel, Underway, time_left
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job, LogReader, State, best_first, by_task, recall_failures
from cluebench.scheduler.processes.engine import orphan_of
from cluebench.scheduler.run.planned_grid import RunDirectory

#: Seconds between plain status lines, before the first of them, and between updates of the live table.
_PLAIN_EVERY, _PLAIN_FIRST, _LIVE_EVERY = 60.0, 15.0, 1.0
#: Most worker processes to name.
_NAMED = 3


def summary(counts: Mapping[State, int], where: str, seconds_left: float | None, is_search: bool) -> str:
    """``12 done, 4 running (2 elsewhere), 116 waiting, 0 failed; time left about 5 h 10 min``"""
    named = [state for state in State if counts[state] or state in list(State)[:4]]
    text = ", ".join(f"{counts[state]} {state.value}{where if state is State.RUNNING else ''}" for state in named)
    about = "at most" if is_search else "about"
    return text + (f"; time left {about} {duration(seconds_left)}" if seconds_left else "")


class Display:
    """An observer that prints a line for everything that happens. `LiveDisplay` adds the table."""

    first, interval = _PLAIN_FIRST, _PLAIN_EVERY

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream or sys.stderr
        self._next: float | None = None

    def attach(self, grid: GridState) -> None:
        """Call it before anything happens."""
        self._grid = grid

    def close(self) -> None:
        """Leaves the terminal as it was."""

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def hear(self, text: str, job: Job | None) -> None:
        if job is not None:
            place = f"[{self._grid.queue.count(State.DONE)}/{len(self._grid.jobs)}]"
            text = f"{place} {job.key} {text}" + (f"; {self._summary()}" if job.state is State.DONE else "")
        self.note(text)

    def tick(self, now: float) -> float:
        self._next = now + self.first if self._next is None else self._next
        if now >= self._next:
            self._show()
            self._next = now + self.interval
        return self._next

    def _show(self) -> None:
        running = [f"{job.key} {underway}" for job, underway in self._running()]
        self.note(": ".join(filter(None, (self._summary(), ", ".join(running)))))

    def _summary(self) -> str:
        grid, elsewhere = self._grid, self._grid.elsewhere()
        counts = {state: grid.queue.count(state) for state in State}
        counts[State.RUNNING] += elsewhere
        counts[State.WAITING] -= elsewhere
        where = f" ({elsewhere} elsewhere)" if elsewhere else ""
        text = summary(counts, where, grid.seconds_left(), grid.halving is not None)
        return "; ".join(filter(None, (text, grid.why_idle())))

    def _running(self) -> list[tuple[Job, Underway]]:
        return [(job, self._grid.logs.underway(job, job.attempt)) for job in self._grid.running()]


class LiveDisplay(Display):
    """A table of the grid, its tasks and the running trials at the bottom of the terminal, under `Display`'s lines.

    It fits 80 columns: long names are cut, nothing else is.
    """

    first, interval = 0.0, _LIVE_EVERY

    def __init__(self, stream: TextIO | None = None):
        super().__init__(stream)
        self._task_rows = Sparingly(self._tasks, time.monotonic)
        self._console = Console(file=self._stream)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def attach(self, grid: GridState) -> None:
        super().attach(grid)
        self._several = len({job.trial.model for job in grid.jobs}) > 1
        self._live.update(self._picture())
        self._live.start()

    def close(self) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _show(self) -> None:
        self._live.update(self._picture(), refresh=True)

    def _picture(self) -> Group:
        jobs = self._grid.jobs
        whole = Table.grid(expand=True)
        whole.add_row(Text(self._summary()))
        whole.add_row(ProgressBar(total=len(jobs), completed=sum(job.is_settled for job in jobs)))
        trials = Table.grid(padding=(0, 2))
        trials.add_row(*(Text(title, style="bold") for title in ("running", "on", "step", "last dev", "left")))
        for job, underway in self._running():
            name = f"{job.trial.task}/{job.trial.name}" + (f" {job.trial.model.folder}" if self._several else "")
            left = "-" if underway.seconds_left is None else duration(underway.seconds_left)
            cells = (_joined(job.attempt.labels), underway.place, underway.score, left)
            trials.add_row(_cut(name), *(Text(cell, no_wrap=True) for cell in cells))
        return Group(whole, self._task_rows(), trials)

    def _tasks(self) -> Table:
        """A row for each task: trials done, and the best so far. With several models only tasks that run now."""
        table = Table.grid(padding=(0, 2))
        for (model, _), jobs in by_task(self._grid.jobs).items():
            counts = Counter(job.state for job in jobs)
            if self._several and not counts[State.RUNNING]:
                continue
            best = max((job for job in jobs if job.result is not None), key=lambda job: job.score[0], default=None)
            bar = ProgressBar(total=len(jobs), completed=counts[State.DONE], width=12)
            score = f"best {best.trial.row.format_score(best.score)}" if best else ""
            where = [best.trial.name if best else "", model.folder if self._several else ""]
            done = f"{counts[State.DONE]}/{len(jobs)}"
            table.add_row(jobs[0].trial.row.title, done, bar, score, _cut(" ".join(where)))
        return table


def _cut(text: str) -> Text:
    """A name that is cut if its line is too short."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def _joined(labels: Sequence[str]) -> str:
    """``gpu 0,1`` for gpu 0 and gpu 1."""
    kinds = {label.rpartition(" ")[0] for label in labels}
    if len(kinds) > 1:
        return ", ".join(labels)
    return f"{kinds.pop()} " + ",".join(label.rpartition(" ")[2] for label in labels) if labels else ""


def display_for(stream: TextIO) -> Display:
    """The live table on a terminal, plain lines on anything else."""
    return LiveDisplay(stream) if stream.isatty() else Display(stream)


# The end of a grid ----------------------------------------------------------------------------------------------------


def print_failures(failed: Sequence[Job]) -> None:
    """A table of what failed and why, and the end of each log."""
    if not failed:
        return
    print(f"\n{len(failed)} trial{'s' if len(failed) > 1 else ''} failed:\ntrial\tattempts\twhy\tmessage")
    for job in failed:
        failure, attempts = job.failures[-1], max(len(job.attempts), len(job.failures))  # in other processes, too
        print(f"{job.key}\t{attempts}\t{failure.kind.value}\t{failure.detail}")
    for job in failed:
        if lines := LogReader().facts(job).last_lines[-10:]:
            print(f"\nthe last lines of {job.paths.log}:")
            print("\n".join(f"    {line}" for line in lines))


# --status -------------------------------------------------------------------------------------------------------------


def print_status(directories: Iterable[RunDirectory], flags: GridFlags) -> None:
    """For each model: who runs its grid, how many trials are in each state, the time left, what runs or failed."""
    for directory in directories:
        print("\n".join(_status_lines(directory, flags)))


def _status_lines(directory: RunDirectory, flags: GridFlags) -> list[str]:
    run, holder = OpenedRun(directory.path), directory.holder()
    grid = run.grid
    if grid is None:
        return [f"{directory.path}: no grid has been started here"]
    jobs, logs = [_job(directory, entry, run.files.get(entry.task, {}), flags) for entry in grid.trials], LogReader()
    running = {job.key: logs.underway(job, job.elsewhere) for job in jobs if job.elsewhere}
    workers = sorted({job.elsewhere.who for job in jobs if job.elsewhere and job.elsewhere.ends_with_starter})
    if holder is not None:
        state = f"running: {holder}"
    elif workers:
        state = "running, by workers"
    else:
        state = "not running" + (", ended in the middle" if grid.status == "running" else f", {grid.status}")
    where = f" ({', '.join(workers[:_NAMED])}{', …' if len(workers) > _NAMED else ''})" if workers else ""
    left = _seconds_left(jobs, list(running.values()), DurationModel(flags)) if running else None
    numbers = summary(Counter(job.state for job in jobs), where, left, bool(grid.search))
    costs = cost_by_task(run)
    _add_what_runs(costs, jobs, directory.grid_json.stat().st_mtime if holder is not None else 0.0)
    lines = [f"{directory.path}: {state}", numbers, *cost_lines(costs)]
    for job, entry in zip(jobs, grid.trials):
        name, attempt = f"  {job.state.value}\t{entry.task}/{entry.name}", job.elsewhere
        if job.state is State.FAILED:
            failures = [("-", "-"), *((noted.kind, noted.detail) for noted in entry.failures)]
            failures += [(failure.kind.value, failure.detail) for failure in job.failures]
            lines.append(f"{name}\t{': '.join(failures[-1])}")
        elif attempt is not None:
            now, place = running[job.key], ", ".join(attempt.labels) or "-"
            who = f" of {attempt.who}" if attempt.ends_with_starter else ""
            lines.append(f"{name}\tstep {now.place}\tlast dev {now.score}\ton {place}{who}")
    return lines + _one_label_lines(jobs)


def _job(directory: RunDirectory, entry: PlannedTrial, results: Mapping[Path, Result | None], flags: GridFlags) -> Job:
    """A trial as its result, its lock and its notes show it now: a grid.json may be old, as not all processes write it.

    ``results``: of its task. If a process runs it, ``elsewhere`` is the attempt.
    """
    trial = Trial(directory.model, entry.task, entry.setting, entry.seed)
    job = Job(trial, 0, trial.paths(directory.path), directory.trial_lock(trial), entry.configuration_hash)
    result = results.get(job.paths.result)
    if result and result.is_finished and result.configuration_hash == job.configuration_hash:
        job.result, job.state = result, State.DONE
    elif attempt := orphan_of(job.lock):
        job.elsewhere, job.state = attempt, State.RUNNING
    else:
        recall_failures(job)
        if job.is_given_up(flags.max_attempts):
            job.state = State.FAILED
        elif entry.state in ("failed", State.PAUSED, "stopped"):
            job.state = State(entry.state)
    return job


def _one_label_lines(jobs: Sequence[Job]) -> list[str]:
    """A note for each task whose best trial predicts one label for all dev rows."""
    lines = []
    for best in (done[0] for group in by_task(jobs).values() if (done := best_first(group))):
        predictions = dev_predictions.of_result(best.result, best.paths.result) if best.result else None
        if predictions and predictions.one_label:
            trial = f"{best.trial.task}/{best.trial.name}"
            lines.append(f"  note\t{trial}: the best trial of the task predicts {predictions.one_label}")
    return lines


def _add_what_runs(costs: dict[str, Cost], jobs: Sequence[Job], written: float) -> None:
    """Adds what running trials have cost since grid.json was ``written``, or since they began."""
    # Several machines may share a run root.
    on = Counter((job.elsewhere.host, label) for job in jobs if job.elsewhere for label in job.elsewhere.labels)
    for job in jobs:
        if attempt := job.elsewhere:
            begin = attempt.started if attempt.ends_with_starter else max(attempt.started, written)
            seconds = sum((time.time() - begin) / on[attempt.host, label] for label in attempt.labels)
            costs[job.trial.task] = costs.get(job.trial.task, Cost()) + Cost(seconds)


def _seconds_left(jobs: Sequence[Job], running: Sequence[Underway], durations: DurationModel) -> float | None:
    """As the scheduler estimates it, but without its idle devices, which are unknown here."""
    for job in jobs:
        if job.result and job.result.cost > 0:
            durations.observe(job.trial, job.result.cost)
    waiting = [job.trial for job in jobs if job.state in (State.WAITING, State.PAUSED)]
    waiting.sort(key=durations.relative, reverse=True)
    return time_left(durations, running, waiting, max(1, sum(trial.devices for trial in running)))
