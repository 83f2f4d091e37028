"""What a grid search is to run: the trials, in the order of the task table, and the identity of each.

The plan knows the task table and the published settings. It starts nothing and reads no data: a task's data fingerprint
is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from cluebench import identity, runlog
from cluebench.errors import UsageError
from cluebench.published import published_model, published_models
from cluebench.tasks import DEFAULT_SEED, TASKS, Grid, Setting, Task, tasks_named

#: A directory with one of these is a model: Hugging Face and new PaddleNLP layout, old PaddleNLP layout.
_MODEL_CONFIGURATIONS = ("config.json", "model_config.json")


@dataclass(frozen=True)
class Trial:
    """One fine-tuning run: a model, a task and a point of its grid."""

    model: str  # published name, or the absolute path of a directory
    task: str  # lower-case name
    learning_rate: float
    batch_size: int  # over all cards and micro-batches
    dropout: float
    seed: int = DEFAULT_SEED

    @property
    def name(self) -> str:
        """``3e-05_32_0.1``, as the trial's files are called."""
        return runlog.trial_name(self.learning_rate, self.batch_size, self.dropout, self.seed)

    @property
    def key(self) -> str:
        """``<model folder>/<task>/<name>``: unique in a plan, and the trial's place under the run root."""
        return f"{run_folder(self.model)}/{self.task}/{self.name}"

    @property
    def row(self) -> Task:
        return TASKS[self.task]


@dataclass(frozen=True)
class Selection:
    """Which part of the grid to run. Empty sequences mean the task's own grid, or all tasks."""

    tasks: Sequence[str] = ()
    learning_rates: Sequence[float] = ()
    batch_sizes: Sequence[int] = ()
    dropouts: Sequence[float] = ()
    seeds: Sequence[int] = (DEFAULT_SEED,)
    best_only: bool = False  # the published best setting of each task instead of the grid


@dataclass(frozen=True)
class SharedFlags:
    """What all trials of a grid have in common; the fields behind ``amp`` do not move a score."""

    num_train_epochs: int | None = None
    max_steps: int = 0  # optimizer steps; 0: no limit
    limit: int | None = None  # first rows of every split
    amp: str = "off"
    save_best_model: bool = False
    data_dir: str | None = None
    cache_dir: str | None = None
    offline: bool = False


def build_plan(models: Sequence[str], selection: Selection) -> list[Trial]:
    """All trials: by model as given, by task in table order, by the grid's order, by seed.

    Raises UsageError naming the flag: an unknown task, a batch size that can't be cut into a task's micro-batches,
    two models whose run directories would be the same, or best_only for a model without published settings.
    """
    tasks = [task for task in TASKS.values() if task in tasks_named(selection.tasks)]
    models = [located_model(model) for model in models]
    refuse_shared_folders(models)
    trials = []
    for model in models:
        for task in tasks:
            for point, seed in product(_points(model, task, selection), selection.seeds):
                trials.append(Trial(model, task.name, point.learning_rate, point.batch_size, point.dropout, seed))
    _check_batches(trials)
    return list(dict.fromkeys(trials))


def located_model(model: str) -> str:
    """A model's directory as its absolute path, since trials run elsewhere; a published name as it is.

    A directory without a configuration is no model: logs of the published tool stand in folders named like models.
    Raises UsageError for a path that is no model directory.
    """
    path = Path(model).expanduser()
    if any((path / name).is_file() for name in _MODEL_CONFIGURATIONS):
        return str(path.resolve())
    if model.startswith((".", "/", "~")):
        missing = "has neither " + " nor ".join(_MODEL_CONFIGURATIONS) if path.is_dir() else "is not a directory"
        raise UsageError(f"model {model}: {missing}")
    return model.strip("/")


def run_folder(model: str) -> str:
    """The run directory's name of a located model, whatever stands in the current directory."""
    return runlog.model_folder(model) if is_directory(model) else model.replace("/", "--")


def is_directory(model: str) -> bool:
    """Whether a located model is a directory."""
    return Path(model).is_absolute()


def model_identity(model: str) -> str:
    """What a located model contributes to the identity of its trials."""
    return identity.model_identity(model) if is_directory(model) else model


def refuse_shared_folders(models: Sequence[str]) -> None:
    """Raises UsageError when two models would write to one run directory, which goes by the directory's own name."""
    taken: dict[str, str] = {}
    for model in models:
        folder = run_folder(model)
        if taken.setdefault(folder, model) != model:
            raise UsageError(
                f"models {taken[folder]} and {model} would share the run directory {folder}/: "
                "rename one of them, or run them with two --run_root"
            )


def _points(model: str, task: Task, selection: Selection) -> list[Setting]:
    """The task's grid with the axes the user gave in place of its own."""
    if selection.best_only:
        row = published_model(model)
        if row is None:
            names = ", ".join(published_models())
            raise UsageError(f"--best_only: {model} has no published settings; models that have: {names}")
        return [row.best_settings[task.name]]
    grid = Grid(
        tuple(selection.learning_rates) or task.grid.learning_rates,
        tuple(selection.batch_sizes) or task.grid.batch_sizes,
        tuple(selection.dropouts) or task.grid.dropouts,
    )
    return list(grid.points())


def _check_batches(trials: Sequence[Trial]) -> None:
    for trial in trials:
        try:
            trial.row.accumulation_steps(trial.batch_size)
        except ValueError as error:
            raise UsageError(f"--batch_sizes: {error}") from None


def configurations(
    trials: Sequence[Trial], settings: SharedFlags, data_fingerprints: Mapping[str, str]
) -> dict[Trial, dict]:
    """The settings that decide a trial's score, as the fine-tuning script will write them into its result."""
    # A directory's identity reads its weights: once a model, not once a trial.
    identities = {model: model_identity(model) for model in {trial.model for trial in trials}}
    configured = {}
    for trial in trials:
        if trial.task not in data_fingerprints:
            continue
        configured[trial] = identity.configuration(
            trial.row,
            identities[trial.model],
            data_fingerprints[trial.task],
            trial.learning_rate,
            trial.batch_size,
            trial.dropout,
            seed=trial.seed,
            epochs=settings.num_train_epochs,
            max_steps=settings.max_steps,
            limit=settings.limit,
            amp=settings.amp,
        )
    return configured
