import numpy as np
import pytest
from scipy import stats
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import test_proportions_2indep as reference_proportions

from cluebench.statistics import paired
from cluebench.statistics.paired import by_error, shared_ranks
from cluebench.statistics.uncertainty import binomial_error, standard_error


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
    assert by_error(0.0, 0.0).p == 1 and np.isnan(by_error(1.0, np.nan).p)


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
    low, high, p = by_error(0.08, error)
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
    low, high, p = by_error(1.0, 0.4, 4)
    assert p == pytest.approx(2 * stats.t.sf(2.5, 4))
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 4, 1.0, 0.4))
    assert by_error(1.0, 0.4, 1e9) == pytest.approx(by_error(1.0, 0.4))


# Ranks of many models ------------------------------------------------------------------------------------------------


def ranks_by_error(scores, error):
    """The ranks of scores that all differ with one standard error."""
    return shared_ranks(scores, lambda best, other: by_error(scores[best] - scores[other], error).p)


def ranks_of(right, clusters=None):
    """The ranks of models, right [models, rows] as measured on the same rows."""
    scores = right.mean(axis=1)

    def p_value(best, other):
        difference = right[best].astype(float) - right[other]
        return by_error(difference.mean(), standard_error(difference, clusters)).p

    return shared_ranks(scores, p_value)


def test_groups_are_cut_by_the_difference_from_their_best():
    # 80 and 78.5 are 1.5 errors apart, 80 and 70 are ten; 69 goes with 70.
    assert ranks_by_error([70.0, 80.0, 78.5, 69.0], 1.0) == [3, 1, 1, 3]
    assert ranks_by_error([80.0], 1.0) == [1] and ranks_by_error([], 1.0) == []
    assert ranks_by_error([80.0, 80.0, 80.0], 0.0) == [1, 1, 1]
    assert ranks_by_error([80.0, 70.0], np.nan) == [1, 1]


def test_more_models_between_two_need_a_larger_difference():
    # 2.5 errors are significant between two (1.96), but not between the best and the last of four (2.64).
    assert ranks_by_error([80.0, 77.5], 1.0) == [1, 2]
    assert ranks_by_error([80.0, 79.9, 79.8, 77.5], 1.0) == [1, 1, 1, 1]


@pytest.mark.slow
def test_few_leaderboards_put_a_model_below_a_groups_best_that_it_equals():
    """1,000 leaderboards of 27 models, nine groups of three that are equal, as of 12 independent tasks."""
    generator, wrong = np.random.default_rng(14), 0
    truth = np.repeat(np.arange(9) * 0.5, 3)
    for _ in range(1000):
        scores = truth + generator.normal(0, 1, size=27)
        ranks = ranks_by_error(scores, np.sqrt(2))
        order = np.argsort(-scores)
        for rank in set(ranks):  # the model whose place is the rank is the best of its group
            best = order[rank - 1]
            following = [model for model in order[rank:] if ranks[model] > rank]
            # The first model below the group was put there by the test against its best.
            wrong_here = bool(following) and truth[following[0]] >= truth[best]
            if wrong_here:
                wrong += 1
                break
    assert wrong <= 50 + 14


@pytest.mark.slow
@pytest.mark.parametrize("models", [2, 3, 8])
def test_equal_models_are_rarely_put_apart(models):
    """1,000 leaderboards of equal models on 300 dependent clusters: any two of them apart in at most 5 %."""
    generator, apart = np.random.default_rng(models), 0
    for _ in range(1000):
        clusters = np.repeat(np.arange(300), generator.integers(1, 5, size=300))
        chance = generator.beta(3, 2, size=300)[clusters]
        ranks = ranks_of(generator.random((models, len(clusters))) < chance, clusters)
        apart += max(ranks) > 1
    assert apart <= 50 + 14  # two standard errors of the simulation itself


def test_a_better_model_is_put_apart():
    generator = np.random.default_rng(5)
    chance = generator.beta(3, 2, size=2000)
    right = np.stack([generator.random(2000) < chance, generator.random(2000) < np.minimum(1, chance + 0.08)])
    assert ranks_of(right) == [2, 1]


# Intervals where rows depend on each other, as those of CLUEWSC2020's pronouns do --------------------------------------

#: Texts and pronouns of CLUEWSC2020's dev split: 304 rows, 108 pronouns, 104 texts, of which 4 have two pronouns.
PRONOUNS, TWICE, ROWS = 108, 4, 304


def pronoun_of_row():
    """int [304]: 88 pronouns of three candidates, 20 of two."""
    return np.repeat(np.arange(PRONOUNS), [3] * 88 + [2] * 20)


def text_of_row():
    """int [304]: the last four pronouns stand in texts that others stand in."""
    return pronoun_of_row() % (PRONOUNS - TWICE)


def drawn_errors(generator, share):
    """bool [304]: a model that takes the wrong noun for a pronoun is wrong twice: of that noun and of the right one."""
    wrong, seen = generator.random(PRONOUNS) < share, np.zeros(PRONOUNS, int)
    errors = np.zeros(ROWS, bool)
    for row, pronoun in enumerate(pronoun_of_row()):
        errors[row] = wrong[pronoun] and seen[pronoun] < 2
        seen[pronoun] += 1
    return errors


def coverage(clusters, share=0.25, draws=1500):
    """Percent of 95 % intervals of a score that hold its expectation."""
    generator, expected = np.random.default_rng(1), 1 - 2 * share * PRONOUNS / ROWS
    covered = 0
    for _ in range(draws):
        right = ~drawn_errors(generator, share)
        low, high, _ = by_error(right.mean() - expected, float(standard_error(right, clusters)))
        covered += low <= 0 <= high
    return 100 * covered / draws


def test_the_interval_of_a_score_clustered_by_text_covers_95_percent():
    assert 93 <= coverage(text_of_row()) <= 97


def test_without_clusters_it_would_not():
    assert coverage(None) < 90


@pytest.mark.slow
def test_the_bootstrap_interval_of_a_difference_covers_95_percent():
    generator, covered = np.random.default_rng(2), 0
    clusters = text_of_row()
    expected = 2 * (0.30 - 0.20) * PRONOUNS / ROWS
    for number in range(600):
        difference = drawn_errors(generator, 0.30).astype(float) - drawn_errors(generator, 0.20)
        low, high, _ = paired.by_draws(paired.bootstrap_means(difference, clusters, seed=number, draws=2000))
        covered += low <= expected <= high
    assert 93 <= 100 * covered / 600 <= 97
