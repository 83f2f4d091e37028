import numpy as np
import pytest

from cluebench.statistics.selection import selection


def test_half_against_half_by_hand():
    # Two clusters, so every split is the same one: the trial that is best on one cluster is scored on the other.
    scores = [[1, 1, 0, 0], [0, 0, 1, 1]]
    found = selection(scores, np.array([0, 0, 1, 1]), splits=5)
    assert (found.best, found.average, found.held_out) == (0.5, 0.5, 0.0)
    assert found.lead == 0 and found.by_selection == 0
    alone = selection([[1, 0, 1, 1]], splits=5)
    assert alone.best == alone.average == alone.held_out == 0.75
    with pytest.raises(ValueError, match="halves"):
        selection([[1, 0]], np.zeros(2))


def test_the_lead_of_equal_trials_is_all_selection():
    generator = np.random.default_rng(0)
    chance = generator.beta(3, 2, size=600)
    leads, explained = [], []
    for number in range(40):
        found = selection(generator.random((24, 600)) < chance, seed=number, splits=50)
        leads.append(found.lead)
        explained.append(found.by_selection)
    assert np.mean(leads) > 0.02
    assert np.mean(explained) > 0.85 * np.mean(leads)


def test_the_lead_of_a_better_trial_is_its_own():
    generator = np.random.default_rng(1)
    chance = np.full((12, 2000), 0.5)
    chance[3] = 0.7
    found = selection(generator.random(chance.shape) < chance)
    assert found.lead == pytest.approx(0.183, abs=0.03)
    assert found.by_selection < 0.01


def test_splits_are_seeded_and_never_cut_a_cluster():
    generator = np.random.default_rng(2)
    clusters = np.repeat(np.arange(30), 4)
    scores = generator.random((6, 30)).repeat(4, axis=1)
    by_cluster = selection(scores, clusters, seed=3)
    assert by_cluster == selection(scores, clusters, seed=3)
    assert by_cluster != selection(scores, clusters, seed=4)
    # Rows that repeat each other must not stand on both sides: then nothing would seem to be selection.
    assert selection(scores, seed=3).by_selection < 0.5 * by_cluster.by_selection
