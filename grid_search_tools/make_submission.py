"""Makes the zip to upload to the CLUE leaderboard. Nothing invalid is ever packed.

    python make_submission.py runs/ernie-3.0-base-zh --output submit.zip

takes a run directory, predicts with each task's best kept model what is not predicted yet, and checks every file
against its test set. A directory of prediction files does as well. A task may be missing, and is named then. Where a
file is wrong, what is wrong is printed, file by file and line by line, and no zip is written.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluebench import atomic, runlog, submission
from cluebench.data.rows import load_rows
from cluebench.data.source import DataSource, open_source
from cluebench.errors import ClueError, UsageError
from cluebench.flags import flag, parse
from cluebench.report import scores
from cluebench.report.scores import FinishedTrial
from cluebench.tasks import TASKS, Task, TestSet, task_named

REPOSITORY = Path(__file__).resolve().parent.parent
INTERRUPTED = 130

#: Problems of one file that are printed; the rest is counted.
_SHOWN_PROBLEMS = 5

#: In a kept model's directory: what its prediction files were made from.
_MADE_FROM = ".predictions.json"

#: Settings of a trial that its prediction must share.
_INPUT_SETTINGS = (
    "max_seq_length", "doc_stride", "max_query_length", "max_answer_length", "n_best_size", "do_lower_case"
)  # fmt: skip


@dataclass
class Flags:
    __doc__ = __doc__

    directory: str = flag(..., "run directory of one model, or directory of prediction files", positional=True)
    output: str = flag("submit.zip", "the zip to write")
    data_dir: str | None = flag(
        None,
        "official CLUE files, unpacked or zipped",
        default_text="what the grid search used, else CLUE_DATA_DIR, else they are downloaded",
    )
    version: str = flag("1.1", "leaderboard the zip is for; all: the files of both", choices=("1.1", "1.0", "all"))
    tasks: list[str] = flag([], "tasks to pack", default_text="all that are there")
    device: str | None = flag(None, "device to predict on", default_text="gpu if Paddle has one, else cpu")
    cache_dir: str | None = flag(None, "where token ids are kept between runs", default_text="~/.cache/cluebench")
    offline: bool = flag(False, "never touch the network")


@dataclass
class Entry:
    """One file of the zip: where it is, or why it isn't there, and what is wrong with it."""

    task: Task
    test: TestSet
    path: Path | None = None
    note: str = ""
    problems: list[str] = field(default_factory=list)
    content: bytes = b""

    @property
    def state(self) -> str:
        if self.problems:
            return "wrong"
        return "missing" if self.path is None else "ok"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    flags = parse(Flags, argv, prog="make_submission.py")
    try:
        return make(flags)
    except ClueError as error:
        print(f"make_submission.py: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def make(flags: Flags) -> int:
    """Gathers, checks, reports, packs. Returns 1 when something is wrong or nothing is there."""
    folder, output = Path(flags.directory).expanduser(), Path(flags.output).expanduser()
    if output.is_dir():
        raise UsageError(f"--output {output} is a directory: name the zip to write")
    wanted = [Entry(task, test) for task in _chosen(flags.tasks) for test in submission.in_version(task, flags.version)]
    run = run_directory(folder)
    if run is None:
        source = open_source(flags.data_dir, offline=flags.offline)
        misnamed = _take_predictions(folder, wanted)
    else:
        data_dir = flags.data_dir or _grid_data_dir(run)
        source = open_source(data_dir, offline=flags.offline)
        misnamed = []
        _take_models(run, wanted, source, flags, data_dir)
    for entry in wanted:
        _check(entry, source)
    _report(wanted, misnamed)
    return _pack(wanted, misnamed, output)


def _chosen(names: Sequence[str]) -> list[Task]:
    try:
        chosen = {task_named(name).name for name in names}
    except ValueError as error:
        raise UsageError(f"--tasks: {error}") from None
    return [task for name, task in TASKS.items() if not chosen or name in chosen]


# What the directory is ------------------------------------------------------------------------------------------------


def run_directory(folder: Path) -> Path | None:
    """The run directory of one model behind ``folder``; None for a directory of prediction files.

    Raises UsageError when it is neither, or holds the runs of several models.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such directory; give a run directory or a directory of prediction files")
    if any(path.name in submission.FILES for path in folder.iterdir()):
        return None
    if _holds_tasks(folder):
        return folder
    models = sorted(path for path in folder.iterdir() if _holds_tasks(path))
    if len(models) > 1:
        names = ", ".join(path.name for path in models)
        raise UsageError(f"{folder} holds runs of several models ({names}): name one, such as {models[0]}")
    if models:
        return models[0]
    if any(submission.is_like_a_submission(path.name) for path in folder.iterdir()):
        return None
    raise UsageError(
        f"{folder} holds neither runs of a model nor prediction files such as {next(iter(submission.FILES))}"
    )


def _holds_tasks(folder: Path) -> bool:
    return folder.is_dir() and any(path.is_dir() and path.name in TASKS for path in folder.iterdir())


def _grid_data_dir(run: Path) -> str | None:
    """The data directory that the grid search wrote down; None when it used the default or wrote nothing."""
    try:
        return json.loads((run / "grid.json").read_text(encoding="utf-8")).get("data_dir")
    except (OSError, ValueError, AttributeError):
        return None


# Prediction files -----------------------------------------------------------------------------------------------------


def _take_predictions(folder: Path, wanted: Iterable[Entry]) -> list[str]:
    """Finds the entries' files; returns what is wrong with the names of others."""
    for entry in wanted:
        path = folder / entry.test.submission
        if path.exists():
            entry.path = path
        else:
            entry.note = f"no {entry.test.submission} in {folder}"
    misnamed = []
    for path in sorted(folder.iterdir()):
        if submission.is_like_a_submission(path.name) and path.name not in submission.FILES:
            try:
                submission.owner_of(path.name)
            except UsageError as error:
                misnamed.append(str(error))
    others = {path.name for path in folder.iterdir()} & set(submission.FILES)
    for name in sorted(others - {entry.test.submission for entry in wanted}):
        print(f"{name} is not packed: --tasks or --version leaves it out")
    return misnamed


# Kept models ----------------------------------------------------------------------------------------------------------


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


def best_kept_model(run: Path, trials: Sequence[FinishedTrial]) -> KeptModel | None:
    """Of one task's finished trials that have a model on disk, the one the table of best scores would pick."""
    best = scores.best_setting(trials)
    kept = [KeptModel(trial, folder) for trial in trials if _holds_model(folder := _model_folder(run, trial))]

    def order(model: KeptModel) -> tuple:
        trial = model.trial
        return trial.setting == best.setting, scores.rank(trial.score, trial.setting), -trial.seed

    return max(kept, key=order, default=None)


def _model_folder(run: Path, trial: FinishedTrial) -> Path:
    setting = trial.setting
    name = runlog.trial_name(setting.learning_rate, setting.batch_size, setting.dropout, trial.seed)
    return runlog.TrialPaths(run / trial.task, name).output_dir


def _weights(folder: Path) -> list[Path]:
    suffixes = (".pdparams", ".safetensors")
    return sorted(path for path in folder.iterdir() if path.suffix in suffixes) if folder.is_dir() else []


def _holds_model(folder: Path) -> bool:
    return bool(_weights(folder)) and any((folder / name).is_file() for name in ("config.json", "model_config.json"))


def _take_models(run: Path, wanted: Sequence[Entry], source: DataSource, flags: Flags, data_dir: str | None) -> None:
    """Finds each task's best kept model and lets it predict what it has not predicted from this data yet."""
    trials = scores.finished_trials(run)
    for task in dict.fromkeys(entry.task.name for entry in wanted):
        entries = [entry for entry in wanted if entry.task.name == task]
        finished = trials.get(task, [])
        model = best_kept_model(run, finished) if finished else None
        if model is None:
            for entry in entries:
                entry.note = "no model was kept" if finished else "no trial is done"
                entry.note += "; grid_search.py … --save_best_model True keeps the best one of each task"
            continue
        _warn(model, finished, source)
        try:
            _predict_missing(model, entries, source, flags, data_dir)
        except ClueError as error:
            for entry in entries:
                entry.problems.append(f"{entry.test.submission} can't be made: {error}")


def _warn(model: KeptModel, finished: Sequence[FinishedTrial], source: DataSource) -> None:
    """What users should know about a choice of model, and could not see."""
    task, best = model.task, scores.best_setting(finished)
    if model.trial.setting != best.setting:
        chosen = f"{best.setting.learning_rate}, {best.setting.batch_size}, {best.setting.dropout}"
        print(f"{task.title}: the best trial ({chosen}: {best.text(task)}) has no model on disk; taking {model.name}")
    configuration = model.trial.result.configuration if model.trial.result else {}
    try:
        same = configuration.get("data") in (None, source.fingerprint(task))
    except ClueError:
        return  # only the test files are here
    if not same:
        print(f"warning: {task.title}: {model.folder.name} was trained on other files than those in {source.directory}")


def _predict_missing(
    model: KeptModel, entries: Sequence[Entry], source: DataSource, flags: Flags, data_dir: str | None
) -> None:
    """Points the entries to the model's prediction files. Raises ClueError when a test file is missing."""
    made_from = {entry.test.submission: _made_from(model, entry.test, source) for entry in entries}
    noted = _read_notes(model.folder)
    missing = [
        name for name, origin in made_from.items() if noted.get(name) != origin or not (model.folder / name).is_file()
    ]
    if missing:
        for name in missing:
            (model.folder / name).unlink(missing_ok=True)
        print(f"{model.task.title}: predicting with {model.folder}", flush=True)
        failure = _predict(model, flags, data_dir)
        noted.update({name: made_from[name] for name in missing if (model.folder / name).is_file()})
        atomic.write_json(model.folder / _MADE_FROM, noted)
    for entry in entries:
        path = model.folder / entry.test.submission
        if path.is_file():
            entry.path, entry.note = path, f"by {model.name}"
        else:
            entry.problems.append(f"{entry.test.submission} was not predicted: {failure}")


def _made_from(model: KeptModel, test: TestSet, source: DataSource) -> str:
    """Changes with the model's weights and the test file, so that no stale prediction is packed."""
    weights = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in _weights(model.folder)]
    return hashlib.sha256(repr((weights, source.md5(model.task, test.file))).encode()).hexdigest()[:16]


