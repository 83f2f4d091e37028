"""The cost of trials: device hours.

A device hour is an hour in which a card, or a slot of CPU cores, is reserved: a trial on four cards costs four, and
trials that share a card cost a part each.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from cluebench.benchmark.tasks import TASKS
from cluebench.records.finished_trials import OpenedRun


@dataclass(frozen=True)
class Cost:
    """The cost of one trial or several; ``sum(costs, Cost())`` adds them up."""

    device_seconds: float = 0.0  # of work that is in the results, or still running
    lost_seconds: float = 0.0  # of failed attempts, and of work after their last checkpoint
    unknown: int = 0  # trials without these numbers, such as logs of the published tool

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def hours(self) -> float:
        """Device hours, the lost ones included."""
        return (self.device_seconds + self.lost_seconds) / 3600

    def __str__(self) -> str:
        """``20.1 device hours (0.4 of them in vain)``"""
        plural = "s" * (self.unknown > 1)
        if self.unknown and not self.hours:
            return f"device hours unknown for {self.unknown} trial{plural}"
        text = f"{shown(self.hours)} device hours"
        if self.lost_seconds > 0.01 * self.device_seconds:  # less is the start and end of processes
            text += f" ({shown(self.lost_seconds / 3600)} of them in vain)"
        return text + (f"; unknown for {self.unknown} more trial{plural}" if self.unknown else "")

    def score_per_hour(self, score: float | None) -> float | None:
        """Points per device hour. Lost hours don't count: they depend on the machine, not on the model.

        None if the score or the cost of a trial is unknown.
        """
        return None if score is None or self.unknown or not self.device_seconds else score * 3600 / self.device_seconds


def shown(amount: float) -> str:
    """Three digits of a number of hours or bytes: ``0.0125``, ``3.46``, ``1,286``."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"


def cost_by_task(run: OpenedRun) -> dict[str, Cost]:
    """Task name → the cost of its finished trials and of those that its grid has begun."""
    costs: dict[str, Cost] = defaultdict(Cost)
    planned = {(entry.task, entry.name): entry for entry in (run.grid.trials if run.grid else ())}
    for trial in (trial for of_task in run.trials.values() for trial in of_task):
        entry, result = planned.pop((trial.task, trial.name), None), trial.result
        if result is None or not result.cost:
            costs[trial.task] += Cost(unknown=1)
        else:  # if another program ran a part of the trial, its result states more than the grid counted
            spent = entry.spent.device_seconds if entry else 0.0
            costs[trial.task] += Cost(result.cost, max(0.0, spent - result.cost))
    for entry in planned.values():
        seconds = entry.spent.device_seconds
        costs[entry.task] += Cost(0.0, seconds) if entry.state == "failed" else Cost(seconds)
    return dict(costs)


def cost_lines(costs: Mapping[str, Cost]) -> list[str]:
    """``spent: 20.1 device hours`` and, indented, the same by task; empty if nothing was spent."""
    spent = {name: costs[name] for name in TASKS if name in costs and costs[name] != Cost()}
    lines = [f"  {TASKS[name].title:<12} {cost}" for name, cost in spent.items()]
    return [f"spent: {sum(spent.values(), Cost())}", *lines] if lines else []
