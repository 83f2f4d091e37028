"""Tests whether models differ on dev by more than chance: on the same rows, for each task and on average.

    python compare.py runs/ernie-3.0-base-zh runs/ernie-3.0-medium-zh

Every other model is compared with the first. A model is a run directory, a model's name, the file of a trial's dev
predictions, or published:NAME for published scores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cluebench.benchmark.tasks import Task, tasks_named
from cluebench.data.rows import load_rows
from cluebench.data.source import open_source
from cluebench.foundation import command
from cluebench.foundation.errors import DataError, UsageError
from cluebench.foundation.flags import flag, parse
from cluebench.foundation.shared_flags import data_dir_flag, run_root_flag
from cluebench.report import comparison_formats
from cluebench.report.comparison import Comparison, Contender, compare, contender
from cluebench.report.examples import examples_of

NAME = "compare.py"


@dataclass
class Flags:
    __doc__ = __doc__

    models: list[str] = flag([], "run directories, model names or files of dev predictions", positional=True)
    tasks: list[str] = flag([], "tasks to compare", default_text="all that both have")
    differences: str | None = flag(None, "a task: print the dev rows that exactly one of two models has right")
    format: str = flag("text", "how to print the result", choices=comparison_formats.FORMATS)
    data_dir: str | None = data_dir_flag("what the grid search used, else CLUE_DATA_DIR, else they are downloaded")
    run_root: str = run_root_flag()


def main() -> None:
    flags = parse(Flags, prog=NAME)
    if len(flags.models) < 2:
        raise UsageError("name two different models or more: the others are compared with the first")
    tasks = tasks_named([flags.differences] if flags.differences else flags.tasks)
    first, *others = [of_tasks(contender(model, flags.run_root), tasks) for model in flags.models]
    compared = [compare(first, other) for other in others]
    if not flags.differences:
        print(comparison_formats.rendered(compared, flags.format), end="")
    elif len(compared) > 1:
        raise UsageError("--differences shows rows of two models: name only two")
    else:
        print(differences(compared[0], tasks[0], flags), end="")


def of_tasks(model: Contender, tasks: list[Task]) -> Contender:
    """The model with these tasks only."""
    names = {task.name for task in tasks}
    return replace(
        model,
        evidence={name: one for name, one in model.evidence.items() if name in names},
        left_out={name: reason for name, reason in model.left_out.items() if name in names},
    )


def differences(compared: Comparison, task: Task, flags: Flags) -> str:
    """The rows that one of the two has right. Raises UsageError for published scores, DataError for other files."""
    first, second = (one.evidence[task.name] for one in (compared.first, compared.second))
    if not (first.predictions and second.predictions):
        raise UsageError("--differences needs two models whose dev predictions are here: published scores have no rows")
    grids = [model.run.grid for model in (compared.first, compared.second) if model.run]
    used = next((grid.data_dir for grid in grids if grid and grid.data_dir), None)
    known, source = first.predictions[0], open_source(flags.data_dir or used)
    if source.fingerprint(task) != known.configuration.get("data"):
        raise DataError(f"{task.title}: the files in {source.directory} are not those of these runs: see --data_dir")
    rows = load_rows(source, task, "dev", known.configuration.get("limit"))
    found = comparison_formats.disagreements(first, second, examples_of(task, rows, known))
    return comparison_formats.rendered_disagreements(task.title, compared, found, flags.format)


if __name__ == "__main__":
    command.run(main, NAME)
