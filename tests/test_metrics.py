"""Decoding and scores: values worked out by hand, plain reimplementations, and oracles on made-up rows."""

import numpy as np
import pytest

from cluebench.data.rows import SpanRow
from cluebench.features import TextEncoder, choice, idiom, metrics, span
from cluebench.features.choice import ChoiceFeatures
from cluebench.features.idiom import IdiomFeatures
from cluebench.features.metrics import (
    NO_ANSWER,
    accuracy,
    decode_choices,
    decode_idioms,
    decode_spans,
    mean_cross_entropy,
    organisers_question_scores,
    percent,
    question_scores,
)
from cluebench.features.span import SpanFeatures
from tests.features.conftest import GOLDEN
from tests.features.rows import choice_rows, idiom_records, span_rows
from tests.features.standin import StandIn


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder(StandIn((GOLDEN / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]))


# Accuracy -------------------------------------------------------------------------------------------------------------


def test_accuracy_is_a_share():
    assert accuracy(np.array([1, 0, 2, 2]), np.array([1, 1, 2, 0])) == 0.5


@pytest.mark.parametrize("predicted, gold", [([], []), ([1], [1, 2]), ([1, 2], [1])])
def test_accuracy_of_nothing_or_of_other_rows_is_refused(predicted, gold):
    with pytest.raises(ValueError):
        accuracy(np.array(predicted), np.array(gold))


# Choices --------------------------------------------------------------------------------------------------------------


def test_cross_entropy_by_hand():
    """Softmax gives 1/2 and 3/4; an option that is not there takes no part, and large numbers do no harm."""
    logits = np.array([[0, 0], [np.log(3), 0]], np.float32)
    expected = (np.log(2) + np.log(4 / 3)) / 2
    assert mean_cross_entropy(logits, np.array([1, 0])) == pytest.approx(expected, abs=1e-7)
    wider = np.concatenate([logits + 2000, np.full((2, 1), -np.inf)], axis=1)
    assert mean_cross_entropy(wider, np.array([1, 0])) == pytest.approx(expected, abs=1e-3)


def test_a_padded_option_is_never_chosen():
    logits = np.array([[1.0, 2.0, 9.0, 9.0], [3.0, 2.0, 1.0, 0.0], [-9.0, -8.0, 0.0, 5.0]], np.float32)
    mask = np.array([[True, True, False, False], [True] * 4, [True, True, True, False]])
    assert decode_choices(logits, mask).tolist() == [1, 0, 2]


@pytest.mark.parametrize("bad", [-np.inf, np.nan, np.finfo(np.float32).min])
def test_not_even_when_the_real_ones_are_worthless(bad):
    logits = np.array([[bad, bad, 0.0, 9.0]], np.float32)
    assert decode_choices(logits, np.array([[True, True, False, False]])).tolist() == [0]


def test_logits_and_mask_of_different_width():
    wide = np.array([[0.0, 1.0, 2.0, 3.0, -np.inf, -np.inf]])
    assert decode_choices(wide, np.ones((1, 4), bool)).tolist() == [3]
    assert decode_choices(wide[:, :4], np.array([[True] * 4 + [False] * 2])).tolist() == [3]
    with pytest.raises(ValueError, match="4 options"):
        decode_choices(wide[:, :4], np.ones((1, 6), bool))


def test_choice_oracle(encoder):
    rows = choice_rows(50, most_options=10)
    features = ChoiceFeatures(choice.build(rows, encoder, max_seq_length=60, num_choices=4))
    logits = np.where(features.option_mask, 0.0, 20.0)
    logits[np.arange(50), features.labels] = 10
    assert accuracy(decode_choices(logits, features.option_mask), features.labels) == 1


# Idioms ---------------------------------------------------------------------------------------------------------------


def test_each_candidate_once_in_a_record_best_pair_first():
    logits = np.array([[5.0, 4.0, 0.0], [9.0, 1.0, 2.0], [8.0, 7.0, 6.0]])
    # (1, 0) is the best pair; then (2, 1), since candidate 0 is used; blank 0 is left with candidate 2.
    assert decode_idioms(logits, np.array([4, 4, 4])).tolist() == [2, 0, 1]
    # In records of their own, all take candidate 0.
    assert decode_idioms(logits, np.array([0, 1, 2])).tolist() == [0, 0, 0]
    # Records need not stand together.
    assert decode_idioms(logits, np.array([0, 1, 0])).tolist() == [1, 0, 0]


def test_equal_scores_go_in_reading_order():
    assert decode_idioms(np.zeros((3, 4)), np.zeros(3, int)).tolist() == [0, 1, 2]


def test_more_blanks_than_candidates_take_their_own_best():
    logits = np.array([[3.0, 0.0], [2.0, 1.0], [1.0, 9.0]])
    assert decode_idioms(logits, np.zeros(3, int)).tolist() == [0, 0, 1]


