"""The best kept model of each task of a grid, and its predictions on the test sets by the task's script."""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluebench.benchmark.tasks import DIAGNOSED, DIAGNOSTICS, TASKS, Task
from cluebench.data.rows import load_rows
from cluebench.data.source import DataSource
from cluebench.foundation import atomic, json_files, repository
from cluebench.foundation.errors import ClueError
from cluebench.foundation.notices import waiting
from cluebench.pretrained.model import CONFIG_FILES, first_of
from cluebench.pretrained.model_files import kept_weights
from cluebench.records.finished_trials import FinishedTrial, OpenedRun
from cluebench.records.log import read_log
from cluebench.records.paths import TrialPaths
from cluebench.report import scores
from cluebench.statistics.uncertainty import binomial_error
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


def best_kept_model(run: Path, trials: Sequence[FinishedTrial]) -> KeptModel | None:
    """The best of one task's finished trials that have a model on disk: of the best setting, if it has one."""
    best = scores.best_setting(trials)
    models = [KeptModel(trial, TrialPaths(run / trial.task, trial.name).output_dir) for trial in trials]

    def order(model: KeptModel) -> tuple:
        trial = model.trial
        return best and trial.setting == best.setting, scores.rank(trial.score, trial.setting), -trial.seed

    kept = [model for model in models if kept_weights(model.folder) and first_of(model.folder, CONFIG_FILES)]
    return max(kept, key=order, default=None)


def take_models(run: OpenedRun, wanted: Sequence[Entry], source: DataSource, flags: PredictionFlags) -> None:
    """Finds each task's best kept model, which predicts what it has not predicted from this data yet."""
    for task in dict.fromkeys(entry.task for entry in wanted):
        entries = [entry for entry in wanted if entry.task == task]
        trials = run.trials.get(DIAGNOSED.name if task == DIAGNOSTICS else task.name, [])
        model = best_kept_model(run.folder, trials)
        if model is None:
            for entry in entries:
                entry.note = NOT_KEPT if trials else "no trial is done"
            continue
        if model.task == task:
            _warn(model, trials, source)
        try:
            _predict_missing(model, entries, source, flags)
        except ClueError as error:
            for entry in entries:
                entry.problems.append(f"{entry.test.submission} can't be made: {error}")


def _warn(model: KeptModel, trials: Sequence[FinishedTrial], source: DataSource) -> None:
    """Prints what users need to know about the choice of a model."""
    task, best = model.task, scores.best_setting(trials)
    if best and model.trial.setting != best.setting:
        chosen = f"{best.setting.learning_rate}, {best.setting.batch_size}, {best.setting.dropout}"
        print(f"{task.title}: the best trial ({chosen}: {best.text(task)}) has no model on disk; taking {model.name}")
    try:
        same = model.configuration.get("data") in (None, source.fingerprint(task))
    except ClueError:
        return  # only the test files are here
    if not same:
        print(f"warning: {task.title}: {model.folder.name} was trained on other files than those in {source.directory}")


def _predict_missing(model: KeptModel, entries: Sequence[Entry], source: DataSource, flags: PredictionFlags) -> None:
    """Points the entries of a task to the model's prediction files. Raises ClueError when a test file is missing."""
    made_from = {model.folder / entry.test.submission: _origin(model, entry, source) for entry in entries}
    noted, task = _read_notes(model.folder), entries[0].task
    missing = [path for path, origin in made_from.items() if noted.get(path.name) != origin or not path.is_file()]
    if missing:
        for path in missing:
            path.unlink(missing_ok=True)
        print(f"{task.title}: predicting with {model.folder}", flush=True)
        if task == DIAGNOSTICS:
            failure = _predict_diagnostics(model, source, flags)
        else:
            failure = predict(model, flags, model.folder)
        atomic.write_json(
            model.folder / _MADE_FROM, noted | {path.name: made_from[path] for path in missing if path.is_file()}
        )
    for entry, path in zip(entries, made_from, strict=True):
        if path.is_file():
            entry.path, entry.note = path, f"by {model.name}"
        else:
            entry.problems.append(f"{entry.test.submission} was not predicted: {failure}")


