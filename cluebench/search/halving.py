"""Successive halving: which settings of a task go on, and which stop.

A rung is a share of a trial's own steps. At each rung the best half or third of the settings that are left go on
(Jamieson & Talwalkar 2016). A trial's learning rate schedule covers all of its steps, so its scores up to a rung do not
depend on whether it is stopped there. So the replay of finished trials and a live search call the same function.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import accumulate
from statistics import mean

from cluebench.benchmark.tasks import Setting, rank

#: Evaluations of a trial before it can be judged: at its first one a model may have hardly begun to learn.
FEWEST_EVALUATIONS = 2

_mean = lru_cache(maxsize=1 << 12)(mean)  # it is exact and slow, and rules share rungs
_WORDS = {2: "half", 3: "third", 4: "quarter"}


@dataclass(frozen=True)
class Rule:
    """One of ``keep`` settings goes on at each of the ``rungs``, which are shares of a trial's steps.

    Raises ValueError if the rule stops nothing, or if the rungs do not rise between 0 and 1.
    """

    keep: int
    rungs: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        bounds = (Fraction(0), *self.rungs, Fraction(1))
        if self.keep < 2 or not self.rungs or any(low >= high for low, high in zip(bounds, bounds[1:])):
            raise ValueError(f"one of {self.keep} at {self.rungs}: keep one of 2 or more, at rising shares below 1")

    def __str__(self) -> str:
        """``half at 1/8, 1/2``"""
        return f"{_WORDS.get(self.keep, f'1/{self.keep}')} at {', '.join(map(str, self.rungs))}"


@dataclass(frozen=True)
class Curve:
    """The evaluations of a trial on dev so far. If ``ended``, there will be no more."""

    steps: tuple[int, ...]  # optimizer steps done at each, never falling
    scores: tuple[float, ...]  # percent, of the metric that ranks
    total_steps: int  # of the whole schedule
    ended: bool = True

    def up_to(self, step: int) -> "Curve":
        """Without the evaluations after later steps."""
        number = bisect_right(self.steps, step)
        return replace(self, steps=self.steps[:number], scores=self.scores[:number])

    @property
    def share(self) -> float:
        """The share of all steps up to the last evaluation; 0 without an evaluation or a known number of steps."""
        return self.steps[-1] / self.total_steps if self.steps and self.total_steps else 0.0

    def evaluations_at(self, rung: Fraction) -> int | None:
        """How many evaluations count at ``rung``; None if the trial has not reached it yet.

        A trial reaches a rung at its first evaluation at or after that share of its steps, but never before its second
        evaluation. So if a task is evaluated once an epoch, its rungs are epochs. An ended trial has reached all rungs.
        """
        at = -(-rung.numerator * self.total_steps // rung.denominator)  # rounded up; fractions are slow
        number = max(FEWEST_EVALUATIONS, bisect_left(self.steps, at) + 1)
        return number if number <= len(self.steps) else len(self.steps) if self.ended else None

    @cached_property
    def _best_so_far(self) -> list[float]:
        """The best score up to each evaluation; -inf before the first finite one."""
        return list(accumulate((score if math.isfinite(score) else -math.inf for score in self.scores), max))

    def best_of(self, evaluations: int) -> float:
        """The best of the first ``evaluations`` scores, rounded as in tables; -inf if none is a finite number."""
        return round(self._best_so_far[evaluations - 1], 2) if evaluations else -math.inf


@dataclass(frozen=True)
class Standing:
    """The state of a setting, one number a seed: ``pauses`` counts the evaluations before its pause; None: it runs.

    ``stopped``: the search has stopped it for good. Otherwise it is paused until the others reach the same rung.
    """

    pauses: tuple[int | None, ...]
    stopped: bool = False


def standings(rule: Rule, trials: Mapping[Setting, Sequence[Curve]]) -> dict[Setting, Standing]:
    """The state of each setting of a task under ``rule``, from the curves so far, one curve a seed.

    A rung is judged once every trial that is left has reached it, so later evaluations never change a decision. Leave
    failed trials out: the next best setting takes their place at the rungs that they had passed. Settings are ranked as
    in the table: by the mean over seeds of the best score so far; if they tie, by the smaller learning rate, batch and
    dropout. A rung without a new evaluation is skipped. A trial that has reached its end is never stopped.
    """
    found = {setting: Standing((None,) * len(curves)) for setting, curves in trials.items()}
    left = list(trials)
    judged: dict[Setting, list[int | None]] = {}
    for rung in rule.rungs:
        counted = {setting: [curve.evaluations_at(rung) for curve in trials[setting]] for setting in left}
        paused = {setting: Standing(_pauses(trials[setting], numbers)) for setting, numbers in counted.items()}
        if any(None in numbers for numbers in counted.values()):
            return found | paused
        if counted == judged:
            continue
        means = {
            setting: _mean(tuple(curve.best_of(number or 0) for curve, number in zip(trials[setting], numbers)))
            for setting, numbers in counted.items()
        }
        finite = {setting: score for setting, score in means.items() if math.isfinite(score)}
        # The best 1/keep, rounded up; all settings if none has a score.
        passed = set(in_order(finite)[: math.ceil(len(left) / rule.keep)] if finite else left)
        for setting in set(left) - passed:
            pauses = paused[setting].pauses
            found[setting] = Standing(pauses, stopped=any(number is not None for number in pauses))
        left = [setting for setting in left if setting in passed]
        judged = {setting: counted[setting] for setting in left}
    return found


def _pauses(curves: Sequence[Curve], numbers: Sequence[int | None]) -> tuple[int | None, ...]:
    """A seed pauses at a rung if it has reached the rung and is not at its end."""
    return tuple(
        None if curve.ended and number == len(curve.steps) else number for curve, number in zip(curves, numbers)
    )


def in_order(scores: Mapping[Setting, float]) -> list[Setting]:
    """The settings from the best score down; ties as in the table."""
    return sorted(scores, key=lambda setting: rank((scores[setting],), setting), reverse=True)
