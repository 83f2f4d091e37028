"""Tests of two models: on the same rows, with only a score and its error, and over several tasks."""

from collections.abc import Sequence

import numpy as np
from scipy import special

from cluebench.statistics.clusters import cluster_sums

DRAWS = 10_000

#: Weights drawn at once: 32 MiB of int64.
_WEIGHTS_AT_ONCE = 1 << 22


def mcnemar(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """(rows only the first has right, rows only the second has, two-sided p) of two boolean arrays [rows].

    Exact: of the rows on which two equal models disagree, the number that the first has right is binomial with share ½
    (McNemar 1947; Dietterich 1998 for classifiers). Rows must be independent.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    tail = special.bdtr(min(only_first, only_second), only_first + only_second, 0.5)
    return only_first, only_second, min(1.0, 2 * float(tail))


def mcnemar_interval(only_first: int, only_second: int, rows: int, coverage: float = 0.95) -> tuple[float, float]:
    """The interval of mcnemar for the difference of two shares of ``rows``: it excludes 0 if p is at most 0.05.

    Like the test, it depends on the number of rows on which the two disagree, and on the first's share of them (Clopper
    & Pearson 1934).
    """
    apart, tail = only_first + only_second, (1 - coverage) / 2
    low = special.betaincinv(only_first, only_second + 1, tail) if only_first else 0.0
    high = special.betaincinv(only_first + 1, only_second, 1 - tail) if only_second else 1.0
    return float((2 * low - 1) * apart / rows), float((2 * high - 1) * apart / rows)


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


def interval(means: np.ndarray, coverage: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap_means."""
    low, high = np.quantile(means, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)


def two_sided_p(means: np.ndarray) -> float:
    """The level at which the percentile interval of bootstrap_means reaches 0; never 0, because draws are finite.

    (k + 1) / (draws + 1) of either side, as in Davison & Hinkley 1997, section 4.2.
    """
    either = min(int(np.sum(means <= 0)), int(np.sum(means >= 0)))
    return min(1.0, 2 * (either + 1) / (len(means) + 1))


def normal_p(difference: float, error: float, freedom: float = np.inf) -> float:
    """Two-sided p of a difference with this standard error, by the normal distribution; NaN for an error of NaN.

    With finite degrees of ``freedom`` of the error, by Student's distribution. If only two shares are known, ``error``
    is √(e₁² + e₂²): the two-sample binomial test. If both were measured on the same rows, this error is too large: the
    test may miss a difference, but never finds a false one more often.
    """
    if error == 0:
        return float(difference == 0)
    far = -abs(difference) / error
    return float(2 * (special.ndtr(far) if np.isinf(freedom) else special.stdtr(freedom, far)))


def normal_interval(
    difference: float, error: float, freedom: float = np.inf, coverage: float = 0.95
) -> tuple[float, float]:
    """The interval of normal_p."""
    share = (1 + coverage) / 2
    reach = float(special.ndtri(share) if np.isinf(freedom) else special.stdtrit(freedom, share)) * error
    return difference - reach, difference + reach


def holm(p_values: Sequence[float]) -> np.ndarray:
    """float64 [tests]: p values adjusted for the number of tests (Holm 1979).

    If every test with a value of at most 0.05 is called significant, the chance of any error is at most 5 %.
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return adjusted
