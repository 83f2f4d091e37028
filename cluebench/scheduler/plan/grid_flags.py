"""The flags of a grid search."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from cluebench.benchmark.tasks import DEFAULT_SEED
from cluebench.data.source import DATA_DIR_VARIABLE
from cluebench.foundation import repository
from cluebench.foundation.errors import ClueError, UsageError
from cluebench.foundation.flags import cache_dir_flag, data_dir_flag, flag, offline_flag
from cluebench.foundation.notices import notice
from cluebench.foundation.resource_limits import usable_cores
from cluebench.search.halving import Rule

#: The embedded model is not pretrained. So it needs larger steps than any published setting; after so many steps it has
#: learnt most of its small data.
DEMO_LEARNING_RATE, DEMO_BATCH_SIZE, DEMO_STEPS = 1e-3, 16, 100

#: Of --help.
GROUPS = {
    "what to run": ("models", "tasks", "learning_rates", "batch_sizes", "dropouts", "seeds", "best_only", "demo"),
    "where": ("data_dir", "run_root", "cache_dir", "devices", "jobs_per_device", "mrc_cards", "engine", "ray_address",
              "worker", "offline"),
    "how much": ("num_train_epochs", "max_steps", "limit", "search", "keep", "rungs", "confirm_seeds", "top_k"),
    "what is kept": ("save_best_model", "keep_all_models"),
    "when things fail": ("max_attempts", "trial_timeout"),
    "instead of running": ("dry_run", "list_trials", "time_it", "status", "conclude"),
    "advanced": ("amp", "padding", "evaluation"),
}  # fmt: skip

#: On recorded curves (benchmarks/README.md) the rules that judge at 1/8 and again at 1/4 lost far more.
_RUNGS = (Fraction(1, 4), Fraction(1, 2))


@dataclass
class GridFlags:
    """Which trials to run, where, and with what that they all share. Empty lists: all tasks, each task's own grid."""

    models: list[str] = flag([], "published model names, or directories of models", positional=True)
    tasks: list[str] = flag([], "tasks to run", default_text="all ten")
    data_dir: str | None = data_dir_flag()
    cache_dir: str | None = cache_dir_flag()
    run_root: str | None = flag(
        None, "logs and results, a folder for each model", default_text="runs/ in the repository", writes="directory"
    )
    devices: str = flag("auto", "auto, gpu, gpu:0,1, gpu:UUID, cpu, cpu:4 (four trials at once), npu:0,1 or xpu:0,1")
    jobs_per_device: int = flag(1, "most trials at once on one device", minimum=1, maximum=64)
    learning_rates: list[float] = flag([], "peak learning rates", above=0, default_text="each task's")
    batch_sizes: list[int] = flag([], "batch sizes over all cards", minimum=1, default_text="each task's")
    dropouts: list[float] = flag([], "dropout probabilities", minimum=0, maximum=0.99, default_text="each task's")
    seeds: list[int] = flag(
        [DEFAULT_SEED], "if several: the table shows mean ± standard deviation", minimum=0, maximum=2**32 - 1
    )
    confirm_seeds: int = flag(1, "after the grid, run the best settings with N seeds in all", minimum=1)
    top_k: int = flag(3, "with --confirm_seeds: N best settings of each task", minimum=1)
    best_only: bool = flag(False, "only the published best settings: 10 trials")
    search: str = flag(
        "grid", "halving: stop the weaker settings of a task at each rung", choices=("grid", "halving"),
    )  # fmt: skip
    keep: int | None = flag(
        None, "with --search halving: one of N settings continues at a rung", minimum=2, default_text="2"
    )
    rungs: list[Fraction] = flag(
        [], "with --search halving: compare settings at these shares of a trial's steps", above=0,
        default_text="1/4,1/2",
    )  # fmt: skip
    mrc_cards: int | None = flag(
        None, "cards of a reading comprehension trial", minimum=1, maximum=64,
        default_text="2 or 4 as published if free, else 1",
    )  # fmt: skip
    amp: str = flag("off", "mixed precision", choices=("off", "fp16", "bf16"))
    evaluation: str = flag(
        "bounded", "bounded: end an evaluation that cannot be the best of its trial; the table is the same",
        choices=("bounded", "full"),
    )  # fmt: skip
    padding: bool = flag(False, "compute padding, too: to continue a grid of version 0.1.0")
    save_best_model: bool = flag(False, "keep the best model of each task")
    keep_all_models: bool = flag(False, "with --save_best_model: of each trial, too")
    max_attempts: int = flag(3, "attempts at a trial", minimum=1)
    trial_timeout: float = flag(
        3600.0, "end a trial after this many seconds without a new log line; 0: never", minimum=0,
        default_text="3600",
    )  # fmt: skip
    num_train_epochs: int | None = flag(None, "passes over the train split", minimum=1, default_text="each task's")
    max_steps: int = flag(-1, "optimizer steps of each trial", default_text="no limit")
    limit: int | None = flag(None, "only the first N rows of every split, for a try", minimum=1)
    offline: bool = offline_flag()
    engine: str = flag("local", "run trials on this machine or on a Ray cluster", choices=("local", "ray"))
    ray_address: str | None = flag(
        None, "address of the Ray cluster", default_text="RAY_ADDRESS, else a cluster on this machine"
    )
    worker: bool = flag(False, "share the grid with other workers")
    conclude: bool = flag(False, "only end a grid that workers have run: table, grid.json, report, best models")
    dry_run: bool = flag(False, "print the plan and stop")
    list_trials: bool = flag(False, "with --dry_run: print each trial", typed="list")
    time_it: bool = flag(False, "with --dry_run: time 20 steps of each task without finished trials")
    status: bool = flag(False, "print the state of a grid and stop")
    demo: bool = flag(False, "the embedded model and data, one setting a task")

    @property
    def rule(self) -> Rule | None:
        """By which trials are stopped early; None where none is. Raises ValueError for one that makes no sense."""
        return Rule(self.keep or 2, tuple(self.rungs) or _RUNGS) if self.search == "halving" else None