def _read_notes(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / _MADE_FROM).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _predict(model: KeptModel, flags: Flags, data_dir: str | None) -> str:
    """Runs the task's script on the model, into the model's directory; returns why it failed, if it did."""
    log = model.folder / "predict.log"
    with open(log, "w", encoding="utf-8") as stream:
        code = subprocess.run(
            prediction_command(model, flags, data_dir), cwd=REPOSITORY, stdout=stream, stderr=subprocess.STDOUT
        ).returncode
    if code == 0:
        return f"the script wrote no such file; see {log}"
    lines = [line for line in runlog.read_log(log).last_lines if line.strip()]
    return f"{lines[-1] if lines else f'exit code {code}'} (see {log})"


def prediction_command(model: KeptModel, flags: Flags, data_dir: str | None) -> list[str]:
    """The argument list that predicts a task's test sets with a kept model, on inputs as in its training."""
    task, folder = model.task, str(model.folder.resolve())
    command = [sys.executable, "-u", str(REPOSITORY / task.script), "--model_name_or_path", folder, "--do_predict"]
    command += ["--task_name", task.title] if task.is_classification else []
    configuration = model.trial.result.configuration if model.trial.result else {}
    settings = {
        "output_dir": folder,
        "data_dir": data_dir and str(Path(data_dir).expanduser().resolve()),
        "device": flags.device,
        "cache_dir": flags.cache_dir and str(Path(flags.cache_dir).expanduser().resolve()),
        **{name: configuration.get(name) for name in _INPUT_SETTINGS},
    }
    for name, value in settings.items():
        command += [] if value is None else [f"--{name}", str(value)]
    return command + (["--offline"] if flags.offline else [])


