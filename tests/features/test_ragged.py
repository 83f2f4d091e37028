import numpy as np
import pytest

from cluebench.features.ragged import (
    Ragged,
    distinct,
    flat_positions,
    narrowest,
    offsets_of,
    pack_strings,
    unpack_string,
    unpack_strings,
)


def test_lists_come_back_as_they_went_in():
    ragged = Ragged.of([[3, 1], [], [4, 1, 5]])
    assert [one.tolist() for one in ragged] == [[3, 1], [], [4, 1, 5]]
    assert len(ragged) == 3
    assert ragged.lengths.tolist() == [2, 0, 3]
    with pytest.raises(IndexError):
        ragged[3]


def test_no_lists_at_all():
    assert len(Ragged.of([])) == 0
    assert flat_positions(np.array([], int), np.array([], int)).tolist() == []


def test_concatenation_keeps_order_and_empty_lists():
    parts = [Ragged.of([[1], []]), Ragged.of([]), Ragged.of([[], [2, 3]])]
    assert [one.tolist() for one in Ragged.concatenate(parts)] == [[1], [], [], [2, 3]]


def test_cut_keeps_the_beginning():
    assert [one.tolist() for one in Ragged.of([[1, 2, 3], [4], []]).cut(2)] == [[1, 2], [4], []]


def test_flat_positions_are_slices_one_after_another():
    assert flat_positions(np.array([10, 0, 7]), np.array([2, 0, 3])).tolist() == [10, 11, 7, 8, 9]
    narrow = flat_positions(np.array([65535], np.uint16), np.array([2], np.uint16))
    assert narrow.tolist() == [65535, 65536]  # no overflow in the stored type


@pytest.mark.parametrize(
    "largest, dtype",
    [
        (0, np.uint8),
        (255, np.uint8),
        (256, np.uint16),
        (65535, np.uint16),
        (65536, np.uint32),
        (2**32 - 1, np.uint32),
        (2**32, np.int64),
    ],
)
def test_narrowest_type_that_holds_the_values(largest, dtype):
    stored = narrowest(np.array([0, largest], np.int64))
    assert stored.dtype == dtype
    assert stored.tolist() == [0, largest]


def test_narrowest_leaves_negative_numbers_alone():
    assert narrowest(np.array([-1, 5], np.int32)).tolist() == [-1, 5]
    assert narrowest(np.array([], np.int64)).dtype == np.uint8


def test_distinct_items_and_the_way_back():
    items, index = distinct(["b", "a", "b", "c", "a"])
    assert items == ["b", "a", "c"]
    assert [items[i] for i in index] == ["b", "a", "b", "c", "a"]


@pytest.mark.parametrize("strings", [["a", "", "bc"], ["中文", "\U0001f600", ""], ["\ud83d", "x"], []])
def test_strings_survive_packing(strings):
    packed = pack_strings(strings)
    assert unpack_strings(packed) == strings
    assert [unpack_string(packed, index) for index in range(len(strings))] == strings


def test_offsets_start_at_zero_and_end_at_the_total():
    assert offsets_of([2, 0, 3]).tolist() == [0, 2, 2, 5]
    assert offsets_of([]).tolist() == [0]