F = TypeVar("F", bound=GridFlags)


def completed(flags: F) -> F:
    """The flags with absolute paths and with values that depend on other flags. Raises UsageError."""
    for rate in flags.learning_rates:
        if rate > 1:  # a typing error
            digits, exponent = f"{rate:e}".split("e")
            meant = f"{float(digits):g}e-{int(exponent)}"
            raise UsageError(f"--learning_rates {rate:g}: no learning rate is above 1; did you mean {meant}?")
        if rate > 1e-2:
            notice(f"--learning_rates {rate:g}: pretrained encoders are fine-tuned with far less, such as 3e-05")
    slots = re.fullmatch(r"cpu:(\d+)", flags.devices)
    if slots and int(slots[1]) > usable_cores():
        notice(f"--devices {flags.devices}: {slots[1]} trials at once will share {usable_cores()} core(s)")
    _refuse_combinations(flags)
    if flags.demo:
        flags = _with_demo(flags)
    if not flags.models:
        raise UsageError("name a model or a model's directory, or try --demo")
    return replace(
        flags,
        data_dir=_absolute(flags.data_dir or os.environ.get(DATA_DIR_VARIABLE)),
        cache_dir=_absolute(flags.cache_dir),
    )


def _refuse_combinations(flags: GridFlags) -> None:
    """Raises UsageError for flags that do not go together."""
    no_room = len(flags.seeds) > 1 or flags.seeds[0] + flags.confirm_seeds > 2**32
    own_settings = flags.learning_rates or flags.batch_sizes or flags.dropouts
    refused = {
        "--keep_all_models needs --save_best_model True": flags.keep_all_models and not flags.save_best_model,
        "--confirm_seeds adds seeds after --seeds: give a single seed that leaves room for them": (
            flags.confirm_seeds > 1 and no_room
        ),
        "--worker runs trials on this machine's devices: it takes no --engine ray": (
            flags.worker and flags.engine != "local"
        ),
        "--keep and --rungs need --search halving": (flags.keep or flags.rungs) and flags.search != "halving",
        "--list and --time_it need --dry_run": (flags.list_trials or flags.time_it) and not flags.dry_run,
        "--ray_address needs --engine ray": flags.ray_address and flags.engine != "ray",
        "--best_only takes no --learning_rates, --batch_sizes or --dropouts: its settings are published": (
            flags.best_only and own_settings
        ),
    }
    for message, is_wrong in refused.items():
        if is_wrong:
            raise UsageError(message)
    try:
        _ = flags.rule
    except ValueError:
        raise UsageError(f"--rungs {','.join(map(str, flags.rungs))}: rising shares of the steps, below 1") from None


def _absolute(path: str | None) -> str | None:
    """As trials run in the repository's directory."""
    return None if not path else str(Path(path).expanduser().resolve())


def _with_demo(flags: F) -> F:
    """Writes the embedded model and data, and plans one setting for each task unless flags give others."""
    if flags.models or flags.data_dir:
        raise UsageError("--demo brings its own model and data: leave out the models and --data_dir")
    folder = repository.ROOT / "demo"
    command = [sys.executable, "-m", "cluebench.demo", str(folder)]
    if subprocess.run(command, cwd=repository.ROOT, stdout=sys.stderr).returncode:
        raise ClueError("the embedded model and data could not be written; the error stands above")
    return replace(
        flags,
        models=[str(folder / "model")],
        data_dir=str(folder / "data"),
        run_root=flags.run_root or str(folder / "runs"),
        cache_dir=flags.cache_dir or str(folder / "cache"),
        learning_rates=flags.learning_rates or [DEMO_LEARNING_RATE],
        batch_sizes=flags.batch_sizes or [DEMO_BATCH_SIZE],
        dropouts=flags.dropouts or [0.1],
        max_steps=flags.max_steps if flags.max_steps > 0 else 0 if flags.num_train_epochs else DEMO_STEPS,
        save_best_model=True,  # tiny, and what make_submission.py predicts with
        offline=True,
    )
