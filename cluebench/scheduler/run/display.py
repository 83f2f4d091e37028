"""What people see of a grid: a live table or plain lines while it runs, --status, and the failures at its end."""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO, get_args

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluebench.records import dev_predictions
from cluebench.records.cost import Cost, cost_by_task, cost_lines
from cluebench.records.finished_trials import OpenedRun
from cluebench.records.grid_file import PlannedTrial, TrialState
from cluebench.records.log import LogFacts
from cluebench.records.result import Result
from cluebench.records.trial import Trial
from cluebench.report.units import duration
from cluebench.scheduler.allocation.job_queue import Sparingly
from cluebench.scheduler.loop.grid_state import GridState
from cluebench.scheduler.plan.estimates import DurationModel, time_left
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job, LogReader, State, best_first, by_task, recall_failures
from cluebench.scheduler.processes.engine import orphan_of
from cluebench.scheduler.run.run_directory import RunDirectory

#: Seconds between plain status lines, before the first of them, and between updates of the live table.
_PLAIN_EVERY, _PLAIN_FIRST, _LIVE_EVERY = 60.0, 15.0, 1.0
#: Most worker processes to name.
_NAMED = 3


def score_text(job: Job, facts: LogFacts | None = None) -> str:
    """The trial's score, or the last dev score of a running one; ``-`` before there is any."""
    score = job.result.best_score if job.result is not None else facts.last_score if facts is not None else None
    return "-" if score is None else job.trial.row.format_score(score)


def summary(grid: GridState) -> str:
    """``12 done, 4 running, 2 running elsewhere, 116 left, 1 failed; time left about 5 h 10 min``."""
    count, elsewhere = grid.queue.count, grid.elsewhere()
    text = f"{count(State.DONE)} done, {count(State.RUNNING)} running, "
    text += f"{elsewhere} running elsewhere, " if elsewhere else ""
    text += f"{count(State.WAITING) - elsewhere} left"
    text += "".join(
        f", {count(state)} {state.value}" for state in (State.FAILED, State.PAUSED, State.STOPPED) if count(state)
    )
    if left := grid.seconds_left():
        text += f"; time left {'at most' if grid.halving else 'about'} {duration(left)}"
    idle = grid.why_idle()
    return text + (f"; {idle}" if idle else "")


class Display:
    """An observer that prints a line for everything that happens. `LiveDisplay` adds the table."""

    interval = _PLAIN_EVERY

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream or sys.stderr
        self._next = 0.0

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
            text = f"{place} {job.key} {text}" + (f"; {summary(self._grid)}" if job.state is State.DONE else "")
        self.note(text)

    def tick(self, now: float) -> float:
        if now >= self._next:
            if self._next:
                self.note(self._heartbeat())
            self._next = now + (self.interval if self._next else _PLAIN_FIRST)
        return self._next

    def _heartbeat(self) -> str:
        running = []
        for job in self._grid.running():
            step = self._grid.logs.step(job)
            share = f"{100 * step[0] / step[1]:.0f}% " if step else ""
            running.append(f"{job.key} {share}{score_text(job, self._grid.logs.facts(job))}")
        return summary(self._grid) + (": " + ", ".join(running) if running else "")


class LiveDisplay(Display):
    """A table of the grid, its tasks and the running trials at the bottom of the terminal, under `Display`'s lines.

    It fits 80 columns: long names are cut, nothing else is.
    """

    interval = _LIVE_EVERY

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

    def tick(self, now: float) -> float:
        if now >= self._next:
            self._live.update(self._picture(), refresh=True)
            self._next = now + self.interval
        return self._next

    def _picture(self) -> Group:
        jobs = self._grid.jobs
        whole = Table.grid(expand=True)
        whole.add_row(Text(summary(self._grid)))
        whole.add_row(ProgressBar(total=len(jobs), completed=sum(job.is_settled for job in jobs)))
        return Group(whole, self._task_rows(), self._running())

    def _tasks(self) -> Table:
        """A row for each task: trials done, and the best so far. With several models only tasks that run now."""
        table = Table.grid(padding=(0, 2))
        for (model, _), jobs in by_task(self._grid.jobs).items():
            counts = Counter(job.state for job in jobs)
            if self._several and not counts[State.RUNNING]:
                continue
            best = max((job for job in jobs if job.result is not None), key=lambda job: job.score[0], default=None)
            bar = ProgressBar(total=len(jobs), completed=counts[State.DONE], width=12)
            score = f"best {score_text(best)}" if best else ""
            where = [best.trial.name if best else "", model.folder if self._several else ""]
            done = f"{counts[State.DONE]}/{len(jobs)}"
            table.add_row(jobs[0].trial.row.title, done, bar, score, _cut(" ".join(where)))
        return table

    def _running(self) -> Table:
        logs, table = self._grid.logs, Table.grid(padding=(0, 2))
        table.add_row(*(Text(title, style="bold") for title in ("running", "on", "step", "last dev", "left")))
        for job in self._grid.running():
            name = f"{job.trial.task}/{job.trial.name}" + (f" {job.trial.model.folder}" if self._several else "")
            step, left = logs.step(job), logs.seconds_left(job)
            shown = f"{step[0]}/{step[1]}" if step else "-"
            cells = [shown, score_text(job, logs.facts(job)), "-" if left is None else duration(left)]
            table.add_row(_cut(name), *(Text(cell, no_wrap=True) for cell in (_joined(job.attempt.labels), *cells)))
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
        failure = job.failures[-1] if job.failures else None
        why = f"{failure.kind.value}\t{failure.detail}" if failure else "-\t-"
        print(f"{job.key}\t{max(len(job.attempts), len(job.failures))}\t{why}")  # failures in other processes too
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
    run, holder, logs = OpenedRun(directory.path), directory.holder(), LogReader()
    grid = run.grid
    if grid is None:
        return [f"{directory.path}: no grid has been started here"]
    jobs = [_job(directory, entry, flags) for entry in grid.trials]
    running = [job.elsewhere for job in jobs if job.elsewhere]
    workers = sorted({attempt.who for attempt in running if attempt.ends_with_starter})
    if holder is not None:
        state = f"running: {holder}"
    elif workers:
        state = "running, by workers"
    else:
        state = "not running" + (", ended in the middle" if grid.status == "running" else f", {grid.status}")
    where = f" ({', '.join(workers[:_NAMED])}{', …' if len(workers) > _NAMED else ''})" if workers else ""
    counts, named = Counter(job.state.value for job in jobs), get_args(TrialState)
    shown = [state for state in named if counts[state] or state in named[:4]]
    numbers = ", ".join(f"{counts[state]} {state}{where if state == 'running' else ''}" for state in shown)
    if running and (left := _seconds_left(jobs, logs, DurationModel(flags))) is not None:
        numbers += f"; time left {'at most' if grid.search else 'about'} {duration(left)}"
    costs = cost_by_task(run)
    _add_what_runs(costs, jobs, directory.grid_json.stat().st_mtime if holder is not None else 0.0)
    rows = [line for job, entry in zip(jobs, grid.trials) if (line := _line(job, entry, logs))]
    return [f"{directory.path}: {state}", numbers, *cost_lines(costs), *rows, *_one_label_lines(jobs)]


