"""A model's run directory as one HTML file: scores, where they come from, what each setting did, every trial."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from cluebench import atomic
from cluebench.data.source import DataSource
from cluebench.grid_file import GridFile, PlannedTrial, TrialState, read_grid
from cluebench.published import ATTRIBUTION, published_model
from cluebench.report import comparability, cost, evidence, grid_charts, page, reproduction, scores
from cluebench.report.replayed import replayed
from cluebench.report.scores import Best, FinishedTrial
from cluebench.runlog import STOPPED, Result, TrialPaths, trial_name
from cluebench.tasks import TASKS, Setting, Task

#: In a run directory.
REPORT_FILE = "report.html"


def write_report(folder: Path) -> None:
    """Writes ``<folder>/report.html`` from grid.json and the results beside it. Raises OSError when it can't."""
    atomic.write_text(folder / REPORT_FILE, report(folder))


def report(folder: Path) -> str:
    """The page."""
    run = _Run(folder, read_grid(folder), scores.finished_trials(folder))
    tasks = [_task(run, TASKS[name]) for name in TASKS if name in run.planned or run.trials.get(name)]
    mean, error = scores.average(run.bests), evidence.error_of_avg(run.known)
    theirs = run.published.average if run.published else None
    return page.rendered(
        "report.html",
        {task["name"]: task.pop("charts") for task in tasks},
        model=run.model,
        title=scores.model_name(folder, run.grid, run.identity),
        grid=run.grid,
        running=run.is_running,
        counts=_counts(trial["state"] for task in tasks for trial in task["trials"]),
        cost=str(sum(run.costs.values(), cost.Cost())) if run.costs else "",
        tasks=tasks,
        average={
            "score": mean,
            "error": error,
            "published": theirs,
            "difference": None if mean is None or theirs is None else mean - float(theirs),
        },
        attribution=ATTRIBUTION if run.published else None,
        mark=scores.halving_mark(folder, run.trials),
        warnings=list(_warnings(run)),
        failures=_failures(run),
        provenance=_provenance(run),
    )


@dataclass(frozen=True)
class _Run:
    """A run directory, and what is found out about it once."""

    folder: Path
    grid: GridFile | None
    trials: Mapping[str, Sequence[FinishedTrial]]  # the finished ones, by task name

    @property
    def model(self) -> str:
        return self.grid.model if self.grid else self.folder.name.replace("--", "/")

    @property
    def identity(self) -> str | None:
        """Of the model, as the trials have it."""
        return next((str(result.configuration.get("model")) for result in self.results), None)

    @property
    def is_running(self) -> bool:
        return self.grid is not None and self.grid.status == "running"

    @cached_property
    def planned(self) -> dict[str, list[PlannedTrial]]:
        """By task name."""
        found = defaultdict(list)
        for trial in self.grid.trials if self.grid else ():
            found[trial.task].append(trial)
        return dict(found)

    def stopped(self, task: Task) -> Iterator[FinishedTrial]:
        """Trials that a search has stopped early, with their scores so far."""
        for planned in self.planned.get(task.name, ()):
            path = TrialPaths(self.folder / task.name, planned.name).result
            result = Result.read(path) if planned.state == STOPPED else None
            if result and result.task == task.name and result.best_score:
                setting = Setting(planned.learning_rate, planned.batch_size, planned.dropout)
                yield FinishedTrial(task.name, setting, planned.seed, tuple(result.best_score), result, path)

    @cached_property
    def bests(self) -> dict[str, Best]:
        return scores.best_settings(self.trials)

    @cached_property
    def edges(self) -> dict[tuple[str, str], str]:
        return scores.edges(self.trials, self.bests)

    @cached_property
    def known(self) -> dict[str, evidence.Evidence]:
        return evidence.of_run(self.trials)[0]

    @cached_property
    def published(self) -> Any:
        return published_model(self.model)

    @cached_property
    def costs(self) -> dict[str, cost.Cost]:
        return cost.cost_by_task(self.folder, self.trials)

    @cached_property
    def outcomes(self) -> Mapping[str, Sequence]:
        """Of the halving rules, of finished grids only."""
        return {} if self.is_running else replayed(self.model, self.trials).outcomes

    @property
    def results(self) -> list[Result]:
        return [trial.result for of_task in self.trials.values() for trial in of_task if trial.result]


