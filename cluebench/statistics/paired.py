"""Tests of two models: on the same rows, with only a score and its error, over several tasks; ranks of many models."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from cluebench.statistics.uncertainty import cluster_sums

LEVEL = 0.05
DRAWS = 10_000

#: The bounds of a 95 % interval.
_LOW, _HIGH = (1 - 0.95) / 2, (1 + 0.95) / 2

#: Weights drawn at once: 32 MiB of int64.
_WEIGHTS_AT_ONCE = 1 << 22


class Significance(NamedTuple):
    """The 95 % interval of a difference and its two-sided p, by one test: 0 is outside if p is below 5 %."""

    low: float
    high: float
    p: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> tuple[int, int, Significance]:
    """(rows only the first has right, rows only the second has, the test) of two boolean arrays [rows].

    Exact: if two equal models disagree on some rows, the first is right on a binomial number of them, with share ½
    (McNemar 1947; Dietterich 1998 for classifiers). The interval of the difference of the two shares of rows is exact,
    too (Clopper & Pearson 1934). Rows must be independent.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    apart = only_first + only_second
    p = min(1.0, 2 * float(special.bdtr(min(only_first, only_second), apart, 0.5)))
    low = special.betaincinv(only_first, only_second + 1, _LOW) if only_first else 0.0
    high = special.betaincinv(only_first + 1, only_second, _HIGH) if only_second else 1.0
    low, high = (float((2 * share - 1) * apart / len(first)) for share in (low, high))
    return only_first, only_second, Significance(low, high, p)


def bootstrap_means(
    values: np.ndarray, clusters: np.ndarray | None = None, *, seed: int | Sequence[int], draws: int = DRAWS
) -> np.ndarray:
    """float64 [draws]: means over rows of values [rows]; a draw takes as many clusters as there are, with replacement.

    With differences between two models on the same rows it is the paired bootstrap (Efron & Tibshirani 1993;
    Berg-Kirkpatrick et al. 2012 for language tasks). Clusters with the same sum and the same number of rows are
    interchangeable, so weights are drawn for each such kind instead of each cluster: the distribution is the same, and
    right and wrong answers have few kinds. Memory is bounded.
    """
    sums, sizes = cluster_sums(values, clusters)
    kinds, numbers = np.unique(np.stack([sums, sizes]), axis=1, return_counts=True)
    generator = np.random.default_rng(seed)
    at_once = max(1, _WEIGHTS_AT_ONCE // len(numbers))
    means = []
    for start in range(0, draws, at_once):
        size = min(at_once, draws - start)
        total, rows = kinds @ generator.multinomial(len(sizes), numbers / len(sizes), size=size).T
        means.append(total / rows)
    return np.concatenate(means)


def by_draws(means: np.ndarray) -> Significance:
    """The percentile interval of bootstrap_means, and the level at which it reaches 0: never 0, as draws are finite.

    p is (k + 1) / (draws + 1) of either side, as in Davison & Hinkley 1997, section 4.2.
    """
    low, high = np.quantile(means, [_LOW, _HIGH])
    either = min(int(np.sum(means <= 0)), int(np.sum(means >= 0)))
    return Significance(float(low), float(high), min(1.0, 2 * (either + 1) / (len(means) + 1)))


def by_error(difference: float, error: float, freedom: float = np.inf) -> Significance:
    """The significance of a difference with this standard error (normal distribution); NaN errors give p NaN.

    With finite degrees of ``freedom`` of the error, by Student's distribution. If only two shares are known, ``error``
    is √(e₁² + e₂²): the two-sample binomial test. If both were measured on the same rows, this error is too large: the
    test may miss a difference, but never finds a false one more often.
    """
    is_normal = np.isinf(freedom)
    reach = float(special.ndtri(_HIGH) if is_normal else special.stdtrit(freedom, _HIGH)) * error
    if error == 0:
        p = float(difference == 0)
    else:
        far = -abs(difference) / error
        p = float(2 * (special.ndtr(far) if is_normal else special.stdtr(freedom, far)))
    return Significance(difference - reach, difference + reach, p)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """float64 [tests]: p values adjusted for the number of tests (Holm 1979).

    If every test with a value of at most 0.05 is called significant, the chance of any error is at most 5 %.
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return adjusted


def shared_ranks(scores: Sequence[float], p_value: Callable[[int, int], float]) -> list[int]:
    """The rank of each model: 1 + the number of models in better groups.

    From the best score down (equal scores in the given order), a model joins the group above it unless it differs
    significantly from that group's best; then it is the best of the next group. ``p_value(best, other)`` takes two
    places in ``scores``. The level is divided by the number of pairs of models, because any pair may become a group's
    best and its rival. So at most 5 % of leaderboards rank any model below a best that it equals. Two equal
    models may still have different ranks, if only one of them differs significantly from a third that is better than
    both. NaN, an unknown p, is not significant.
    """
    ranks = [0] * len(scores)
    best = rank = 0
    pairs = len(scores) * (len(scores) - 1) / 2
    for place, model in enumerate(sorted(range(len(scores)), key=lambda model: -scores[model])):
        if place == 0 or p_value(best, model) <= LEVEL / pairs:
            best, rank = model, place + 1
        ranks[model] = rank
    return ranks
