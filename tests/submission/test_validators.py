"""Broken prediction files, one kind a test: each is refused with file, line or key, and reason."""

import json

import pytest

from cluebench import submission
from cluebench.benchmark.tasks import TASKS
from cluebench.data.rows import TextRow, load_rows
from cluebench.data.source import open_source
from cluebench.foundation import atomic
from cluebench.submission.checks import problems_in
from tests.submission import independent
from tests.submission.made_up import ROWS, SOUND, sound, write_predictions


def problems(task: str, content: str | bytes) -> list[str]:
    content = content if isinstance(content, bytes) else content.encode()
    row = TASKS[task]
    return problems_in(content, row, row.test_sets[0], ROWS[task])


@pytest.mark.parametrize("task", ROWS)
def test_sound_files_pass(task):
    assert problems(task, sound(task)) == []
    assert problems(task, sound(task).removesuffix("\n")) == []  # official files end without a line break too
    assert problems(task, sound(task).replace("\n", "\r\n")) == []


def test_what_the_writers_write_passes(tmp_path):
    submission.write_labels(tmp_path / "labels", [508, 12, 13], SOUND["c3"])
    assert problems("c3", (tmp_path / "labels").read_bytes()) == []
    submission.write_answers(tmp_path / "answers", SOUND["cmrc2018"])
    assert problems("cmrc2018", (tmp_path / "answers").read_bytes()) == []
    submission.write_answers(tmp_path / "tags", SOUND["chid"])
    assert problems("chid", (tmp_path / "tags").read_bytes()) == []


def edit(task: str, old: str, new: str) -> str:
    text = sound(task)
    assert text.count(old) >= 1, old
    return text.replace(old, new, 1)


LINE = '{"id": 1, "label": "102"}'

