"""What --dry_run, --status and the end of a grid print. Reads files; takes no lock and starts nothing."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import get_args

from cluebench.benchmark.published import near_published
from cluebench.records import dev_predictions
from cluebench.records.cost import Cost, cost_by_task, cost_lines
from cluebench.records.grid_file import NotedFailure, PlannedTrial, TrialState, read_grid
from cluebench.records.log import GrowingLog, LogFacts, furthest_step
from cluebench.records.result import Result
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.estimates import DurationModel, Underway, time_left
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job, LogReader, State
from cluebench.scheduler.run.display import duration
from cluebench.scheduler.run.forecast import Forecast
from cluebench.scheduler.run.planned_grid import PlannedGrid
from cluebench.scheduler.run.run_directory import RunDirectory


def print_plan(grid: PlannedGrid) -> None:
    """One tab-separated line a trial: its key and whether it is done, with its score; then the totals.

    On stderr, for people: the same by task, with what it will cost.
    """
    jobs = grid.jobs()
    to_come, forecast = grid.confirmations_to_come(jobs), Forecast(grid, jobs)
    for job in jobs:
        state = "stopped" if job.state is State.STOPPED else "to run"
        print(f"{job.key}\t" + (f"done\t{job.trial.row.format_score(job.score)}" if job.result else f"{state}\t-"))
    models = len({job.trial.model for job in jobs})
    print(f"{len(jobs)} trials of {models} model{'s' if models > 1 else ''}: {', '.join(_counts(jobs))}")
    if to_come:
        print(f"{to_come} more with further seeds, of the best settings of each task once its grid is done")
    sys.stdout.flush()
    for task in dict.fromkeys(job.trial.row for job in jobs):
        its = [job for job in jobs if job.trial.row is task]
        counts = f"{task.title:<12} {len(its):4} trials {' '.join(_counts(its, 4))}"
        print(counts + forecast.of_task(task), file=sys.stderr)
    for line in forecast.in_all():
        print(line, file=sys.stderr)
    if over := writing_over(jobs):
        print(over, file=sys.stderr)
    for model in grid.directories:
        near = [] if model.directory else near_published(model.name)
        if near and not any(job.result for job in jobs if job.trial.model == model):
            print(f"{model} is none of the published models: did you mean {', '.join(near)}?", file=sys.stderr)


def writing_over(jobs: Sequence[Job]) -> str | None:
    """What is said of finished trials of other settings that a plan would write over."""
    over = [job for job in jobs if job.writes_over]
    if not over:
        return None
    count = f"{len(over)} finished trial{'s' if len(over) > 1 else ''} of other settings"
    return f"{count} (such as {over[0].key}) will be written over; another --run_root keeps them"


def _counts(jobs: Sequence[Job], width: int = 0) -> list[str]:
    """``12 done``, ``61 stopped`` where any is, ``61 to run``."""
    done, stopped = (sum(job.state is state for job in jobs) for state in (State.DONE, State.STOPPED))
    counts = {"done": done, **({"stopped": stopped} if stopped else {}), "to run": len(jobs) - done - stopped}
    return [f"{count:{width}} {what}" for what, count in counts.items()]


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
        if lines := LogReader().facts(job).last_lines[-10:]:
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
        lines[-1] += f"; time left {'at most' if grid.search else 'about'} {duration(left)}"
    costs = cost_by_task(directory.path)
    if holder is not None:
        _add_what_runs(costs, trials, time.time() - directory.grid_json.stat().st_mtime)
    lines += cost_lines(costs) + [line for trial in trials if (line := trial.line())]
    return lines + list(_one_label_lines(directory, trials))


def _one_label_lines(directory: RunDirectory, trials: Sequence[_TrialNow]) -> Iterator[str]:
    """Of each task whose best trial says the same of all dev rows."""
    best: dict[str, _TrialNow] = {}
    for now in trials:
        if now.result and now.result.best_score:
            held = best.setdefault(now.trial.task, now)
            if (held.result and held.result.best_score or ()) < now.result.best_score:
                best[now.trial.task] = now
    for task, now in best.items():
        said = dev_predictions.of_result(now.result, directory.paths(now.trial).result) if now.result else None
        if said and said.one_label:
            yield f"  note\t{task}/{now.entry.name}: the best trial of the task says {said.one_label}"


def _add_what_runs(costs: dict[str, Cost], trials: Sequence[_TrialNow], seconds: float) -> None:
    """What trials that still run have spent in the ``seconds`` since grid.json was written."""
    running = [trial for trial in trials if trial.state == "running"]
    on = Counter(device for trial in running for device in trial.devices)
    for now in running:
        held = sum(seconds / on[device] for device in now.devices)
        costs[now.trial.task] = costs.get(now.trial.task, Cost()) + Cost(held)


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
        trial = Trial(directory.model, entry.task, entry.setting, entry.seed)
        paths = directory.paths(trial)
        if result := Result.read_finished(paths.result, entry.configuration_hash):
            return cls(trial, entry, "done", result)
        if entry.state in ("failed", "held", "stopped"):
            return cls(trial, entry, entry.state, None)
        if not is_running or entry.state != "running":
            return cls(trial, entry, entry.state if is_running else "waiting", None)
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
    """As the scheduler estimates it, but that it does not know here which devices are idle."""
    for now in trials:
        if now.result and now.result.cost > 0:
            durations.observe(now.trial, now.result.cost)
    running = [
        Underway(now.trial, max(1, len(now.devices)), step=now.step, steps_per_second=now.facts.steps_per_second)
        for now in trials
        if now.state == "running"
    ]
    waiting = [now.trial for now in trials if now.state in ("waiting", "held")]
    waiting.sort(key=durations.relative, reverse=True)
    return time_left(durations, running, waiting, max(1, sum(one.devices for one in running)))
