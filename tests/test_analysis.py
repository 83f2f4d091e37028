import json
import math

import numpy as np

from cluebench.data.rows import SpanRow
from cluebench.records import analysis


def test_choices_carry_the_softmax_of_what_was_predicted():
    logits = np.array([[0.0, math.log(3)], [math.log(4), -np.inf]])
    records = list(analysis.choices(range(2), np.array([0, 0]), np.array([1, 0]), logits, ("真", "假")))
    assert records == [
        {"id": 0, "gold": "真", "predicted": "假", "score": 0.75},
        {"id": 1, "gold": "真", "predicted": "真", "score": 1.0},
    ]


def test_spans_carry_all_gold_answers_and_f1():
    row = SpanRow("q", "光荣和他们", "谁?", ("光荣", "光荣和他们"), (0, 0))
    (record,) = analysis.spans([row], {"q": "光荣和"})
    assert record["gold"] == ["光荣", "光荣和他们"] and record["predicted"] == "光荣和"
    assert record["score"] == 0.8  # three of three and two characters in common: 2·2/5 = 0.8, 2·3/8 = 0.75


def test_worst_pairs_by_count(tmp_path):
    pairs = [("a", "a")] * 5 + [("a", "b")] * 2 + [("b", "a")] * 3 + [("b", "c")]
    analysis.write(tmp_path / "p.jsonl", ({"id": i, "gold": g, "predicted": p} for i, (g, p) in enumerate(pairs)))
    lines = analysis.worst_pairs(tmp_path / "p.jsonl", most=2)
    assert lines[0] == "dev errors of the best model: 6 of 11"
    assert [line.split() for line in lines[2:]] == [["b", "a", "3", "75.0%"], ["a", "b", "2", "28.6%"]]
    assert json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0])["gold"] == "a"
    analysis.write(tmp_path / "p.jsonl", [{"id": 0, "gold": "a", "predicted": "a"}])
    assert analysis.worst_pairs(tmp_path / "p.jsonl") == []
