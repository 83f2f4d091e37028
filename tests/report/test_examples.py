import json

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data.rows import ChoiceRow, IdiomRecord, SpanRow, TextRow
from cluebench.foundation.errors import DataError
from cluebench.records.dev_predictions import DevPredictions
from cluebench.report.comparison import Contender, compare, disagreements, rendered_disagreements
from cluebench.report.evidence import measured
from cluebench.report.examples import examples_of

IDIOMS = tuple("一心一意 三心二意 七上八下 九牛一毛 百发百中 千方百计 万无一失 十全十美 四面八方 五花八门".split())


def choices(ids, predicted, gold):
    return DevPredictions.of_choices(ids, np.array(predicted), np.array(gold))


def test_rows_of_every_kind_in_words():
    rows = [TextRow(("今天股市大涨",), 3, 7), TextRow(("他赢了比赛",), 2, 8)]
    first, _ = examples_of(TASKS["tnews"], rows, choices([7, 8], [3, 3], [3, 2]))
    assert first[:3] == (7, {"sentence": "今天股市大涨"}, "103") and first.name(np.int64(2)) == "102"

    rows = [ChoiceRow("甲:你好\n乙:你好", "他们是谁?", ("朋友", "师生", "夫妻"), 1, 0)]
    (choice,) = examples_of(TASKS["c3"], rows, choices([0], [0], [1]))
    assert (choice.gold, choice.name(0), choice.name(3)) == ("师生", "朋友", "3")
    assert choice.texts["options"] == "朋友 | 师生 | 夫妻"

    answers = {"#idiom000001#": 4, "#idiom000002#": 0}
    rows = [IdiomRecord(("前" * 200 + "#idiom000001#后", "又#idiom000002#"), IDIOMS, answers)]
    one, two = examples_of(TASKS["chid"], rows, choices(list(answers), [0, 0], [4, 0]))
    assert one.texts["passage"] == "前" * 80 + "#idiom000001#后" and one.gold == "百发百中" and two.gold == "一心一意"

    rows = [SpanRow("q1", "光荣和他们", "谁?", ("光荣", "光荣和他们"), (0, 0))]
    predictions = DevPredictions.of_spans(["q1"], {"q1": "他们"}, [0], [0.5])
    (span,) = examples_of(TASKS["cmrc2018"], rows, predictions)
    assert span.gold == "光荣 | 光荣和他们" and span.name("他们") == "他们"


def test_predictions_of_other_rows_are_refused():
    with pytest.raises(DataError, match="TNEWS: the predictions are of other dev rows: --data_dir"):
        examples_of(TASKS["tnews"], [TextRow(("今天",), 3)], choices([0, 1], [3, 3], [3, 2]))
    rows = [TextRow(("今天",), 3, 7), TextRow(("明天",), 2, 8)]
    with pytest.raises(DataError, match="TNEWS: the predictions are of other dev rows: --data_dir"):
        examples_of(TASKS["tnews"], rows, choices([8, 7], [3, 3], [3, 2]))
    older = choices([0, 1], [3, 3], [3, 2])  # known by their numbers
    assert [example.id for example in examples_of(TASKS["tnews"], rows, older)] == [7, 8]


def test_rows_that_exactly_one_has_right():
    rows = [TextRow((text,), gold) for text, gold in (("甲" * 500, 0), ("乙", 1), ("丙", 2), ("丁", 3))]
    gold = [0, 1, 2, 3]
    one, other = choices(range(4), [0, 0, 5, 3], gold), choices(range(4), [1, 1, 6, 3], gold)
    pair = Contender("a", {"tnews": measured([one])}), Contender("b", {"tnews": measured([other])})
    found = disagreements(*(one.evidence["tnews"] for one in pair), examples_of(TASKS["tnews"], rows, one))
    brief = [(row["id"], row["first"], row["second"], row["right"]) for row in found]
    assert brief == [(0, "100", "101", "first"), (1, "100", "101", "second")]
    text = rendered_disagreements("TNEWS", compare(*pair), found, "text").splitlines()
    assert text[0] == "TNEWS: exactly one is right on 2 dev rows: a on 1, b on 1"
    assert "    sentence: " + "甲" * 160 + "…" in text
    assert "    a: 100 (right)" in text and "    b: 101 (wrong)" in text and "    answer: 100" in text
    assert "**1**" in rendered_disagreements("TNEWS", compare(*pair), found, "markdown")
    assert json.loads(rendered_disagreements("TNEWS", compare(*pair), found, "json"))[0]["sentence"] == "甲" * 500
    found[0] |= {"sentence": "\x1b[2J|<b>", "first": "\x1b]0;x\x07"}
    assert "\x1b" not in rendered_disagreements("TNEWS", compare(*pair), found, "text")
    assert r"?\[2J\|\<b\>" in rendered_disagreements("TNEWS", compare(*pair), found, "markdown")