def _origin(model: KeptModel, entry: Entry, source: DataSource) -> str:
    """Changes with the model's weights and the test file, so that no stale prediction is packed."""
    weights = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in kept_weights(model.folder)]
    return hashlib.sha256(repr((weights, source.md5(entry.task, entry.test.file))).encode()).hexdigest()[:16]


def _read_notes(folder: Path) -> dict[str, str]:
    return json_files.read_if_sound(folder / _MADE_FROM, dict[str, str], otherwise="they are made again") or {}


def predict(model: KeptModel, flags: PredictionFlags, output: Path) -> str:
    """Runs the task's script on the model, into the directory ``output``; returns the reason if it failed."""
    log = model.folder / "predict.log"
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


# CLUE's diagnostic set ------------------------------------------------------------------------------------------------

(_TEST,) = DIAGNOSTICS.test_sets
(_STANDS_FOR,) = DIAGNOSED.test_sets  # the script reads the diagnostic set in place of this one

#: A key with more values holds texts, not categories.
_MOST_CATEGORIES = 40


def diagnostics_entry(wanted: Iterable[Entry], source: DataSource) -> list[Entry]:
    """An entry of the zip, if its task is wanted and the set is among the official files."""
    is_wanted = any(entry.task == DIAGNOSED for entry in wanted) and source.has(DIAGNOSTICS, _TEST.file)
    return [Entry(DIAGNOSTICS, _TEST)] if is_wanted else []


def _predict_diagnostics(model: KeptModel, source: DataSource, flags: PredictionFlags) -> str:
    """As `predict`, with the diagnostic set in place of the task's test set."""
    rows = load_rows(source, DIAGNOSTICS, _TEST.split)
    texts = ({"id": number, **dict(zip(DIAGNOSED.text_fields, row.texts))} for number, row in enumerate(rows))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = "".join(json.dumps(text) + "\n" for text in texts)
        atomic.write_text(folder / f"{DIAGNOSED.name}_public" / _STANDS_FOR.file, lines)
        failure = predict(model, replace(flags, data_dir=name), folder)
        if (made := folder / _STANDS_FOR.submission).is_file():
            atomic.write_text(model.folder / _TEST.submission, made.read_text(encoding="utf-8"))
    return failure


def shares_right(content: bytes, source: DataSource) -> Iterator[str]:
    """Lines with the accuracy on the diagnostic set, in all and by category; none if its file has no labels.

    ``content``: a submission file that has been checked. Every key with few values is a category.
    """
    lines = source.read(DIAGNOSTICS, _TEST.file).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    rows = [json_files.parse(line) for line in lines if line.strip()]
    labels = [json_files.parse(line)["label"] for line in content.split(b"\n") if line.strip()]
    scored = [
        (row, row["label"] == label) for row, label in zip(rows, labels) if row.get("label") in DIAGNOSTICS.labels
    ]
    if scored:
        yield f"{DIAGNOSTICS.title}: accuracy {_share([right for _, right in scored])}"
    for key in _categories([row for row, _ in scored]):
        for value in sorted({str(row.get(key)) for row, _ in scored}):
            yield f"    {key} {value}: {_share([right for row, right in scored if str(row.get(key)) == value])}"


def _categories(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for row in rows for key in row if key not in ("label", *DIAGNOSTICS.text_fields))
    values = {key: {str(row.get(key)) for row in rows} for key in keys}
    return [key for key in keys if 1 < len(values[key]) <= min(_MOST_CATEGORIES, len(rows) // 2)]


def _share(right: Sequence[bool]) -> str:
    share = sum(right) / len(right)
    return f"{100 * share:.2f} ±{100 * binomial_error(share, len(right)):.2f} of {len(right)} rows"
