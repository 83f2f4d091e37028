"""Prints the path of a trial's files without suffix, and in a second line the script that runs the trial.

    python trial_path.py MODEL TASK LEARNING_RATE BATCH_SIZE DROPOUT [flags]

run_trial.sh calls it. Of the flags only --seed is part of the name. The variable RUN_ROOT names another run root.
``python trial_path.py --lock FD NAME`` locks the trial for the calling shell, through a file that the shell has opened:
the lock lasts as long as the shell and its child processes.
"""

import fcntl
import json
import os
import re
import socket
import sys
import time
from pathlib import Path

from cluebench.benchmark.tasks import DEFAULT_SEED, Setting, task_named
from cluebench.foundation import command
from cluebench.foundation.errors import ClueError, UsageError
from cluebench.foundation.repository import RUN_ROOT
from cluebench.pretrained.model import Model
from cluebench.records.trial import Trial
from cluebench.scheduler.processes.launch import start_time


def main() -> None:
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    if len(arguments) == 3 and arguments[0] == "--lock":
        take_lock(int(arguments[1]), arguments[2])
        return
    if len(arguments) < 5:
        raise UsageError("give MODEL TASK LEARNING_RATE BATCH_SIZE DROPOUT (see --help)")
    model, task, *numbers = arguments[:5]
    seeds = re.findall(r"(?:^|\0)--seed[=\0]([^\0]*)", "\0".join(arguments[5:])) or [str(DEFAULT_SEED)]
    row = task_named(task, "TASK")
    kinds: dict[str, type] = {"LEARNING_RATE": float, "BATCH_SIZE": int, "DROPOUT": float, "--seed": int}
    values = []
    for (name, kind), text in zip(kinds.items(), [*numbers, seeds[-1]], strict=True):
        try:
            values.append(kind(text))
        except ValueError:
            raise UsageError(f"{name} {text}: not a {'whole ' if kind is int else ''}number") from None
    trial = Trial(Model.of(model, "model"), row.name, Setting(*values[:3]), values[3])
    print(Path(os.environ.get("RUN_ROOT", RUN_ROOT)).expanduser().resolve() / trial.key)
    print(row.script)


def take_lock(descriptor: int, name: str) -> None:
    """Raises ClueError if the trial is running already."""
    shell = os.getppid()
    record = {"pid": shell, "start_time": start_time(shell), "host": socket.gethostname(), "started": time.time()}
    record |= {"starter_pid": shell, "starter_start_time": record["start_time"]}
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ClueError(f"{name} is running already: `grid_search.py MODEL --status` says where") from None
    os.pwrite(descriptor, content := json.dumps(record).encode(), 0)
    os.ftruncate(descriptor, len(content))


if __name__ == "__main__":
    command.run(main)
