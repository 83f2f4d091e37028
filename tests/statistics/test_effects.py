"""Main effects of a grid, against worked numbers and statsmodels' analysis of variance."""

from itertools import product

import numpy as np
import pandas
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from cluebench.statistics.effects import main_effects

POINTS = list(product((1e-5, 2e-5, 3e-5), (16, 32)))


def test_levels_have_the_means_of_their_settings():
    rate, batch = main_effects(POINTS, [50, 51, 60, 63, 55, 55])
    assert rate.levels == (1e-5, 2e-5, 3e-5) and rate.means == (50.5, 61.5, 55.0)
    assert (rate.lows, rate.highs) == ((50, 60, 55), (51, 63, 55))
    assert batch.levels == (16, 32) and batch.means == (55.0, pytest.approx(169 / 3))
    assert 0.9 < rate.share < 1 and batch.share < 0.05


def test_shares_are_those_of_an_analysis_of_variance():
    scores = np.random.default_rng(0).normal(size=len(POINTS) * 2)
    points = [(*point, seed) for point, seed in product(POINTS, (42, 43))]
    frame = pandas.DataFrame(points, columns=["rate", "batch", "seed"]).assign(score=scores)
    squares = anova_lm(ols("score ~ C(rate) + C(batch) + C(seed)", frame).fit())["sum_sq"]
    expected = squares[["C(rate)", "C(batch)", "C(seed)"]] / squares.sum()
    assert [effect.share for effect in main_effects(points, scores)] == pytest.approx(list(expected))


@pytest.mark.parametrize("points", [POINTS[:-1], [*POINTS, POINTS[0]]])
def test_a_grid_with_gaps_has_means_but_no_shares(points):
    effects = main_effects(points, range(len(points)))
    assert [effect.share for effect in effects] == [None, None] and len(effects[0].means) == 3


def test_equal_scores_have_no_shares():
    assert [effect.share for effect in main_effects(POINTS, [57.0] * 6)] == [None, None]
