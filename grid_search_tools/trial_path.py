"""Where a trial's files are, without suffix:  python trial_path.py MODEL TASK LEARNING_RATE BATCH_SIZE DROPOUT [flags]

For run_cls.sh and run_mrc.sh; of the further flags --seed is part of the name. RUN_ROOT names another run root.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cluebench import command
from cluebench.errors import UsageError
from cluebench.model import Model
from cluebench.repository import RUN_ROOT
from cluebench.scheduler.plan import Trial
from cluebench.tasks import DEFAULT_SEED, task_named


def main() -> None:
    arguments = sys.argv[1:]
    model, task, *numbers = arguments[:5]
    seed = arguments[arguments.index("--seed") + 1] if "--seed" in arguments[:-1] else DEFAULT_SEED
    try:
        row = task_named(task)
        point = float(numbers[0]), int(numbers[1]), float(numbers[2]), int(seed)
    except ValueError as error:
        raise UsageError(str(error)) from None
    trial = Trial(Model.of(model, "model"), row.name, *point)
    print(Path(os.environ.get("RUN_ROOT", RUN_ROOT)).expanduser().resolve() / trial.key)


if __name__ == "__main__":
    command.run(main)
