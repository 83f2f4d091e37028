"""The best score to expect from a smaller search."""

from collections.abc import Sequence

import numpy as np


def expected_best(scores: Sequence[float]) -> np.ndarray:
    """float64 [trials]: at place n - 1 the mean best score of n different trials, over all subsets of n trials.

    This is unbiased for the best of n trials with settings from the same distribution (Tang et al. 2020, "Showing Your
    Work Doesn't Always Work"). Drawing with replacement, as Dodge et al. 2019 do, underestimates the best. The numbers
    rise with n; the last one is the best score.
    """
    ordered = np.sort(np.asarray(scores, np.float64))
    number = len(ordered)
    below = np.arange(number + 1)  # at each place, the number of trials before it
    chance = np.ones(number + 1)  # that all drawn trials are before the place
    expected = np.empty(number)
    for drawn in range(number):
        chance = chance * np.maximum(below - drawn, 0) / (number - drawn)
        expected[drawn] = ordered @ np.diff(chance)
    return expected
