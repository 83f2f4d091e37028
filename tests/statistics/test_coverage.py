"""Intervals cover what they should where rows depend on each other, as those of CLUEWSC2020's pronouns do."""

import numpy as np
import pytest

from cluebench.statistics import paired, uncertainty

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
        low, high, _ = paired.by_error(right.mean() - expected, float(uncertainty.standard_error(right, clusters)))
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