def _job(directory: RunDirectory, entry: PlannedTrial, flags: GridFlags) -> Job:
    """A trial as its result, its lock and its notes show it now: a grid.json may be old, as not all processes write it.

    If a process runs it, ``elsewhere`` is the attempt.
    """
    trial = Trial(directory.model, entry.task, entry.setting, entry.seed)
    job = Job(trial, 0, trial.paths(directory.path), directory.trial_lock(trial), entry.configuration_hash)
    if result := Result.read_finished(job.paths.result, entry.configuration_hash):
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


def _line(job: Job, entry: PlannedTrial, logs: LogReader) -> str | None:
    """The line of a trial that runs or has failed."""
    name, attempt = f"  {job.state.value}\t{entry.task}/{entry.name}", job.elsewhere
    if job.state is State.FAILED:
        failures = [f"{noted.kind}: {noted.detail}" for noted in entry.failures]
        failures += [f"{failure.kind.value}: {failure.detail}" for failure in job.failures]
        return f"{name}\t{failures[-1] if failures else '-: -'}"
    if attempt is None:
        return None
    step, score = logs.step(job), score_text(job, logs.facts(job))
    shown, place = f"{step[0]}/{step[1]}" if step else "-", ", ".join(attempt.labels) or "-"
    who = f" of {attempt.who}" if attempt.ends_with_starter else ""
    return f"{name}\tstep {shown}\tlast dev {score}\ton {place}{who}"


def _one_label_lines(jobs: Sequence[Job]) -> Iterator[str]:
    """A note for each task whose best trial predicts one label for all dev rows."""
    for group in by_task(jobs).values():
        for best in best_first(group)[:1]:
            predictions = dev_predictions.of_result(best.result, best.paths.result) if best.result else None
            if predictions and predictions.one_label:
                trial = f"{best.trial.task}/{best.trial.name}"
                yield f"  note\t{trial}: the best trial of the task predicts {predictions.one_label}"


def _add_what_runs(costs: dict[str, Cost], jobs: Sequence[Job], written: float) -> None:
    """Adds what running trials have cost since grid.json was ``written``, or since they began."""
    # Several machines may share a run root.
    on = Counter((job.elsewhere.host, label) for job in jobs if job.elsewhere for label in job.elsewhere.labels)
    for job in jobs:
        if attempt := job.elsewhere:
            begin = attempt.started if attempt.ends_with_starter else max(attempt.started, written)
            seconds = sum((time.time() - begin) / on[attempt.host, label] for label in attempt.labels)
            costs[job.trial.task] = costs.get(job.trial.task, Cost()) + Cost(seconds)


def _seconds_left(jobs: Sequence[Job], logs: LogReader, durations: DurationModel) -> float | None:
    """As the scheduler estimates it, but without its idle devices, which are unknown here."""
    for job in jobs:
        if job.result and job.result.cost > 0:
            durations.observe(job.trial, job.result.cost)
    running = [logs.underway(job, job.elsewhere) for job in jobs if job.elsewhere]
    waiting = [job.trial for job in jobs if job.state in (State.WAITING, State.PAUSED)]
    waiting.sort(key=durations.relative, reverse=True)
    return time_left(durations, running, waiting, max(1, sum(trial.devices for trial in running)))
