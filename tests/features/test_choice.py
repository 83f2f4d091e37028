import numpy as np
import pytest

from cluebench.data.rows import ChoiceRow
from cluebench.features import choice
from cluebench.features.choice import ChoiceFeatures, fit_longest
from tests.features import reference
from tests.features.rows import choice_rows


def features_of(rows, encoder, length):
    return ChoiceFeatures(choice.build(rows, encoder, max_seq_length=length, num_choices=4))


@pytest.mark.parametrize("length", [7, 8, 16, 45, 512])
def test_batches_equal_the_plain_way(encoder, length):
    rows = choice_rows(60)
    features = features_of(rows, encoder, length)
    expected = [reference.question(encoder.tokenizer, r.context, r.question, r.options, length) for r in rows]
    assert features.lengths.max() <= length
    reference.assert_batches(features, expected, encoder.pad_id)
    assert features.labels.tolist() == [row.answer for row in rows]


def test_up_to_ten_options_are_all_there(encoder):
    rows = choice_rows(40, seed=3, most_options=10)
    features = features_of(rows, encoder, 60)
    for index, row in enumerate(rows):
        batch = features.batch([index])
        expected = reference.question(encoder.tokenizer, row.context, row.question, row.options, 60)
        assert batch["input_ids"].shape == (1, max(4, len(row.options)), features.lengths[index])
        pads = [encoder.pad_id] * features.lengths.max()
        assert batch["input_ids"][0].tolist() == [(ids + pads)[: features.lengths[index]] for ids, _ in expected]
    batch = features.batch(range(40))
    assert batch["input_ids"].shape[:2] == (40, 10) == features.option_mask.shape
    for mask in (batch["option_mask"], features.option_mask):
        assert mask.tolist() == [[number < len(row.options) for number in range(10)] for row in rows]


def test_options_do_not_see_different_contexts(encoder):
    row = ChoiceRow("北京" * 40, "今天", ("我们", "经济" * 10), 0, 0)
    turned = ChoiceRow("北京" * 40, "今天", ("经济" * 10, "我们"), 1, 0)
    one, other = (features_of([r], encoder, 50).batch([0])["input_ids"][0] for r in (row, turned))
    assert one[0].tolist() == other[1].tolist() and one[1].tolist() == other[0].tolist()
    assert one[0, :28].tolist() == one[1, :28].tolist()


def test_everything_is_lower_cased_even_for_a_cased_tokenizer(golden_tokens):
    from cluebench.features import TextEncoder
    from tests.features.standin import StandIn

    cased = TextEncoder(StandIn(golden_tokens, do_lower_case=False))
    loud = features_of([ChoiceRow("HELLO", "ABC", ("XY", "Z"), 0, 0)], cased, 30).batch([0])
    quiet = features_of([ChoiceRow("hello", "abc", ("xy", "z"), 0, 0)], cased, 30).batch([0])
    assert loud["input_ids"].tolist() == quiet["input_ids"].tolist()
    assert not (loud["input_ids"] == cased.token_id("[UNK]")).any()


def test_a_string_is_stored_once(encoder):
    row = ChoiceRow("北京", "今天", ("今天", "北京"), 0, 0)
    arrays = choice.build([row] * 5, encoder, max_seq_length=30, num_choices=4)
    assert len(arrays["tokens_offsets"]) - 1 == 3  # and what fills up


def test_fit_longest_in_closed_form():
    sizes = np.array([(c, q, o) for c in range(9) for q in range(9) for o in range(9)])
    for room in range(0, 26):
        kept = np.stack(fit_longest(*sizes.T, room), axis=1)
        for before, after in zip(sizes.tolist(), kept.tolist(), strict=True):
            left = list(before)
            while sum(left) > room:
                left[left.index(max(left))] -= 1
            assert after == left, (before, room)
