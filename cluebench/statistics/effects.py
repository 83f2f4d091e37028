"""The effect of each hyper-parameter of a grid on the score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Effect:
    """Of one hyper-parameter; levels rise, and scores keep their unit."""

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
