"""What --dry_run, --status and the end of a grid print. Reads files; takes no lock and starts nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cluebench.grid_file import NotedFailure, PlannedTrial, read_grid
from cluebench.runlog import GrowingLog, Result, TrialPaths
from cluebench.scheduler.jobs import Job
from cluebench.scheduler.state import RunDirectory
from cluebench.tasks import TASKS


def print_plan(jobs: Sequence[Job], to_come: int = 0) -> None:
    """One tab-separated line a trial: its key and whether it is done, with its score; then the totals.

    ``to_come``: trials of --confirm_seeds that can't be named yet.
    """
    for job in jobs:
        state = f"done\t{job.trial.row.format_score(job.score)}" if job.result else "to run\t-"
        print(f"{job.key}\t{state}")
    done, models = sum(job.result is not None for job in jobs), len({job.trial.model for job in jobs})
    print(f"{len(jobs)} trials of {models} model{'s' if models > 1 else ''}: {done} done, {len(jobs) - done} to run")
    if to_come:
        print(f"{to_come} more with further seeds, of the best settings of each task once its grid is done")


def print_failures(failed: Sequence[Job]) -> None:
    """A table of what failed and why, and the end of each log."""
    if not failed:
        return
    print(f"\n{len(failed)} trials failed:\ntrial\tattempts\twhy\twhat was said")
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


def print_status(directories: Iterable[RunDirectory]) -> None:
    """For each model: who runs its grid, how many trials are in each state, and the ones that run or failed."""
    for directory in directories:
        print("\n".join(_status_lines(directory)))


def _status_lines(directory: RunDirectory) -> list[str]:
    grid, holder = read_grid(directory.path), directory.holder()
    if grid is None:
        return [f"{directory.path}: no grid has been started here"]
    if holder is not None:
        state = f"running: {holder}"
    else:
        state = "not running" + (", ended in the middle" if grid.status == "running" else f", {grid.status}")
    lines = [f"{directory.path}: {state}"]
    counts, trials = {"done": 0, "running": 0, "waiting": 0, "failed": 0}, []
    for entry in grid.trials:
        trials.append((entry, _state_now(directory, entry, holder is not None)))
        counts[trials[-1][1]] += 1
    lines.append(", ".join(f"{count} {name}" for name, count in counts.items()))
    return lines + [line for entry, now in trials if (line := _trial_line(directory, entry, now))]


def _state_now(directory: RunDirectory, entry: PlannedTrial, is_running: bool) -> str:
    """The state by the result on disk, which knows better than a grid.json whose writer has died."""
    result = TrialPaths(directory.path / entry.task, entry.name).result
    if Result.read_finished(result, entry.configuration_hash):
        return "done"
    return entry.state if is_running or entry.state == "failed" else "waiting"


def _trial_line(directory: RunDirectory, entry: PlannedTrial, state: str) -> str | None:
    name = f"  {state}\t{entry.task}/{entry.name}"
    if state == "failed":
        failure = entry.failures[-1] if entry.failures else NotedFailure("-", "-")
        return f"{name}\t{failure.kind}: {failure.detail}"
    if state != "running":
        return None
    try:
        facts = GrowingLog(TrialPaths(directory.path / entry.task, entry.name).log, 1 << 20).read()
    except OSError:
        return name
    score = TASKS[entry.task].format_score(facts.last_score) if facts.last_score else "-"
    step = f"{facts.step}/{facts.total_steps}" if facts.step else "-"
    devices = ", ".join(entry.attempts[-1].devices) if entry.attempts else "-"
    return f"{name}\tstep {step}\tlast dev {score}\ton {devices}"
