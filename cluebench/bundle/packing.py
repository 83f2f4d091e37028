"""A run directory to a bundle, without any field that describes the machine it was made on."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import cluebench
from cluebench.benchmark.tasks import TASKS
from cluebench.bundle.contents import MANIFEST, BundledModel, Manifest, Sums, bare, sha256
from cluebench.data import row_facts
from cluebench.data.official import fingerprint_of, official_md5s, split_files
from cluebench.data.row_facts import RUN_FILE
from cluebench.data.source import DataSource
from cluebench.foundation import atomic, repository
from cluebench.foundation.errors import ClueError, DataError, UsageError
from cluebench.foundation.file_facts import content_hash
from cluebench.foundation.text import as_json
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import kept_weights
from cluebench.records import finished_trials
from cluebench.records.dev_predictions import SUFFIX, beside
from cluebench.records.finished_trials import FinishedTrial, OpenedRun
from cluebench.records.grid_file import GRID_FILE, GridFile, PlannedTrial
from cluebench.records.log import PUBLISHED_LINE
from cluebench.records.result import Result
from cluebench.report import scores

#: Flags of a grid search whose values are no paths, hosts or devices. The others are left out with their values.
_PUBLIC_FLAGS = re.compile(
    "--(tasks|learning_rates|batch_sizes|dropouts|seeds|best_only|amp|padding|evaluation|num_train_epochs|max_steps"
    "|limit|save_best_model|confirm_seeds|top_k|search|keep|rungs)(=.*)?"
)
_VERSIONED = ("python", "cluebench", "paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "numpy")


class _Packed(NamedTuple):
    """A trial that goes into the bundle."""

    trial: FinishedTrial
    result: Result  # without the fields that describe the machine
    path: Path  # of the original result
    member: str  # the names of its files, without suffix


def pack(run: Path, output: Path, source: DataSource) -> list[str]:
    """Writes the bundle of a run directory; returns lines that describe it. Raises UsageError, DataError."""
    opened = OpenedRun(run)
    found = [trial for of_task in opened.trials.values() for trial in of_task]
    identities = {str(trial.result.configuration.get("model")) for trial in found if trial.result}
    if not identities:
        raise UsageError(f"{run}: no finished trial with a result; name the run directory of a model")
    if len(identities) > 1:
        models = ", ".join(sorted(identities))
        raise UsageError(f"{run} holds trials of several models ({models}): move the trials of one model elsewhere")
    grid, name, (identity,) = opened.grid, opened.name, identities
    trials = [_packed(trial, trial.result, trial.path, name) for trial in found if trial.result and trial.path]
    data = {entry.trial.task: str(entry.result.configuration.get("data")) for entry in trials}
    weights = {
        f"{entry.member}/{file.name}": file for entry in trials for file in kept_weights(entry.path.with_suffix(""))
    }
    sums, facts = _of_data(run, data, source)
    manifest = Manifest(
        format=1,
        model=BundledModel(name, identity, _model_weights(name, identity)),
        data=sums,
        files={},
        kept={member: content_hash(file) for member, file in weights.items()},
        versions={key: value for entry in trials for key, value in entry.result.versions.items()},
        devices=sorted({f"{entry.result.device}, {entry.result.cards} card(s)" for entry in trials}),
        commit=repository.commit(),
        command=_command(grid, name),
        search=opened.halving_mark,
        packed_by=cluebench.__version__,
    )
    files = {GRID_FILE: as_json(asdict(_grid(run, grid, trials, manifest.model)), indent=1).encode()}
    files |= {f"{entry.member}.json": as_json(asdict(entry.result), indent=1).encode() for entry in trials}
    predictions = [entry for entry in trials if entry.trial.predictions]
    files |= {entry.member + SUFFIX: beside(entry.path).read_bytes() for entry in predictions}
    if facts:
        files[RUN_FILE] = as_json(facts, indent=1).encode()
    logs = _best_logs(trials)
    files |= logs
    manifest.files = {name: sha256(content) for name, content in files.items()}
    atomic.write_archive(output, {MANIFEST: as_json(asdict(manifest), indent=1).encode(), **files})
    counts = {"task": len(data), "trial": len(trials), "log": len(logs)}
    lines = [f"{output}: " + ", ".join(f"{number} {what}{'s' * (number != 1)}" for what, number in counts.items())]
    without = len(trials) - len(predictions)
    return lines + [f"{without} of the trials kept no dev predictions, so they can't be verified"] * bool(without)


def _packed(trial: FinishedTrial, result: Result, path: Path, model: str) -> _Packed:
    """Raises UsageError if a setting names a path: no setting can be left out, as the trial's identity needs all."""
    for key, value in result.configuration.items():
        if key != "model" and re.search(r"[/\\~]", json.dumps(value, ensure_ascii=False)):
            raise UsageError(f"{path}: its setting {key} names a path of this machine, so it can't be packed")
    device = re.match(r"(?:gpu|cpu|xpu|npu)(?::\d+)?", result.device)
    versions = {name: result.versions[name] for name in _VERSIONED if name in result.versions}
    kind = device[0] if device else "unknown"
    stripped = replace(result, model=model, device=kind, best_model=None, error=None, versions=versions)
    return _Packed(trial, stripped, path, f"{trial.task}/{trial.name}")


