"""Sums of rows by cluster."""

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
