"""grid.json, the plan of a model's grid and its state, as those read it who report on it.

The scheduler writes it (`cluebench.scheduler.run.run_directory`). Nothing that is in it decides what has to run: it is
written for people and for --status, and read back for hints only, so that nothing a crash leaves can do harm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cluebench.benchmark.tasks import TASKS, Setting
from cluebench.foundation import json_files
from cluebench.foundation.json_files import Count, Seconds, between
from cluebench.records.paths import trial_name

GRID_FILE = "grid.json"
GRID_FORMAT = 1

#: ``held``: stands still at a rung until the others of its task are there; ``stopped``: for good, by their verdict.
TrialState = Literal["done", "running", "waiting", "failed", "held", "stopped"]


@dataclass
class StartedAttempt:
    """Of an attempt, what is shown."""

    devices: list[str]


@dataclass
class NotedFailure:
    """Why an attempt failed."""

    kind: str
    detail: str


@dataclass
class Spent:
    """What all attempts at a trial have cost, those in vain too."""

    device_seconds: Seconds = 0.0  # where trials share a device each has a part
    held_seconds: Seconds = 0.0  # the same as if each had its devices alone
    energy_joules: Seconds | None = 0.0  # None: of some of these seconds nobody knows
    attempts: Count = 0


@dataclass
class PlannedTrial:
    """A trial and how far it has come."""

    task: str
    name: str
    learning_rate: float
    batch_size: Count
    dropout: float
    seed: Count
    configuration_hash: str
    state: TrialState
    memory_factor: Annotated[int, between(1, 1 << 20)] = 1  # how far its micro-batches had to be cut
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
    """What grid.json holds, as far as anything reads it."""

    format: Literal[1]
    model: str
    status: str
    trials: list[PlannedTrial]
    model_identity: str | None = None
    updated: str = ""
    counts: dict[TrialState, Count] = field(default_factory=dict)
    data_dir: str | None = None
    command: list[str] = field(default_factory=list)  # as it was typed last
    devices: list[str] = field(default_factory=list)
    commit: str | None = None  # of the checkout that ran it
    search: str | None = None  # the rule of a search that stops trials early; None: every trial runs to its end
    protocols: dict[str, str] = field(default_factory=dict)  # task → hash of all settings but the grid's


def read_grid(folder: Path) -> GridFile | None:
    """The grid of a run directory as it was last written; None without one, or where it is broken, which is said."""
    return json_files.read_if_sound(folder / GRID_FILE, GridFile, ["trials"], "the grid is taken for one never started")
