"""A run directory to a bundle: of everything only the fields that say nothing about the machine it was made on."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import cluebench
from cluebench.benchmark.tasks import TASKS, Task
from cluebench.bundle.contents import MANIFEST, BundledModel, Manifest, Sums, bare, sha256
from cluebench.data import row_facts
from cluebench.data.official import fingerprint_of, official_md5s, split_files
from cluebench.data.row_facts import RUN_FILE
from cluebench.data.source import DataSource
from cluebench.foundation import atomic, repository
from cluebench.foundation.errors import ClueError, DataError, UsageError
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import kept_weights
from cluebench.records import dev_predictions, finished_trials
from cluebench.records.finished_trials import FinishedTrial, OpenedRun
from cluebench.records.grid_file import GRID_FILE, GridFile, PlannedTrial
from cluebench.records.log import PUBLISHED_LINE
from cluebench.records.result import Result
from cluebench.report import scores

#: Flags of a grid search whose values are no paths, hosts or devices; the others are left out with their names.
_TOLD_FLAGS = re.compile(
    "--(tasks|learning_rates|batch_sizes|dropouts|seeds|best_only|amp|padding|evaluation|num_train_epochs|max_steps"
    "|limit|save_best_model|confirm_seeds|top_k|search|keep|rungs)(=.*)?"
)
_VERSIONED = ("python", "cluebench", "paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "numpy")


class _Packed(NamedTuple):
    """A trial that goes into the bundle, as ``<task>/<name>``."""

    task: str
    name: str
    trial: FinishedTrial
    result: Result  # of which nothing is left that tells of the machine
    path: Path  # of the result as it was


def pack(run: Path, output: Path, source: DataSource) -> list[str]:
    """Writes the bundle of a run directory; returns lines that say what it holds. Raises UsageError, DataError."""
    opened = OpenedRun(run)
    found = [trial for of_task in opened.trials.values() for trial in of_task]
    identities = {str(trial.result.configuration.get("model")) for trial in found if trial.result}
    if not identities:
        raise UsageError(f"{run}: no finished trial with a result; name the run directory of a model")
    if len(identities) > 1:
        raise UsageError(
            f"{run} holds trials of several models ({', '.join(sorted(identities))}): move one's elsewhere"
        )
    grid, name, (identity,) = opened.grid, opened.name, identities
    trials = [_packed(one, one.result, one.path, name) for one in found if one.result and one.path]
    manifest = Manifest(
        format=1,
        model=BundledModel(name, identity, _model_weights(name, identity)),
        data=_data(trials, source),
        files={},
        kept={
            f"{one.task}/{one.name}/{file.name}": sha256(file)
            for one in trials
            for file in kept_weights(one.path.with_suffix(""))
        },
        versions={key: value for one in trials for key, value in one.result.versions.items()},
        devices=sorted({f"{one.result.device}, {one.result.cards} card(s)" for one in trials}),
        commit=repository.commit(),
        command=_command(grid, name),
        search=opened.halving_mark,
        packed_by=cluebench.__version__,
    )
    files = {GRID_FILE: _json(_grid(run, grid, trials, manifest.model))}
    for one in trials:
        files[f"{one.task}/{one.name}.json"] = _json(one.result)
        if one.trial.predictions:
            files[f"{one.task}/{one.name}{dev_predictions.SUFFIX}"] = dev_predictions.beside(one.path).read_bytes()
    if facts := _row_facts(run, trials, source):
        files[RUN_FILE] = (json.dumps(facts, ensure_ascii=False, indent=1) + "\n").encode()
    logs = _best_logs(trials)
    files |= logs
    manifest.files = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    atomic.write_archive(output, {MANIFEST: _json(manifest), **files})
    without = sum(f"{one.task}/{one.name}{dev_predictions.SUFFIX}" not in files for one in trials)
    counts = {"task": len({one.task for one in trials}), "trial": len(trials), "log": len(logs)}
    lines = [f"{output}: " + ", ".join(f"{number} {what}{'s' * (number != 1)}" for what, number in counts.items())]
    return lines + [f"{without} of the trials kept no dev predictions: nobody can verify those"] * bool(without)


def _packed(trial: FinishedTrial, result: Result, path: Path, model: str) -> _Packed:
    """Raises UsageError where a setting names a path: none can be left out, as the trial's identity is made of them."""
    for key, value in result.configuration.items():
        if key != "model" and re.search(r"[/\\~]", json.dumps(value, ensure_ascii=False)):
            raise UsageError(f"{path}: its setting {key} names a path of this machine, so it can't be packed")
    device = re.match(r"(?:gpu|cpu|xpu|npu)(?::\d+)?", result.device)
    versions = {name: result.versions[name] for name in _VERSIONED if name in result.versions}
    kind = device[0] if device else "unknown"
    told = replace(result, model=model, device=kind, best_model=None, error=None, versions=versions)
    return _Packed(trial.task, trial.name, trial, told, path)