# Checking, reporting, packing -----------------------------------------------------------------------------------------


def _check(entry: Entry, source: DataSource) -> None:
    """Reads an entry's file and compares it with its test set."""
    if entry.path is None or entry.problems:
        return
    try:
        entry.content = entry.path.read_bytes()
    except OSError as error:
        entry.problems.append(f"{entry.path} can't be read: {error.strerror or error}")
        return
    try:
        rows = load_rows(source, entry.task, entry.test.split)
    except ClueError as error:
        entry.problems.append(f"{entry.test.submission} can't be checked: {error}")
        return
    entry.problems += map(str, submission.problems_in(entry.content, entry.task, entry.test, rows))
    entry.note = entry.note or f"{entry.path}"


def _report(entries: Iterable[Entry], misnamed: Iterable[str]) -> None:
    """One line a file; more for one that is wrong."""
    for line in _report_lines(entries):
        print(line)
    for text in misnamed:
        print(f"{'':<13}wrong    {text}")
    sys.stdout.flush()


def _report_lines(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        start = f"{entry.task.title:<13}{entry.state:<9}"
        if not entry.problems:
            yield f"{start}{entry.test.submission}: {entry.note}"
        for problem in entry.problems[:_SHOWN_PROBLEMS]:
            yield f"{start}{problem}"
        if (more := len(entry.problems) - _SHOWN_PROBLEMS) > 0:
            yield f"{start}{entry.test.submission}: {more} more problems"


def _pack(entries: Sequence[Entry], misnamed: Sequence[str], output: Path) -> int:
    wrong = [entry.test.submission for entry in entries if entry.state == "wrong"] + [
        text.split(":")[0] for text in misnamed
    ]
    if wrong:
        left = "; the one there is an earlier one" if output.exists() else ""
        raise ClueError(f"{output} was not written, because of {', '.join(wrong)}{left}")
    good = [entry for entry in entries if entry.state == "ok"]
    if not good:
        raise ClueError(f"{output} was not written: there is nothing to pack")
    submission.write_archive(output, {entry.test.submission: entry.content for entry in good})
    print(f"{output}: {len(good)} file(s), checked and ready to upload")
    left_out = [entry.task.title for entry in entries if entry.state == "missing"]
    if left_out:
        print(f"left out: {', '.join(dict.fromkeys(left_out))}; the leaderboard has no score for them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
