"""The real reading tasks: perfect logits lead to perfect scores, but for what the protocol itself rules out."""

import time

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data.rows import load_rows
from cluebench.data.source import DataSource
from cluebench.features import FeatureCache, FeatureRequest, TextEncoder, load_features
from cluebench.features.metrics import (
    accuracy,
    decode_choices,
    decode_idioms,
    decode_spans,
    organisers_question_scores,
    percent,
    question_scores,
)
from tests.features.standin import StandIn

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def load(clue_data_dir, golden_tokens, tmp_path_factory):
    source, encoder = DataSource(clue_data_dir), TextEncoder(StandIn(golden_tokens))
    cache = FeatureCache(tmp_path_factory.mktemp("features"))

    def load(name, split, **settings):
        task = TASKS[name]
        if not all(source.has(task, file) for file in task.train_files + task.dev_files):
            pytest.skip(f"{task.title} is not in CLUE_DATA_DIR")
        return load_features(FeatureRequest(task, split, source, encoder, **settings), cache)

    load.source = source
    return load


def gold_logits(labels, options, wrong=0.0):
    logits = np.full((len(labels), options), wrong, np.float32)
    logits[np.arange(len(labels)), labels] = 5
    return logits


def test_c3_oracle(load):
    dev = load("c3", "dev")
    logits = np.where(dev.option_mask, gold_logits(dev.labels, 4), 9)
    assert accuracy(decode_choices(logits, dev.option_mask), dev.labels) == 1


def test_c3_questions_with_up_to_ten_options(load):
    test = load("c3", "test1.1")
    assert test.option_mask.shape[1] == 10
    widest = int(test.option_mask.sum(axis=1).argmax())
    assert test.batch([widest])["input_ids"].shape[1] == 10
    chosen = decode_choices(gold_logits(test.option_mask.sum(axis=1) - 1, 10), test.option_mask)
    assert chosen.max() == 9
    assert len(set(test.ids)) == len(test) == 1625


def test_chid_oracle(load):
    dev = load("chid", "dev")
    chosen = decode_idioms(gold_logits(dev.labels, 10), dev.records)
    assert accuracy(chosen, dev.labels) == 1
    assert len(set(dev.tags)) == len(dev)


def test_cmrc2018_oracle(load):
    """EM is what the windows and the 50-token limit allow: every miss has one of three causes."""
    task, dev = TASKS["cmrc2018"], load("cmrc2018", "dev")
    rows = load_rows(load.source, task, "dev")
    logits = [gold_logits(places, 512) for places in (dev.start_positions, dev.end_positions)]
    start = time.perf_counter()
    answers = decode_spans(*logits, dev, task.n_best_size, task.max_answer_length)
    organisers = [100 * np.mean(one) for one in organisers_question_scores(answers, rows)]
    assert time.perf_counter() - start < 30
    assert len(answers) == len(rows) == 3219

    answered = np.flatnonzero(dev.start_positions > 0)
    window_of = dict(zip(dev.rows[answered].tolist(), answered.tolist(), strict=True))
    missed, causes = 0, {"too long": 0, "misplaced": 0, "inside a token": 0}
    for number, row in enumerate(rows):
        first, behind = row.answer_starts[0], row.answer_starts[0] + len(row.answers[0])
        window = window_of[number]  # at 512 tokens and steps of 128, some window holds every answer
        start_token, end_token = dev.start_positions[window], dev.end_positions[window]
        if end_token - start_token >= task.max_answer_length:
            causes["too long"] += 1
        elif row.context[first:behind] != row.answers[0]:
            causes["misplaced"] += 1
        elif dev.characters(window, start_token, end_token) != (first, behind):
            causes["inside a token"] += 1
        else:
            assert answers[row.id] == row.answers[0], row.id
            continue
        missed += answers[row.id] not in row.answers
    assert missed <= sum(causes.values()) < 50
    assert causes["misplaced"] == 3
    exact = 100 * np.mean([answers[row.id] in row.answers for row in rows])
    assert exact > 98.5
    assert organisers[0] >= exact
    assert percent(question_scores(answers, rows)[0]) >= exact


def test_cmrc2018_windows_cover_every_context(load):
    train = load("cmrc2018", "train", max_seq_length=384)
    assert (np.diff(train.rows) >= 0).all() and set(train.rows.tolist()) == set(range(10142))
    for row in range(0, 10142, 97):
        windows = np.flatnonzero(train.rows == row).tolist()
        seen = [span for window in windows for span in train.offsets(window) if span]
        context = train.context(row)
        letters = {place for start, end in seen for place in range(start, end)}
        assert {place for place, char in enumerate(context) if "一" <= char <= "龥"} <= letters
        assert max(train.lengths[windows]) <= 384


@pytest.mark.parametrize("name", ["c3", "chid", "cmrc2018", "ocnli", "tnews", "cluewsc2020"])
def test_warm_start_takes_less_than_a_second(load, name):
    for split in ("train", "dev"):
        load(name, split)
    start = time.perf_counter()
    for split in ("train", "dev"):
        load(name, split)
    assert time.perf_counter() - start < 1
