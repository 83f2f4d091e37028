from itertools import combinations

import numpy as np
import pytest

from cluebench.statistics.budget import expected_best


@pytest.mark.parametrize("scores", [[70.0], [70.0, 71.5], [3.0, 1.0, 2.0], [5.0, 5.0, 4.0, 9.0, 1.0, 7.5, 7.5]])
def test_expected_best_equals_the_mean_over_all_subsets(scores):
    found = expected_best(scores)
    for size in range(1, len(scores) + 1):
        assert found[size - 1] == pytest.approx(np.mean([max(subset) for subset in combinations(scores, size)]))


def test_a_large_grid_stays_exact():
    found = expected_best(np.arange(2000.0))
    # The best of n of 0 … N - 1 without replacement is n (N + 1) / (n + 1) - 1 on average.
    sizes = np.arange(1, 2001)
    np.testing.assert_allclose(found, sizes * 2001 / (sizes + 1) - 1, rtol=1e-9)
    assert (np.diff(found) >= 0).all()
    assert expected_best([]).shape == (0,)
