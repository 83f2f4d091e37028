"""Rows as official files have them, and every way in which a file can be wrong."""

import json
from dataclasses import replace

import pytest

from cluebench.data.rows import ChoiceRow, IdiomRecord, SpanRow, TextRow, load_rows
from cluebench.foundation.errors import DataError

# Good rows ------------------------------------------------------------------------------------------------------------


def test_single_and_pair_rows(shelf):
    rows = [
        {"label": "103", "label_desc": "news_sports", "sentence": "哈登：和保罗就像一见钟情", "keywords": "哈登"},
        {"label": 116, "label_desc": "news_game", "sentence": "今晚更新", "keywords": ""},
    ]
    news = shelf.put("tnews", "dev.json", rows)
    expected = [TextRow(("哈登：和保罗就像一见钟情",), 3), TextRow(("今晚更新",), 14)]
    assert load_rows(shelf.source, news, "dev") == expected
    pairs = shelf.put("afqmc", "dev.json", [{"sentence1": "花呗还款", "sentence2": "借呗还款", "label": "1"}])
    assert load_rows(shelf.source, pairs, "dev") == [TextRow(("花呗还款", "借呗还款"), 1)]


@pytest.mark.parametrize("key", ["text-a", "class", "正文", "id"])
def test_a_data_set_may_call_its_texts_anything(shelf, key):
    news = shelf.put("tnews", "dev.json", [{key: "今晚更新", "label": "116"}])
    (found,) = load_rows(shelf.source, replace(news, text_fields=(key,)), "dev")
    assert (found.texts, found.label) == (("今晚更新",), 14)


def test_test_rows_need_no_label_and_ignore_one(shelf):
    rows = [{"id": 7, "sentence": "一"}, {"id": 8, "sentence": "二", "label": "nonsense"}]
    task = shelf.put("tnews", "test1.0.json", rows)
    assert load_rows(shelf.source, task, "test1.0") == [TextRow(("一",), None, 7), TextRow(("二",), None, 8)]


def test_rows_without_agreed_label_are_dropped_before_the_limit(shelf):
    pair = {"sentence1": "一月份跟二月份", "sentence2": "一月份"}
    rows = [{**pair, "label": label, "id": number} for number, label in enumerate(["neutral", "-", "entailment", "-"])]
    task = shelf.put("ocnli", "train.50k.json", rows)
    assert [row.id for row in load_rows(shelf.source, task, "train")] == [0, 2]
    assert [row.id for row in load_rows(shelf.source, task, "train", limit=2)] == [0, 2]
    assert [row.label for row in load_rows(shelf.source, task, "train")] == [2, 0]


def test_limit_reads_no_further_than_it_must(shelf):
    task = shelf.put("afqmc", "train.json", '{"sentence1": "甲", "sentence2": "乙", "label": "0"}\nnot JSON')
    assert len(load_rows(shelf.source, task, "train", limit=1)) == 1
    with pytest.raises(DataError, match="line 2"):
        load_rows(shelf.source, task, "train", limit=2)


def test_lines_end_at_newlines_alone(shelf):
    """Real IFLYTEK rows hold U+2028 and U+0085; files come with Windows line ends, a BOM and empty lines."""
    text = '\ufeff{"sentence": "换\u2028行\u0085了", "label": "0"}\r\n\n{"sentence": "二", "label": "118"}\r\n'
    task = shelf.put("iflytek", "dev.json", text)
    assert load_rows(shelf.source, task, "dev") == [TextRow(("换\u2028行\u0085了",), 0), TextRow(("二",), 118)]


def test_keywords_are_joined_by_one_space(shelf):
    row = {"id": 2415, "abst": "本文研究了边坡。", "keyword": ["边坡", "稳定性", "数值模拟"], "label": "1"}
    task = shelf.put("csl", "train.json", [row])
    assert load_rows(shelf.source, task, "train") == [TextRow(("边坡 稳定性 数值模拟", "本文研究了边坡。"), 1, 2415)]


