"""What a grid search is to run: the trials, in the order of the task table, and the identity of each.

The plan knows the task table and the published settings. It starts nothing and reads no data: a task's data fingerprint
is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from cluebench.benchmark.published import published_model, unless_published
from cluebench.benchmark.tasks import DEFAULT_SEED, TASKS, Grid, Setting, Task, tasks_named
from cluebench.foundation.errors import UsageError
from cluebench.pretrained.model import Model
from cluebench.records import identity
from cluebench.records.paths import trial_name
from cluebench.records.run_flags import RunFlags, resolved
from cluebench.scheduler.plan.grid_flags import GridFlags


@dataclass(frozen=True)
class Trial:
    """One fine-tuning run: a model, a task and a point of its grid."""

    model: Model
    task: str  # lower-case name
    learning_rate: float
    batch_size: int  # over all cards and micro-batches
    dropout: float
    seed: int = DEFAULT_SEED

    @property
    def setting(self) -> Setting:
        return Setting(self.learning_rate, self.batch_size, self.dropout)

    @property
    def name(self) -> str:
        """``3e-05_32_0.1``, as the trial's files are called."""
        return trial_name(*self.setting, self.seed)

    @property
    def key(self) -> str:
        """``<model folder>/<task>/<name>``: unique in a plan, and the trial's place under the run root."""
        return f"{self.model.folder}/{self.task}/{self.name}"

    @property
    def row(self) -> Task:
        return TASKS[self.task]


def build_plan(models: Sequence[Model], flags: GridFlags) -> list[Trial]:
    """All trials: by model as given, by task in table order, by the grid's order, by seed.

    Raises UsageError naming the flag: an unknown task, a batch size that can't be cut into a task's micro-batches,
    two models whose run directories would be the same, or best_only for a model without published settings.
    """
    tasks = [task for task in TASKS.values() if task in tasks_named(flags.tasks)]
    refuse_shared_folders(models)
    trials = []
    for model in models:
        for task in tasks:
            for point, seed in product(_points(model, task, flags), flags.seeds):
                trials.append(Trial(model, task.name, *point, seed))
    _check_batches(trials)
    return list(dict.fromkeys(trials))


def refuse_shared_folders(models: Sequence[Model]) -> None:
    """Raises UsageError when two models would write to one run directory, which goes by the directory's own name."""
    taken: dict[str, Model] = {}
    for model in models:
        if taken.setdefault(model.folder, model) != model:
            raise UsageError(
                f"models {taken[model.folder]} and {model} would share the run directory {model.folder}/: "
                "rename one of them, or run them with two --run_root"
            )


def _points(model: Model, task: Task, flags: GridFlags) -> list[Setting]:
    """The task's grid with the axes the user gave in place of its own."""
    if flags.best_only:
        row = published_model(model.name)
        if row is None:
            raise UsageError(f"--best_only: {model} has no published settings{unless_published(model.name)}")
        if task.name not in row.best_settings:
            able = " ".join(TASKS[name].title for name in row.best_settings)
            raise UsageError(
                f"--best_only: {task.title} has no published settings; the tasks that have: --tasks {able}"
            )
        return [row.best_settings[task.name]]
    grid = Grid(
        tuple(flags.learning_rates) or task.grid.learning_rates,
        tuple(flags.batch_sizes) or task.grid.batch_sizes,
        tuple(flags.dropouts) or task.grid.dropouts,
    )
    return list(grid.points())


def _check_batches(trials: Sequence[Trial]) -> None:
    for trial in trials:
        try:
            trial.row.accumulation_steps(trial.batch_size)
        except ValueError as error:
            raise UsageError(f"--batch_sizes: {error}") from None


def configurations(
    trials: Sequence[Trial], flags: GridFlags, data_fingerprints: Mapping[str, str]
) -> dict[Trial, dict]:
    """The settings that decide a trial's score, as the fine-tuning script will write them into its result."""
    return {
        trial: identity.configuration(
            trial.row,
            resolved(RunFlags(**script_flags(trial, flags)), trial.row),
            trial.model.identity,
            data_fingerprints[trial.task],
        )
        for trial in trials
        if trial.task in data_fingerprints
    }


def script_flags(trial: Trial, flags: GridFlags) -> dict[str, Any]:
    """The flags of the fine-tuning script for a trial on one card, as fields of its `RunFlags`."""
    given = {
        "model_name_or_path": trial.model.name,
        "learning_rate": trial.learning_rate,
        "batch_size": trial.batch_size,
        "dropout": trial.dropout,
        "seed": trial.seed,
        "do_train": True,
        "resume": True,
        "overwrite_output_dir": True,  # a plan with other settings is carried out, whatever an earlier one left
        "save_best_model": flags.save_best_model,
        "amp": flags.amp,
        "padding": flags.padding or None,
        "num_train_epochs": flags.num_train_epochs,
        "max_steps": flags.max_steps or None,
        "limit": flags.limit,
        "data_dir": flags.data_dir,
        "cache_dir": flags.cache_dir,
        "offline": flags.offline or None,
    }
    return {name: value for name, value in given.items() if value is not None}
