import numpy as np
import pytest

from cluebench.data.rows import TextRow
from cluebench.features import pair
from cluebench.features.pair import PairFeatures, longest_first
from tests.features import reference
from tests.features.rows import text_rows


@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize("length", [5, 6, 12, 31, 512])
def test_batches_equal_the_plain_way(encoder, segments, length):
    rows = text_rows(60, segments)
    features = PairFeatures(pair.build(rows, encoder, max_seq_length=length))
    expected = [[reference.text_row(encoder.tokenizer, row.texts, length)] for row in rows]
    reference.assert_batches(features, expected, encoder.pad_id)
    assert features.batch([3])["input_ids"].ndim == 2
    assert features.labels.tolist() == [row.label for row in rows]


def test_a_text_is_stored_once_and_no_longer_than_it_is_used(encoder):
    rows = [TextRow(("北京" * 30, "今天"), 0), TextRow(("今天", "北京" * 30), 1)]
    arrays = pair.build(rows, encoder, max_seq_length=20)
    assert len(arrays["tokens_offsets"]) - 1 == 2
    assert len(arrays["tokens"]) == 17 + 2
    assert arrays["tokens"].dtype == np.uint16


def test_ties_cost_the_second_text(encoder):
    features = PairFeatures(pair.build([TextRow(("北京今天", "我们经济"), 0)], encoder, max_seq_length=10))
    tokens = encoder.tokenizer.convert_tokens_to_ids(["[CLS]", *"北京今天", "[SEP]", *"我们经", "[SEP]"])
    assert features.batch([0])["input_ids"].tolist() == [tokens]


def test_longest_first_in_closed_form():
    sizes = np.array([(a, b) for a in range(15) for b in range(15)])
    for room in range(1, 20):
        kept = np.stack(longest_first(sizes[:, 0], sizes[:, 1], room), axis=1)
        for (a, b), result in zip(sizes.tolist(), kept.tolist(), strict=True):
            while a + b > room:
                a, b = (a - 1, b) if a > b else (a, b - 1)
            assert result == [a, b]


def test_test_rows_have_ids_and_no_labels(encoder):
    rows = [TextRow(("我们",), None, 7), TextRow(("今天",), None, 3)]
    features = PairFeatures(pair.build(rows, encoder, max_seq_length=16))
    assert features.ids == [7, 3]
    assert features.labels is None
    assert "labels" not in features.batch([0])
    named = PairFeatures(
        pair.build([TextRow(("我们",), None, "a"), TextRow(("今天",), None, 3)], encoder, max_seq_length=16)
    )
    assert named.ids == ["a", "3"]
    assert PairFeatures(pair.build([TextRow(("我们",), 1)], encoder, max_seq_length=16)).ids is None


def test_more_texts_than_a_narrow_type_counts(encoder, golden_tokens):
    chars = [token for token in golden_tokens if "一" <= token < "龥"][:257]
    rows = [TextRow((one + other,), 0) for one in chars for other in chars][:65_537]
    features = PairFeatures(pair.build(rows, encoder, max_seq_length=16))
    expected, _ = reference.text_row(encoder.tokenizer, rows[65_535].texts, 16)
    assert features.batch([65_535])["input_ids"].tolist() == [expected]