@pytest.mark.parametrize(
    ("target", "label", "expected"),
    [
        ({"span1_index": 6, "span1_text": "洋人", "span2_index": 13, "span2_text": "他们"}, True, "_洋人_|[他们]"),
        ({"span1_index": 13, "span1_text": "他们", "span2_index": 6, "span2_text": "洋人"}, "false", "[洋人]|_他们_"),
        ({"span1_index": 6, "span1_text": "洋人", "span2_index": 8, "span2_text": "”"}, "true", "_洋人_[”]|"),
        ({"span1_index": 0, "span1_text": "有", "span2_index": 18, "span2_text": "感"}, "true", "_有_|[感]"),
    ],
)
def test_marks_round_noun_and_pronoun(shelf, target, label, expected):
    text = "有些这样的“洋人”，毫不掩他们的优越感"
    task = shelf.put("cluewsc2020", "dev.json", [{"target": target, "idx": 1, "label": label, "text": text}])
    (row,) = load_rows(shelf.source, task, "dev")
    assert row.texts[0].replace("_", "").replace("[", "").replace("]", "") == text
    for part in filter(None, expected.split("|")):
        assert part in row.texts[0]
    assert len(row.texts[0]) == len(text) + 4
    assert row.label == (0 if label in (True, "true") else 1)


RECORD = {
    "content": ["他#idiom000000#地走了，#idiom000001#。", "没有空。", "真是#idiom000002#！"],
    "candidates": "传宗接代 得过且过 咄咄逼人 碌碌无为 软硬兼施 无所作为 苦口婆心 未雨绸缪 和衷共济 人老珠黄".split(),
}


def test_idiom_records(shelf):
    task = shelf.put("chid", "dev.json", [RECORD])
    shelf.put("chid", "dev_answer.json", '{"#idiom000001#": 9, "#idiom000000#": 0, "#idiom000002#": 3}')
    answers = {"#idiom000000#": 0, "#idiom000001#": 9, "#idiom000002#": 3}
    expected = IdiomRecord(tuple(RECORD["content"]), tuple(RECORD["candidates"]), answers)
    assert load_rows(shelf.source, task, "dev") == [expected]
    assert list(load_rows(shelf.source, task, "dev")[0].answers) == list(answers)  # reading order
    shelf.put("chid", "test1.1.json", [RECORD])
    assert load_rows(shelf.source, task, "test1.1")[0].answers is None


ANSWERS = '{"#idiom000000#": 0, "#idiom000001#": 9, "#idiom000002#": 3}'


def test_an_answer_without_a_blank_is_refused_but_not_behind_a_limit(shelf):
    task = shelf.put("chid", "dev.json", [RECORD])
    shelf.put("chid", "dev_answer.json", ANSWERS.replace("}", ', "#idiom9#": 7, "#idiom10#": 7}'))
    _refused(shelf, task, "dev", "dev.json", "has no blank #idiom9# and 1 more", "dev_answer.json has answers for")
    assert len(load_rows(shelf.source, task, "dev", limit=1)) == 1


def test_a_key_twice_with_different_values_is_refused(shelf):
    line = '{"sentence1": "甲", "sentence2": "乙", "label": "0", "label": "%d"}'
    task = shelf.put("afqmc", "train.json", f"{line % 0}\n{line % 1}")
    _refused(shelf, task, "train", "train.json, line 2", 'has the key "label" twice in one object')
    assert len(load_rows(shelf.source, task, "train", limit=1)) == 1
    task = shelf.put("chid", "dev.json", [RECORD])
    shelf.put("chid", "dev_answer.json", ANSWERS.replace("}", ', "#idiom000002#": 4}'))
    _refused(shelf, task, "dev", "dev_answer.json", 'has the key "#idiom000002#" twice')


ASKED = {"question": "问？", "choice": ["甲", "乙"], "id": 7}


def _c3(*questions, context=("男：听说了吗?", "女：是呀。")):
    return [list(context), list(questions), "47-275"]


