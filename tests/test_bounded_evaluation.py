"""--evaluation bounded: passes over made-up logits, whose rounding depends on the batch as a device's does."""

import numpy as np
import pytest

from cluebench.features.metrics import accuracy
from cluebench.features.sequences import length_sorted_batches
from cluebench.records.analysis import Choices
from cluebench.records.dev_predictions import CutEvaluation
from cluebench.training.bounded import BoundedEvaluation

ROWS, OPTIONS, BATCH = 600, 5, 16


def choices(kind, rng):
    """Of rows alone, of questions some of whose options are padding, or of records of up to four blanks."""
    gold, mask, records = rng.integers(0, OPTIONS, ROWS), None, None
    if kind == "questions":
        real = rng.integers(2, OPTIONS + 1, ROWS)
        mask, gold = np.arange(OPTIONS) < real[:, None], gold % real
    if kind == "records":
        records = np.repeat(np.arange(ROWS), rng.integers(1, 5, ROWS))[:ROWS]
        drawn = np.argsort(rng.random((ROWS, OPTIONS)), axis=1)  # of each record, no candidate twice
        gold = drawn[records, np.arange(ROWS) - np.searchsorted(records, records)]
    return Choices(gold, ids=range(ROWS), option_mask=mask, records=records)


class Device:
    """A model's true logits at each evaluation, and what a batch makes of them."""

    def __init__(self, of, rng, rounding=1e-5, skill=1.5, ties=40):
        self.of, self.rounding, self.computed = of, rounding, 0
        self.rng, self.own = rng, rng.normal(size=(ROWS, OPTIONS)) + skill * np.eye(OPTIONS)[of.gold]
        self.ties = slice(0, ties)  # rows whose logits are often equal, until rounding turns them round
        self.own[self.ties] = np.round(self.own[self.ties])

    def train(self, gain):
        wavering = self.rng.normal(size=self.own.shape) / 2
        wavering[self.ties] = 0
        self.true = self.own + wavering + gain * np.eye(OPTIONS)[self.of.gold]

    def __call__(self, batches):
        self.computed += sum(map(len, batches))
        return [(rows, self._of(rows)) for rows in batches]

    def _of(self, rows):
        noise = np.random.default_rng(rows.tolist()).uniform(-1, 1, (len(rows), OPTIONS))
        return (self.true[rows] + self.rounding * noise).astype(np.float32)

    def full(self, lengths):
        """What `--evaluation full` computes."""
        logits = np.empty((ROWS, OPTIONS), np.float32)
        for rows in length_sorted_batches(lengths, BATCH):
            logits[rows] = self._of(rows)
        return logits


@pytest.mark.parametrize("kind", ["rows", "questions", "records"])
@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("rounding", [0, 1e-5, 3e-2])
def test_best_answers_and_steps_are_those_of_full_passes_to_the_bit(kind, world_size, rounding):
    rng = np.random.default_rng(0)
    of, lengths, rows = choices(kind, rng), rng.integers(5, 60, ROWS), np.arange(ROWS)
    device, bounded, best, cut = Device(of, rng, rounding), BoundedEvaluation(of, lengths, BATCH, world_size), None, 0
    for number in range(25):
        device.train(gain=0.1 * min(number, 5))
        answers = of.decoded(device.full(lengths), rows)
        score = 100 * accuracy(answers, of.gold)
        found = bounded.evaluate(device, best)
        if isinstance(found, CutEvaluation):
            assert best is not None and score <= found.bound <= best and found.computed <= found.rows == ROWS
            cut += 1
            continue
        assert of.decoded(found, rows).tolist() == answers.tolist()
        best = score if best is None else max(best, score)
    assert cut >= (5 if rounding < 1e-2 else 0)
    if rounding < 1e-2:
        assert device.computed < (1 if kind == "records" else 0.8) * 25 * ROWS


def test_a_tie_is_cut_and_one_more_right_answer_is_not():
    rng = np.random.default_rng(1)
    of, lengths = choices("rows", rng), rng.integers(5, 60, ROWS)
    device, bounded = Device(of, rng, ties=0), BoundedEvaluation(of, lengths, BATCH)
    device.train(0)
    first = bounded.evaluate(device, None)
    score = 100 * accuracy(of.decoded(first, np.arange(ROWS)), of.gold)
    again = bounded.evaluate(device, score)
    assert isinstance(again, CutEvaluation) and again.bound == pytest.approx(score)
    wrong = np.flatnonzero(of.decoded(first, np.arange(ROWS)) != of.gold)[-1]
    device.true[wrong, of.gold[wrong]] += 100
    assert not isinstance(bounded.evaluate(device, score), CutEvaluation)


def test_the_hardest_rows_come_first_and_neighbours_in_length_share_a_batch():
    rng = np.random.default_rng(2)
    of, lengths = choices("rows", rng), rng.integers(5, 60, ROWS)
    device, bounded = Device(of, rng, skill=4.0, ties=0), BoundedEvaluation(of, lengths, BATCH)
    device.train(0)
    answers = of.decoded(bounded.evaluate(device, None), np.arange(ROWS))
    asked = []

    def compute(batches):
        asked.extend(batches)
        return device(batches)

    errors = int(np.sum(answers != of.gold))
    bounded.evaluate(compute, 100 * (ROWS - errors) / ROWS)
    assert errors <= sum(map(len, asked)) <= errors + 5 * BATCH  # nearly all that was computed was wrong
    assert all(np.all(np.diff(lengths[rows]) <= 0) for rows in asked)
