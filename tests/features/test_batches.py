import numpy as np
import pytest

from cluebench.features.ragged import Piece
from cluebench.features.sequences import assemble, length_sorted_batches, token


def test_rows_are_laid_end_to_end_and_padded():
    flat = np.array([11, 12, 13, 14], np.uint16)
    batch = assemble(
        [
            token(1, 2),
            Piece(flat, np.array([0, 3]), np.array([3, 1])),
            token(2, 2),
            Piece(flat, np.array([1, 0]), np.array([1, 0]), 1),
        ],
        pad_id=9,
    )
    assert batch["input_ids"].tolist() == [[1, 11, 12, 13, 2, 12], [1, 14, 2, 9, 9, 9]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]]
    assert batch["input_ids"].dtype == batch["token_type_ids"].dtype == np.int64


def test_an_empty_batch_has_no_rows():
    assert assemble([token(1, 0)], pad_id=0)["input_ids"].shape == (0, 0)


@pytest.mark.parametrize("examples", [0, 1, 7, 64, 100])
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_every_index_stands_in_one_batch_of_one_rank(examples, world_size):
    lengths = np.random.default_rng(examples).integers(1, 50, examples)
    seen = [
        index
        for rank in range(world_size)
        for batch in length_sorted_batches(lengths, 8, rank, world_size)
        for index in batch.tolist()
    ]
    assert sorted(seen) == list(range(examples))


def test_neighbours_in_length_share_a_batch_longest_first():
    batches = length_sorted_batches(np.array([3, 9, 1, 7, 5]), 2)
    assert [batch.tolist() for batch in batches] == [[1, 3], [4, 0], [2]]


def test_ranks_take_turns():
    lengths = np.arange(8)
    assert [batch.tolist() for batch in length_sorted_batches(lengths, 2, 1, 2)] == [[5, 4], [1, 0]]


@pytest.mark.parametrize("batch_size, rank, world_size", [(0, 0, 1), (4, 2, 2), (4, -1, 2)])
def test_impossible_batches_are_refused(batch_size, rank, world_size):
    with pytest.raises(ValueError):
        length_sorted_batches(np.ones(3), batch_size, rank, world_size)
