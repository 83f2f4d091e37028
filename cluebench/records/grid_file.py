"""grid.json: the plan of a model's grid and its state, as reports read it.

The scheduler writes it (`cluebench.scheduler.run.planned_grid`) for people and for --status. It is read for hints
only and never decides what has to run, so a file that a crash leaves behind can do no harm.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cluebench.benchmark.tasks import TASKS, Setting
from cluebench.foundation import json_files
from cluebench.foundation.json_files import Count, Seconds, between
from cluebench.records.paths import trial_name

GRID_FILE, REPORT_FILE = "grid.json", "report.html"

#: "held" (the name in the file): paused at a rung until the other trials of its task are there. "stopped": ended there.
TrialState = Literal["done", "running", "waiting", "failed", "held", "stopped"]


@dataclass
class StartedAttempt:
    """One attempt at a trial."""

    devices: list[str]


@dataclass
class NotedFailure:
    """Why an attempt failed."""

    kind: str
    detail: str


@dataclass
class Spent:
    """The cost of all attempts at a trial, failed ones included."""

    device_seconds: Seconds = 0.0  # trials that share a device have a part each
    held_seconds: Seconds = 0.0  # the same as if each trial had its devices alone
    attempts: Count = 0


@dataclass
class PlannedTrial:
    """A trial and its state."""

    task: str
    name: str
    learning_rate: float
    batch_size: Count
    dropout: float
    seed: Count
    configuration_hash: str
    state: TrialState
    memory_factor: Annotated[int, between(1, 1 << 20)] = 1  # by how much its micro-batches are smaller
    attempts: list[StartedAttempt] = field(default_factory=list)
    failures: list[NotedFailure] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)

    def __post_init__(self) -> None:
        if self.task not in TASKS or self.name != trial_name(self.setting, self.seed):
            raise ValueError(f"{self.task}/{self.name} is no trial of {tuple(self.setting)} and seed {self.seed}")

    @property
    def setting(self) -> Setting:
        return Setting(self.learning_rate, self.batch_size, self.dropout)


@dataclass
class GridFile:
    """The part of grid.json that other modules read."""

    format: Literal[1]
    model: str
    status: str
    trials: list[PlannedTrial]
    model_identity: str | None = None
    updated: str = ""
    counts: dict[TrialState, Count] = field(default_factory=dict)
    data_dir: str | None = None
    command: list[str] = field(default_factory=list)  # the last one
    devices: list[str] = field(default_factory=list)
    commit: str | None = None  # of the checkout that ran it
    search: str | None = None  # the rule of a search that stops trials early; None: every trial runs to its end
    protocols: dict[str, str] = field(default_factory=dict)  # task → hash of all settings that the grid does not vary


def read_grid(folder: Path) -> GridFile | None:
    """The grid of a run directory as last written; None without a file, and for a broken one, which is reported."""
    return json_files.read_if_sound(folder / GRID_FILE, GridFile, ["trials"], "it counts as a grid never started")
