"""What --status and the end of a grid print. Reads files; takes no lock and starts nothing."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

from cluebench.records import dev_predictions
from cluebench.records.cost import Cost, cost_by_task, cost_lines
from cluebench.records.finished_trials import OpenedRun
from cluebench.records.grid_file import PlannedTrial, TrialState
from cluebench.records.result import Result
from cluebench.records.trial import Trial
from cluebench.report.units import duration
from cluebench.scheduler.plan.estimates import DurationModel, time_left
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job, LogReader, State, best_first, by_task, recall_failures
from cluebench.scheduler.processes.trial_process import orphan_of
from cluebench.scheduler.run.display import score_text
from cluebench.scheduler.run.run_directory import RunDirectory

#: Most worker processes to name.
_NAMED = 3


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
