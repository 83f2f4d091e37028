"""What inspect_data.py reports of a task: small rows counted by hand, and the figures of the official files in docs/data.md."""

import json
from pathlib import Path

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data import overlap, row_facts
from cluebench.data.inspection import inspect
from cluebench.data.official import official_files
from cluebench.data.overlap import Repeated, groups_of, normalised, units_of
from cluebench.data.row_facts import floors
from cluebench.data.rows import ChoiceRow, IdiomRecord, SpanRow, TextRow, load_rows
from cluebench.data.source import open_source

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLUEBENCH_CACHE", str(tmp_path / "cache"))


def news(*pairs):
    return units_of(TASKS["tnews"], [TextRow((text,), TASKS["tnews"].labels.index(label)) for text, label in pairs])


@pytest.mark.parametrize(
    ("one", "other"),
    [("ＡＢＣ，你好！", "abc 你好"), ("①號_x", "1號x"), ("℃", "c"), ("a…b——c", "abc"), ("５０％", "50")],
)
def test_normalised(one, other):
    assert normalised(one) == normalised(other) != normalised(one + "。。x")


def test_twins_are_whole_rows_whatever_their_label():
    train = units_of(TASKS["ocnli"], [TextRow(("他在家。", "有人"), 0), TextRow(("天晴", "没下雨"), 1)])
    dev = units_of(TASKS["ocnli"], [TextRow(("他在家", "有 人"), 2), TextRow(("他在家。", "没下雨"), 0)])
    assert overlap.are_in(train.normal, dev.normal).tolist() == [True, False]
    assert overlap.are_in(train.parts["sentence1"], dev.parts["sentence1"]).tolist() == [False, True]


def test_repeated_texts():
    units = news(("甲", "100"), ("甲", "100"), ("甲", "101"), ("乙", "101"), ("丙", "102"), ("丙", "102"))
    assert overlap.repeated(units.whole, units.labels) == Repeated(2, 5, 3, 1, 3)
    assert overlap.label_by_text(units.whole, units.labels)[units.whole[0]] == "100"


def test_groups():
    """A premise, an abstract, a text without its marks, a passage, a record."""
    pairs = [TextRow(("甲", "乙"), 0), TextRow(("甲", "丙"), 1), TextRow(("丁", "丙"), 1)]
    assert groups_of(TASKS["ocnli"], pairs).tolist() == [0, 0, 1]  # in every process
    assert groups_of(TASKS["csl"], pairs).tolist() == [0, 1, 1]
    marked = [TextRow((text,), 0) for text in ("_他_说[它]好", "[他]说_它_好", "_她_说[它]好")]
    assert groups_of(TASKS["cluewsc2020"], marked).tolist() == [0, 0, 1]
    questions = [ChoiceRow("文", question, ("一", "二"), 0, 0) for question in "问答"]
    assert groups_of(TASKS["c3"], [*questions, ChoiceRow("另", "问", ("一", "二"), 1, 2)]).tolist() == [0, 0, 1]
    candidates = tuple("甲乙丙丁戊己庚辛壬癸")
    records = [IdiomRecord(("a#idiom1#", "b#idiom2#"), candidates, {"#idiom1#": 0, "#idiom2#": 1})]
    assert groups_of(TASKS["chid"], [*records, IdiomRecord(("a#idiom3#",), candidates, None)]).tolist() == [0, 0, 1]
    spans = [SpanRow(f"{number}", "文", f"问{number}", ("文",), (0,)) for number in range(2)]
    assert groups_of(TASKS["cmrc2018"], spans).tolist() == [0, 0]


def test_floors_by_hand():
    """Three of five train rows are 100; of four dev rows one is, and the twin of another says 102 rightly."""
    train = news(("甲", "100"), ("乙", "100"), ("丙", "100"), ("丁", "102"), ("戊", "101"))
    dev = news(("子", "100"), ("丁！", "102"), ("丑", "101"), ("甲", "101"))
    found = floors(train, dev)
    assert (found.majority, found.twin) == (25, 50) and 0 <= found.surface <= 100 and found.best >= 50


def test_a_surface_alone_can_win():
    """Of CSL, keywords that are longer where they are false; of OCNLI, a word of the hypothesis."""
    rows = [
        TextRow(("词 词语" if number % 2 else "很长的词 更长的词语", f"文{number}"), number % 2) for number in range(60)
    ]
    units = units_of(TASKS["csl"], rows)
    assert floors(units, units).surface == 100
    rows = [TextRow((f"甲{number}", "他没有" if number % 2 else "他有"), number % 2) for number in range(60)]
    units = units_of(TASKS["ocnli"], rows)
    assert floors(units, units).surface == 100
    options = [
        ChoiceRow(f"文{number}", "问", ("对", "不对")[:: 1 if number % 2 else -1], int(number % 2 == 0), number)
        for number in range(60)
    ]
    units = units_of(TASKS["c3"], options)
    assert floors(units, units).surface == 100


