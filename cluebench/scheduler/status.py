"""What --dry_run, --status and the end of a grid print. Reads files; takes no lock and starts nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import get_args

from cluebench.grid_file import NotedFailure, PlannedTrial, TrialState, read_grid
from cluebench.runlog import GrowingLog, LogFacts, Result, TrialPaths, furthest_step
from cluebench.scheduler.estimates import DurationModel, seconds_left
from cluebench.scheduler.flags import GridFlags
from cluebench.scheduler.jobs import Job
from cluebench.scheduler.plan import Trial
from cluebench.scheduler.progress import duration
from cluebench.scheduler.state import RunDirectory


def print_plan(jobs: Sequence[Job], to_come: int = 0) -> None:
    """One tab-separated line a trial: its key and whether it is done, with its score; then the totals, and by task.

    ``to_come``: trials of --confirm_seeds that can't be named yet.
    """
    for job in jobs:
        state = f"done\t{job.trial.row.format_score(job.score)}" if job.result else "to run\t-"
        print(f"{job.key}\t{state}")
    done, models = sum(job.result is not None for job in jobs), len({job.trial.model for job in jobs})
    print(f"{len(jobs)} trials of {models} model{'s' if models > 1 else ''}: {done} done, {len(jobs) - done} to run")
    if to_come:
        print(f"{to_come} more with further seeds, of the best settings of each task once its grid is done")
    sys.stdout.flush()
    for task in dict.fromkeys(job.trial.row for job in jobs):  # for people: the list is for programs
        its = [job.result is not None for job in jobs if job.trial.row is task]
        print(f"{task.title:<12} {len(its):4} trials {sum(its):4} done {len(its) - sum(its):4} to run", file=sys.stderr)


def print_failures(failed: Sequence[Job]) -> None:
    """A table of what failed and why, and the end of each log."""
    if not failed:
        return
    print(f"\n{len(failed)} trial{'s' if len(failed) > 1 else ''} failed:\ntrial\tattempts\twhy\twhat was said")
    for job in failed:
        failure = job.failures[-1] if job.failures else None
        why = f"{failure.kind.value}\t{failure.detail}" if failure else "-\t-"
        print(f"{job.key}\t{len(job.attempts)}\t{why}")
    for job in failed:
        try:
            lines = GrowingLog(job.paths.log, 1 << 20).read().last_lines[-10:]
        except OSError:
            continue
        print(f"\nthe last lines of {job.paths.log}:")
        print("\n".join(f"    {line}" for line in lines))


def print_status(directories: Iterable[RunDirectory], flags: GridFlags) -> None:
    """For each model: who runs its grid, how many trials are in each state, the time left, what runs or failed."""
    for directory in directories:
        print("\n".join(_status_lines(directory, flags)))


def _status_lines(directory: RunDirectory, flags: GridFlags) -> list[str]:
    grid, holder = read_grid(directory.path), directory.holder()
    if grid is None:
        return [f"{directory.path}: no grid has been started here"]
    if holder is not None:
        state = f"running: {holder}"
    else:
        state = "not running" + (", ended in the middle" if grid.status == "running" else f", {grid.status}")
    lines = [f"{directory.path}: {state}"]
    trials = [_TrialNow.of(directory, entry, holder is not None) for entry in grid.trials]
    counts = [sum(trial.state == state for trial in trials) for state in get_args(TrialState)]
    always = get_args(TrialState)[:4]
    shown = [(count, state) for count, state in zip(counts, get_args(TrialState)) if count or state in always]
    lines.append(", ".join(f"{count} {state}" for count, state in shown))
    if holder is not None and (left := _seconds_left(trials, DurationModel(flags))) is not None:
        lines[-1] += f"; time left about {duration(left)}"
    return lines + [line for trial in trials if (line := trial.line())]


@dataclass(frozen=True)
class _TrialNow:
    """A trial of grid.json, and what the files beside it say now."""

    trial: Trial
    entry: PlannedTrial
    state: str
    result: Result | None  # of a trial that is done
    facts: LogFacts = field(default_factory=LogFacts)
    step: tuple[int, int] | None = None

    @classmethod
    def of(cls, directory: RunDirectory, entry: PlannedTrial, is_running: bool) -> _TrialNow:
        """The result on disk knows better than a grid.json whose writer has died."""
        point = entry.learning_rate, entry.batch_size, entry.dropout, entry.seed
        trial, paths = Trial(directory.model, entry.task, *point), TrialPaths(directory.path / entry.task, entry.name)
        if result := Result.read_finished(paths.result, entry.configuration_hash):
            return cls(trial, entry, "done", result)
        if entry.state == "failed" or not is_running:
            return cls(trial, entry, "failed" if entry.state == "failed" else "waiting", None)
        if entry.state != "running":
            return cls(trial, entry, entry.state, None)
        try:
            facts = GrowingLog(paths.log, 1 << 20).read()
        except OSError:
            facts = LogFacts()
        return cls(trial, entry, "running", None, facts, furthest_step(facts, paths.output_dir))

    @property
    def devices(self) -> list[str]:
        return self.entry.attempts[-1].devices if self.entry.attempts else []

    def line(self) -> str | None:
        name = f"  {self.state}\t{self.entry.task}/{self.entry.name}"
        if self.state == "failed":
            failure = self.entry.failures[-1] if self.entry.failures else NotedFailure("-", "-")
            return f"{name}\t{failure.kind}: {failure.detail}"
        if self.state != "running":
            return None
        score = self.trial.row.format_score(self.facts.last_score) if self.facts.last_score else "-"
        step = f"{self.step[0]}/{self.step[1]}" if self.step else "-"
        return f"{name}\tstep {step}\tlast dev {score}\ton {', '.join(self.devices) or '-'}"


def _seconds_left(trials: Sequence[_TrialNow], durations: DurationModel) -> float | None:
    """As the scheduler estimates it, from what finished trials took, else from the speed of those that run."""
    for now in trials:
        if now.step and now.facts.steps_per_second:
            durations.project(now.trial, now.step[1] / now.facts.steps_per_second * max(1, len(now.devices)))
        if now.result and (taken := now.result.train_seconds + now.result.eval_seconds) > 0:
            durations.observe(now.trial, taken * max(1, now.result.cards))
    running, waiting = [], []
    for now in trials:
        seconds = durations.seconds(now.trial)
        if seconds is None:
            return None
        if now.state == "running":
            share = 1 - now.step[0] / now.step[1] if now.step else 1.0
            running += [share * seconds / max(1, len(now.devices))] * max(1, len(now.devices))
        elif now.state == "waiting":
            waiting.append(seconds)
    return seconds_left(running, sorted(waiting, reverse=True), max(1, len(running)))