def test_choice_rows_join_both_files(shelf):
    first = {"question": "多少钱?", "choice": ["六块", "五块", "五块"], "answer": "五块"}
    second = {"question": "Q", "choice": ["是", "否"], "answer": "是"}
    task = shelf.put("c3", "d-dev.json", json.dumps([_c3(first, second)]))
    shelf.put("c3", "m-dev.json", json.dumps([_c3(second, context=["文章"])], indent=1).replace("\n", "\r\n"))
    rows = load_rows(shelf.source, task, "dev")
    assert rows == [
        ChoiceRow("男：听说了吗?\n女：是呀。", "多少钱?", ("六块", "五块", "五块"), 1, 0),
        ChoiceRow("男：听说了吗?\n女：是呀。", "Q", ("是", "否"), 0, 1),
        ChoiceRow("文章", "Q", ("是", "否"), 0, 2),
    ]
    assert load_rows(shelf.source, task, "dev", limit=2) == rows[:2]


def test_choice_test_questions_keep_their_id_and_all_options(shelf):
    ten = [str(number) for number in range(10)]
    task = shelf.put("c3", "test1.1.json", json.dumps([[["文"], [{"question": "Q", "choice": ten, "id": 508}]]]))
    assert load_rows(shelf.source, task, "test1.1") == [ChoiceRow("文", "Q", tuple(ten), None, 508)]


def _squad(context, *questions):
    return json.dumps(
        {"version": "v1.0", "data": [{"paragraphs": [{"id": "P", "context": context, "qas": questions}]}]}
    )


def _ask(identity, *answers):
    answers = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": identity, "question": " 谁？ ", "answers": answers}


def test_span_rows_are_stripped(shelf):
    task = shelf.put("cmrc2018", "dev.json", _squad("\n 范廷颂是枢机。 ", _ask("D_0", ("范廷颂", 2), (" 枢机", 6))))
    assert load_rows(shelf.source, task, "dev") == [
        SpanRow("D_0", "范廷颂是枢机。", "谁？", ("范廷颂", "枢机"), (0, 4))
    ]


def test_answers_that_stand_elsewhere_are_counted_not_refused(shelf, capsys):
    questions = [_ask("T_0", ("枢机", 4)), _ask("T_1", ("枢机", 3)), _ask("T_2", ("枢机", 4), ("枢机", -1))]
    task = shelf.put("cmrc2018", "train.json", _squad("范廷颂是枢机。", *questions))
    rows = load_rows(shelf.source, task, "train")
    assert rows == load_rows(shelf.source, task, "train")  # and this is reported once
    assert [row.answer_starts for row in rows] == [(4,), (3,), (4, -1)]
    lines = [line for line in capsys.readouterr().err.splitlines() if "answer_start" in line]
    assert len(lines) == 1 and "1 first answer(s)" in lines[0] and "T_1" in lines[0] and "train.json" in lines[0]


def test_fake_answers_of_the_test_set_are_left_out(shelf):
    fake = [(f"FAKE_ANSWER_{number}", -1) for number in (1, 2, 3)]
    task = shelf.put("cmrc2018", "test.json", _squad("文", _ask("TEST_0", *fake), {"id": 5, "question": "Q"}))
    assert load_rows(shelf.source, task, "test1.1") == [
        SpanRow("TEST_0", "文", "谁？", (), ()),
        SpanRow("5", "文", "Q", (), ()),
    ]


# Broken files ---------------------------------------------------------------------------------------------------------


def _refused(shelf, task, split, *needles):
    """The one line that load_rows refuses the file with; it names the file and holds ``needles``."""
    with pytest.raises(DataError) as caught:
        load_rows(shelf.source, task, split)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{task.name}: {shelf.folder}")
    for needle in needles:
        assert needle in message, message
    return message


GOOD_PAIR = {"sentence1": "甲", "sentence2": "乙", "label": "0"}


