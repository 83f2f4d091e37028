"""A model's run directory as one HTML file: scores, where they come from, what each setting did, every trial."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, get_args

from cluebench.benchmark.tasks import TASKS, Setting, Task, rank
from cluebench.data.row_facts import RowFacts
from cluebench.data.source import DataSource
from cluebench.foundation import atomic
from cluebench.foundation.environment import uncollected
from cluebench.foundation.text import Phrase, duration, unit_of
from cluebench.records import cost, finished_trials
from cluebench.records.finished_trials import FinishedTrial
from cluebench.records.grid_file import REPORT_FILE, GridFile, TrialState
from cluebench.records.log import LogFacts, furthest_step, read_log
from cluebench.records.paths import TrialPaths, trial_name
from cluebench.records.result import STOPPED
from cluebench.report import comparability, evidence, grid_charts, page, scores
from cluebench.report.advice import advice, rerun
from cluebench.report.replayed import replayed
from cluebench.report.run import Run
from cluebench.search.replay import Outcome


def write_report(folder: Path, run: Run | None = None) -> None:
    """Writes ``report.html`` into a run directory, which may be open. Raises OSError if it can't."""
    atomic.write_text(folder / REPORT_FILE, report(run or Run(folder)))


@uncollected()
def report(run: Run) -> str:
    """The page of a run directory. What takes seconds (halving, facts about rows) is left out while the grid runs."""
    outcomes = {} if run.is_running else replayed(run.model, run.trials, run.evidence).outcomes
    facts = evidence.facts_of(run.evidence, run, look=not run.is_running)
    names = [name for name in TASKS if name in run.planned or run.trials.get(name)]
    tasks = [_task(run, TASKS[name], facts.get(name), outcomes.get(name, ())) for name in names]
    trials = [trial for task in tasks for trial in task["trials"]]
    choices = {task["name"]: task["choice"] for task in tasks if task["choice"]}
    data = _data(run)
    average, theirs = scores.average(run.bests), run.published.average if run.published else None
    return page.rendered(
        "report.html",
        {task["name"]: task.pop("charts") for task in tasks},
        run=run,
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC"),
        running=[trial for trial in trials if trial["state"] == "running"],
        counts=_counts(trials),
        costs=_costs(run),
        device_time=unit_of([task["device_seconds"] for task in tasks]),
        trial_time=unit_of([trial["seconds"] for trial in trials]),
        tasks=tasks,
        average={
            "score": average,
            "error": evidence.error_of_avg(run.evidence),
            "difference": None if average is None or theirs is None else average - float(theirs),
            "missing": scores.missing_from_average(run.bests),
        },
        warnings=[text for is_other, text in data if is_other],
        advice=advice(run, choices, outcomes),  # none while it runs: it may change with every trial
        failures=_failures(run),
        provenance=_provenance(run, [text for _, text in data]),
    )


def _data(run: Run) -> list[tuple[bool, Phrase]]:
    """(whether it makes the scores incomparable with published ones, the text) about the data of the trials."""
    found = []
    if run.grid and run.grid.data_dir and DataSource(Path(run.grid.data_dir).expanduser()).is_synthetic:
        found.append((True, Phrase("made-up data: these scores say nothing about any model's language")))
    else:
        tasks = defaultdict(list)
        for result in run.results:
            tasks[comparability.is_official(TASKS[result.task], result)].append(TASKS[result.task].title)
        for is_official, titles in tasks.items():
            names = ", ".join(dict.fromkeys(titles))
            if is_official is None:
                found.append((False, Phrase("files whose md5 was not published ({tasks})", tasks=names)))
            else:
                files = Phrase("the official files" if is_official else "data other than the official files")
                found.append((not is_official, Phrase("{files} ({tasks})", files=files, tasks=names)))
    limits = {str(result.configuration.get("limit") or "") for result in run.results} - {""}
    if limits:
        rows = ", ".join(sorted(limits))
        found.append((True, Phrase("limited data: only the first {rows} rows of every split", rows=rows)))
    return found


def _counts(trials: Iterable[dict[str, Any]]) -> dict[str, int]:
    found = Counter(trial["state"] for trial in trials)
    return {state: found[state] for state in get_args(TrialState) if found[state]}