def _counts(states: Iterable[str]) -> dict[str, int]:
    found = Counter(states)
    return {state: found[state] for state in get_args(TrialState) if found[state]}


# Tasks ----------------------------------------------------------------------------------------------------------------


def _task(run: _Run, task: Task) -> dict[str, Any]:
    """What the page says of a task."""
    finished, best = run.trials.get(task.name, ()), run.bests.get(task.name)
    trials = _trials(run, task)
    known = run.known.get(task.name)
    theirs = run.published.score(task) if run.published else None
    spent = run.costs.get(task.name)
    of_best = [trial.result for trial in finished if best and trial.setting == best.setting and trial.result]
    data_dir = run.grid.data_dir if run.grid else None
    said, outcomes = known.predictions if known else (), run.outcomes.get(task.name, ())
    drawn = grid_charts.charts(task, finished, said, outcomes, list(run.stopped(task))) if finished else {}
    return {
        "name": task.name,
        "title": task.title,
        "counts": _counts(trial["state"] for trial in trials),
        "trials": trials,
        "best": best.text(task) if best else None,
        "setting": best.setting if best else None,
        "edges": {axis: edge for (name, axis), edge in run.edges.items() if name == task.name},
        "error": "/".join(f"±{error:.2f}" for error in known.error) if known else None,
        "published": task.format_score(theirs) if theirs else None,
        "difference": best.score[0] - theirs[0] if best and theirs else None,
        "command": reproduction.command(task, of_best[0], run.model, data_dir) if of_best else None,
        "hours": cost.shown(spent.hours) if spent and spent.hours else None,
        "maps": list(_heat_maps(trials, best)),
        "selection": evidence.selection_of(scores.of_whole_grid(finished)) if len(finished) > 1 else None,
        "errors": grid_charts.errors(task, said[0], data_dir, not run.is_running) if said else [],
        "charts": drawn,
        "figures": grid_charts.figures(drawn) if finished else [],
    }


def _trials(run: _Run, task: Task) -> list[dict[str, Any]]:
    """A row each, the finished ones first, best first."""
    finished = sorted(run.trials.get(task.name, ()), key=lambda one: scores.rank(one.score, one.setting), reverse=True)
    rows = [_row(run, task, trial.setting, trial.seed, "done", trial) for trial in finished]
    done = {(row["setting"], row["seed"]) for row in rows}
    for planned in run.planned.get(task.name, ()):
        setting = Setting(planned.learning_rate, planned.batch_size, planned.dropout)
        if (setting, planned.seed) not in done:
            rows.append(_row(run, task, setting, planned.seed, planned.state))
    return rows


def _row(
    run: _Run, task: Task, setting: Setting, seed: int, state: str, trial: FinishedTrial | None = None
) -> dict[str, Any]:
    """The files that exist of a trial are linked by their names, which are those of its folder's."""
    result = trial.result if trial else None
    best, name = run.bests.get(task.name), trial_name(*setting, seed)
    row = {"task": task.title, "setting": setting, "seed": seed, "state": state, "score": trial.score if trial else ()}
    row["best"] = trial is not None and best is not None and setting == best.setting
    row["files"] = {
        kind: f"{task.name}/{name}{kind}"
        for kind in (".log", ".json")
        if (run.folder / task.name / f"{name}{kind}").is_file()
    }
    row["step"] = f"{result.best_step}/{result.total_steps}" if result else ""
    row["seconds"] = round(result.train_seconds + result.eval_seconds) if result else ""
    row["peak"] = f"{result.peak_memory_bytes / 2**30:.1f}" if result and result.peak_memory_bytes else ""
    row["device"] = "" if result is None else f"{result.cards} cards" if result.cards > 1 else result.device
    row["pieces"] = result.accumulation_steps if result else ""
    return row