@pytest.mark.parametrize(
    ("bad", "needles"),
    [
        ('{"sentence1": "甲", "sentence2": "乙", "label": ', ["line 2", "broken JSON", "column"]),
        ("[1, 2]", ["line 2", "not an object"]),
        ('"甲"', ["line 2", "not an object"]),
        ('{"sentence1": "甲", "label": "0"}', ["line 2", "'sentence2' is missing"]),
        ('{"sentence1": "甲", "sentence2": "乙"}', ["line 2", "'label' is missing"]),
        ('{"sentence1": "甲", "sentence2": 5, "label": "0"}', ["line 2", "'sentence2' is 5, not a string"]),
        ('{"sentence1": null, "sentence2": "乙", "label": "0"}', ["line 2", "'sentence1' is None, not a string"]),
        ('{"sentence1": "甲", "sentence2": "乙", "label": "2"}', ["line 2", "'label' is '2'", "0, 1"]),
        ('{"sentence1": "甲", "sentence2": "乙", "label": 2}', ["line 2", "'label' is 2"]),
        ('{"sentence1": "甲", "sentence2": "乙", "label": 1.0}', ["line 2", "'label' is 1.0"]),
        ('{"sentence1": "甲", "sentence2": "乙", "label": ["0"]}', ["line 2", "'label' is ['0']"]),
        ('{"sentence1": "甲\\ud83d", "sentence2": "乙", "label": "0"}', ["line 2", "half a character"]),
        ("[" * 100_000, ["line 2", "broken JSON"]),
        (b'{"sentence1": "\xff", "sentence2": "", "label": "0"}', ["line 2", "not UTF-8 text (byte 16)"]),
    ],
)
def test_broken_lines(shelf, bad, needles):
    bad = bad if isinstance(bad, bytes) else bad.encode()
    task = shelf.put("afqmc", "train.json", json.dumps(GOOD_PAIR).encode() + b"\n" + bad + b"\n")
    _refused(shelf, task, "train", "afqmc_public/train.json", *needles)


def test_a_whole_character_written_as_two_escapes_is_fine(shelf):
    task = shelf.put("afqmc", "dev.json", '{"sentence1": "\\ud83d\\ude00", "sentence2": "乙", "label": "0"}')
    assert load_rows(shelf.source, task, "dev")[0].texts[0] == "😀"


@pytest.mark.parametrize("content", ["", "\n\n", '{"sentence1": "甲", "sentence2": "乙", "label": "-"}\n'])
def test_file_without_rows(shelf, content):
    task = shelf.put("cmnli", "dev.json", content)
    _refused(shelf, task, "dev", "dev.json holds no usable rows")


@pytest.mark.parametrize(
    ("change", "needles"),
    [
        ({"keyword": "边坡"}, ["'keyword' is '边坡', not a list"]),
        ({"keyword": ["边坡", 3]}, ["'keyword'[1] is 3, not a string"]),
    ],
)
def test_broken_keywords(shelf, change, needles):
    task = shelf.put("csl", "dev.json", [{"id": 1, "abst": "文", "keyword": ["边坡"], "label": "1", **change}])
    _refused(shelf, task, "dev", "line 1", *needles)


@pytest.mark.parametrize(
    ("change", "needles"),
    [
        ({"span1_index": 1}, ["'target.span1_index' is 1", "'廷颂'", "'范廷'"]),
        ({"span2_index": -1}, ["'target.span2_index' is -1"]),
        ({"span2_index": 400}, ["'target.span2_index' is 400"]),
        ({"span1_index": "0"}, ["'span1_index' is '0', not an integer"]),
        ({"span1_index": True}, ["'span1_index' is True, not an integer"]),
        ({"span1_text": ""}, ["'target.span1_text' is empty"]),
        ({"span2_index": 0, "span2_text": "范"}, ["overlap"]),
    ],
)
def test_spans_that_do_not_match(shelf, change, needles):
    target = {"span1_index": 0, "span1_text": "范廷", "span2_index": 4, "span2_text": "他", **change}
    good = {"span1_index": 0, "span1_text": "范", "span2_index": 4, "span2_text": "他"}
    rows = [{"target": each, "idx": 1, "label": "true", "text": "范廷颂，他走了"} for each in (good, target)]
    task = shelf.put("cluewsc2020", "train.json", rows)
    _refused(shelf, task, "train", "train.json, line 2", *needles)


