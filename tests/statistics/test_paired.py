import numpy as np
import pytest
from scipy import stats
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import test_proportions_2indep as reference_proportions

from cluebench.statistics import paired
from cluebench.statistics.uncertainty import binomial_error


@pytest.mark.parametrize("seed", range(20))
def test_mcnemar_equals_statsmodels(seed):
    generator = np.random.default_rng(seed)
    rows, chances = int(generator.integers(1, 400)), generator.random(2)
    first, second = generator.random((2, rows)) < chances[:, None]
    table = [[np.sum(first & second), np.sum(first & ~second)], [np.sum(~first & second), np.sum(~first & ~second)]]
    only_first, only_second, found = paired.mcnemar(first, second)
    assert [only_first, only_second] == [table[0][1], table[1][0]]
    assert found.p == pytest.approx(reference_mcnemar(table, exact=True).pvalue, rel=1e-9)


def test_models_that_never_disagree_are_not_apart():
    right = np.array([True, False, True])
    assert paired.mcnemar(right, right) == (0, 0, (0, 0, 1))
    assert paired.by_draws(paired.bootstrap_means(np.zeros(3), seed=0, draws=99)) == (0, 0, 1)
    assert paired.by_error(0.0, 0.0).p == 1 and np.isnan(paired.by_error(1.0, np.nan).p)


@pytest.mark.parametrize("seed", range(20))
def test_holm_equals_statsmodels(seed):
    generator = np.random.default_rng(seed)
    p_values = generator.random(int(generator.integers(1, 12))) ** 3
    p_values[: len(p_values) // 3] = p_values[0]  # ties
    np.testing.assert_allclose(paired.holm(p_values), multipletests(p_values, method="holm")[1], rtol=1e-12)


def test_bootstrap_equals_scipy_on_independent_rows():
    differences = np.random.default_rng(3).choice([-1, 0, 1], p=[0.08, 0.8, 0.12], size=900)
    reference = stats.bootstrap((differences,), np.mean, method="percentile", n_resamples=10_000, random_state=4)
    means = paired.bootstrap_means(differences, seed=5)
    assert len(means) == paired.DRAWS
    np.testing.assert_allclose(paired.by_draws(means)[:2], reference.confidence_interval, atol=0.0015)
    assert means.std() == pytest.approx(reference.standard_error, rel=0.04)


def test_bootstrap_of_clusters_equals_drawing_them_one_by_one():
    generator = np.random.default_rng(6)
    clusters = np.repeat(np.arange(60), generator.integers(1, 5, size=60))
    values = generator.normal(0.1, 1, size=len(clusters)) + generator.normal(size=60)[clusters]
    by_cluster = [values[clusters == cluster] for cluster in range(60)]
    drawn = [np.concatenate([by_cluster[c] for c in generator.integers(60, size=60)]).mean() for _ in range(10_000)]
    means = paired.bootstrap_means(values, clusters, seed=1)
    assert stats.ks_2samp(means, drawn).pvalue > 0.001
    assert means.std() == pytest.approx(np.std(drawn), rel=0.04)


def test_bootstrap_is_seeded_and_its_memory_bounded(monkeypatch):
    values = np.random.default_rng(0).normal(size=300)
    means = paired.bootstrap_means(values, seed=(1, 2))
    assert np.array_equal(means, paired.bootstrap_means(values, seed=(1, 2)))
    assert not np.array_equal(means, paired.bootstrap_means(values, seed=(1, 3)))
    monkeypatch.setattr(paired, "_WEIGHTS_AT_ONCE", 1000)  # 3 draws at once
    assert len(paired.bootstrap_means(values, seed=1, draws=100)) == 100


def test_p_and_interval_say_the_same():
    generator = np.random.default_rng(9)
    for shift in (0.0, 0.05, 0.1, 0.15):
        means = paired.bootstrap_means(generator.normal(shift, 1, size=500), seed=0)
        low, high, p = paired.by_draws(means)
        assert (p < 0.05) == (low > 0 or high < 0)
    assert paired.by_draws(np.ones(9999)).p == pytest.approx(2 / 10_000)


def test_unpaired_p_equals_the_wald_test_of_two_shares():
    error = np.hypot(binomial_error(0.70, 304), binomial_error(0.78, 304))
    expected = reference_proportions(0.78 * 304, 304, 0.70 * 304, 304, method="wald", compare="diff").pvalue
    low, high, p = paired.by_error(0.08, error)
    assert p == pytest.approx(expected, rel=1e-9)
    assert (low, high) == pytest.approx((0.08 - 1.959964 * error, 0.08 + 1.959964 * error))


@pytest.mark.parametrize("rows", [60, 1000])
def test_mcnemars_interval_says_what_its_p_says(rows):
    """Whatever the rows on which two models disagree: 0 lies in the interval where p is above 0.05, and only there."""
    for apart in range(40):
        for only_first in range(apart + 1):
            first = np.arange(rows) < only_first
            second = (np.arange(rows) >= only_first) & (np.arange(rows) < apart)
            _, _, (low, high, p) = paired.mcnemar(first, second)
            assert low <= (2 * only_first - apart) / rows <= high
            assert (p <= 0.05) == (low > 0 or high < 0)


def test_mcnemars_interval_is_that_of_scipys_binomial_test():
    expected = binomtest(12, 40).proportion_ci(0.95, "exact")
    _, _, (low, high, _) = paired.mcnemar(np.arange(500) < 12, (np.arange(500) >= 12) & (np.arange(500) < 40))
    assert (low, high) == pytest.approx(((2 * expected.low - 1) * 40 / 500, (2 * expected.high - 1) * 40 / 500))


def test_students_distribution_where_the_error_is_known_by_few():
    low, high, p = paired.by_error(1.0, 0.4, 4)
    assert p == pytest.approx(2 * stats.t.sf(2.5, 4))
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 4, 1.0, 0.4))
    assert paired.by_error(1.0, 0.4, 1e9) == pytest.approx(paired.by_error(1.0, 0.4))
