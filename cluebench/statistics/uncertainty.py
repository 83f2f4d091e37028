"""Standard errors: of a mean over rows, of a published share, and of sums and means of such numbers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


def cluster_sums(values: np.ndarray, clusters: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(float64 [..., clusters] sums, float64 [clusters] numbers of rows) of values [..., rows].

    Clusters are in the order of their names. Raises ValueError without rows, or with names for another number of rows.
    """
    values = np.asarray(values, np.float64)
    rows = values.shape[-1]
    shape = (rows,) if clusters is None else np.shape(clusters)
    if rows == 0 or shape != (rows,):
        raise ValueError(f"{rows} rows in clusters named for {shape}")
    if clusters is None:
        return np.ascontiguousarray(values), np.ones(rows)
    clusters = np.asarray(clusters)
    order = np.argsort(clusters, kind="stable")
    starts = np.flatnonzero(np.r_[True, clusters[order][1:] != clusters[order][:-1]])
    return np.add.reduceat(values[..., order], starts, axis=-1), np.diff(np.r_[starts, rows]).astype(np.float64)


def standard_error(values: np.ndarray, clusters: np.ndarray | None = None) -> np.ndarray:
    """float64 [...]: the standard error of the mean over rows of values [..., rows], which may depend within clusters.

    The delete-one-cluster jackknife of a ratio of sums (Efron 1982, "The Jackknife, the Bootstrap and Other Resampling
    Plans", ch. 3); with a row a cluster it is the textbook s/√n. NaN with fewer than two clusters.
    """
    sums, sizes = cluster_sums(values, clusters)
    number = len(sizes)
    if number < 2:
        return np.full(sums.shape[:-1], np.nan)
    left_out = (sums.sum(axis=-1, keepdims=True) - sums) / (sizes.sum() - sizes)
    errors: np.ndarray = np.sqrt((number - 1) * left_out.var(axis=-1))
    return errors


def binomial_error(share: float, rows: int) -> float:
    """√(p(1-p)/n): the standard error of a share of ``rows`` independent rows, if only the share is known."""
    return float(np.sqrt(share * (1 - share) / rows))


class Spread(NamedTuple):
    """The uncertainty of a number."""

    error: float  # one standard error
    freedom: float = np.inf  # degrees of freedom of the error itself


def of_mean(spreads: Sequence[Spread]) -> Spread:
    """The spread of the plain mean of numbers with independent errors, such as scores on different tasks.

    The degrees of freedom are by Welch 1947 and Satterthwaite 1946.
    """
    variances = np.array([spread.error**2 for spread in spreads])
    uncertain = sum(variance**2 / spread.freedom for variance, spread in zip(variances, spreads))
    total = float(variances.sum())
    return Spread(float(np.sqrt(total)) / len(spreads), total**2 / uncertain if uncertain else np.inf)


def with_seeds(of_rows: float, first: np.ndarray, second: np.ndarray) -> Spread:
    """The spread of the difference between two settings' mean scores [seeds] and [other seeds], together three or more.

    ``of_rows``: its standard error by the rows alone. Both settings count as equally variable, as in Student's test.
    The degrees of freedom come from the seeds: with more, a few seeds that are close by chance would count as certain.
    """
    freedom = len(first) + len(second) - 2
    variance = (np.var(first) * len(first) + np.var(second) * len(second)) / freedom
    return Spread(float(np.sqrt(of_rows**2 + variance * (1 / len(first) + 1 / len(second)))), freedom)
