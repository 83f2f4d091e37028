"""show_features.py prints the golden model inputs when it is run on a data directory made of the golden rows."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data.source import open_source
from cluebench.demo import synthetic
from cluebench.features import TextEncoder
from cluebench.report.inputs import described, shown_examples
from tests.features.standin import StandIn

COMMAND = "grid_search_tools/show_features.py"
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
EXPECTED = [json.loads(line) for line in (GOLDEN / "features.jsonl").read_text(encoding="utf-8").splitlines()]


class Tokenizer(StandIn):
    def convert_ids_to_tokens(self, ids):
        names = {index: token for token, index in self.get_vocab().items()}
        return [names[index] for index in ids]


@pytest.fixture(scope="session")
def encoder():
    return TextEncoder(Tokenizer((GOLDEN / "vocab.txt").read_text(encoding="utf-8").splitlines()))


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """The golden rows as official dev files, those of the reading tasks as a copy, whose layout they have."""
    folder = tmp_path_factory.mktemp("golden")
    rows: dict[str, list] = {}
    for line in EXPECTED:
        if line["example"] not in rows.setdefault(line["task"], []):
            rows[line["task"]].append(line["example"])
    for name, examples in rows.items():
        # OCNLI's rows on which the annotators did not agree are no examples
        dropped = [{**examples[0], "label": "-"}] if TASKS[name].is_classification else []
        lines = [json.dumps(row, ensure_ascii=False) for row in [*dropped, *examples, *dropped]]
        (folder / name).mkdir()
        (folder / name / "dev.json").write_text("\n".join(lines), encoding="utf-8")
    return folder


def printed(task, data, encoder, **settings):
    examples = shown_examples(replace(TASKS[task], **settings), "dev", open_source(data), encoder, 100)
    return [json.loads(json.dumps(example, ensure_ascii=False)) for example in examples]


@pytest.mark.parametrize("task", dict.fromkeys(line["task"] for line in EXPECTED))
def test_golden_lines_are_printed(task, data, encoder):
    expected = [line for line in EXPECTED if line["task"] == task]
    settings = {key: expected[0][key] for key in ("max_seq_length", "doc_stride") if key in expected[0]}
    found = printed(task, data, encoder, **settings)
    if task == "chid":  # the golden lines hold the first three of ten candidates
        assert all(len(line["choices"]) == 10 for line in found)
        found = [{**line, "choices": line["choices"][:3]} for line in found]
    assert found == expected
    assert [list(line) for line in found] == [list(line) for line in expected]


@pytest.fixture(scope="session")
def made_up(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clue") / "data"
    synthetic.write_synthetic(folder, sizes={name: synthetic.Sizes(4, 3, 3) for name in TASKS})
    return open_source(folder)


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_split_of_every_task(task, made_up, encoder):
    for split in ("train", "dev", *(test.split for test in task.test_sets)):
        short = replace(task, max_seq_length=32, doc_stride=8 if task.doc_stride else None)
        found = list(shown_examples(short, split, made_up, encoder, 2))
        assert found and len({json.dumps(line["example"]) for line in found}) == 2
        for line in found:
            sequences = line.get("choices") or line.get("windows") or [line]
            for sequence in sequences:
                assert sequence["tokens"][0] == "[CLS]" and sequence["tokens"][-1] == "[SEP]"
                assert len(sequence["tokens"]) == len(sequence["token_type_ids"]) <= 32
            if split.startswith("test"):
                assert line.get("label") is None and all(s.get("start") is None for s in sequences)
            assert "\n".join(described(task, line)).count("[CLS]") >= len(sequences)


def test_text_for_people(data, encoder):
    line = printed("ocnli", data, encoder, max_seq_length=48)[0]
    assert list(described(TASKS["ocnli"], line)) == [
        "OCNLI  0  label entailment",
        "  30 tokens",
        "    0: [CLS] 身 上 裹 一 件 工 厂 发 的 棉 大 衣 , 手 插 在 袖 筒 里 [SEP]",
        "    1: 身 上 至 少 一 件 衣 服 [SEP]",
    ]
    line = printed("cmrc2018", data, encoder, max_seq_length=256, doc_stride=64)[0]
    text = list(described(TASKS["cmrc2018"], line))
    assert text[0] == "CMRC2018  DEV_0_QUERY_0"
    answer = "answer at 33 to 42: 光 荣 和 [UNK] - f ##o ##r ##c ##e"
    assert text[1] == f"  window 1 of 4, 256 tokens, all that max_seq_length 256 allows, {answer}"
    assert text[4].endswith(", without the answer: labelled with [CLS]")
    line = printed("c3", data, encoder, max_seq_length=160)[4]
    text = list(described(TASKS["c3"], line))
    assert [row for row in text if "option" in row] == [
        "  option 0, 62 tokens",
        "  option 1, 62 tokens",
        "  option 2, 62 tokens  <- the answer",
        "  option 3, 62 tokens",
    ]


@pytest.mark.parametrize(
    "wrong, message",
    [
        (["--task", "mnli"], "--task: unknown task 'mnli'"),
        (["--task", "tnews", "--split", "test2"], "--split: TNEWS has no split 'test2'; its splits are train, dev"),
        (["--task", "tnews", "--doc_stride", "64"], "--doc_stride 64: TNEWS has no windows"),
        (["--task", "tnews", "--data_dir", "./nowhere"], "--data_dir nowhere is not a directory"),
        (["--task", "tnews", "--limit", "0"], "--limit 0: must be at least 1"),
        ([], "the following arguments are required: --task"),
    ],
)
def test_wrong_use_is_one_line(wrong, message, run_command, monkeypatch, made_up):
    monkeypatch.setenv("CLUE_DATA_DIR", str(made_up.directory))
    ended = run_command(COMMAND, *wrong, "--model_name_or_path", "./model")
    assert ended.code == 2 and message in ended.err and ended.err.count("\n") == 1


@pytest.mark.slow
def test_as_a_program(data, tmp_path, run_command):
    """With PaddleNLP's own tokenizer, through the command line."""
    from paddlenlp.transformers import ErnieTokenizer

    ErnieTokenizer(str(GOLDEN / "vocab.txt"), do_lower_case=True).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["ErnieModel"], "model_type": "ernie"}))
    flags = ["--model_name_or_path", str(tmp_path), "--data_dir", str(data), "--json"]
    c3 = ["--task", "C3", "--max_seq_length", "160", "--limit", "8"]
    found = [json.loads(line) for line in run_command(COMMAND, *flags, *c3).lines]
    assert found == [line for line in EXPECTED if line["task"] == "c3"]
    cmrc2018 = ["--task", "cmrc2018", "--max_seq_length", "256", "--doc_stride", "64", "--limit", "1"]
    found = [json.loads(line) for line in run_command(COMMAND, *flags, *cmrc2018).lines]
    assert found == [line for line in EXPECTED if line["task"] == "cmrc2018"][:1]
