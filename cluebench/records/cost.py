"""What trials have cost: hours of devices, and energy where NVIDIA's driver counts it.

A device hour is an hour that a card, or a slot of CPU cores, is kept from other work: a trial on four cards spends
four, and trials that share one have a part each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from cluebench.benchmark.tasks import TASKS
from cluebench.records.finished_trials import OpenedRun
from cluebench.records.grid_file import Spent
from cluebench.records.result import Result


@dataclass(frozen=True)
class Cost:
    """Of a trial or of several; ``sum(costs, Cost())`` adds them up."""

    device_seconds: float = 0.0  # of what is in the results, or may yet be
    lost_seconds: float = 0.0  # of attempts that failed, and of work behind their last checkpoint
    energy_joules: float = 0.0
    counted_seconds: float = 0.0  # of all these seconds, those in which energy was counted
    unknown: int = 0  # trials that say nothing of it, as logs of the published tool

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def hours(self) -> float:
        """Device hours, the lost ones among them."""
        return (self.device_seconds + self.lost_seconds) / 3600

    @property
    def kilowatt_hours(self) -> float | None:
        """None where no card counted any."""
        return self.energy_joules / 3.6e6 if self.counted_seconds else None

    def __str__(self) -> str:
        """``20.1 device hours (0.4 of them in vain), 5.3 kWh in 17.9 of them``"""
        if self.unknown and not self.hours:
            return f"device hours unknown for {self.unknown} trial{'s' * (self.unknown > 1)}"
        text = f"{shown(self.hours)} device hours"
        if self.lost_seconds > 0.01 * self.device_seconds:  # less is what it takes to start a process and to end it
            text += f" ({shown(self.lost_seconds / 3600)} of them in vain)"
        if self.kilowatt_hours is not None:
            counted = self.counted_seconds / 3600
            text += f", {shown(self.kilowatt_hours)} kWh"
            text += f" in {shown(counted)} of them" if counted < 0.99 * self.hours else ""
        return text + (f"; unknown for {self.unknown} more trial{'s' * (self.unknown > 1)}" if self.unknown else "")

    def score_per_hour(self, score: float | None) -> float | None:
        """Points for a device hour of the trials, without what was lost: that is the machine's doing, not the model's.

        None where the score or the cost of a trial is not known.
        """
        return None if score is None or self.unknown or not self.device_seconds else score * 3600 / self.device_seconds


def shown(amount: float) -> str:
    """Three digits of a number of hours or kWh: ``0.0125``, ``3.46``, ``1,286``."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"


def cost_by_task(run: OpenedRun) -> dict[str, Cost]:
    """Task name → what its trials have cost: those that are done, and those that its grid has begun."""
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
    """Where the grid has not seen all of it, as when others ran a part, what the result says is the least it cost."""
    if result is None or not result.cost:
        return Cost(unknown=1)
    lost = max(0.0, spent.device_seconds - result.cost)
    if spent.energy_joules:
        return Cost(result.cost, lost, spent.energy_joules, spent.device_seconds)
    return Cost(result.cost, lost, result.energy_joules or 0.0, result.cost if result.energy_joules else 0.0)


def cost_lines(costs: Mapping[str, Cost]) -> list[str]:
    """``spent: 20.1 device hours, 5.3 kWh`` and, indented, the same by task; empty where nothing was spent."""
    spent = {name: costs[name] for name in TASKS if name in costs and costs[name] != Cost()}
    lines = [f"  {TASKS[name].title:<12} {cost}" for name, cost in spent.items()]
    return [f"spent: {sum(spent.values(), Cost())}", *lines] if lines else []
