"""The cost of trials: device hours, and energy if NVIDIA's driver counts it.

A device hour is an hour in which a card, or a slot of CPU cores, is reserved: a trial on four cards costs four, and
trials that share a card cost a part each.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from cluebench.benchmark.tasks import TASKS
from cluebench.records.finished_trials import OpenedRun
from cluebench.records.grid_file import Spent
from cluebench.records.result import Result


@dataclass(frozen=True)
class Cost:
    """The cost of one trial or several; ``sum(costs, Cost())`` adds them up."""

    device_seconds: float = 0.0  # of work that is in the results, or still running
    lost_seconds: float = 0.0  # of failed attempts, and of work after their last checkpoint
    energy_joules: float = 0.0
    counted_seconds: float = 0.0  # the part of both in which energy was counted
    unknown: int = 0  # trials without any of these numbers, such as logs of the published tool

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def hours(self) -> float:
        """Device hours, the lost ones included."""
        return (self.device_seconds + self.lost_seconds) / 3600

    @property
    def kilowatt_hours(self) -> float | None:
        """None if no card counted any."""
        return self.energy_joules / 3.6e6 if self.counted_seconds else None

    def __str__(self) -> str:
        """``20.1 device hours (0.4 of them in vain), 5.3 kWh in 17.9 of them``"""
        plural = "s" * (self.unknown > 1)
        if self.unknown and not self.hours:
            return f"device hours unknown for {self.unknown} trial{plural}"
        text = f"{shown(self.hours)} device hours"
        if self.lost_seconds > 0.01 * self.device_seconds:  # less is the start and end of processes
            text += f" ({shown(self.lost_seconds / 3600)} of them in vain)"
        if self.kilowatt_hours is not None:
            counted = self.counted_seconds / 3600
            text += f", {shown(self.kilowatt_hours)} kWh"
            text += f" in {shown(counted)} of them" if counted < 0.99 * self.hours else ""
        return text + (f"; unknown for {self.unknown} more trial{plural}" if self.unknown else "")

    def score_per_hour(self, score: float | None) -> float | None:
        """Points per device hour. Lost hours don't count: they depend on the machine, not on the model.

        None if the score or the cost of a trial is unknown.
        """
        return None if score is None or self.unknown or not self.device_seconds else score * 3600 / self.device_seconds


def shown(amount: float) -> str:
    """Three digits of a number of hours or kWh: ``0.0125``, ``3.46``, ``1,286``."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"


def cost_by_task(run: OpenedRun) -> dict[str, Cost]:
    """Task name → the cost of its finished trials and of those that its grid has begun."""
    costs: dict[str, Cost] = defaultdict(Cost)
    planned = {(entry.task, entry.name): entry for entry in (run.grid.trials if run.grid else ())}
    for trial in (trial for of_task in run.trials.values() for trial in of_task):
        entry = planned.pop((trial.task, trial.name), None)
        costs[trial.task] += _of_finished(trial.result, entry.spent if entry else Spent())
    for entry in planned.values():
        seconds, energy = entry.spent.device_seconds, entry.spent.energy_joules or 0.0
        parts = (0.0, seconds) if entry.state == "failed" else (seconds, 0.0)
        costs[entry.task] += Cost(*parts, energy, seconds if energy else 0.0)
    return dict(costs)


def _of_finished(result: Result | None, spent: Spent) -> Cost:
    """``spent``: as the grid counted. If another program ran a part of the trial, its result states more."""
    if result is None or not result.cost:
        return Cost(unknown=1)
    energy, counted = spent.energy_joules, spent.device_seconds
    if not energy:
        energy = result.energy_joules or 0.0
        counted = result.cost if energy else 0.0
    return Cost(result.cost, max(0.0, spent.device_seconds - result.cost), energy, counted)


def cost_lines(costs: Mapping[str, Cost]) -> list[str]:
    """``spent: 20.1 device hours, 5.3 kWh`` and, indented, the same by task; empty if nothing was spent."""
    spent = {name: costs[name] for name in TASKS if name in costs and costs[name] != Cost()}
    lines = [f"  {TASKS[name].title:<12} {cost}" for name, cost in spent.items()]
    return [f"spent: {sum(spent.values(), Cost())}", *lines] if lines else []
