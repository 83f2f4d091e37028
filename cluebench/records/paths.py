"""Every file name of a trial, and what a name says of its setting."""

from __future__ import annotations

import glob
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluebench.benchmark.tasks import DEFAULT_SEED, Setting
from cluebench.foundation import atomic
from cluebench.foundation.file_facts import visible

#: In --output_dir while a run trains: "12/5004", for displays that would else wait for the next log line.
STEP_FILE = "step.txt"
#: In --output_dir until a run is done: what --resume goes on from.
CHECKPOINT = "checkpoint"
#: Stands behind the name of an output directory that is being removed.
REMOVED = ".removed-"


def trial_name(setting: Setting, seed: int = DEFAULT_SEED) -> str:
    """``3e-05_32_0.1``, with ``_seed43`` behind it for a seed other than 42."""
    name = f"{float(setting.learning_rate)}_{int(setting.batch_size)}_{float(setting.dropout)}"
    return name if seed == DEFAULT_SEED else f"{name}_seed{seed}"


_TRIAL_NAME = re.compile(r"(?P<lr>[0-9.eE+-]+)_(?P<batch>\d+)_(?P<dropout>\d*\.?\d+)(?:_seed(?P<seed>\d+))?$")


def parse_trial_name(name: str) -> tuple[Setting, int] | None:
    """The setting and seed behind a file name without suffix; None if it is no trial's."""
    match = _TRIAL_NAME.match(name)
    if match is None:
        return None
    try:
        setting = Setting(float(match["lr"]), int(match["batch"]), float(match["dropout"]))
        return setting, int(match["seed"] or DEFAULT_SEED)
    except ValueError:
        return None


@dataclass(frozen=True)
class TrialPaths:
    """Every file name of one trial: ``<run_root>/<model>/<task>/<trial>{.log,.json,/}``."""

    folder: Path  # <run_root>/<model>/<task>
    name: str

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def result(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def predictions(self) -> Path:
        """What its best model said of dev; see `cluebench.records.dev_predictions`."""
        return self.folder / f"{self.name}.predictions"

    @property
    def output_dir(self) -> Path:
        """The best model, when it is kept; the periodic checkpoint and the step file while the trial runs."""
        return self.folder / self.name

    def remove_leftovers(self) -> None:
        """Removes what killed processes left of a trial that is done, so that no process will begin with it again."""
        for name in (self.result.name, self.predictions.name):
            atomic.remove_leftovers(self.folder, name)
        for removed in self.folder.glob(f".{glob.escape(self.name)}{REMOVED}*"):
            shutil.rmtree(removed, ignore_errors=True)
        if self.output_dir.is_dir():
            atomic.remove_leftovers(self.output_dir)
            shutil.rmtree(self.output_dir / CHECKPOINT, ignore_errors=True)
            with suppress(OSError):  # a model is kept there
                self.output_dir.rmdir()


def find_logs(folder: str | Path) -> Iterator[tuple[Path, tuple[Setting, int]]]:
    """The trial logs directly in a task's folder, with what their names say, in name order."""
    for path in visible(folder, "*.log"):
        if (trial := parse_trial_name(path.stem)) is not None:
            yield path, trial
