"""Decoding and scores: values worked out by hand, plain reimplementations, and oracles on made-up rows."""

import numpy as np
import pytest

from cluebench.data.rows import SpanRow
from cluebench.features import metrics, span
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
from tests.features.rows import span_rows

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


@pytest.mark.parametrize(
    "logits, mask, best",
    [
        ([1, 2, 9, 9], [1, 1, 0, 0], 1),  # a padded option is never chosen
        ([3, 2, 1, 0], [1, 1, 1, 1], 0),
        ([-9, -8, 0, 5], [1, 1, 1, 0], 2),
        ([-np.inf, -np.inf, 0, 9], [1, 1, 0, 0], 0),  # not even when the real ones are worthless
        ([np.nan, np.nan, 0, 9], [1, 1, 0, 0], 0),
        ([np.finfo(np.float32).min] * 2 + [0, 9], [1, 1, 0, 0], 0),
        ([0, 1, 2, 3, -np.inf, -np.inf], [1, 1, 1, 1], 3),  # of different width
        ([0, 1, 2, 3], [1, 1, 1, 1, 0, 0], 3),
    ],
)
def test_choices(logits, mask, best):
    assert decode_choices(np.array([logits], np.float32), np.array([mask], bool)).tolist() == [best]


def test_logits_of_too_few_options():
    with pytest.raises(ValueError, match="4 options"):
        decode_choices(np.zeros((1, 4)), np.ones((1, 6), bool))


# Idioms ---------------------------------------------------------------------------------------------------------------


def test_each_candidate_once_in_a_record_best_pair_first():
    logits = np.array([[5.0, 4.0, 0.0], [9.0, 1.0, 2.0], [8.0, 7.0, 6.0]])
    # (1, 0) is the best pair; then (2, 1), since candidate 0 is used; blank 0 is left with candidate 2.
    assert decode_idioms(logits, np.array([4, 4, 4])).tolist() == [2, 0, 1]
    # In records of their own, all take candidate 0.
    assert decode_idioms(logits, np.array([0, 1, 2])).tolist() == [0, 0, 0]
    # Records need not stand together.
    assert decode_idioms(logits, np.array([0, 1, 0])).tolist() == [1, 0, 0]


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
    assert n_best > 1 or "empty" in expected.values()


def test_padding_behind_a_sequence_does_not_matter(encoder):
    features = features_of(span_rows(20), encoder)
    logits = np.random.default_rng(1).normal(size=(2, len(features), 48))
    beyond = np.arange(48) >= features.lengths[:, None]
    loud, silent = logits.copy(), logits.copy()
    loud[:, beyond], silent[:, beyond] = 99, -np.inf
    assert decode_spans(*loud, features, 20, 50) == decode_spans(*silent, features, 20, 50)
    wider = np.concatenate([silent, np.full((2, len(features), 5), 7.0)], axis=2)
    assert decode_spans(*wider, features, 20, 50) == decode_spans(*silent, features, 20, 50)


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
