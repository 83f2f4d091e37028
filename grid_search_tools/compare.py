"""Tests whether models differ on dev by more than chance: on the same rows, for each task and on average.

    python compare.py runs/ernie-3.0-base-zh runs/ernie-3.0-medium-zh

Every other model is compared with the first. A model is a run directory, a model's name, the file of a trial's dev
predictions, or published:NAME for published scores.
"""

from dataclasses import dataclass

from cluebench.benchmark.tasks import Task, tasks_named
from cluebench.data.rows import load_rows
from cluebench.data.source import open_source
from cluebench.foundation import command
from cluebench.foundation.errors import DataError, UsageError
from cluebench.foundation.flags import data_dir_flag, flag, parse, run_root_flag
from cluebench.report import comparison
from cluebench.report.comparison import Comparison, compare, contender
from cluebench.report.examples import examples_of


@dataclass
class Flags:
    __doc__ = __doc__

    models: list[str] = flag([], "run directories, model names or files of dev predictions", positional=True)
    tasks: list[str] = flag([], "tasks to compare", default_text="all that both have")
    differences: str | None = flag(None, "a task: print the dev rows that exactly one of two models has right")
    format: str = flag("text", "how to print the result", choices=comparison.FORMATS)
    data_dir: str | None = data_dir_flag("what the grid search used, else CLUE_DATA_DIR, else they are downloaded")
    run_root: str = run_root_flag()


def main() -> None:
    flags = parse(Flags)
    if len(flags.models) < 2:
        raise UsageError("name at least two different models; the others are compared with the first")
    tasks = tasks_named([flags.differences] if flags.differences else flags.tasks)
    first, *others = [contender(model, flags.run_root).on(tasks) for model in flags.models]
    compared = [compare(first, other) for other in others]
    if not flags.differences:
        print(comparison.rendered(compared, flags.format), end="")
    elif len(compared) > 1:
        raise UsageError("--differences shows rows of two models: name only two")
    else:
        print(differences(compared[0], tasks[0], flags), end="")


def differences(compared: Comparison, task: Task, flags: Flags) -> str:
    """The rows that only one of the two has right. Raises UsageError for published scores, DataError for other data."""
    models = (compared.first, compared.second)
    first, second = (model.evidence[task.name] for model in models)
    if not (first.predictions and second.predictions):
        raise UsageError("--differences needs two models whose dev predictions are here: published scores have no rows")
    named = [model.run.grid.data_dir for model in models if model.run and model.run.grid]
    source = open_source(flags.data_dir or next(filter(None, named), None))
    predictions = first.predictions[0]
    if source.fingerprint(task) != predictions.configuration.get("data"):
        raise DataError(f"{task.title}: the files in {source.directory} are not those of these runs: see --data_dir")
    rows = load_rows(source, task, "dev", predictions.configuration.get("limit"))
    found = comparison.disagreements(first, second, examples_of(task, rows, predictions))
    return comparison.rendered_disagreements(task.title, compared, found, flags.format)


if __name__ == "__main__":
    command.run(main, "compare.py")
