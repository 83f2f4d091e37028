import json
import math

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data.rows import SpanRow
from cluebench.records import analysis
from cluebench.records.analysis import Choices
from cluebench.records.dev_predictions import DevPredictions


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_choices_carry_the_softmax_of_what_was_predicted(tmp_path):
    logits = np.array([[0.0, math.log(3)], [math.log(4), -np.inf]])
    found = Choices(np.array([0, 0]), ["7", "9"]).evaluation(logits)
    analysis.write(tmp_path / "p.jsonl", TASKS["cluewsc2020"], found)
    assert lines_of(tmp_path / "p.jsonl") == [
        {"id": "7", "gold": "true", "predicted": "false", "score": 0.75},
        {"id": "9", "gold": "true", "predicted": "true", "score": 1.0},
    ]
    assert found.score == (50,) and found.predictions.are_of(["7", "9"]) and not found.predictions.are_of(["7", "8"])


def test_options_are_called_by_their_numbers_and_rows_without_ids_by_theirs():
    found = Choices(np.array([0, 1, 3, 3])).evaluation(np.eye(4))
    assert [[*record.values()][:3] for record in analysis.records(TASKS["c3"], found)] == [
        [0, 0, 0], [1, 1, 1], [2, 3, 2], [3, 3, 3],
    ]  # fmt: skip


def test_spans_carry_all_gold_answers_and_f1():
    rows = [
        SpanRow("q", "光荣和他们", "谁?", ("光荣", "光荣和他们"), (0, 0)), SpanRow("r", "他们", "谁?", ("他们",), (0,)),
    ]  # fmt: skip
    found = analysis.evaluated_spans(1.5, {"r": "他们", "q": "光荣和"}, rows)
    assert list(analysis.records(TASKS["cmrc2018"], found)) == [
        # three of three and two characters in common: 2·2/5 = 0.8, 2·3/8 = 0.75
        {"id": "q", "gold": ["光荣", "光荣和他们"], "predicted": "光荣和", "score": 0.8},
        {"id": "r", "gold": ["他们"], "predicted": "他们", "score": 1.0},
    ]
    assert found.organisers == pytest.approx((50, 90)) and found.loss == 1.5 and found.predictions.are_of(["q", "r"])


def test_worst_pairs_by_count():
    task, pairs = TASKS["ocnli"], [(0, 0)] * 5 + [(0, 1)] * 2 + [(1, 0)] * 3 + [(1, 2)]
    gold, predicted = map(np.array, zip(*pairs))
    lines = analysis.worst_pairs(task, DevPredictions.of_choices(range(11), predicted, gold), most=2)
    assert lines[0] == "dev errors of the best model: 6 of 11"
    assert [line.split() for line in lines[2:]] == [
        ["contradiction", "entailment", "3", "75.0%"], ["entailment", "contradiction", "2", "28.6%"],
    ]  # fmt: skip
    assert analysis.worst_pairs(task, DevPredictions.of_choices(range(11), gold, gold)) == []