def test_greedy_decoding_equals_the_plain_way():
    draw = np.random.default_rng(0)
    records = np.sort(draw.integers(0, 40, 200))
    logits = draw.normal(size=(200, 10)).round(1)  # with ties
    expected = {}
    for record in set(records.tolist()):
        blanks = [blank for blank in range(200) if records[blank] == record]
        pairs = sorted((-logits[b, c], b, c) for b in blanks for c in range(10))
        used = set()
        for _, blank, candidate in pairs:
            if blank not in expected and candidate not in used:
                expected[blank] = candidate
                used.add(candidate)
        for blank in blanks:
            expected.setdefault(blank, int(logits[blank].argmax()))
    assert decode_idioms(logits, records).tolist() == [expected[blank] for blank in range(200)]


def test_idiom_oracle(encoder):
    records = [record for record in idiom_records(40) if len(set(record.answers.values())) == len(record.answers)]
    features = IdiomFeatures(idiom.build(records, encoder, max_seq_length=64, num_choices=10))
    logits = np.zeros((len(features), 10))
    logits[np.arange(len(features)), features.labels] = 1
    assert len(features) > 40
    assert accuracy(decode_idioms(logits, features.records), features.labels) == 1


# Spans ----------------------------------------------------------------------------------------------------------------


def features_of(rows, encoder, length=48, stride=16):
    return SpanFeatures(span.build(rows, encoder, max_seq_length=length, doc_stride=stride))


def plain_decoding(start_logits, end_logits, features, n_best, longest):
    """As compute_prediction of the published tool goes about it: window by window, pair by pair."""
    answers = {}
    for row, name in enumerate(features.ids):
        candidates = []
        for window in np.flatnonzero(features.rows == row):
            offsets = features.offsets(window)
            starts, ends = start_logits[window, : len(offsets)], end_logits[window, : len(offsets)]
            for start in np.argsort(-starts, kind="stable")[:n_best]:
                for end in np.argsort(-ends, kind="stable")[:n_best]:
                    if offsets[start] is None or offsets[end] is None or not start <= end < start + longest:
                        continue
                    candidates.append((starts[start] + ends[end], offsets[start][0], offsets[end][1]))
        best = max(candidates, key=lambda candidate: candidate[0], default=None)
        answers[name] = NO_ANSWER if best is None else features.context(row)[best[1] : best[2]]
    return answers


@pytest.mark.parametrize("n_best, longest", [(20, 50), (3, 5), (1, 1), (100, 1000)])
def test_decoding_equals_the_plain_way(encoder, monkeypatch, n_best, longest):
    monkeypatch.setattr(metrics, "_WINDOWS_AT_ONCE", 16)
    features = features_of(span_rows(40), encoder)
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(2, len(features), 48)).astype(np.float32).round(1)
    expected = plain_decoding(*logits, features, n_best, longest)
    assert decode_spans(*logits, features, n_best, longest) == expected
    assert n_best > 1 or NO_ANSWER in expected.values()


def test_padding_behind_a_sequence_does_not_matter(encoder):
    features = features_of(span_rows(20), encoder)
    logits = np.random.default_rng(1).normal(size=(2, len(features), 48))
    beyond = np.arange(48) >= features.lengths[:, None]
    loud, silent = logits.copy(), logits.copy()
    loud[:, beyond], silent[:, beyond] = 99, -np.inf
    assert decode_spans(*loud, features, 20, 50) == decode_spans(*silent, features, 20, 50)
    wider = np.concatenate([silent, np.full((2, len(features), 5), 7.0)], axis=2)
    assert decode_spans(*wider, features, 20, 50) == decode_spans(*silent, features, 20, 50)


def test_the_best_window_of_a_question_wins(encoder):
    features = features_of([SpanRow("Q", "北京" * 30, "我们", ("北",), (0,))], encoder, length=25, stride=10)
    starts = np.zeros((len(features), 25))
    ends = starts.copy()
    starts[0, 4], ends[0, 5] = 5, 5
    starts[2, 6], ends[2, 8] = 6, 6
    assert decode_spans(starts, ends, features, 20, 50) == {"Q": "北京北"}
    starts[2, 6] = 3.9  # now the sums are 10 and 9.9
    assert decode_spans(starts, ends, features, 20, 50) == {"Q": "北京"}


def test_span_oracle(encoder):
    rows = span_rows(60)
    features = features_of(rows, encoder, length=64, stride=20)
    logits = np.zeros((2, len(features), 64))
    logits[0, np.arange(len(features)), features.start_positions] = 10
    logits[1, np.arange(len(features)), features.end_positions] = 10
    answers = decode_spans(*logits, features, 20, 50)
    answered = set(features.rows[features.start_positions > 0].tolist())
    found = 0
    for number, row in enumerate(rows):
        if number in answered:
            start, end = row.answer_starts[0], row.answer_starts[0] + len(row.answers[0])
            window = int(np.flatnonzero((features.rows == number) & (features.start_positions > 0))[0])
            first, behind = features.characters(
                window, features.start_positions[window], features.end_positions[window]
            )
            # An answer cut out of the middle of a token comes with the rest of that token.
            assert first <= start and end <= behind
            assert answers[row.id] == row.context[first:behind]
            found += answers[row.id] == row.answers[0]
    assert len(answered) >= 50 and found >= 30