def _grid(run: Path, grid: GridFile | None, trials: Sequence[_Packed], model: BundledModel) -> GridFile:
    """The last plan, with every trial that is packed."""
    plan = {(planned.task, planned.name): planned for planned in (grid.trials if grid else ())}
    packed = {(entry.trial.task, entry.trial.name): entry for entry in trials}
    if lost := sorted(key for key, planned in plan.items() if planned.state == "done" and key not in packed):
        raise DataError(f"{run}: grid.json says that {'/'.join(lost[0])} is done, but has no result: run it again")
    for key, (trial, result, *_) in packed.items():
        rate, batch, dropout = trial.setting
        plan.setdefault(key, PlannedTrial(*key, rate, batch, dropout, trial.seed, result.configuration_hash, "done"))
    states = dict(Counter(planned.state for planned in plan.values()))
    protocols = {entry.trial.task: finished_trials.protocol_hash(entry.result.configuration) for entry in trials}
    status = "done" if set(states) == {"done"} else "stopped"
    old, planned = grid or GridFile(1, model.name, "", []), list(plan.values())
    return bare(replace(old, status=status, counts=states, protocols=protocols, trials=planned), model)


def _best_logs(trials: Sequence[_Packed]) -> dict[str, bytes]:
    """The published lines in the logs of each task's best setting."""
    found = [entry.trial for entry in trials]
    bests = scores.best_settings({name: [trial for trial in found if trial.task == name] for name in TASKS})
    logs = {}
    for entry in trials:
        best, log = bests.get(entry.trial.task), entry.path.with_suffix(".log")
        if best and entry.trial.setting == best.setting and log.is_file():
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            published = [f"{line}\n" for line in lines if PUBLISHED_LINE.fullmatch(line)]
            logs[f"{entry.member}.log"] = "".join(published).encode()
    return logs


def _of_data(run: Path, data: Mapping[str, str], source: DataSource) -> tuple[dict[str, Sums], dict[str, dict]]:
    """For each task with this fingerprint of its data: the md5 sums of its files, if they are the official ones or are
    on this machine, and its `RowFacts`, if they were computed before or the files are here.
    """
    sums: dict[str, Sums] = {}
    facts: dict[str, dict] = {}
    for name, fingerprint in data.items():
        task = TASKS[name]
        names = split_files(task, "train") + split_files(task, "dev")
        here = {file: source.md5(task, file) for file in names} if all(source.has(task, file) for file in names) else {}
        is_here = fingerprint_of(task, here) == fingerprint
        official = official_md5s(task)
        if official and fingerprint_of(task, official) == fingerprint:
            sums[name] = official
        elif is_here:
            sums[name] = here
        found = row_facts.found(task, fingerprint, run) or (row_facts.made(task, source) if is_here else None)
        if found:
            facts[name] = asdict(found)
    return sums, facts


def _model_weights(name: str, identity: str) -> Sums:
    """Hashes of a published model on this machine: its identity is only its name."""
    try:
        files = None if identity.startswith("directory:") else model_files.find(Model(name, name), offline=True)
    except ClueError:
        files = None
    return {path.name: content_hash(path) for path in files.weights} if files else {}


def _command(grid: GridFile | None, model: str) -> str | None:
    """The last command of the grid search, with the flags that describe no machine."""
    words, is_public = ["grid_search.py", model], False
    for word in grid.command[1:] if grid else ():
        if word.startswith("--"):
            is_public = _PUBLIC_FLAGS.fullmatch(word) is not None
        if is_public and re.fullmatch(r"(?:--)?[\w=.,+-]+|(?:--rungs=)?[\d/,.]+", word):
            words.append(word)
    return " ".join(words) if grid else None
