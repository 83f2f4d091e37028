"""How a trial's batch is cut into micro-batches, and cut again when memory ran out."""

from typing import get_args

import pytest

from cluebench.records.grid_file import TrialState
from cluebench.scheduler.plan.jobs import State
from tests.simulated import job_of, trials


def job(task, batch_size):
    return job_of(*trials(task, batch_sizes=[batch_size]))


@pytest.mark.parametrize(
    "task, batch_size, micro_batches",
    [
        ("tnews", 32, [1, 2, 4, 8, 16, 32]),
        ("csl", 32, [2, 4, 8, 16, 32]),
        ("chid", 24, [8, 24]),  # 16 does not cut 24 evenly
        ("c3", 24, [12, 24]),
        ("c3", 32, [16, 32]),
    ],
)
def test_micro_batches_are_halved_until_they_are_one_row(task, batch_size, micro_batches):
    cut, found = job(task, batch_size), []
    while True:
        found.append(cut.accumulation())
        assert cut.micro_batch() == batch_size // found[-1]
        if not cut.cut_further():
            break
    assert found == micro_batches and cut.accumulation() == micro_batches[-1]


def test_several_cards_share_the_batch():
    cut = job("c3", 24)
    assert [(cut.accumulation(cards), cut.micro_batch(cards)) for cards in (1, 4, 12)] == [(12, 2), (3, 2), (1, 2)]
    assert cut.cut_further()
    assert [(cut.accumulation(cards), cut.micro_batch(cards)) for cards in (1, 4, 12)] == [(24, 1), (6, 1), (2, 1)]
    cut.memory_factor = 4
    assert (cut.accumulation(), cut.micro_batch(), cut.accumulation(4), cut.micro_batch(4)) == (None,) * 4


def test_states_are_the_words_of_grid_json():
    assert {state.value for state in State} == set(get_args(TrialState))
