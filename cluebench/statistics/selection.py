"""How much of the best trial's lead comes from having been chosen."""

from dataclasses import dataclass

import numpy as np

from cluebench.statistics.clusters import cluster_sums

SPLITS = 200


@dataclass(frozen=True)
class Selection:
    """The best of several trials, on the rows that it was chosen on and on others. In the unit of the scores."""

    best: float  # the best trial's mean over all rows
    average: float  # the mean over all trials and rows
    held_out: float  # the mean on one half of the rows of the trial that is best on the other

    @property
    def lead(self) -> float:
        """The best trial's mean minus the average trial's."""
        return self.best - self.average

    @property
    def by_selection(self) -> float:
        """The part of the lead that vanishes on rows that the choice did not use; at most the whole lead."""
        return min(self.lead, max(0.0, self.best - self.held_out))


def selection(
    scores: np.ndarray, clusters: np.ndarray | None = None, *, seed: int = 0, splits: int = SPLITS
) -> Selection:
    """Of scores [trials, rows]: chooses on a random half of the clusters, scores on the other, swaps; ``splits`` times.

    If trials tie, the first is chosen. A choice on half of the rows is worse than on all rows, so ``held_out`` is a
    little low. Earlier choices on the same rows, such as each trial's best checkpoint, are not included. Raises
    ValueError with fewer than two clusters.
    """
    sums, sizes = cluster_sums(scores, clusters)
    number = len(sizes)
    if number < 2:
        raise ValueError("one cluster of rows can't be cut in halves")
    generator = np.random.default_rng(seed)
    first = generator.permuted(np.tile(np.arange(number) < number // 2, (splits, 1)), axis=1).astype(np.float64)
    half_sums, half_rows = sums @ first.T, first @ sizes  # [trials, splits], [splits]
    half_sums = np.hstack([half_sums, sums.sum(axis=1, keepdims=True) - half_sums])  # then the other halves
    half_rows = np.hstack([half_rows, sizes.sum() - half_rows])
    chosen = np.argmax(half_sums / half_rows, axis=0)
    others = np.roll(half_sums, splits, axis=1)[chosen, np.arange(2 * splits)]
    means = sums.sum(axis=1) / sizes.sum()
    return Selection(
        best=float(means.max()),
        average=float(means.mean()),
        held_out=float(others.sum() / np.roll(half_rows, splits).sum()),
    )