def _costs(run: Run) -> list[Phrase]:
    """The parts of what the run has cost."""
    spent = sum(run.costs.values(), cost.Cost())
    found = [Phrase("{time} of device time", time=duration(3600 * spent.hours))] if spent.hours else []
    if spent.lost_seconds > 0.01 * spent.device_seconds:
        found.append(Phrase("{time} of it in failed attempts", time=duration(spent.lost_seconds)))
    if spent.unknown:
        found.append(Phrase("device time unknown for {number} trials", number=spent.unknown))
    return found


# Tasks ----------------------------------------------------------------------------------------------------------------


def _task(run: Run, task: Task, facts: RowFacts | None, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """A task's part of the page."""
    finished, best = run.trials.get(task.name, ()), run.bests.get(task.name)
    started = [("done", trial) for trial in finished] + [*_unfinished(run, task)]
    trials = _trials(run, task, started)
    found, spent = run.evidence.get(task.name), run.costs.get(task.name)
    predictions = found.predictions if found else ()
    theirs = run.published.score(task) if run.published else None
    of_best = [trial.result for trial in finished if best and trial.setting == best.setting and trial.result]
    data_dir = run.grid.data_dir if run.grid else None
    names = grid_charts.label_names(task, data_dir)
    drawn = grid_charts.charts(task, started, predictions, outcomes, names)
    return {
        "name": task.name,
        "title": task.title,
        "counts": _counts(trials),
        "trials": trials,
        "best": best.text(task) if best else None,
        "setting": best.setting if best else None,
        "edges": {axis: edge for (name, axis), edge in run.edges.items() if name == task.name},
        "error": "/".join(f"±{error:.2f}" for error in found.error) if found else None,
        "unseen": evidence.unseen_text(task, found, facts) if found and facts else None,
        "floor": facts.floors.best if facts else None,
        "one_label": predictions[0].one_label if predictions else None,
        "published": task.format_score(theirs) if theirs else None,
        "difference": best.score[0] - theirs[0] if best and theirs else None,
        "command": rerun(task, of_best[0], run.model, data_dir) if of_best else None,
        "device_seconds": 3600 * spent.hours if spent else 0.0,
        "maps": list(_heat_maps(trials)),
        "choice": evidence.choice(finished_trials.of_whole_grid(finished)) if len(finished) > 1 else None,
        "errors": grid_charts.errors(task, predictions[0], data_dir, names, not run.is_running) if predictions else [],
        "charts": drawn,
        "charts_labels": len(task.labels),
        "figures": grid_charts.figures(drawn),
    }


def _unfinished(run: Run, task: Task) -> Iterator[tuple[TrialState, FinishedTrial]]:
    """Trials that a search has stopped early, and trials that run: with their scores so far, if any."""
    for planned in run.planned.get(task.name, ()):
        paths = TrialPaths(run.folder / task.name, planned.name)
        result = run.files.get(task.name, {}).get(paths.result) if planned.state == STOPPED else None
        if result and result.best_score and (trial := FinishedTrial.of(result, paths.result, task)):
            yield planned.state, trial
        elif planned.state == "running" and run.is_running:
            log = _log(paths)
            yield planned.state, FinishedTrial(task.name, planned.setting, planned.seed, (), None, paths.result, log)


def _log(paths: TrialPaths) -> LogFacts:
    """The log of a running trial, with the step that it has reached by now."""
    try:
        facts = read_log(paths.log)
    except OSError:
        facts = LogFacts()
    if step := furthest_step(facts, paths.output_dir):
        facts.step, facts.total_steps = step
    return facts


def _trials(run: Run, task: Task, started: Iterable[tuple[str, FinishedTrial]]) -> list[dict[str, Any]]:
    """A row each, the finished trials first, best first. Files that exist are linked below the run's folder."""
    best = run.bests.get(task.name)
    found: dict[tuple[Setting, int], tuple[str, FinishedTrial | None]] = {}
    for state, own in sorted(
        started, key=lambda pair: rank(pair[1].score, pair[1].setting) if pair[0] == "done" else (), reverse=True
    ):
        found.setdefault((own.setting, own.seed), (state, own))
    for plan in run.planned.get(task.name, ()):
        found.setdefault((plan.setting, plan.seed), (plan.state, None))
    rows = []
    for (setting, seed), (state, trial) in found.items():
        paths = TrialPaths(Path(task.name), trial_name(setting, seed))
        log, result = (trial.log, trial.result) if trial else (None, None)
        rows.append({
            "task": task,
            "name": paths.name,
            "setting": setting,
            "seed": seed,
            "state": state,
            "score": trial.score if trial else (),
            "last": task.format_score(log.last_score) if log and log.last_score else None,
            "progress": (log.step, log.total_steps) if log and log.step else None,
            "left": _left(log) if log and state == "running" else None,
            "result": result,
            "seconds": result.train_seconds + result.eval_seconds if result else 0.0,
            "best": state == "done" and best is not None and setting == best.setting,
            "files": {path.suffix: path for path in (paths.log, paths.result) if (run.folder / path).is_file()},
        })  # fmt: skip
    return rows


def _left(log: LogFacts) -> Phrase | None:
    """The time that the remaining steps take, at the speed of the last ones."""
    if not (log.step and log.total_steps and log.steps_per_second):
        return None
    return duration((log.total_steps - log.step) / log.steps_per_second)


def _heat_maps(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Learning rate by batch size: a map for each dropout and, with several seeds, for their mean and each seed."""
    seeds, dropouts = sorted({row["seed"] for row in rows}), sorted({row["setting"].dropout for row in rows})
    done = [row["score"][0] for row in rows if row["state"] == "done" and row["score"]]
    for dropout, seed in product(dropouts, [None, *seeds] if len(seeds) > 1 else [None]):
        cells = defaultdict(list)
        for row in rows:
            if row["setting"].dropout == dropout and seed in (None, row["seed"]):
                cells[row["setting"][:2]].append(row)
        yield {
            "dropout": dropout,
            "seed": seed,
            "seeds": len(seeds),
            "cells": {place: _cell(of_place, done) for place, of_place in cells.items()},
            "rates": sorted({rate for rate, _ in cells}),
            "batches": sorted({batch for _, batch in cells}),
        }


def _cell(rows: Sequence[dict[str, Any]], done: Sequence[float]) -> dict[str, Any]:
    """The trials of one setting. ``share``: 0 for the lowest of the scores of ``done`` trials, 1 for the highest."""
    own, share = [row["score"][0] for row in rows if row["score"]], 0.0
    score = mean(own) if own else None
    if score is not None and rows[-1]["state"] == "done":
        share = (score - min(done)) / ((max(done) - min(done)) or 1)
    trials = " ".join(f"{row['task'].name}/{row['name']}" for row in rows)
    return {**rows[-1], "score": score, "share": share, "best": rows[0]["best"], "trials": trials}


# The run --------------------------------------------------------------------------------------------------------------


def _failures(run: Run) -> list[dict[str, Any]]:
    """Equal failures as one entry: kind, detail, and the trials with the number of times and the outcome."""
    found: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = defaultdict(dict)
    for trial in run.grid.trials if run.grid else ():
        for failure in trial.failures:
            entry: dict[str, Any] = {"task": TASKS[trial.task], "name": trial.name, "times": 0}
            entry = found[failure.kind, failure.detail].setdefault((trial.task, trial.name), entry)
            entry["times"] += 1
            entry["then"] = trial.state if failure is trial.failures[-1] else "tried again"
    return [{"kind": kind, "detail": detail, "trials": [*alike.values()]} for (kind, detail), alike in found.items()]


def _provenance(run: Run, about_data: Sequence[Phrase]) -> dict[str, list[str]]:
    """What was run on what, a list of lines each."""
    results, grid = run.results, run.grid or GridFile(1, run.model, "", [])
    versions = Counter(f"{name} {version}" for result in results for name, version in result.versions.items())
    data = {result.task: result.configuration.get("data") for result in results}
    marks = [mark.text(len(run.trials)) for mark in comparability.marks(run.trials)]
    lines: dict[str, list[str | None]] = {
        "data": [*about_data, grid.data_dir],
        "not as published": [*marks] or [Phrase("nothing")],
        "versions": [
            text
            if number == len(results)
            else Phrase("{version} ({number} of {all} trials)", version=text, number=number, all=len(results))
            for text, number in sorted(versions.items())
        ],
        "devices": [*(grid.devices or sorted({result.device for result in results}))],
        "commit": [grid.commit],
        "command": [shlex.join(["python", *grid.command])] if grid.command else [],
        "written": [grid.updated],
        "model": [run.identity],
        "hashes of the data": [f"{TASKS[name].title} {text}" for name, text in data.items() if text],
        "hashes of the protocol": [f"{TASKS[name].title} {text}" for name, text in grid.protocols.items()],
    }
    return {name: kept for name, found in lines.items() if (kept := [line for line in found if line])}
