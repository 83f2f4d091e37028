"""What --dry_run, --status and the end of a grid print. Reads files; takes no lock and starts nothing."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import get_args

from cluebench.benchmark.published import near_published, published_models
from cluebench.records import dev_predictions
from cluebench.records.cost import Cost, cost_by_task, cost_lines
from cluebench.records.finished_trials import OpenedRun
from cluebench.records.grid_file import NotedFailure, PlannedTrial, TrialState
from cluebench.records.log import LogFacts, furthest_step
from cluebench.records.result import Result
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.estimates import DurationModel, Underway, evaluation_tokens, forward_tokens, time_left
from cluebench.scheduler.plan.failures import Failure
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job, LogReader, State, recall_failures
from cluebench.scheduler.processes.trial_process import Orphan, orphan_of
from cluebench.scheduler.run.display import duration
from cluebench.scheduler.run.forecast import Forecast
from cluebench.scheduler.run.planned_grid import PlannedGrid
from cluebench.scheduler.run.run_directory import RunDirectory
from cluebench.scheduler.run.timing import STEPS, timed

#: Other processes that are named.
_NAMED = 3


def print_plan(grid: PlannedGrid) -> None:
    """The totals, a line a task with what it will cost; with --list one tab-separated line a trial: key, state, score.

    What will keep the grid from running, or surprise, stands on stderr.
    """
    jobs = grid.jobs()
    to_come, forecast = grid.confirmations_to_come(jobs), Forecast(grid, jobs)
    if grid.flags.time_it:
        tasks = dict.fromkeys(job.trial.row for job in jobs if job.state is State.WAITING)
        unknown = [task for task in tasks if forecast.hours(task) is None]
        first = [next(job for job in jobs if job.trial.row is task) for task in unknown]
        forecast = Forecast(grid, jobs, timed(first, grid.flags))
        names = ", ".join(task.title for task in unknown) or "no task, as trials of each have finished"
        print(f"estimated by {STEPS} steps and an evaluation: {names}")
    models = len({job.trial.model for job in jobs})
    print(f"{len(jobs)} trials of {models} model{'s' if models > 1 else ''}: {', '.join(_counts(jobs))}")
    if to_come:
        print(f"{to_come} more with further seeds, of the best settings of each task once its grid is done")
    for task in dict.fromkeys(job.trial.row for job in jobs):
        its = [job for job in jobs if job.trial.row is task]
        counts = f"{task.title:<12} {len(its):4} trials {' '.join(_counts(its, 4))}"
        print(counts + forecast.of_task(task))
    print(*forecast.in_all(), sep="\n", end="\n" if forecast.in_all() else "")
    print(_evaluations(jobs, grid.flags))
    for job in jobs if grid.flags.list_trials else ():
        state = "stopped" if job.state is State.STOPPED else "to run"
        print(f"{job.key}\t" + (f"done\t{job.trial.row.format_score(job.score)}" if job.result else f"{state}\t-"))
    if not grid.flags.list_trials:
        print("--list prints a line for each trial")
    sys.stdout.flush()
    for line in [*_surprises(grid, jobs)]:
        print(line, file=sys.stderr)


def _evaluations(jobs: Sequence[Job], flags: GridFlags) -> str:
    """What share of the work evaluations are, and that they can be cut."""
    trials = [job.trial for job in jobs]
    work, most = (sum(of(trial, flags) for trial in trials) for of in (forward_tokens, evaluation_tokens))
    cut = "on" if flags.evaluation == "bounded" else "off: --evaluation bounded"
    return (
        f"evaluations: {most / work:.0%} of the work if each computes all of dev; cutting those that can't win is {cut}"
    )


def _surprises(grid: PlannedGrid, jobs: Sequence[Job]) -> Iterator[str]:
    """What a user should know of a plan before it runs."""
    if again := [job for job in jobs if job.needs_model]:
        yield f"{len(again)} best trials (such as {again[0].key}) run again, as their models were not kept"
    if over := writing_over(jobs):
        yield over
    if without := dict.fromkeys(job.trial.row.title for job in jobs if not job.configuration_hash):
        where = f"not in {grid.flags.data_dir}" if grid.flags.data_dir else "not on this machine yet"
        yield f"the data of {', '.join(without)} is {where}: whether their trials are done is not known"
    for model in grid.directories:
        is_known = model.directory is not None or model.name in published_models()
        if not is_known and not any(job.result for job in jobs if job.trial.model == model):
            near = near_published(model.name)
            meant = f": did you mean {', '.join(near)}?" if near else ", nor a directory; the warm-up will look for it"
            yield f"{model} is none of the published models{meant}"


def writing_over(jobs: Sequence[Job]) -> str | None:
    """What is said of finished trials of other settings that a plan would write over."""
    over = [job for job in jobs if job.writes_over and job.state is State.WAITING]
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
        print(f"{job.key}\t{max(len(job.attempts), len(job.failures))}\t{why}")  # those of other processes too
    for job in failed:
        if lines := LogReader().facts(job).last_lines[-10:]:
            print(f"\nthe last lines of {job.paths.log}:")
            print("\n".join(f"    {line}" for line in lines))


def print_status(directories: Iterable[RunDirectory], flags: GridFlags) -> None:
    """For each model: who runs its grid, how many trials are in each state, the time left, what runs or failed."""
    for directory in directories:
        print("\n".join(_status_lines(directory, flags)))


def _status_lines(directory: RunDirectory, flags: GridFlags) -> list[str]:
    run, holder = OpenedRun(directory.path), directory.holder()
    grid = run.grid
    if grid is None:
        return [f"{directory.path}: no grid has been started here"]
    trials = [_TrialNow.of(directory, entry, flags) for entry in grid.trials]
    running = [now for now in trials if now.orphan]
    if holder is not None:
        state = f"running: {holder}"
    elif any(now.orphan.record.starter.is_worker for now in running if now.orphan):
        state = "running, by workers"
    else:
        state = "not running" + (", ended in the middle" if grid.status == "running" else f", {grid.status}")
    counts, named = Counter(now.state for now in trials), get_args(TrialState)
    others = sorted({now.orphan.elsewhere.who for now in running if now.orphan and now.orphan.record.starter.is_worker})
    where = f" ({', '.join(others[:_NAMED])}{', …' if len(others) > _NAMED else ''})" if others else ""
    shown = [state for state in named if counts[state] or state in named[:4]]
    lines = [f"{directory.path}: {state}"]
    lines.append(", ".join(f"{counts[one]} {one}{where if one == 'running' else ''}" for one in shown))
    if running and (left := _seconds_left(trials, DurationModel(flags))) is not None:
        lines[-1] += f"; time left {'at most' if grid.search else 'about'} {duration(left)}"
    costs = cost_by_task(run)
    _add_what_runs(costs, trials, directory.grid_json.stat().st_mtime if holder is not None else 0.0)
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
        said = dev_predictions.of_result(now.result, now.trial.paths(directory.path).result) if now.result else None
        if said and said.one_label:
            yield f"  note\t{task}/{now.entry.name}: the best trial of the task says {said.one_label}"


def _add_what_runs(costs: dict[str, Cost], trials: Sequence[_TrialNow], written: float) -> None:
    """What trials that still run have spent since grid.json was ``written``, or since they were started."""
    on = Counter(device for now in trials for device in now.devices)
    for now in trials:
        if record := now.orphan and now.orphan.record:
            seconds = time.time() - (record.started if record.starter.is_worker else max(record.started, written))
            held = sum(seconds / on[device] for device in now.devices)
            costs[now.trial.task] = costs.get(now.trial.task, Cost()) + Cost(held)


@dataclass(frozen=True)
class _TrialNow:
    """A trial of grid.json, and what its result, its lock and the files beside them say now, whoever runs it."""

    trial: Trial
    entry: PlannedTrial
    state: str
    result: Result | None = None  # of a trial that is done
    failures: Sequence[Failure] = ()
    orphan: Orphan | None = None  # who runs it
    facts: LogFacts = field(default_factory=LogFacts)
    step: tuple[int, int] | None = None

    @classmethod
    def of(cls, directory: RunDirectory, entry: PlannedTrial, flags: GridFlags) -> _TrialNow:
        """The files know better than a grid.json that nobody keeps up to date."""
        trial = Trial(directory.model, entry.task, entry.setting, entry.seed)
        job = Job(trial, 0, trial.paths(directory.path), directory.trial_lock(trial), entry.configuration_hash)
        if result := Result.read_finished(job.paths.result, entry.configuration_hash):
            return cls(trial, entry, "done", result)
        if orphan := orphan_of(job.key, job.lock):
            facts = LogReader().facts(job)
            return cls(trial, entry, "running", None, (), orphan, facts, furthest_step(facts, job.paths.output_dir))
        recall_failures(job)
        if job.failures and job.pause_after_failure(flags.max_attempts) is None:
            return cls(trial, entry, "failed", None, job.failures)
        return cls(trial, entry, entry.state if entry.state in ("failed", "held", "stopped") else "waiting")

    @property
    def devices(self) -> list[str]:
        """Each with its machine, as a shared file system has trials of several."""
        if self.orphan is None:
            return []
        return [f"{label} of {self.orphan.host}" for label in self.orphan.record.labels]

    def line(self) -> str | None:
        name = f"  {self.state}\t{self.entry.task}/{self.entry.name}"
        if self.state == "failed":
            noted = [NotedFailure(failure.kind.value, failure.detail) for failure in self.failures]
            failure = [NotedFailure("-", "-"), *self.entry.failures, *noted][-1]
            return f"{name}\t{failure.kind}: {failure.detail}"
        if self.orphan is None:
            return None
        score = self.trial.row.format_score(self.facts.last_score) if self.facts.last_score else "-"
        step = f"{self.step[0]}/{self.step[1]}" if self.step else "-"
        place = ", ".join(self.orphan.record.labels) or "-"
        return f"{name}\tstep {step}\tlast dev {score}\ton {place}" + (
            f" of {self.orphan.elsewhere.who}" if self.orphan.record.starter.is_worker else ""
        )


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
