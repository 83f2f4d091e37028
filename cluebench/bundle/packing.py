"""A run directory to a bundle: of everything only the fields that say nothing about the machine it was made on."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cluebench
from cluebench import dev_predictions, json_files, repository, runlog, submission
from cluebench.bundle.contents import FORMAT, GRID, MANIFEST
from cluebench.data.source import DataSource, fingerprint_of, official_md5s, split_files
from cluebench.errors import ClueError, DataError, UsageError
from cluebench.grid_file import GridFile, read_grid
from cluebench.model import Model
from cluebench.model_files import kept_weights
from cluebench.report import scores
from cluebench.report.scores import FinishedTrial
from cluebench.runlog import PUBLISHED_LINE, TrialPaths
from cluebench.tasks import TASKS, Task

#: What grid.json says of a trial, without its attempts, failures and hosts.
_PLANNED = ("task", "name", "learning_rate", "batch_size", "dropout", "seed", "configuration_hash", "state")

#: Flags of a grid search whose values are no paths, hosts or devices; the others are left out with their names.
_TOLD_FLAGS = frozenset(
    f"--{name}"
    for name in (
        "tasks learning_rates batch_sizes dropouts seeds best_only amp padding num_train_epochs max_steps limit "
        "save_best_model confirm_seeds top_k"
    ).split()
)
_VERSIONED = ("python", "cluebench", "paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "numpy")


@dataclass
class _Typed:
    """Of grid.json, the words of the command."""

    command: list[str] = field(default_factory=list)


def pack(run: Path, output: Path, source: DataSource) -> list[str]:
    """Writes the bundle of a run directory; returns lines that say what it holds. Raises UsageError, DataError."""
    trials = [trial for found in scores.finished_trials(run).values() for trial in found if trial.result]
    if not trials:
        raise UsageError(f"{run}: no finished trial with a result; name the run directory of a model")
    grid, identity = read_grid(run), _identity(run, trials)
    name = scores.model_name(run, grid, identity)
    files = {GRID: _json(_grid(run, grid, trials, name, identity))}
    for trial in trials:
        files |= _files_of(trial, name)
    logs = _best_logs(trials)
    files |= logs
    manifest = {
        "format": FORMAT,
        "model": {"name": name, "identity": identity, "weights": _model_weights(name, identity)},
        "data": _data(trials, source),
        "kept": _kept(trials),
        "versions": {key: value for trial in trials for key, value in _versions(trial).items()},
        "devices": sorted({f"{_device(trial)}, {trial.result.cards} card(s)" for trial in trials if trial.result}),
        "commit": _commit(),
        "command": _command(run, name),
        "search": scores.halving_mark(run),
        "packed_by": cluebench.__version__,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    submission.write_archive(output, {MANIFEST: _json(manifest), **files})
    without = sum(f"{trial.task}/{_name(trial)}{dev_predictions.SUFFIX}" not in files for trial in trials)
    lines = [f"{output}: {len(trials)} trials of {len({trial.task for trial in trials})} tasks, {len(logs)} logs"]
    return lines + [f"{without} trials kept no dev predictions: nobody can verify those"] * bool(without)


def _files_of(trial: FinishedTrial, model: str) -> dict[str, bytes]:
    assert trial.result is not None and trial.path is not None
    _refuse_paths(trial)
    kept = replace(trial.result, model=model, device=_device(trial), best_model=None, versions=_versions(trial))
    files = {f"{trial.task}/{_name(trial)}.json": _json(asdict(kept))}
    if dev_predictions.of_result(trial.result, trial.path):
        name = f"{trial.task}/{_name(trial)}{dev_predictions.SUFFIX}"
        files[name] = dev_predictions.beside(trial.path).read_bytes()
    return files


def _refuse_paths(trial: FinishedTrial) -> None:
    """Settings can't be left out, as the trial's identity is made of them."""
    for key, value in trial.result.configuration.items() if trial.result else ():
        if key != "model" and re.search(r"[/\\~]", json.dumps(value, ensure_ascii=False)):
            raise UsageError(f"{trial.path}: its setting {key} names a path of this machine, so it can't be packed")


def _name(trial: FinishedTrial) -> str:
    return runlog.trial_name(*trial.setting, trial.seed)


def _identity(run: Path, trials: Iterable[FinishedTrial]) -> str:
    found = {trial.result.configuration.get("model") for trial in trials if trial.result}
    if len(found) > 1:
        raise UsageError(f"{run} holds trials of several models ({', '.join(map(str, found))}): move one's elsewhere")
    return str(found.pop())


def _grid(
    run: Path, grid: GridFile | None, trials: Sequence[FinishedTrial], model: str, identity: str
) -> dict[str, Any]:
    """grid.json with the plan as it was last, and every trial that is packed."""
    packed = {(trial.task, _name(trial)): trial for trial in trials}
    plan = [{key: getattr(entry, key) for key in _PLANNED} for entry in (grid.trials if grid else ())]
    planned = {(entry["task"], entry["name"]) for entry in plan}
    if lost := sorted({(one["task"], one["name"]) for one in plan if one["state"] == "done"} - {*packed}):
        raise DataError(f"{run}: grid.json says that {'/'.join(lost[0])} is done, but has no result: run it again")
    plan += [_plan_of(trial) for key, trial in packed.items() if key not in planned]
    states = [entry["state"] for entry in plan]
    protocols = {trial.task: scores.protocol_hash(trial.result.configuration) for trial in trials if trial.result}
    return {
        "format": 1,
        "model": model,
        "model_identity": identity,
        "status": "done" if set(states) == {"done"} else "stopped",
        "updated": grid.updated if grid else "",
        "counts": {state: states.count(state) for state in dict.fromkeys(states)},
        "protocols": protocols,
        "trials": [{**entry, "memory_factor": 1, "attempts": [], "failures": []} for entry in plan],
    }


def _plan_of(trial: FinishedTrial) -> dict[str, Any]:
    assert trial.result is not None
    more = {"configuration_hash": trial.result.configuration_hash, "state": "done"}
    return {"task": trial.task, "name": _name(trial), **trial.setting._asdict(), "seed": trial.seed, **more}


def _best_logs(trials: Sequence[FinishedTrial]) -> dict[str, bytes]:
    """Of each task's best setting, the lines that are published ones and nothing else."""
    found = {}
    for task in dict.fromkeys(trial.task for trial in trials):
        of_task = [trial for trial in trials if trial.task == task]
        best = scores.best_setting(of_task)
        for trial in of_task:
            path = TrialPaths(trial.path.parent, _name(trial)).log if trial.path else None
            if best and trial.setting == best.setting and path and path.is_file():
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
                kept = [line + "\n" for line in lines if PUBLISHED_LINE.fullmatch(line)]
                found[f"{task}/{_name(trial)}.log"] = "".join(kept).encode()
    return found