def _heat_maps(trials: Sequence[dict[str, Any]], best: Best | None) -> Iterator[dict[str, Any]]:
    """Learning rate by batch size; one for each dropout, and with several seeds one for their mean and each seed."""
    seeds = sorted({row["seed"] for row in trials})
    means = [sum(scored) / len(scored) for scored in _scores_of(trials).values() if scored]
    low, high = min(means, default=0.0), max(means, default=0.0)
    for dropout in sorted({row["setting"].dropout for row in trials}):
        for seed in [None, *seeds] if len(seeds) > 1 else [None]:
            shown = [row for row in trials if row["setting"].dropout == dropout and seed in (None, row["seed"])]
            scored = _scores_of(shown)
            states = {row["setting"]: row["state"] for row in shown if row["state"] != "done"}
            cells = {}
            for setting, found in scored.items():
                mean = sum(found) / len(found) if found else None
                share = 0.0 if mean is None or high == low else min(max((mean - low) / (high - low), 0.0), 1.0)
                cells[setting] = {
                    "score": mean, "share": share, "seeds": len(found), "state": states.get(setting, ""),
                    "best": best is not None and setting == best.setting,
                }  # fmt: skip
            yield {"dropout": dropout, "seed": seed, "seeds": len(seeds), "cells": cells,
                   "rates": sorted({setting.learning_rate for setting in cells}),
                   "batches": sorted({setting.batch_size for setting in cells})}  # fmt: skip


def _scores_of(trials: Iterable[dict[str, Any]]) -> dict[Setting, list[float]]:
    found: dict[Setting, list[float]] = {}
    for row in trials:
        found.setdefault(row["setting"], []).extend(row["score"][:1])
    return found


# The run --------------------------------------------------------------------------------------------------------------


def _is_synthetic(run: _Run) -> bool:
    return run.grid is not None and run.grid.data_dir is not None and DataSource(run.grid.data_dir).is_synthetic


def _warnings(run: _Run) -> Iterator[str]:
    """What makes scores no match for published ones, whatever else the protocol says."""
    limits = {str(result.configuration.get("limit") or "") for result in run.results} - {""}
    official = {task: comparability.is_official(TASKS[task], of_task[0].result)
                for task, of_task in run.trials.items() if of_task and of_task[0].result}  # fmt: skip
    if _is_synthetic(run):
        yield "made-up data: these scores say nothing about any model's language"
    elif unofficial := [TASKS[name].title for name, known in official.items() if known is False]:
        yield f"data other than the official files ({', '.join(unofficial)})"
    if limits:
        yield f"limited data: only the first {', '.join(sorted(limits))} rows of every split"


def _failures(run: _Run) -> list[dict[str, Any]]:
    """Those alike as one: what was said, and of which trials, with what became of them."""
    found: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for trial in run.grid.trials if run.grid else ():
        for number, failure in enumerate(trial.failures, start=1):
            then = trial.state if number == len(trial.failures) else "tried again"
            entry = {
                "name": f"{TASKS[trial.task].title} {trial.name}",
                "then": then,
                "log": f"{trial.task}/{trial.name}.log",
            }
            found[failure.kind, failure.detail].append(entry)
    return [{"kind": kind, "detail": detail, "trials": trials} for (kind, detail), trials in found.items()]


def _provenance(run: _Run) -> dict[str, list[str]]:
    """What was run on what, a list of lines each."""
    grid, results = run.grid, run.results
    marks = [mark.text(len(run.trials)) for mark in comparability.marks(run.trials)]
    data = {result.task: result.configuration.get("data") for result in results}
    versions = Counter(f"{name} {version}" for result in results for name, version in result.versions.items())
    some = [f"{text} ({number} of {len(results)} trials)" if number < len(results) else text
            for text, number in sorted(versions.items())]  # fmt: skip
    devices = grid.devices if grid and grid.devices else sorted({result.device for result in results})
    lines = {
        "data": ["made-up" if _is_synthetic(run) else "", *([f"in {grid.data_dir}"] if grid and grid.data_dir else [])],
        "not as published": marks
        or (["nothing: data, settings and trials are the published protocol's"] if results else []),
        "versions": some,
        "devices": devices,
        "commit": [grid.commit or ""] if grid else [],
        "command": [shlex.join(["python", *grid.command])] if grid and grid.command else [],
        "written": [grid.updated] if grid else [],
        "model": [grid.model_identity or ""] if grid else [],
        "hashes of the data": [f"{TASKS[name].title} {text}" for name, text in data.items() if text],
        "hashes of the protocol": [
            f"{TASKS[name].title} {text}" for name, text in (grid.protocols if grid else {}).items()
        ],
    }
    return {name: kept for name, found in lines.items() if (kept := [line for line in found if line])}