#: (task, broken file, where, why): where and why stand in the first problem
BROKEN = {
    # any shape
    "only line breaks": ("cmrc2018", "\n\n", "line 1", "the file is empty"),
    "byte order mark": ("tnews", b"\xef\xbb\xbf" + sound("tnews").encode(), "line 1", "byte order mark"),
    "GBK": ("cmrc2018", sound("cmrc2018").encode("gbk"), "line 2", "is not UTF-8 text (byte 24 of the file)"),
    "cut in the middle": ("tnews", sound("tnews")[:-8], "line 4", "is broken JSON: Expecting"),
    # one object a line
    "a line missing": ("tnews", edit("tnews", '{"id": 3, "label": "100"}\n', ""), "line 3", "after 3 of 4 lines of the test set (the next id is 3)"),
    "a line too many": ("tnews", sound("tnews") + '{"id": 4, "label": "100"}\n', "line 5", "5 lines; the test set has 4"),
    "a blank line at the end": ("tnews", sound("tnews") + "\n", "line 5", "5 lines; the test set has 4"),
    "a blank line": ("tnews", edit("tnews", LINE, ""), "line 2", "is blank"),
    "a JSON list": ("tnews", json.dumps([{"id": 0, "label": "101"}] * 4), "line 1", "is a list, not one JSON object"),
    "a list a line": ("tnews", edit("tnews", LINE, '[1, "102"]'), "line 2", "is a list, not one JSON object"),
    "two objects in a line": ("tnews", edit("tnews", LINE, LINE * 2), "line 2", "has more text after its JSON value"),
    "ids from 1": ("tnews", "".join(f'{{"id": {n}, "label": "101"}}\n' for n in range(1, 5)), "line 1", "id is 1, where 0 is due: keep the order"),
    "ids of the file, which count from 1": ("cluewsc2020", edit("cluewsc2020", '"id": 2', '"id": 3'), "line 3", "id 3 is not in the test set; 2 is due"),
    "an id twice": ("tnews", edit("tnews", '"id": 2', '"id": 1'), "line 3", "id 1 is here for the second time (first in line 2); 2 is due"),
    "swapped lines": ("tnews", edit("tnews", '"id": 1', '"id": 2'), "line 2", "id is 2, where 1 is due: keep the order of the test file"),
    "id as a string": ("tnews", edit("tnews", '"id": 1', '"id": "1"'), "line 2", 'id is "1", not a whole number; 1 is due'),
    "id as a fraction": ("tnews", edit("tnews", '"id": 1', '"id": 1.0'), "line 2", "id is 1.0, not a whole number"),
    "id as a boolean": ("tnews", edit("tnews", '"id": 1', '"id": true'), "line 2", "id is true, not a whole number"),
    "id missing": ("tnews", edit("tnews", '"id": 1, ', ""), "line 2", 'has no key "id"'),
    "label missing": ("tnews", edit("tnews", ', "label": "102"', ""), "line 2", 'has no key "label"'),
    "label twice": ("tnews", edit("tnews", LINE, '{"id": 1, "label": "102", "label": "103"}'), "line 2", 'has the key "label" twice'),
    "one more key": ("tnews", edit("tnews", '"102"}', '"102", "label_desc": "news"}'), "line 2", 'has the key "label_desc": only'),
    "label as a number": ("tnews", edit("tnews", '"102"', "102"), "line 2", 'label is 102 without quotation marks: labels are strings, write "102"'),
    "a label of no class": ("tnews", edit("tnews", '"102"', '"105"'), "line 2", 'label is "105", none of the task\'s: 100 101'),
    "no label": ("tnews", edit("tnews", '"102"', "null"), "line 2", "label is null, none of the task's"),
    "a list of labels": ("iflytek", edit("iflytek", '"118"', '["118"]'), "line 2", 'label is ["118"], none of the task\'s: 0 1 2 … 118'),
    "true without quotation marks": ("cluewsc2020", edit("cluewsc2020", '"true"', "true"), "line 1", 'write "true"'),
    # C3
    "an option the question lacks": ("c3", edit("c3", '13, "label": 0', '13, "label": 2'), "line 3", "label is 2, but question 13 has 2 options: 0 to 1"),
    "an option below 0": ("c3", edit("c3", '"label": 2', '"label": -1'), "line 1", "label is -1, but question 508"),
    "option as a string": ("c3", edit("c3", '"label": 2', '"label": "2"'), "line 1", 'label is "2", not the number of an option'),
    "option as a fraction": ("c3", edit("c3", '"label": 2', '"label": 2.0'), "line 1", "label is 2.0, not the number"),
    "option as a boolean": ("c3", edit("c3", '"label": 2', '"label": true'), "line 1", "label is true, not the number"),
    "questions counted from 0": ("c3", edit("c3", '"id": 508', '"id": 0'), "line 1", "id 0 is not in the test set; 508 is due"),
    # CHID
    "a tag missing": ("chid", edit("chid", '"#idiom000001#": 0,\n', ""), 'key "#idiom000001#"', "is missing: every blank of the test set"),
    "several tags missing": ("chid", '{"#idiom000000#": 1}', 'key "#idiom000001#"', "is missing, and so are 2 more"),
    "a tag of another test set": ("chid", edit("chid", "000010", "000011"), 'line 5, key "#idiom000011#"', "no blank of the test set has this name"),
    "a tag twice": ("chid", edit("chid", '"#idiom000010#": 4', '"#idiom000010#": 4,\n"#idiom000000#": 3'), 'line 6, key "#idiom000000#"', "is here for the second time (first in line 2)"),
    "a candidate beyond ten": ("chid", edit("chid", ": 9", ": 10"), 'line 4, key "#idiom000002#"', "is 10, not a candidate's number from 0 to 9"),
    "a candidate below 0": ("chid", edit("chid", ": 9", ": -1"), 'line 4, key "#idiom000002#"', "is -1, not a candidate's"),
    "candidate as a string": ("chid", edit("chid", ": 9", ': "9"'), 'line 4, key "#idiom000002#"', 'is "9", not a candidate\'s'),
    "candidate as a fraction": ("chid", edit("chid", ": 9", ": 9.0"), 'line 4, key "#idiom000002#"', "is 9.0, not a candidate's"),
    "candidate as a boolean": ("chid", edit("chid", ": 9", ": false"), 'line 4, key "#idiom000002#"', "is false, not a candidate's"),
    "an object a line": ("chid", "".join(f'{{"{tag}": 1}}\n' for tag in SOUND["chid"]), "line 2", "has more text after its JSON value"),
    "a list": ("chid", json.dumps([SOUND["chid"]]), "line 1", "is a list, not one JSON object"),
    # CMRC2018
    "a question missing": ("cmrc2018", edit("cmrc2018", '"TEST_0_QUERY_1": "",\n', ""), 'key "TEST_0_QUERY_1"', "is missing: every question"),
    "a question of another split": ("cmrc2018", edit("cmrc2018", "TEST_0_QUERY_1", "DEV_0_QUERY_1"), 'line 3, key "DEV_0_QUERY_1"', "no question of the test set has this name"),
    "a question twice": ("cmrc2018", edit("cmrc2018", "TEST_0_QUERY_1", "TEST_0_QUERY_0"), 'line 3, key "TEST_0_QUERY_0"', "is here for the second time (first in line 2)"),
    "answer as a number": ("cmrc2018", edit("cmrc2018", '"巡洋舰"', "1898"), 'line 2, key "TEST_0_QUERY_0"', "is 1898, not a string"),
    "half a character": ("cmrc2018", edit("cmrc2018", "巡洋舰", "\\ud83d"), 'line 2, key "TEST_0_QUERY_0"', "half a character"),
    "a line break in a string": ("cmrc2018", edit("cmrc2018", "巡洋舰", "巡\n舰"), "line 2", "is broken JSON: Invalid control character"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_refused(kind):
    task, content, where, why = BROKEN[kind]
    found = problems(task, content)
    name = TASKS[task].test_sets[0].submission
    assert found and found[0].startswith(f"{name}, {where}: "), found
    assert why in found[0], found
    assert "\n" not in found[0]


def test_each_broken_line_is_named():
    text = edit("tnews", '"101"', "101").replace('"116"', '"999"').replace(LINE, "oops")
    lines = [found.split(":")[0] for found in problems("tnews", text)]
    assert lines == [f"tnews11_predict.json, line {number}" for number in (1, 2, 3)]


def test_one_line_out_of_place_is_one_problem():
    rows = [TextRow(("文",), None, number) for number in range(1000)]
    shifted = "".join(f'{{"id": {number}, "label": "1"}}\n' for number in range(1000) if number != 500)
    task = TASKS["afqmc"]
    found = problems_in(shifted.encode(), task, task.test_sets[0], rows)
    assert [problem.split(":")[0] for problem in found] == [f"afqmc_predict.json, line {line}" for line in (501, 999)]


def test_numbers_python_refuses_to_read():
    digits = "1" * 5000
    assert "line 2: is broken JSON" in problems("tnews", edit("tnews", '"102"', digits))[0]
    assert "line 2: is broken JSON" in problems("tnews", edit("tnews", '"102"', "[" * 100_000))[0]


@pytest.mark.parametrize(
    "wrong, meant",
    [
        ("tnews_predict.json", "tnews11_predict.json or tnews10_predict.json"),
        ("TNEWS11_predict.json", "tnews11_predict.json or tnews10_predict.json"),
        ("cluewsc2020_predict.json", "cluewsc11_predict.json or cluewsc10_predict.json"),
        ("cluewsc_predict.json", "cluewsc11_predict.json"),
        ("ocnli_predict.json", "ocnli_50k_predict.json"),
        ("c3_predict.json", "c311_predict.json or c310_predict.json"),
        ("chid11_predict.jsonl", "chid11_predict.json or chid10_predict.json"),
        ("afqmc.json", "afqmc_predict.json"),
    ],
)
def test_wrong_names(wrong, meant):
    reason = f"{wrong}: this is not the name of a submission file; rename it to {meant}"
    assert submission.wrong_name(wrong) == reason


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "result.json", "dev_predictions.jsonl", "vocab.txt", "made.json", ".tnews_predict.json",
        "tnews11_predict.json", "diagnostics_predict.json",
    ],
)  # fmt: skip
def test_other_files_and_right_names_have_no_wrong_name(name):
    assert submission.wrong_name(name) is None


