import numpy as np
import pytest

from cluebench.data.rows import IDIOM_TAG, IdiomRecord
from cluebench.features import TextEncoder, idiom
from cluebench.features.idiom import IdiomFeatures, normalised, window_sides
from tests.features import reference
from tests.features.rows import idiom_records
from tests.features.standin import StandIn


def features_of(records, encoder, length=64):
    return IdiomFeatures(idiom.build(records, encoder, max_seq_length=length, num_choices=10))


@pytest.mark.parametrize("length", [10, 11, 20, 37, 64, 200])
def test_batches_equal_the_plain_way(encoder, length, monkeypatch):
    monkeypatch.setattr(idiom, "_RECORDS_AT_ONCE", 7)
    records = idiom_records(30)
    features = features_of(records, encoder, length)
    blanks = [
        (number, passage, tag, record)
        for number, record in enumerate(records)
        for passage in record.passages
        for tag in IDIOM_TAG.findall(passage)
    ]
    assert features.tags == [tag for _, _, tag, _ in blanks]
    assert features.records.tolist() == [number for number, *_ in blanks]
    assert features.labels.tolist() == [record.answers[tag] for _, _, tag, record in blanks]
    expected = [
        reference.blank(encoder.tokenizer, passage, tag, record.candidates, length)
        for _, passage, tag, record in blanks
    ]
    assert features.lengths.max() <= length and features.batch([0])["input_ids"].ndim == 3
    reference.assert_batches(features, expected, encoder.pad_id)


def test_punctuation_is_made_plain():
    assert normalised("“他”——‘好’—―……") == "\"他\"--'好'--......"


def test_half_a_window_on_each_side_and_what_one_side_lacks():
    before, after = np.array([100, 10, 100, 10, 0, 28]), np.array([100, 100, 10, 10, 100, 28])
    left, right = window_sides(before, after, 56)
    assert left.tolist() == [28, 10, 46, 10, 0, 28]
    assert right.tolist() == [28, 46, 10, 10, 56, 28]
    assert [side.tolist() for side in window_sides(np.array([9]), np.array([9]), 5)] == [[2], [3]]


def test_a_neighbouring_blank_is_cut_like_text(encoder):
    """Four [MASK] for one token, of which only as many stay as keep the side's length."""
    record = IdiomRecord(("一二#idiom000000##idiom000001#三",), ("东西南北",) * 10, None)
    features = features_of([record], encoder)
    names = {index: token for token, index in encoder.tokenizer.get_vocab().items()}
    shown = [[names[i] for i in row] for row in features.batch([0, 1])["input_ids"][:, 0].tolist()]
    head = ["[CLS]", *"东西南北", "[SEP]"]
    assert shown[0] == [*head, *"一二", "[unused1]", "[MASK]", "[MASK]", "[SEP]"]
    assert shown[1] == [*head, "[MASK]", "[MASK]", "[MASK]", "[unused1]", "三", "[SEP]"]


def test_a_vocabulary_without_the_blank_token_has_the_unknown_one(golden_tokens):
    bare = TextEncoder(StandIn([token for token in golden_tokens if token != "[unused1]"]))
    features = features_of([IdiomRecord(("一#idiom000000#二",), ("东西南北",) * 10, None)], bare)
    assert features.batch([0])["input_ids"][0, 0, 7] == bare.token_id("[UNK]")


def test_a_candidate_longer_than_the_window_leaves_is_cut(encoder):
    """Idioms have four tokens, for which there is room; of longer candidates the end is left out, never the passage's."""
    record = IdiomRecord(("一二三四五六#idiom000000#七八九",), ("东西南北中" * 3, *("东西南北",) * 9), None)
    features = features_of([record], encoder, length=16)
    sequences = features.batch([0])["input_ids"][0]
    names = {index: token for token, index in encoder.tokenizer.get_vocab().items()}
    shown = [[names[i] for i in row] for row in sequences.tolist()]
    window = [*"二三四五六", "[unused1]", *"七八九", "[SEP]"]
    assert shown[0] == ["[CLS]", *"东西南北", "[SEP]", *window] and shown[1] == shown[0]
    assert features.lengths.tolist() == [16]
    wide = features_of([record], encoder, length=20)
    assert wide.lengths.tolist() == [20] and wide.batch([0])["input_ids"].shape == (1, 10, 20)
    assert [names[i] for i in wide.batch([0])["input_ids"][0, 0].tolist()] == [
        "[CLS]", *"东西南北中东西", "[SEP]", *"一二三四五六", "[unused1]", *"七八九", "[SEP]",
    ]  # fmt: skip


def test_passages_without_blanks_make_no_examples(encoder):
    record = IdiomRecord(("没有。", "一#idiom000007#", ""), ("东西南北",) * 10, {"#idiom000007#": 4})
    features = features_of([IdiomRecord(("空",), ("东西南北",) * 10, {}), record], encoder)
    assert (len(features), features.tags, features.labels.tolist()) == (1, ["#idiom000007#"], [4])
    assert features.records.tolist() == [1]


def test_test_records_have_no_labels(encoder):
    features = features_of([IdiomRecord(("一#idiom000007#",), ("东西南北",) * 10, None)], encoder)
    assert features.labels is None
    assert "labels" not in features.batch([0])


def test_idioms_are_stored_once(encoder):
    records = idiom_records(20)
    arrays = idiom.build(records, encoder, max_seq_length=64, num_choices=10)
    distinct = {candidate for record in records for candidate in record.candidates}
    assert len(arrays["idioms_offsets"]) - 1 == len(distinct) < 31
    assert arrays["candidates"].shape == (20, 10)
