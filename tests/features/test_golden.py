"""The expected model inputs of real examples, token by token."""

import json

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data.rows import ChoiceRow, IdiomRecord, SpanRow, TextRow
from cluebench.features import TextEncoder, choice, idiom, pair, span
from cluebench.features.choice import ChoiceFeatures
from cluebench.features.idiom import IdiomFeatures
from cluebench.features.pair import PairFeatures
from cluebench.features.span import SpanFeatures
from tests.features.conftest import GOLDEN

EXPECTED = [json.loads(line) for line in (GOLDEN / "features.jsonl").read_text(encoding="utf-8").splitlines()]


def named(expected):
    return f"{expected['task']}-{EXPECTED.index(expected)}"


def check(expected, encoder):
    CHECKS[TASKS[expected["task"]].kind](expected, encoder)


def check_texts(expected, encoder):
    task, example = TASKS[expected["task"]], expected["example"]
    texts = marked(example) if task.marked_spans else tuple(example[field] for field in task.text_fields)
    row = TextRow(texts, task.labels.index(example["label"]))
    features = PairFeatures(pair.build([row], encoder, max_seq_length=expected["max_seq_length"]))
    batch = features.batch([0])
    assert tokens(encoder, batch["input_ids"][0]) == expected["tokens"]
    assert batch["token_type_ids"][0].tolist() == expected["token_type_ids"]
    assert features.lengths.tolist() == [len(expected["tokens"])]


def marked(example):
    text, target = example["text"], example["target"]
    marks = [
        (target["span1_index"], "_"),
        (target["span1_index"] + len(target["span1_text"]), "_"),
        (target["span2_index"], "["),
        (target["span2_index"] + len(target["span2_text"]), "]"),
    ]
    for place, mark in sorted(marks, reverse=True):
        text = text[:place] + mark + text[place:]
    return (text,)


def check_choices(expected, encoder):
    example = expected["example"]
    options = tuple(example["choice"])
    row = ChoiceRow("\n".join(example["context"]), example["question"], options, options.index(example["answer"]), 0)
    arrays = choice.build([row], encoder, max_seq_length=expected["max_seq_length"], num_choices=4)
    features = ChoiceFeatures(arrays)
    batch = features.batch([0])
    assert batch["labels"].tolist() == [expected["label"]]
    assert batch["input_ids"].shape[:2] == (1, len(expected["choices"]))
    for number, one in enumerate(expected["choices"]):
        assert without_padding(tokens(encoder, batch["input_ids"][0, number])) == one["tokens"]
        types = batch["token_type_ids"][0, number].tolist()
        assert types[: len(one["tokens"])] == one["token_type_ids"] and not any(types[len(one["tokens"]) :])
    assert features.lengths.tolist() == [max(len(one["tokens"]) for one in expected["choices"])]


def check_blanks(expected, encoder):
    example = expected["example"]
    record = IdiomRecord(tuple(example["content"]), tuple(example["candidates"]), None)
    features = IdiomFeatures(idiom.build([record], encoder, max_seq_length=expected["max_seq_length"], num_choices=10))
    batch = features.batch([features.tags.index(expected["tag"])])
    assert batch["input_ids"].shape[:2] == (1, 10)
    for number, one in enumerate(expected["choices"]):
        assert without_padding(tokens(encoder, batch["input_ids"][0, number])) == one["tokens"]
        assert batch["token_type_ids"][0, number].tolist() == one["token_type_ids"]


def check_windows(expected, encoder):
    example = expected["example"]
    answers = example["answers"]
    row = SpanRow(
        example["id"], example["context"], example["question"], tuple(answers["text"]), tuple(answers["answer_start"])
    )
    settings = {"max_seq_length": expected["max_seq_length"], "doc_stride": expected["doc_stride"]}
    features = SpanFeatures(span.build([row], encoder, **settings))
    assert len(features) == len(expected["windows"])
    for number, window in enumerate(expected["windows"]):
        batch = features.batch([number])
        assert tokens(encoder, batch["input_ids"][0]) == window["tokens"]
        assert batch["token_type_ids"][0].tolist() == window["token_type_ids"]
        assert (batch["start_positions"][0], batch["end_positions"][0]) == (window["start"], window["end"])
        assert features.offsets(number) == [span and tuple(span) for span in window["offsets"]]


CHECKS = {
    "single": check_texts,
    "pair": check_texts,
    "choice": check_choices,
    "idiom": check_blanks,
    "span": check_windows,
}


def tokens(encoder, ids):
    names = {index: token for token, index in encoder.tokenizer.get_vocab().items()}
    return [names[index] for index in ids.tolist()]


def without_padding(sequence):
    while sequence[-1] == "[PAD]":
        sequence = sequence[:-1]
    return sequence


def test_all_seven_tasks_are_there():
    assert {one["task"] for one in EXPECTED} == {"tnews", "iflytek", "ocnli", "cluewsc2020", "c3", "chid", "cmrc2018"}


@pytest.mark.parametrize("expected", EXPECTED, ids=named)
def test_model_inputs(expected, encoder):
    check(expected, encoder)


@pytest.mark.slow
def test_model_inputs_with_paddlenlps_tokenizer(paddlenlp_transformers):
    tokenizer = paddlenlp_transformers.ErnieTokenizer(vocab_file=str(GOLDEN / "vocab.txt"), do_lower_case=True)
    encoder = TextEncoder(tokenizer)
    for expected in EXPECTED:
        check(expected, encoder)
