import numpy as np
import pytest

from cluebench.statistics.paired import by_error, shared_ranks
from cluebench.statistics.uncertainty import standard_error


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
