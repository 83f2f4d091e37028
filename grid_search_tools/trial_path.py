"""Where a trial's files are, without suffix:  python trial_path.py MODEL TASK LEARNING_RATE BATCH_SIZE DROPOUT [flags]

For run_cls.sh and run_mrc.sh; of the further flags --seed is part of the name. RUN_ROOT names another run root.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from extract_result import DEFAULT_RUN_ROOT

from cluebench.errors import ClueError, UsageError
from cluebench.model import Model
from cluebench.scheduler.plan import Trial
from cluebench.tasks import DEFAULT_SEED, task_named


def trial_path(arguments: Sequence[str], run_root: str = DEFAULT_RUN_ROOT) -> Path:
    """Raises UsageError naming the argument that is wrong."""
    model, task, *numbers = arguments[:5]
    seed = arguments[list(arguments).index("--seed") + 1] if "--seed" in arguments[:-1] else DEFAULT_SEED
    try:
        row = task_named(task)
        point = float(numbers[0]), int(numbers[1]), float(numbers[2]), int(seed)
    except ValueError as error:
        raise UsageError(str(error)) from None
    trial = Trial(Model.of(model, "model"), row.name, *point)
    return Path(run_root).expanduser().resolve() / trial.key


if __name__ == "__main__":
    try:
        print(trial_path(sys.argv[1:], os.environ.get("RUN_ROOT", DEFAULT_RUN_ROOT)))
    except ClueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
