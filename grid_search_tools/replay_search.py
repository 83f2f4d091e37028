"""Replays finished grids by successive halving: what the search would have cost, and what it would have lost.

    python replay_search.py runs/ernie-3.0-base-zh runs/ernie-3.0-medium-zh

Successive halving compares the settings of a task at 1/8, 1/4 and 1/2 of their steps. The best half or third continues,
the rest stops. The recorded curve of a finished trial is exactly what the search would have seen, because the learning
rate schedule depends on all steps. Logs of the published tool are read, too. Nothing is trained.
"""

from dataclasses import dataclass

from cluebench.benchmark.tasks import tasks_named
from cluebench.foundation import command
from cluebench.foundation.errors import UsageError
from cluebench.foundation.flags import flag, parse, run_root_flag
from cluebench.report import replayed
from cluebench.report.run import Run, run_directory


@dataclass
class Flags:
    __doc__ = __doc__

    models: list[str] = flag(..., "run directories or model names", positional=True)
    tasks: list[str] = flag([], "tasks to replay", default_text="all that have finished trials")
    format: str = flag("text", "how to print the result", choices=replayed.FORMATS)
    run_root: str = run_root_flag()


def main() -> None:
    flags = parse(Flags)
    names = {task.name for task in tasks_named(flags.tasks)}
    models = []
    for model in flags.models:
        run = Run(run_directory(model, flags.run_root))
        trials = {name: run.trials[name] for name in run.trials if name in names}
        models.append(replayed.replayed(model, trials, run.evidence))
    if not any(model.outcomes for model in models):
        reasons = [f"{name}: {reason}" for model in models for name, reason in model.left_out.items()]
        raise UsageError("nothing to replay: " + ("; ".join(reasons) or "no finished trial"))
    print(replayed.rendered(models, flags.format), end="")


if __name__ == "__main__":
    command.run(main, "replay_search.py")
