"""The best kept model of each task of a grid, and its predictions on the test sets by the task's script."""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluebench.benchmark.tasks import TASKS, Task, TestSet
from cluebench.data.source import DataSource
from cluebench.foundation import atomic, json_files, repository
from cluebench.foundation.errors import ClueError
from cluebench.foundation.notices import waiting
from cluebench.pretrained.model_files import CONFIG_FILES, kept_weights
from cluebench.records import finished_trials
from cluebench.records.finished_trials import FinishedTrial
from cluebench.records.log import read_log
from cluebench.records.paths import TrialPaths
from cluebench.report import scores
from cluebench.report.scores import Best
from cluebench.submission.packing import Entry

#: In a kept model's directory: prediction file → a hash of the weights and the test file it was made from.
_MADE_FROM = ".predictions.json"

#: Settings of a trial that its prediction must share.
_INPUT_SETTINGS = (
    "max_seq_length", "doc_stride", "max_query_length", "max_answer_length", "n_best_size", "do_lower_case"
)  # fmt: skip

#: The note of a task with finished trials but no model.
NOT_KEPT = "no model was kept"


@dataclass(frozen=True)
class PredictionFlags:
    """The scripts' flags, besides the model and its inputs."""

    data_dir: str | None = None
    device: str | None = None
    cache_dir: str | None = None
    offline: bool = False


@dataclass(frozen=True)
class KeptModel:
    """A finished trial whose best model is on disk."""

    trial: FinishedTrial
    folder: Path

    @property
    def task(self) -> Task:
        return TASKS[self.trial.task]

    @property
    def name(self) -> str:
        return f"{self.folder.name} ({self.task.format_score(self.trial.score)})"

    @property
    def configuration(self) -> dict:
        """The settings of its trial; empty if only its log is there."""
        return self.trial.result.configuration if self.trial.result else {}


def best_kept_model(run: Path, trials: Sequence[FinishedTrial], best: Best | None) -> KeptModel | None:
    """The best of one task's finished trials that have a model on disk; ``best``: the task's best setting."""
    folders = ((trial, TrialPaths(run / trial.task, trial.name).output_dir) for trial in trials)
    kept = [KeptModel(trial, folder) for trial, folder in folders if kept_weights(folder) and _is_configured(folder)]

    def order(model: KeptModel) -> tuple:
        trial = model.trial
        return best and trial.setting == best.setting, scores.rank(trial.score, trial.setting), -trial.seed

    return max(kept, key=order, default=None)


def _is_configured(folder: Path) -> bool:
    return any((folder / name).is_file() for name in CONFIG_FILES)


def take_models(run: Path, wanted: Sequence[Entry], source: DataSource, flags: PredictionFlags) -> None:
    """Finds each task's best kept model, which predicts what it has not predicted from this data yet."""
    trials = finished_trials.finished_trials(run)
    for task in dict.fromkeys(entry.task.name for entry in wanted):
        entries = [entry for entry in wanted if entry.task.name == task]
        finished = trials.get(task, [])
        best = scores.best_setting(finished)
        model = best_kept_model(run, finished, best)
        if not best or not model:
            for entry in entries:
                entry.note = NOT_KEPT if finished else "no trial is done"
            continue
        _warn(model, best, source)
        try:
            _predict_missing(model, entries, source, flags)
        except ClueError as error:
            for entry in entries:
                entry.problems.append(f"{entry.test.submission} can't be made: {error}")


def _warn(model: KeptModel, best: Best, source: DataSource) -> None:
    """Prints what users need to know about the choice of a model."""
    task = model.task
    if model.trial.setting != best.setting:
        chosen = f"{best.setting.learning_rate}, {best.setting.batch_size}, {best.setting.dropout}"
        print(f"{task.title}: the best trial ({chosen}: {best.text(task)}) has no model on disk; taking {model.name}")
    try:
        same = model.configuration.get("data") in (None, source.fingerprint(task))
    except ClueError:
        return  # only the test files are here
    if not same:
        print(f"warning: {task.title}: {model.folder.name} was trained on other files than those in {source.directory}")


def _predict_missing(model: KeptModel, entries: Sequence[Entry], source: DataSource, flags: PredictionFlags) -> None:
    """Points the entries to the model's prediction files. Raises ClueError when a test file is missing."""
    made_from = {model.folder / entry.test.submission: _origin(model, entry.test, source) for entry in entries}
    noted = _read_notes(model.folder)
    missing = [path for path, origin in made_from.items() if noted.get(path.name) != origin or not path.is_file()]
    if missing:
        for path in missing:
            path.unlink(missing_ok=True)
        print(f"{model.task.title}: predicting with {model.folder}", flush=True)
        failure = predict(model, flags, model.folder)
        atomic.write_json(
            model.folder / _MADE_FROM, noted | {path.name: made_from[path] for path in missing if path.is_file()}
        )
    for entry, path in zip(entries, made_from, strict=True):
        if path.is_file():
            entry.path, entry.note = path, f"by {model.name}"
        else:
            entry.problems.append(f"{entry.test.submission} was not predicted: {failure}")


def _origin(model: KeptModel, test: TestSet, source: DataSource) -> str:
    """Changes with the model's weights and the test file, so that no stale prediction is packed."""
    weights = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in kept_weights(model.folder)]
    return hashlib.sha256(repr((weights, source.md5(model.task, test.file))).encode()).hexdigest()[:16]


def _read_notes(folder: Path) -> dict[str, str]:
    return json_files.read_if_sound(folder / _MADE_FROM, dict[str, str], otherwise="they are made again") or {}


def predict(model: KeptModel, flags: PredictionFlags, output: Path) -> str:
    """Runs the task's script on the model, into the directory ``output``; returns the reason if it failed."""
    log = output / "predict.log"
    with open(log, "w", encoding="utf-8") as stream, waiting(f"{model.task.title}: predicting"):
        code = subprocess.run(
            prediction_command(model, flags, output), cwd=repository.ROOT, stdout=stream, stderr=subprocess.STDOUT
        ).returncode
    if code == 0:
        return f"the script wrote no such file; see {log}"
    lines = [line for line in read_log(log).last_lines if line.strip()]
    return f"{lines[-1] if lines else f'exit code {code}'} (see {log})"


def prediction_command(model: KeptModel, flags: PredictionFlags, output: Path) -> list[str]:
    """The command that predicts a task's test sets with a kept model, with inputs as in its training."""
    task, folder = model.task, str(model.folder.resolve())
    command = [sys.executable, "-u", str(repository.ROOT / task.script), "--model_name_or_path", folder, "--do_predict"]
    command += ["--task_name", task.title] if task.is_classification else []
    settings = {
        "output_dir": str(output.resolve()),
        "data_dir": flags.data_dir and str(Path(flags.data_dir).expanduser().resolve()),
        "device": flags.device,
        "cache_dir": flags.cache_dir and str(Path(flags.cache_dir).expanduser().resolve()),
        **{name: model.configuration.get(name) for name in _INPUT_SETTINGS},
    }
    for name, value in settings.items():
        command += [] if value is None else [f"--{name}", str(value)]
    return command + (["--offline"] if flags.offline else [])
