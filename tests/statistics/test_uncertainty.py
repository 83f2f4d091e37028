import numpy as np
import pytest
from scipy import stats

from cluebench.statistics import paired, uncertainty
from cluebench.statistics.uncertainty import Spread, binomial_error, cluster_sums, of_mean, standard_error


def dependent_rows(generator, clusters, effect=0.3):
    """(right or wrong [rows], cluster of each row): rows of a cluster share a part of their chance."""
    of_row = np.repeat(np.arange(clusters), generator.integers(1, 6, size=clusters))
    chance = np.clip(0.6 + effect * generator.normal(size=clusters), 0, 1)
    return (generator.random(len(of_row)) < chance[of_row]).astype(float), of_row


def test_sums_of_clusters_in_any_order():
    sums, sizes = cluster_sums([[1, 2, 3, 4], [0, 1, 0, 1]], np.array(["b", "a", "b", "a"]))
    assert sums.tolist() == [[6, 4], [2, 0]] and sizes.tolist() == [2, 2]
    sums, sizes = cluster_sums([0.5, 1.0])
    assert sums.tolist() == [0.5, 1.0] and sizes.tolist() == [1, 1]
    for values, clusters in (([], None), ([1, 2], [0])):
        with pytest.raises(ValueError, match="rows"):
            cluster_sums(values, clusters)


@pytest.mark.parametrize("seed", range(5))
def test_clustered_error_equals_a_brute_force_jackknife(seed):
    generator = np.random.default_rng(seed)
    values, clusters = dependent_rows(generator, 40)
    shuffled = generator.permutation(len(values))
    values, clusters = values[shuffled], clusters[shuffled]
    left_out = np.array([values[clusters != cluster].mean() for cluster in range(40)])
    expected = np.sqrt(39 / 40 * np.sum((left_out - left_out.mean()) ** 2))
    assert standard_error(values, clusters) == pytest.approx(expected, rel=1e-12)


def test_a_row_a_cluster_gives_the_textbook_error():
    values = np.random.default_rng(0).random((3, 50))
    np.testing.assert_allclose(standard_error(values), stats.sem(values, axis=1), rtol=1e-12)
    right = np.arange(304) < 200
    assert standard_error(right) == pytest.approx(binomial_error(200 / 304, 304), rel=0.002)
    assert np.isnan(standard_error([1.0, 0.0, 1.0], np.zeros(3)))


def test_dependent_rows_err_more_than_independent_ones():
    values, clusters = dependent_rows(np.random.default_rng(1), 400)
    assert standard_error(values, clusters) > 1.2 * standard_error(values)


def test_error_of_one_share_and_of_an_average():
    assert binomial_error(0.5, 304) == pytest.approx(0.028677, abs=1e-6)
    # Ten tasks that err by 1 point each: √10 / 10.
    assert of_mean([Spread(1.0)] * 10) == (pytest.approx(0.316228, abs=1e-6), np.inf)
    assert of_mean([Spread(3.0), Spread(4.0)]).error == 2.5


def false_differences(counted, shift, seeds, runs=1500):
    """Percent of pairs of equal settings that are distinguished, each run with some seeds that shift all of its rows."""
    generator, apart = np.random.default_rng(13), 0
    for _ in range(runs):
        chance = generator.beta(3, 2, size=800)
        scores = [
            generator.random((seeds, 800)) < chance + generator.normal(0, shift, size=(seeds, 1)) for _ in range(2)
        ]
        difference = scores[0].mean(axis=0) - scores[1].mean(axis=0)
        of_rows = float(uncertainty.standard_error(difference))
        means = (one.mean(axis=1) for one in scores)
        spread = uncertainty.with_seeds(of_rows, *means) if counted else uncertainty.Spread(of_rows)
        apart += paired.by_error(difference.mean(), *spread).p <= 0.05
    return 100 * apart / runs


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("shift", [0.0, 0.01, 0.05])
def test_a_shift_that_a_seed_has_in_common_is_no_difference(seeds, shift):
    assert false_differences(True, shift, seeds) <= 5 + 1.2  # two standard errors of the simulation


@pytest.mark.slow
def test_without_counting_seeds_it_would_be():
    assert false_differences(False, 0.05, 3) > 30
