"""What a rule would have cost and lost on the finished trials of a grid."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from statistics import mean
from typing import NamedTuple

from cluebench.benchmark.tasks import Setting
from cluebench.search.halving import Curve, Rule, in_order, standings

_RUNGS = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2))

#: The best half or third, at one, two or all of the rungs.
RULES = tuple(Rule(keep, rungs) for keep in (2, 3) for number in (1, 2, 3) for rungs in combinations(_RUNGS, number))

#: When a rule is called safe; `Outcome.safe` speaks of one grid.
SAFE = (
    "in every replayed grid the rule chooses a setting within one standard error of the best score, and it still does "
    "if all such settings score lower at every rung by √2 standard errors, the error of a difference of two scores"
)


@dataclass(frozen=True)
class Recorded:
    """A finished trial: its curve, its score in percent as in the table, and the seconds it took."""

    curve: Curve
    score: float
    train_seconds: float = 0.0
    eval_seconds: float = 0.0

    def steps_until(self, evaluations: int | None) -> int:
        """Optimizer steps up to this number of evaluations; all steps for None."""
        return self.curve.total_steps if evaluations is None else self.curve.steps[evaluations - 1]

    def seconds_until(self, evaluations: int | None) -> float:
        """The same in seconds, from the trial's mean time of a step and of an evaluation."""
        if evaluations is None:
            return self.train_seconds + self.eval_seconds
        steps = self.curve.steps[evaluations - 1] / self.curve.total_steps
        return self.train_seconds * steps + self.eval_seconds * evaluations / len(self.curve.steps)


#: The finished trials of a task: each setting with the same number of seeds.
RecordedGrid = Mapping[Setting, Sequence[Recorded]]


@dataclass(frozen=True)
class Outcome:
    """What a rule would have done to a grid."""

    rule: Rule
    trials: int
    stopped: int  # trials
    steps_saved: float  # share of the optimizer steps of all trials
    seconds_saved: float | None  # share of their measured seconds; None if a trial has none
    chosen: Setting
    score: float  # percent, of the chosen setting
    lost: float  # points below the best of the grid
    rank: int  # of the chosen setting in the whole grid; 1 is the best
    safe: bool  # see SAFE


def replay(grid: RecordedGrid, error: float | None, rules: Sequence[Rule] = RULES) -> list[Outcome]:
    """What each rule would have done to the finished trials of a task.

    ``error``: one standard error of the grid's best score, in points; if it is unknown, no rule is safe.
    """
    scores = scores_of(grid)
    order = in_order(scores)
    best = scores[order[0]]
    as_good = {setting for setting, score in scores.items() if error is not None and best - score <= error}
    curves = {setting: [trial.curve for trial in trials] for setting, trials in grid.items()}
    points = math.sqrt(2) * (error or 0.0)
    # The second replay rules out a choice that was right by chance.
    lowered = curves | {setting: [_lowered(curve, points) for curve in curves[setting]] for setting in as_good}
    are_timed = all(trial.train_seconds > 0 for trials in grid.values() for trial in trials)
    found = []
    for rule in rules:
        states = [standings(rule, replayed) for replayed in (curves, lowered)]
        # The best of the settings that are not stopped.
        chosen, again = (next(setting for setting in order if not state[setting].stopped) for state in states)
        ends = [pair for setting, trials in grid.items() for pair in zip(trials, states[0][setting].pauses)]
        found.append(
            Outcome(
                rule=rule,
                trials=len(ends),
                stopped=sum(number is not None for _, number in ends),
                steps_saved=_saved(Recorded.steps_until, ends),
                seconds_saved=_saved(Recorded.seconds_until, ends) if are_timed else None,
                chosen=chosen,
                score=scores[chosen],
                lost=round(best - scores[chosen], 2),
                rank=order.index(chosen) + 1,
                safe={chosen, again} <= as_good,
            )
        )
    return found


def _saved(until: Callable[[Recorded, int | None], float], ends: Sequence[tuple[Recorded, int | None]]) -> float:
    """The share of steps or seconds that is saved if each trial ends after its number of evaluations; None: its end."""
    return 1 - sum(until(trial, number) for trial, number in ends) / sum(until(trial, None) for trial, _ in ends)


def scores_of(grid: RecordedGrid) -> dict[Setting, float]:
    """Each setting's final score, the mean over its seeds, rounded as in the table."""
    return {setting: round(mean(trial.score for trial in trials), 2) for setting, trials in grid.items()}


def _lowered(curve: Curve, points: float) -> Curve:
    return replace(curve, scores=tuple(score - points for score in curve.scores))


# Over grids -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """One rule over several grids."""

    rule: Rule
    grids: int
    steps_saved: float  # the mean
    least_steps_saved: float
    seconds_saved: float | None  # the mean; None if a grid has no seconds
    least_seconds_saved: float | None
    lost: float  # points, the mean
    most_lost: float
    worst_rank: int
    safe: int  # grids

    @property
    def saved(self) -> float:
        """The mean share of seconds, of steps if seconds are unknown."""
        return self.steps_saved if self.seconds_saved is None else self.seconds_saved


def summaries(grids: Sequence[Sequence[Outcome]]) -> list[Summary]:
    """The summary of each rule. Every grid has the outcomes of the same rules in the same order."""
    found = []
    for outcomes in zip(*grids, strict=True):
        steps = [outcome.steps_saved for outcome in outcomes]
        seconds = [outcome.seconds_saved for outcome in outcomes if outcome.seconds_saved is not None]
        measured = seconds if len(seconds) == len(outcomes) else []
        found.append(
            Summary(
                rule=outcomes[0].rule,
                grids=len(outcomes),
                steps_saved=mean(steps),
                least_steps_saved=min(steps),
                seconds_saved=mean(measured) if measured else None,
                least_seconds_saved=min(measured, default=None),
                lost=mean(outcome.lost for outcome in outcomes),
                most_lost=max(outcome.lost for outcome in outcomes),
                worst_rank=max(outcome.rank for outcome in outcomes),
                safe=sum(outcome.safe for outcome in outcomes),
            )
        )
    return found


def recommended(grids: Sequence[Sequence[Outcome]]) -> Summary | None:
    """The rule that saves the most among those that are safe in every grid of a task; None without such a rule.

    If rules save the same, it is the one that lost less, then the one with fewer rungs.
    """
    safe = [found for found in summaries(grids) if found.safe == found.grids and found.steps_saved > 0]
    return max(safe, key=lambda found: (found.saved, -found.most_lost, -len(found.rule.rungs)), default=None)


class Point(NamedTuple):
    """A rule in a chart of score lost against cost."""

    rule: str
    cost: float  # share of the whole grid's seconds, of its steps if seconds are unknown
    lost: float  # points, the mean over grids
    most_lost: float


def points(grids: Sequence[Sequence[Outcome]]) -> list[Point]:
    """One point a rule. The first is the whole grid, which costs 1 and loses nothing."""
    return [Point("grid", 1.0, 0.0, 0.0)] + [
        Point(str(found.rule), 1 - found.saved, found.lost, found.most_lost) for found in summaries(grids)
    ]