def test_a_question_without_a_candidate(encoder):
    features = features_of([SpanRow("Q", "北京", "我们", ("北",), (0,))], encoder)
    logits = np.zeros((1, 7))
    logits[0, 0] = 9
    assert decode_spans(logits, logits, features, 1, 50) == {"Q": NO_ANSWER} == {"Q": "empty"}


# EM and F1 ------------------------------------------------------------------------------------------------------------


def row(*answers):
    return SpanRow("Q", "", "", answers, (0,) * len(answers))


@pytest.mark.parametrize(
    "answers, prediction, exact, f1",
    [
        (["北京"], "北京", 100, 100),
        (["北京。"], "“北京”", 100, 100),  # marks don't count
        (["ABC 公司"], "abc 公司", 100, 100),  # nor does case
        (["北京市", "北京"], "北京", 100, 100),  # the best answer counts
        (["北京市海淀区"], "海淀", 0, 50),  # 2 of 2 and 2 of 6
        (["中国北京"], "北京中国", 0, 50),  # the longest common run has two
        (["2016年"], "2016", 0, 100 * 2 / 3),  # a number is one unit
        (["the palace"], "palace", 0, 100 * 2 / 3),
        (["3.5%"], "3.5", 0, 100 * 2 / 3),  # a percent sign is one
        (["北京"], "上海", 0, 0),
        (["北京"], "。", 0, 0),
        (["。"], "，", 100, 0),  # nothing but marks: equal, with no unit in common
        (["北京"], "empty", 0, 0),
    ],
)
def test_organisers_scores_by_hand(answers, prediction, exact, f1):
    scores = organisers_question_scores({"Q": prediction}, [row(*answers)])
    assert scores == ([exact / 100], [pytest.approx(f1 / 100)])


@pytest.mark.parametrize(
    "text, units",
    [
        ("他说：“Hello, World！”", ["他", "说", "hello", ",", "world"]),
        ("1,000元", ["1,000", "元"]),
        ("U.S. 3.14", ["u.s.", "3.14"]),
        ("It's John's, isn't it?", ["it", "'s", "john", "'s", ",", "is", "n't", "it", "?"]),
        ("(A) B&C #1 50%", ["(", "a", ")", "b", "&", "c", "#", "1", "50", "%"]),
        ("ω-force A-B", ["ωforce", "ab"]),  # a hyphen is left out, not a word's end
        ("end.", ["end", "."]),
        ('"Folium" (the "A")', ["``", "folium", "''", "(", "the", "``", "a", "''", ")"]),
        ("a—b 'Unicode' wait...", ["a", "—", "b", "'", "unicode", "'", "wait", "..."]),
        ("x…y 《》", ["x…y"]),
        ("", []),
    ],
)
def test_units_of_mixed_text(text, units):
    assert list(metrics._units(text)) == units


def test_common_run_equals_the_plain_way():
    draw = np.random.default_rng(0)
    for _ in range(200):
        gold, answer = ("".join(draw.choice(list("甲乙丙"), draw.integers(1, 9))) for _ in range(2))
        runs = {gold[i:j] for i in range(len(gold)) for j in range(i + 1, len(gold) + 1)}
        longest = max((len(run) for run in runs if run in answer), default=0)
        expected = 2 * longest / (len(gold) + len(answer))
        assert organisers_question_scores({"Q": answer}, [row(gold)])[1] == [pytest.approx(expected)]


@pytest.mark.parametrize("score", [organisers_question_scores, question_scores])
def test_what_cannot_be_scored_is_refused(score):
    with pytest.raises(ValueError, match="question Q has no prediction"):
        score({}, [row("北京")])
    with pytest.raises(ValueError, match="question Q has no answer"):
        score({"Q": "北京"}, [row()])
    with pytest.raises(ValueError, match="no questions"):
        score({}, [])


@pytest.mark.slow
def test_paddlenlps_scores():
    rows = [
        SpanRow("A", "", "", ("北京。", "北京市"), (0, 0)),
        SpanRow("B", "", "", ("上海市",), (0,)),
        SpanRow("C", "", "", ("广州",), (0,)),
    ]
    exact, f1 = question_scores({"A": "北京", "B": "上海", "C": "深圳"}, rows)
    assert exact == [1, 0, 0] and f1 == pytest.approx([1, 0.8, 0])
    assert percent(exact) == pytest.approx(100 / 3)


@pytest.mark.slow
def test_paddlenlps_scores_are_those_of_its_evaluation():
    from paddlenlp.metrics.squad import squad_evaluate

    rows = span_rows(80)
    draw = np.random.default_rng(0)
    answers = {one.id: one.context[int(draw.integers(0, 3)) :][: int(draw.integers(1, 12))] for one in rows}
    answers[rows[0].id] = rows[0].answers[0]
    examples = [{"id": one.id, "answers": {"text": list(one.answers), "answer_start": [0]}} for one in rows]
    expected = squad_evaluate(examples, answers, is_whitespace_splited=False)
    found = [percent(scores) for scores in question_scores(answers, rows)]
    assert found == pytest.approx([expected["exact"], expected["f1"]])
