"""What the scores of a grid say about a smaller search, about each hyper-parameter, and about the best trial's lead."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cluebench.statistics.uncertainty import cluster_sums

SPLITS = 200


def expected_best(scores: Sequence[float]) -> np.ndarray:
    """float64 [trials]: at place n - 1 the mean best score of n different trials, over all subsets of n trials.

    This is unbiased for the best of n trials with settings from the same distribution (Tang et al. 2020, "Showing Your
    Work Doesn't Always Work"). Drawing with replacement, as Dodge et al. 2019 do, underestimates the best. The numbers
    rise with n; the last one is the best score.
    """
    ordered = np.sort(np.asarray(scores, np.float64))
    number = len(ordered)
    below = np.arange(number + 1)  # at each place, the number of trials before it
    chance = np.ones(number + 1)  # that all drawn trials are before the place
    expected = np.empty(number)
    for drawn in range(number):
        chance = chance * np.maximum(below - drawn, 0) / (number - drawn)
        expected[drawn] = ordered @ np.diff(chance)
    return expected


@dataclass(frozen=True)
class Effect:
    """The effect of one hyper-parameter; levels rise, and scores keep their unit."""

    levels: tuple[float, ...]
    means: tuple[float, ...]  # over all settings with a level
    lows: tuple[float, ...]  # the lowest of them
    highs: tuple[float, ...]
    share: float | None  # of the variance of the scores; None if the grid is not full, or all scores are equal


def main_effects(points: Sequence[Sequence[float]], scores: Sequence[float]) -> list[Effect]:
    """points: [settings, hyper-parameters], scores: [settings]. One effect a hyper-parameter.

    In a full grid every combination of levels was tried equally often. Then a level's mean minus the grand mean is the
    main effect of the functional ANOVA (Hutter et al. 2014, "An Efficient Approach for Assessing Hyperparameter
    Importance"), not an estimate, and the shares of all effects and their interactions add up to 1.
    """
    table, values = np.asarray(points, float), np.asarray(scores, float)
    _, times = np.unique(table, axis=0, return_counts=True)
    columns = [np.unique(column) for column in table.T]
    is_full = len(times) == np.prod([len(levels) for levels in columns]) and len(set(times.tolist())) == 1
    total = values.var()
    effects = []
    for column, levels in zip(table.T, columns):
        groups = [values[column == level] for level in levels]
        means = np.array([group.mean() for group in groups])
        share = float(means.var() / total) if is_full and total > 0 else None
        lows, highs = (tuple(float(pick(group)) for group in groups) for pick in (np.min, np.max))
        effects.append(Effect(tuple(levels.tolist()), tuple(means.tolist()), lows, highs, share))
    return effects


@dataclass(frozen=True)
class Selection:
    """The best of several trials, on the rows that it was chosen on and on others. In the unit of the scores."""

    best: float  # the best trial's mean over all rows
    average: float  # the mean over all trials and rows
    held_out: float  # the mean on one half of the rows of the trial that is best on the other

    @property
    def lead(self) -> float:
        """The best trial's mean minus the average trial's."""
        return self.best - self.average

    @property
    def by_selection(self) -> float:
        """The part of the lead that vanishes on rows that the choice did not use; at most the whole lead."""
        return min(self.lead, max(0.0, self.best - self.held_out))


def selection(
    scores: np.ndarray, clusters: np.ndarray | None = None, *, seed: int = 0, splits: int = SPLITS
) -> Selection:
    """Chooses by scores [trials, rows] on a random half of the clusters, scores on the other; ``splits`` times.

    If trials tie, the first is chosen. A choice on half of the rows is worse than on all rows, so ``held_out`` is a
    little low. Earlier choices on the same rows, such as each trial's best checkpoint, are not included. Raises
    ValueError with fewer than two clusters.
    """
    sums, sizes = cluster_sums(scores, clusters)
    number = len(sizes)
    if number < 2:
        raise ValueError("one cluster of rows can't be cut in halves")
    generator = np.random.default_rng(seed)
    first = generator.permuted(np.tile(np.arange(number) < number // 2, (splits, 1)), axis=1).astype(np.float64)
    half_sums, half_rows = sums @ first.T, first @ sizes  # [trials, splits], [splits]
    half_sums = np.hstack([half_sums, sums.sum(axis=1, keepdims=True) - half_sums])  # then the other halves
    half_rows = np.hstack([half_rows, sizes.sum() - half_rows])
    chosen = np.argmax(half_sums / half_rows, axis=0)
    others = np.roll(half_sums, splits, axis=1)[chosen, np.arange(2 * splits)]
    means = sums.sum(axis=1) / sizes.sum()
    return Selection(
        best=float(means.max()),
        average=float(means.mean()),
        held_out=float(others.sum() / np.roll(half_rows, splits).sum()),
    )
