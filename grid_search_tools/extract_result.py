"""Prints the best score of every task and the hyper-parameters behind it.

    bash extract_result.sh ernie-3.0-base-zh

Reads result JSONs, and logs in the published tool's layout (<directory>/<task>/<lr>_<batch>_<dropout>.log). The table
goes to stdout; what is worth knowing beside it goes to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluebench.errors import ClueError, UsageError
from cluebench.flags import flag, parse
from cluebench.model import Model
from cluebench.published import ATTRIBUTION, published_model
from cluebench.report import scores
from cluebench.tasks import TASKS

#: Runs lie in the repository, from whichever folder a command is typed.
DEFAULT_RUN_ROOT = str(Path(__file__).resolve().parent.parent / "runs")


@dataclass
class Flags:
    """Prints the best-score table of a model, or of each of several."""

    models: list[str] = flag([], "model names or run directories", positional=True)
    run_root: str = flag(
        DEFAULT_RUN_ROOT, "directory of the runs, one folder a model", default_text="runs/ in the repository"
    )
    published: bool = flag(
        False, f"also print the scores {ATTRIBUTION}, and the difference to them (yours minus published)"
    )


def run_directory(model: str, run_root: str) -> Path:
    """Where a model's trials are: the directory itself if it holds folders of tasks, else the model's run directory.

    Raises UsageError when there is neither.
    """
    given = Path(model).expanduser()
    if _holds_tasks(given):
        return given
    try:
        folder = Path(run_root).expanduser() / Model.of(model).folder
    except UsageError:  # no model, so it is meant as a run directory
        folder = given
    if not folder.is_dir():
        raise UsageError(f"{model}: no trials in {given} nor in {folder} (--run_root says where runs are)")
    return folder


def _holds_tasks(folder: Path) -> bool:
    return folder.is_dir() and any(path.is_dir() and path.name.lower() in TASKS for path in folder.iterdir())


def print_table(folder: Path, model: str, published: bool = False) -> None:
    """The table on stdout; notes on the edges of the grid on stderr. Raises UsageError when nothing is published."""
    trials = scores.finished_trials(folder)
    bests = scores.best_settings(trials)
    print(scores.best_score_table(bests), end="")
    if published:
        row = published_model(model.strip("/"))
        if row is None:
            raise UsageError(f"--published: no scores of {model} were published")
        print(f"{ATTRIBUTION}, and the difference:")
        print(scores.published_comparison(bests, row), end="")
    sys.stdout.flush()
    for note in scores.edge_notes(trials, bests):
        print(note, file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    flags = parse(Flags, argv, prog="extract_result.sh")
    try:
        if not flags.models:
            raise UsageError("name a model or a run directory")
        for model in flags.models:
            if len(flags.models) > 1:
                print(f"{model}:")
            print_table(run_directory(model, flags.run_root), model, flags.published)
    except ClueError as error:
        print(f"extract_result.sh: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
