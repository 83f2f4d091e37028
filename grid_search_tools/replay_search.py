"""Replays finished grids: what a cheaper search would have cost, and how much of the best score it would have lost.

    python replay_search.py runs/ernie-3.0-base-zh runs/ernie-3.0-medium-zh

Successive halving keeps the best half or third of a task's settings at 1/8, 1/4, 1/2 of their steps and stops the rest.
Schedules are fixed by all the steps, so the curve of a finished trial up to there is what it would have been. A model
is a run directory or a model's name; logs of the published tool are read too. Nothing is trained.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluebench.benchmark.tasks import tasks_named
from cluebench.foundation import command
from cluebench.foundation.errors import UsageError
from cluebench.foundation.flags import flag, parse
from cluebench.foundation.repository import RUN_ROOT
from cluebench.records import finished_trials
from cluebench.report import replayed
from cluebench.report.table import run_directory

NAME = "replay_search.py"


@dataclass
class Flags:
    __doc__ = __doc__

    models: list[str] = flag([], "run directories or model names", positional=True)
    tasks: list[str] = flag([], "tasks to replay", default_text="all that have finished trials")
    format: str = flag("text", "how to print it", choices=replayed.FORMATS)
    run_root: str = flag(
        str(RUN_ROOT), "directory of the runs, one folder a model", default_text="runs/ in the repository"
    )


def main() -> None:
    flags = parse(Flags, prog=NAME)
    if not flags.models:
        raise UsageError("name one model or more whose grids have finished, such as runs/ernie-3.0-base-zh")
    names = {task.name for task in tasks_named(flags.tasks)}
    models = []
    for model in flags.models:
        trials = finished_trials.finished_trials(run_directory(model, flags.run_root))
        models.append(replayed.replayed(model, {name: trials[name] for name in trials if name in names}))
    if not any(model.outcomes for model in models):
        reasons = [f"{name}: {reason}" for model in models for name, reason in model.left_out.items()]
        raise UsageError("nothing to replay: " + ("; ".join(reasons) or "no finished trial"))
    print(replayed.rendered(models, flags.format), end="")


if __name__ == "__main__":
    command.run(main, NAME)
