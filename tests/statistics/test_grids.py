"""What the scores of a grid say, against all subsets, worked numbers and statsmodels' analysis of variance."""

from itertools import combinations, product

import numpy as np
import pandas
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from cluebench.statistics.grids import expected_best, main_effects, selection

POINTS = list(product((1e-5, 2e-5, 3e-5), (16, 32)))


@pytest.mark.parametrize("scores", [[70.0], [70.0, 71.5], [3.0, 1.0, 2.0], [5.0, 5.0, 4.0, 9.0, 1.0, 7.5, 7.5]])
def test_expected_best_equals_the_mean_over_all_subsets(scores):
    found = expected_best(scores)
    for size in range(1, len(scores) + 1):
        assert found[size - 1] == pytest.approx(np.mean([max(subset) for subset in combinations(scores, size)]))


def test_a_large_grid_stays_exact():
    found = expected_best(np.arange(2000.0))
    # The best of n of 0 … N - 1 without replacement is n (N + 1) / (n + 1) - 1 on average.
    sizes = np.arange(1, 2001)
    np.testing.assert_allclose(found, sizes * 2001 / (sizes + 1) - 1, rtol=1e-9)
    assert (np.diff(found) >= 0).all()
    assert expected_best([]).shape == (0,)


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


def test_half_against_half_by_hand():
    # Two clusters, so every split is the same one: the trial that is best on one cluster is scored on the other.
    scores = [[1, 1, 0, 0], [0, 0, 1, 1]]
    found = selection(scores, np.array([0, 0, 1, 1]), splits=5)
    assert (found.best, found.average, found.held_out) == (0.5, 0.5, 0.0)
    assert found.lead == 0 and found.by_selection == 0
    alone = selection([[1, 0, 1, 1]], splits=5)
    assert alone.best == alone.average == alone.held_out == 0.75
    with pytest.raises(ValueError, match="halves"):
        selection([[1, 0]], np.zeros(2))


def test_the_lead_of_equal_trials_is_all_selection():
    generator = np.random.default_rng(0)
    chance = generator.beta(3, 2, size=600)
    leads, explained = [], []
    for number in range(40):
        found = selection(generator.random((24, 600)) < chance, seed=number, splits=50)
        leads.append(found.lead)
        explained.append(found.by_selection)
    assert np.mean(leads) > 0.02
    assert np.mean(explained) > 0.85 * np.mean(leads)


def test_the_lead_of_a_better_trial_is_its_own():
    generator = np.random.default_rng(1)
    chance = np.full((12, 2000), 0.5)
    chance[3] = 0.7
    found = selection(generator.random(chance.shape) < chance)
    assert found.lead == pytest.approx(0.183, abs=0.03)
    assert found.by_selection < 0.01


def test_splits_are_seeded_and_never_cut_a_cluster():
    generator = np.random.default_rng(2)
    clusters = np.repeat(np.arange(30), 4)
    scores = generator.random((6, 30)).repeat(4, axis=1)
    by_cluster = selection(scores, clusters, seed=3)
    assert by_cluster == selection(scores, clusters, seed=3)
    assert by_cluster != selection(scores, clusters, seed=4)
    # Rows that repeat each other must not stand on both sides: then nothing would seem to be selection.
    assert selection(scores, seed=3).by_selection < 0.5 * by_cluster.by_selection