def test_a_whole_task(shelf):
    def rows(*pairs):
        return [{"sentence1": "甲", "sentence2": text, "label": label} for text, label in pairs]

    task = shelf.put("ocnli", "train.50k.json", rows(("乙", "neutral"), ("丙", "entailment"), ("丁", "-")))
    shelf.put("ocnli", "dev.json", rows(("乙！", "neutral"), ("", "neutral")))
    train, dev = inspect(shelf.source, task).splits
    assert (train.rows, train.unlabelled, train.labels) == (2, 1, {"entailment": 1, "neutral": 1})
    assert train.groups == Repeated(1, 2, 2, 1, 2)
    assert (dev.twins["whole row"].exact, dev.twins["whole row"].normalised, dev.twins["sentence1"].exact) == (0, 1, 2)
    assert dev.odd["an empty text"] == 1
    kept = row_facts.found(task, shelf.source.fingerprint(task))
    assert kept.twins == [0] and kept.is_twin().tolist() == [True, False] and kept.dev == dev.row_hash


def test_the_command(shelf, run_command):
    rows = [{"sentence": "甲", "label": "100", "id": 0}, {"sentence": "乙", "label": "101", "id": 1}]
    for file in ("train.json", "dev.json", "test.json"):
        shelf.put("tnews", file, rows)
    shown = run_command("grid_search_tools/inspect_data.py", "--data_dir", shelf.folder)
    assert shown.code == 0 and "TNEWS dev\n" in shown.out and "in train:          2, label right 100.00 %" in shown.out
    assert "AFQMC is left out" in shown.err
    (found,) = json.loads(
        run_command("grid_search_tools/inspect_data.py", "--data_dir", shelf.folder, "--format", "json").out
    )
    assert found["task"] == "tnews" and found["splits"][2]["labels"] == {}
    missing = run_command("grid_search_tools/inspect_data.py", "--data_dir", shelf.folder, "--tasks", "c3")
    assert missing.code == 2 and "d-train.json is missing" in missing.err


@pytest.mark.slow
def test_the_figures_in_the_documentation(clue_data_dir, run_command):
    """Of every split whose files are the official ones here."""
    source, looked = open_source(clue_data_dir), 0
    table = run_command("grid_search_tools/inspect_data.py", "--data_dir", clue_data_dir, "--format", "markdown").lines
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for task in TASKS.values():
        files = {file for file in task.files if file != task.label_file}
        known = {file: official_files().get((task.name, file)) for file in files}
        if all(
            source.has(task, file) and one and one.md5 and source.is_official(task, file) for file, one in known.items()
        ):
            of_task = [line for line in table if line.startswith(f"| {task.title} ")]
            assert len(of_task) == 3 and all(line in page for line in of_task), task.title
            looked += 1
    if not looked:
        pytest.skip("no whole official task here")


@pytest.mark.slow
def test_reference_figures(clue_data_dir):
    """Counted on the official files by another program."""
    source = open_source(clue_data_dir)
    if not all(source.has(TASKS[name], TASKS[name].dev_files[0]) for name in ("tnews", "c3", "cluewsc2020")):
        pytest.skip("not all of the official files are here")
    train, dev = inspect(source, TASKS["tnews"]).splits[:2]
    whole = dev.twins["whole row"]
    assert (whole.exact, whole.normalised, round(whole.label_right, 2)) == (1099, 1115, 82.17)
    assert train.repeated.texts == 2096 and train.repeated.rows == 5730
    assert (train.repeated.texts_of_several_labels, train.repeated.rows_of_several_labels) == (547, 1715)
    *_, test = inspect(source, TASKS["c3"]).splits
    assert (test.twins["context"].exact, test.twins["context"].normalised) == (4, 472)
    assert test.twins["whole row"].normalised == 120
    _, dev, _ = inspect(source, TASKS["cluewsc2020"]).splits
    assert (dev.rows, dev.pronouns, dev.rows - dev.groups.rows + dev.groups.texts) == (304, 108, 104)
    assert round(dev.floors.majority, 2) == 63.49 and len(load_rows(source, TASKS["cluewsc2020"], "dev")) == 304