def test_names_are_those_of_the_leaderboard():
    assert set(submission.FILES) == independent.VERSIONS["1.0"] | independent.VERSIONS["1.1"]
    assert submission.FILES["c310_predict.json"] == (TASKS["c3"], TASKS["c3"].test_sets[1])
    assert {test.file for test in submission.in_version(TASKS["tnews"], "1.0")} == {"test1.0.json"}
    assert len(submission.in_version(TASKS["tnews"], "all")) == 2
    for version in ("1.0", "1.1", "all"):
        assert [test.submission for test in submission.in_version(TASKS["csl"], version)] == ["csl_predict.json"]


def test_archive_is_whole_and_always_the_same(tmp_path):
    import zipfile

    files = {"b_predict.json": b"{}\n", "a_predict.json": "答案".encode()}
    atomic.write_archive(tmp_path / "one.zip", files)
    atomic.write_archive(tmp_path / "two.zip", dict(reversed(files.items())))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == ["a_predict.json", "b_predict.json"] and archive.testzip() is None
        assert archive.read("a_predict.json").decode() == "答案"
    assert {path.name for path in tmp_path.iterdir()} == {"one.zip", "two.zip"}


# The real test sets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", submission.FILES)
def test_files_for_the_official_test_sets(name, clue_data_dir, tmp_path):
    task, test = submission.FILES[name]
    source = open_source(clue_data_dir, offline=True)
    if not source.has(task, test.file):
        pytest.skip(f"{clue_data_dir} has no {task.title}")
    rows = load_rows(source, task, test.split)
    path = tmp_path / name
    write_predictions(path, task, rows)
    assert problems_in(path.read_bytes(), task, test, rows) == []
    lines = path.read_text(encoding="utf-8").splitlines()
    cut = "\n".join(lines[:1] + lines[2:]) if task.kind in ("span", "idiom") else "\n".join(lines[:-1])
    assert problems_in(cut.encode(), task, test, rows)
