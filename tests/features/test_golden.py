"""The expected model inputs of real examples, from an official file to the batch, token by token."""

import json
import re

import numpy as np
import pytest

from cluebench.benchmark.tasks import CHOICE, IDIOM, SPAN, TASKS
from cluebench.data.source import DataSource
from cluebench.features import FeatureRequest, TextEncoder, load_features
from tests.features.conftest import GOLDEN

EXPECTED = [json.loads(line) for line in (GOLDEN / "features.jsonl").read_text(encoding="utf-8").splitlines()]


def dev_files(expected):
    """File name → content, of a dev split with the example."""
    kind, example = TASKS[expected["task"]].kind, expected["example"]
    if kind == CHOICE:
        return {"m-dev.json": [[example["context"], [example], "0"]], "d-dev.json": []}
    if kind == IDIOM:
        tags = re.findall(r"#idiom\d+#", "".join(example["content"]))
        return {"dev.json": example, "dev_answer.json": dict.fromkeys(tags, 0) | {expected["tag"]: expected["label"]}}
    if kind == SPAN:
        texts, starts = example["answers"]["text"], example["answers"]["answer_start"]
        answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
        return {"dev.json": {"data": [{"paragraphs": [{**example, "qas": [{**example, "answers": answers}]}]}]}}
    return {"dev.json": example}


def check(expected, encoder, folder):
    task = TASKS[expected["task"]]
    for name, content in dev_files(expected).items():
        (folder / f"{task.name}_public").mkdir(exist_ok=True)
        (folder / f"{task.name}_public" / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "synthetic.json").touch()  # no files to compare with published scores
    settings = {name: expected[name] for name in ("max_seq_length", "doc_stride") if name in expected}
    features = load_features(FeatureRequest(task, "dev", DataSource(folder), encoder, **settings), None)
    examples = [features.tags.index(expected["tag"])] if task.kind == IDIOM else np.arange(len(features))
    batch = features.batch(examples)

    sequences = expected.get("choices") or expected.get("windows") or [expected]
    width, names = features.lengths[examples].max(), {v: token for token, v in encoder.tokenizer.get_vocab().items()}
    assert width == max(len(sequence["tokens"]) for sequence in sequences)
    parts = (batch[name].reshape(-1, width).tolist() for name in ("input_ids", "token_type_ids"))
    for ids, types, sequence in zip(*parts, sequences, strict=task.kind != IDIOM):  # of ten idioms, three
        padding = width - len(sequence["tokens"])
        assert [names[index] for index in ids] == sequence["tokens"] + ["[PAD]"] * padding
        assert types == sequence["token_type_ids"] + [0] * padding
    if "label" in expected:
        assert batch["labels"].tolist() == [expected["label"]]
    for number, window in enumerate(expected.get("windows", ())):
        assert (batch["start_positions"][number], batch["end_positions"][number]) == (window["start"], window["end"])
        assert features.offsets(number) == [span and tuple(span) for span in window["offsets"]]


def test_all_seven_tasks_are_there():
    assert {one["task"] for one in EXPECTED} == {"tnews", "iflytek", "ocnli", "cluewsc2020", "c3", "chid", "cmrc2018"}


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda expected: f"{expected['task']}-{EXPECTED.index(expected)}")
def test_model_inputs(expected, encoder, tmp_path):
    check(expected, encoder, tmp_path)


@pytest.mark.slow
def test_model_inputs_with_paddlenlps_tokenizer(paddlenlp_transformers, tmp_path):
    tokenizer = paddlenlp_transformers.ErnieTokenizer(vocab_file=str(GOLDEN / "vocab.txt"), do_lower_case=True)
    encoder = TextEncoder(tokenizer)
    for expected in EXPECTED:
        check(expected, encoder, tmp_path)
