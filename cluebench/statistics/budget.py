"""The best score to expect from a smaller search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def expected_best(scores: Sequence[float]) -> np.ndarray:
    """float64 [trials]: at place n - 1 the mean of the best of n different trials, over all subsets of that size.

    That is unbiased for the best of n trials whose settings are drawn from where these were (Tang et al. 2020, "Showing
    Your Work Doesn't Always Work"); to draw with replacement, as Dodge et al. 2019 do, underrates the best. The last
    number is the best score itself. Rising in n.
    """
    ordered = np.sort(np.asarray(scores, np.float64))
    number = len(ordered)
    below = np.arange(number + 1)  # trials among which all of a subset may lie, for it to have its best below a place
    chance = np.ones(number + 1)
    expected = np.empty(number)
    for drawn in range(number):
        chance = chance * np.maximum(below - drawn, 0) / (number - drawn)
        expected[drawn] = ordered @ np.diff(chance)
    return expected
