"""Every file name of a trial, and the setting in a name."""

import glob
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluebench.benchmark.tasks import DEFAULT_SEED, Setting
from cluebench.foundation import atomic

#: In --output_dir while a run trains: "12/5004", so that displays need not wait for the next log line.
STEP_FILE = "step.txt"
#: In --output_dir until a run is done: what --resume goes on from.
CHECKPOINT = "checkpoint"
#: Follows the name of an output directory that is being removed.
REMOVED = ".removed-"

_TRIAL_NAME = re.compile(r"([0-9.eE+-]+)_(\d+)_(\d*\.?\d+)(?:_seed(\d+))?$")


def trial_name(setting: Setting, seed: int = DEFAULT_SEED) -> str:
    """``3e-05_32_0.1``, followed by ``_seed43`` for a seed other than 42."""
    name = f"{float(setting.learning_rate)}_{int(setting.batch_size)}_{float(setting.dropout)}"
    return name if seed == DEFAULT_SEED else f"{name}_seed{seed}"


def parse_trial_name(name: str) -> tuple[Setting, int] | None:
    """The setting and seed in a file name without suffix; None if it is no trial's."""
    if (match := _TRIAL_NAME.match(name)) is None:
        return None
    rate, batch, dropout, seed = match.groups()
    try:
        return Setting(float(rate), int(batch), float(dropout)), int(seed or DEFAULT_SEED)
    except ValueError:
        return None


@dataclass(frozen=True)
class TrialPaths:
    """Every file name of one trial: ``<run_root>/<model>/<task>/<trial>{.log,.json,.predictions,/}``."""

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
        """The dev predictions of its best model; see `cluebench.records.dev_predictions`."""
        return self.folder / f"{self.name}.predictions"

    @property
    def output_dir(self) -> Path:
        """The best model, if it is kept; the periodic checkpoint and the step file while the trial runs."""
        return self.folder / self.name

    def remove_leftovers(self) -> None:
        """For a finished trial, which no process will start again: removes the files that killed processes left."""
        for name in (self.result.name, self.predictions.name):
            atomic.remove_leftovers(self.folder, name)
        for removed in self.folder.glob(f".{glob.escape(self.name)}{REMOVED}*"):
            shutil.rmtree(removed, ignore_errors=True)
        if self.output_dir.is_dir():
            atomic.remove_leftovers(self.output_dir)
            shutil.rmtree(self.output_dir / CHECKPOINT, ignore_errors=True)
            with suppress(OSError):  # a kept model is there
                self.output_dir.rmdir()