@pytest.mark.parametrize(
    ("record", "answers", "needles"),
    [
        (RECORD, {"#idiom000000#": 0, "#idiom000001#": 9}, ["#idiom000002#", "no answer"]),
        (RECORD, {"#idiom000000#": 0, "#idiom000001#": 10, "#idiom000002#": 1}, ["10 for #idiom000001#", "0 to 9"]),
        (RECORD, {"#idiom000000#": -1, "#idiom000001#": 1, "#idiom000002#": 1}, ["-1 for #idiom000000#"]),
        (RECORD, {"#idiom000000#": "3", "#idiom000001#": 1, "#idiom000002#": 1}, ["'3' for #idiom000000#"]),
        (RECORD, {"#idiom000000#": True, "#idiom000001#": 1, "#idiom000002#": 1}, ["True for #idiom000000#"]),
        ({**RECORD, "candidates": ["传宗接代"] * 9}, {}, ["'candidates' has 9 idioms, not 10"]),
        ({**RECORD, "content": "他#idiom000000#"}, {}, ["'content' is", "not a list"]),
        ({**RECORD, "content": [["他"]]}, {}, ["'content'[0]", "not a string"]),
        ({**RECORD, "content": ["#idiom000000#，#idiom000000#"]}, {"#idiom000000#": 1}, ["second time"]),
        ({"content": ["他"]}, {}, ["'candidates' is missing"]),
    ],
)
def test_broken_idiom_records(shelf, record, answers, needles):
    task = shelf.put("chid", "train.json", [{**RECORD, "content": ["#idiom7#"]}, record])
    shelf.put("chid", "train_answer.json", json.dumps({"#idiom7#": 7, **answers}))
    _refused(shelf, task, "train", "train.json, line 2", *needles)


@pytest.mark.parametrize(("content", "needle"), [('{"#idiom7#": }', "broken JSON"), ("[1]", "not an object")])
def test_broken_answer_file(shelf, content, needle):
    task = shelf.put("chid", "dev.json", [RECORD])
    with pytest.raises(DataError, match="dev_answer.json is missing"):
        load_rows(shelf.source, task, "dev")
    shelf.put("chid", "dev_answer.json", content)
    _refused(shelf, task, "dev", "dev_answer.json, line 1", needle)


@pytest.mark.parametrize(
    ("name", "content", "needles"),
    [
        (
            "chid",
            [{**RECORD, "content": ["真是idiom1#！"]}],
            ["line 1: field 'content'[0] has 'idiom1#', a blank without"],
        ),
        ("chid", [{**RECORD, "content": ["真是#idiom1！"]}], ["line 1", "has '#idiom1', a blank without one of its #"]),
        ("chid", [{**RECORD, "content": ["一段话。"]}], ["has no blank, such as #idiom000000#, in any line"]),
        ("chid", [RECORD, {**RECORD, "content": ["#idiom000002#"]}], ["line 2", "#idiom000002#", "second time"]),
        (
            "c3",
            json.dumps([_c3(ASKED, {**ASKED, "id": 8}), _c3(ASKED)]),
            ["([1][1][0].id)", "is 7 for the second time"],
        ),
        ("c3", json.dumps([_c3({"question": "Q", "choice": ["a", "b"]})]), ["[0][1][0]", "'id' is missing"]),
        ("cluewsc2020", [{"id": 1, "text": "范廷颂，他走了"}], ["line 1", "'target' is missing"]),
    ],
)
def test_broken_test_files(shelf, name, content, needles):
    file = "test.json" if name == "cluewsc2020" else "test1.1.json"
    _refused(shelf, shelf.put(name, file, content), "test1.1", file, *needles)


C3_FILE = """[
 [["文"], [{"question": "谁?", "choice": ["甲", "乙"], "answer": "乙"}], "1-1"],
 [
  ["男：听说了吗?",
   "女：是呀。"],
  [
   {
    "question": "谁?",
    "choice": ["甲",
               "乙"],
    "answer": "乙"
   },
   {"question": "几?", "choice": ["一", "二"], "answer": "二"}
  ],
  "47-275"
 ]
]"""