def _device(trial: FinishedTrial) -> str:
    found = re.match(r"(?:gpu|cpu|xpu|npu)(?::\d+)?", trial.result.device if trial.result else "")
    return found[0] if found else "unknown"


def _versions(trial: FinishedTrial) -> dict[str, str]:
    found = trial.result.versions if trial.result else {}
    return {name: found[name] for name in _VERSIONED if name in found}


def _data(trials: Iterable[FinishedTrial], source: DataSource) -> dict[str, dict[str, str]]:
    """Of the tasks whose files are the official ones, or are here."""
    found = {}
    for name, data in {trial.task: trial.result.configuration.get("data") for trial in trials if trial.result}.items():
        for sums in (official_md5s(TASKS[name]), _md5s_here(TASKS[name], source)):
            if sums and fingerprint_of(TASKS[name], sums) == data:
                found[name] = sums
    return found


def _md5s_here(task: Task, source: DataSource) -> dict[str, str] | None:
    names = split_files(task, "train") + split_files(task, "dev")
    return {name: source.md5(task, name) for name in names} if all(source.has(task, name) for name in names) else None


def _kept(trials: Iterable[FinishedTrial]) -> dict[str, str]:
    folders = {f"{trial.task}/{_name(trial)}": trial.path.with_suffix("") for trial in trials if trial.path}
    return {f"{key}/{path.name}": _sha256(path) for key, folder in folders.items() for path in kept_weights(folder)}


def _model_weights(name: str, identity: str) -> dict[str, str]:
    """Of a published model that is on this machine: its identity is only its name."""
    try:
        held = None if identity.startswith("directory:") else Model(name, name).find(offline=True)
    except ClueError:
        held = None
    return {path.name: _sha256(path) for path in held.weights} if held else {}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _commit() -> str | None:
    """Of the checkout that packs; None where it is none."""
    try:
        command = ["git", "-C", str(repository.ROOT), "rev-parse", "HEAD"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None


def _command(run: Path, model: str) -> str | None:
    """The grid search as it was typed last, with the flags that any machine could be told."""
    grid = json_files.read_if_sound(run / GRID, _Typed)
    words, told = ["grid_search.py", model], False
    for word in grid.command[1:] if grid else ():
        if word.startswith("--"):
            told = word.split("=")[0] in _TOLD_FLAGS
        if told and re.fullmatch(r"(?:--)?[\w=.,+-]+", word):
            words.append(word)
    return " ".join(words) if grid else None


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()
