"""A model's run directory → the table of its best scores, printed."""

from __future__ import annotations

import sys
from pathlib import Path

from cluebench.errors import UsageError
from cluebench.model import Model
from cluebench.published import ATTRIBUTION, published_model
from cluebench.report import scores
from cluebench.tasks import TASKS


def run_directory(model: str, run_root: str) -> Path:
    """Where a model's trials are: the directory itself if it holds folders of tasks, else the model's run directory.

    Raises UsageError when there is neither.
    """
    given = Path(model).expanduser()
    if holds_tasks(given):
        return given
    try:
        folder = Path(run_root).expanduser() / Model.of(model).folder
    except UsageError:  # no model, so it is meant as a run directory
        folder = given
    if not folder.is_dir():
        raise UsageError(f"{model}: no trials in {given} nor in {folder} (--run_root says where runs are)")
    return folder


def holds_tasks(folder: Path) -> bool:
    """Whether it is a directory with folders of tasks, their names in any case."""
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