@pytest.mark.parametrize(
    ("line", "good", "bad", "needles"),
    [
        (11, '"answer": "乙"', '"answer": "丙"', ["[1][1][0].answer", "'answer' is '丙', none of the options"]),
        (11, '"answer": "乙"', '"answer": 1', ["[1][1][0].answer", "'answer' is 1, not a string"]),
        (7, '"answer": "乙"', '"answers": "乙"', ["([1][1][0])", "'answer' is missing"]),
        (10, '"乙"]', "null]", ["[1][1][0].choice[1]", "'choice'[1] is None, not a string"]),
        (13, '"choice": ["一", "二"]', '"choice": ["二"]', ["[1][1][1].choice", "has 1 option(s)"]),
        (8, '"question": "谁?"', '"question": ["谁"]', ["[1][1][0].question", "not a string"]),
        (5, '"女：是呀。"', "5", ["[1][0][1]", "is 5, not a string"]),
        (13, '{"question": "几?", "choice": ["一", "二"], "answer": "二"}', '"几?"', ["[1][1][1]", "not an object"]),
        (2, '["文"], [{', '"文", [{', ["[0][0]", "is '文', not a list"]),
        (2, '[["文"], [{"question": "谁?", "choice": ["甲", "乙"], "answer": "乙"}], "1-1"]', '["文"]', ["([0])"]),
        (2, '[["文"], [{"question": "谁?", "choice": ["甲", "乙"], "answer": "乙"}], "1-1"]', "{}", ["([0])"]),
    ],
)
def test_broken_choice_items(shelf, line, good, bad, needles):
    """The message has the line on which the defect stands in a file of many lines."""
    lines = C3_FILE.split("\n")
    changed = next(at for at, text in enumerate(lines) if good in text and at >= min(line, 11) - 1)
    lines[changed] = lines[changed].replace(good, bad)
    task = shelf.put("c3", "d-train.json", "\r\n".join(lines))
    shelf.put("c3", "m-train.json", C3_FILE)
    _refused(shelf, task, "train", f"d-train.json, line {line} ", *needles)
    shelf.put("c3", "d-train.json", C3_FILE)
    assert len(load_rows(shelf.source, task, "train")) == 6


def test_broken_document_names_line_and_column(shelf):
    task = shelf.put("c3", "d-dev.json", '[\n [["文"],\n  [}\n ]\n]')
    _refused(shelf, task, "dev", "d-dev.json, line 3", "broken JSON", "column 4")


@pytest.mark.parametrize(
    ("document", "needles"),
    [
        ("[]", ["line 1", "not an object"]),
        ("{}", ["line 1", "'data' is missing"]),
        ('{"data": [{}]}', ["data[0]", "'paragraphs' is missing"]),
        (_squad("文", {"question": "Q", "answers": []}), ["data[0].paragraphs[0].qas[0]", "'id' is missing"]),
        (_squad("文", {"id": "1", "answers": []}), ["'question' is missing"]),
        (_squad("文", {"id": "1", "question": "Q"}), ["'answers' is missing or empty"]),
        (_squad("文", _ask("1")), ["qas[0].answers", "'answers' is missing or empty"]),
        (_squad("文", _ask("1", ("文", 1))), ["answers[0].answer_start", "'answer_start' is 1, outside", "1 char"]),
        (_squad("文", _ask("1", ("文", -1))), ["'answer_start' is -1, outside"]),
        (_squad("文", _ask("1", ("文", "0"))), ["'answer_start' is '0', not an integer"]),
        (_squad("文", _ask("1", (" ", 0))), ["answers[0].text", "empty"]),
        (_squad("文", _ask("1", ("文", 0)), _ask("1", ("文", 0))), ["qas[1].id", "second time"]),
        (_squad(None, _ask("1", ("文", 0))), ["paragraphs[0].context", "'context' is None"]),
    ],
)
def test_broken_span_files(shelf, document, needles):
    task = shelf.put("cmrc2018", "train.json", document)
    _refused(shelf, task, "train", "train.json, line", *needles)


def test_split_names(shelf):
    task = shelf.put("afqmc", "dev.json", [GOOD_PAIR])
    with pytest.raises(ValueError, match="train, dev, test1.1"):
        load_rows(shelf.source, task, "test1.0")


def test_long_values_are_cut_in_messages(shelf):
    task = shelf.put("afqmc", "dev.json", [{**GOOD_PAIR, "label": "x" * 5000}])
    assert len(_refused(shelf, task, "dev")) < 400 + len(str(shelf.folder))