def _grid(run: Path, grid: GridFile | None, trials: Sequence[_Packed], model: BundledModel) -> GridFile:
    """What is told of the plan as it was last, and of every trial that is packed."""
    plan = {(one.task, one.name): one for one in (grid.trials if grid else ())}
    packed = {(one.task, one.name): one for one in trials}
    if lost := sorted(key for key, one in plan.items() if one.state == "done" and key not in packed):
        raise DataError(f"{run}: grid.json says that {'/'.join(lost[0])} is done, but has no result: run it again")
    for key, one in packed.items():
        more = {**one.trial.setting._asdict(), "seed": one.trial.seed}
        plan.setdefault(key, PlannedTrial(*key, **more, configuration_hash=one.result.configuration_hash, state="done"))
    states = Counter(one.state for one in plan.values())
    protocols = {one.task: finished_trials.protocol_hash(one.result.configuration) for one in trials}
    status = "done" if set(states) == {"done"} else "stopped"
    known, counts, planned = grid or GridFile(1, model.name, "", []), dict(states), list(plan.values())
    return bare(replace(known, status=status, counts=counts, protocols=protocols, trials=planned), model)


def _best_logs(trials: Sequence[_Packed]) -> dict[str, bytes]:
    """Of each task's best setting, the lines that are published ones and nothing else."""
    found = {}
    for task in dict.fromkeys(one.task for one in trials):
        of_task = [one for one in trials if one.task == task]
        best = scores.best_setting([one.trial for one in of_task])
        for one in of_task:
            log = one.path.with_suffix(".log")
            if best and one.trial.setting == best.setting and log.is_file():
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
                kept = [line + "\n" for line in lines if PUBLISHED_LINE.fullmatch(line)]
                found[f"{one.task}/{one.name}.log"] = "".join(kept).encode()
    return found


def _data(trials: Sequence[_Packed], source: DataSource) -> dict[str, Sums]:
    """Of the tasks whose files are the official ones, or are here."""
    found = {}
    for name, data in {one.task: one.result.configuration.get("data") for one in trials}.items():
        for sums in (official_md5s(TASKS[name]), _md5s_here(TASKS[name], source)):
            if sums and fingerprint_of(TASKS[name], sums) == data:
                found[name] = sums
    return found


def _row_facts(run: Path, trials: Sequence[_Packed], source: DataSource) -> dict[str, dict]:
    """Task → its `RowFacts`, of the tasks of which they are known, or whose files are here."""
    known: dict[str, dict] = {}
    for name, data in {one.task: str(one.result.configuration.get("data")) for one in trials}.items():
        task = TASKS[name]
        facts = row_facts.found(task, data, run)
        if facts is None and _md5s_here(task, source) and source.fingerprint(task) == data:
            facts = row_facts.made(task, source)
        known |= {name: asdict(facts)} if facts else {}
    return known


def _md5s_here(task: Task, source: DataSource) -> Sums | None:
    names = split_files(task, "train") + split_files(task, "dev")
    return {name: source.md5(task, name) for name in names} if all(source.has(task, name) for name in names) else None


def _model_weights(name: str, identity: str) -> Sums:
    """Of a published model that is on this machine: its identity is only its name."""
    try:
        held = None if identity.startswith("directory:") else model_files.find(Model(name, name), offline=True)
    except ClueError:
        held = None
    return {path.name: sha256(path) for path in held.weights} if held else {}


def _command(grid: GridFile | None, model: str) -> str | None:
    """The grid search as it was typed last, with the flags that any machine could be told."""
    words, told = ["grid_search.py", model], False
    for word in grid.command[1:] if grid else ():
        if word.startswith("--"):
            told = _TOLD_FLAGS.fullmatch(word) is not None
        if told and re.fullmatch(r"(?:--)?[\w=.,+-]+|(?:--rungs=)?[\d/,.]+", word):
            words.append(word)
    return " ".join(words) if grid else None


def _json(value: Manifest | GridFile | Result) -> bytes:
    return (json.dumps(asdict(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()
