"""Data files of every kind of task, and submission files, broken by hypothesis: one line each, never a traceback."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluebench.benchmark.tasks import TASKS
from cluebench.data import row_facts
from cluebench.data.rows import load_rows
from cluebench.data.source import DataSource
from cluebench.submission.checks import problems_in
from tests.broken.mutations import EXAMPLES, NOWHERE, broken_bytes, broken_json, for_all, outcome, paths, replaced
from tests.submission.made_up import ROWS, SOUND, sound

IDIOMS = list("甲乙丙丁戊己庚辛壬癸")
QUESTION = {"question": "问？", "choice": ["甲", "乙"], "answer": "甲", "id": 1}

#: Task → a row of its file, and the keys that nobody reads.
LINES = {
    "afqmc": {"sentence1": "甲", "sentence2": "乙", "label": "0"},
    "tnews": {"sentence": "甲", "label": "101"},
    "csl": {"keyword": ["甲", "乙"], "abst": "丙", "label": "1"},
    "cluewsc2020": {"target": {"span1_index": 0, "span1_text": "他", "span2_index": 2, "span2_text": "她"}, "text": "他和她",
                    "label": "true"},
    "chid": {"content": ["一#idiom000001#二", "三"], "candidates": IDIOMS},
}  # fmt: skip
#: Task → its file, which is one JSON value.
DOCUMENTS = {
    "c3": [[["男：好。"], [QUESTION, {**QUESTION, "id": 2}], "1"]],
    "cmrc2018": {"data": [{"paragraphs": [{"context": "甲乙丙", "qas": [
        {"id": "a", "question": "问？", "answers": [{"text": "乙", "answer_start": 1}]}]}]}]},
}  # fmt: skip
FILES = {"c3": "m-dev.json"}
#: What is known of the rows of a data set with two dev rows, of which the first has a twin.
FACTS = {"tnews": {
    "format": 1, "task": "tnews", "data": "a" * 16, "train": "b" * 16, "dev": "c" * 16, "dev_rows": 2, "twins": [0],
    "groups": [0, 1], "floors": {"majority": 10.0, "twin": 20.0, "surface": None},
}}  # fmt: skip


def reader(folder, task: str, split: str = "dev"):
    """Writes a file of the task and reads the split."""
    place = folder / f"{task}_public"
    place.mkdir(parents=True, exist_ok=True)
    if task == "chid":
        (place / "dev_answer.json").write_text('{"#idiom000001#": 3}')
    if task == "c3":
        (place / "d-dev.json").write_text(json.dumps([[["女：好。"], [{**QUESTION, "id": 7}], "2"]]))
    file = FILES.get(task, "dev.json") if split == "dev" else TASKS[task].test_sets[0].file

    def read(content: bytes):
        (place / file).write_bytes(content)
        (folder / "synthetic.json").touch()
        return outcome(lambda: load_rows(DataSource(folder), TASKS[task], split))

    return read


@pytest.mark.parametrize("task", [*LINES, *DOCUMENTS])
@pytest.mark.parametrize("split", ["dev", "test1.1"])
def test_data_never_ends_in_a_traceback(task, split, tmp_path_factory):
    read = reader(tmp_path_factory.mktemp("data"), task, split)
    whole = {**LINES, **DOCUMENTS}[task]
    assert not read(json.dumps(whole).encode()).is_loud

    def check(content):
        found = read(content)
        if found.refused:
            assert found.refused.startswith(f"{task}: ") and ".json" in found.refused
        else:
            assert found.value

    for_all(broken_json(whole), check)


@pytest.mark.parametrize("task", [*LINES, *DOCUMENTS])
def test_what_a_row_may_not_hold_is_reported(task, tmp_path_factory):
    """Ids of train and dev are read by nobody, nor is what stands behind the questions of C3."""
    read = reader(tmp_path_factory.mktemp("data"), task)
    whole = {**LINES, **DOCUMENTS}[task]
    for at in paths(whole):
        if not (task == "c3" and (at[-1:] == ("id",) or len(at) == 2 and at[1] == 2)):
            assert read(replaced(whole, at, NOWHERE).encode()).refused, at
            if at and isinstance(at[-1], str):
                assert read(replaced(whole, at, None).encode()).refused, at


@pytest.mark.parametrize("task", ROWS)
def test_submissions_never_end_in_a_traceback(task):
    content = sound(task).encode()
    values = json.loads(content) if isinstance(SOUND[task], dict) else json.loads(content.splitlines()[0])
    row = TASKS[task]

    @EXAMPLES
    @given(damaged=broken_json(values) | broken_bytes(content), first=st.booleans())
    def check(damaged, first):
        if not isinstance(SOUND[task], dict) and first:
            damaged = b"\n".join([damaged, *content.splitlines()[1:]])
        found = problems_in(damaged, row, row.test_sets[0], ROWS[task])
        assert all("\n" not in str(problem) for problem in found)

    check()


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1", "null", "[]", NOWHERE])
def test_an_answer_that_is_no_text_is_a_problem(text):
    row = TASKS["cmrc2018"]
    content = replaced(SOUND["cmrc2018"], ("TEST_0_QUERY_1",), text).encode()
    [problem] = problems_in(content, row, row.test_sets[0], ROWS["cmrc2018"])
    assert "TEST_0_QUERY_1" in str(problem) and "not a string" in str(problem)


def test_facts_of_rows_never_end_in_a_traceback(tmp_path):
    """What is not whole counts for nothing, and is looked for again."""

    def check(content):
        (tmp_path / row_facts.RUN_FILE).write_bytes(content)
        read = outcome(lambda: row_facts.found(TASKS["tnews"], "a" * 16, tmp_path))
        assert read.value is None or read.value.dev_rows == len(read.value.groups)

    for_all(broken_json(FACTS), check)
