"""What people see while a grid runs: a live table on a terminal, plain lines elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluebench.records.log import LogFacts
from cluebench.report.units import duration
from cluebench.scheduler.allocation.job_queue import Sparingly
from cluebench.scheduler.loop.grid_state import GridState
from cluebench.scheduler.plan.jobs import Job, State, by_task

#: Seconds between plain status lines, before the first of them, and between updates of the live table.
_PLAIN_EVERY, _PLAIN_FIRST, _LIVE_EVERY = 60.0, 15.0, 1.0


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

    def started(self, job: Job) -> None:
        number = job.attempt.number
        again = "" if number == 1 else f", attempt {number}" if job.failures else ", going on"
        self.note(f"started {job.key} on {', '.join(job.attempt.labels)}{again}")

    def ended(self, job: Job) -> None:
        place = f"[{self._grid.queue.count(State.DONE)}/{len(self._grid.jobs)}]"
        took = duration(job.attempt.seconds) if job.attempts else ""
        if job.state is State.DONE:
            self.note(f"{place} {job.key}  {score_text(job)}  ({took}); {summary(self._grid)}")
        else:
            failure = job.failures[-1]
            after = "is tried again" if job.state is State.WAITING else "given up"
            self.note(f"{place} {job.key}  failed: {failure.kind.value}: {failure.detail} ({took}); {after}")

    def judged(self, job: Job) -> None:
        self.note(f"{job.key}  {job.standing()}")

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
