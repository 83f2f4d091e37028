import numpy as np
import pytest

from cluebench.data.rows import SpanRow
from cluebench.features import span
from cluebench.features.span import SpanFeatures, windows
from cluebench.foundation.errors import UsageError
from tests.features import reference
from tests.features.rows import span_rows


def features_of(rows, encoder, length=48, stride=16, **settings):
    return SpanFeatures(span.build(rows, encoder, max_seq_length=length, doc_stride=stride, **settings))


@pytest.mark.parametrize("length, stride", [(48, 16), (48, 1), (48, 1000), (64, 33), (512, 128)])
def test_batches_equal_the_plain_way(encoder, length, stride):
    rows = span_rows(40)
    features = features_of(rows, encoder, length, stride)
    expected = [
        (number, *window)
        for number, row in enumerate(rows)
        for window in reference.windows(
            encoder.tokenizer, row.context, row.question, row.answers[0], row.answer_starts[0], length, stride, encoder
        )
    ]
    assert features.rows.tolist() == [number for number, *_ in expected]
    reference.assert_batches(features, [[(ids, types)] for _, ids, types, *_ in expected], encoder.pad_id)
    assert features.start_positions.tolist() == [start for *_, start, _ in expected]
    assert features.end_positions.tolist() == [end for *_, end in expected]
    assert (features.start_positions > 0).any()


def test_windows_step_and_end_with_the_first_that_reaches_the_end():
    of_row, first = windows(np.array([10, 11, 25, 0]), np.array([10, 10, 10, 10]), 4)
    assert of_row.tolist() == [0, 1, 1, 2, 2, 2, 2, 2, 3]
    assert first.tolist() == [0, 0, 4, 0, 4, 8, 12, 16, 0]


def test_a_stride_longer_than_a_window_leaves_no_gap():
    _, first = windows(np.array([25]), np.array([10]), 128)
    assert first.tolist() == [0, 10, 20]


def test_labels_and_offsets_point_at_the_answer_as_written(encoder):
    context = "ＡＢ Café的HELLO，鑫Ωμέγα 2016年"
    for answer in ("Café", "HELLO", "鑫", "Ωμέγα", "2016", "ＡＢ"):
        start = context.index(answer)
        row = SpanRow("Q", context, "今天", (answer,), (start,))
        features = features_of([row], encoder)
        place, last = features.start_positions[0], features.end_positions[0]
        first, behind = features.characters(0, place, last)
        assert features.context(0)[first:behind] == answer
        assert features.offsets(0)[place][0] == start and features.offsets(0)[last][1] == start + len(answer)
        assert features.offsets(0)[0] is None and features.offsets(0)[-1] is None


def test_an_answer_inside_a_token_is_labelled_with_the_token(encoder):
    row = SpanRow("Q", "今天iPhone7", "我们", ("Phone",), (3,))
    features = features_of([row], encoder)
    first, behind = features.characters(0, features.start_positions[0], features.end_positions[0])
    assert first <= 3 and behind >= 8


def test_a_window_without_the_whole_answer_points_at_cls(encoder):
    row = SpanRow("Q", "北京" * 30, "我们", ("京北京北",), (39,))
    features = features_of([row], encoder, length=27, stride=5)
    for index in range(len(features)):
        first, behind = (features.offsets(index)[5][0], features.offsets(index)[-2][1]) if len(features) else (0, 0)
        holds = first <= 39 and behind >= 43
        assert (features.start_positions[index] > 0) == holds == (features.end_positions[index] > 0)
    assert 0 < np.count_nonzero(features.start_positions) < len(features)


def test_a_start_that_does_not_match_the_text_is_trained_on_as_it_is(encoder):
    row = SpanRow("Q", "一二三四五六", "我们", ("五六",), (2,))
    features = features_of([row], encoder)
    assert features.characters(0, features.start_positions[0], features.end_positions[0]) == (2, 4)


def test_questions_are_whole_unless_cut(encoder):
    row = SpanRow("Q", "北京", "我们" * 10, ("北",), (0,))
    assert features_of([row], encoder).lengths.tolist() == [3 + 20 + 2]
    assert features_of([row], encoder, max_query_length=6).lengths.tolist() == [3 + 6 + 2]
    with pytest.raises(UsageError, match="--max_seq_length 23: the question '我们我们") as caught:
        features_of([row], encoder, length=23)
    assert "\n" not in str(caught.value)


def test_test_rows_have_no_labels(encoder):
    features = features_of(span_rows(5, answered=False), encoder)
    assert features.start_positions is None and features.end_positions is None
    assert set(features.batch([0])) == {"input_ids", "token_type_ids"}
    assert features.ids == [f"DEV_{index}_QUERY_0" for index in range(5)]


def test_an_empty_context_still_has_a_window(encoder):
    features = features_of(
        [SpanRow("Q", "", "我们", ("",), (0,)), SpanRow("R", "北京", "我们", ("京",), (1,))], encoder
    )
    assert features.lengths.tolist() == [5, 7]
    assert features.start_positions.tolist() == [0, 5]


def test_a_context_is_stored_once(encoder):
    rows = [SpanRow(f"Q{i}", "北京" * 20, f"今天{i}", ("北",), (0,)) for i in range(9)]
    arrays = span.build(rows, encoder, max_seq_length=48, doc_stride=16)
    assert len(arrays["tokens"]) == 40 and len(arrays["text"]) == 40 * 3
