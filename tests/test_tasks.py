from itertools import product

import pytest

from cluebench.benchmark.tasks import TASKS, task_named
from cluebench.foundation.errors import UsageError


def test_the_published_table():
    rows = [(t.title, t.epochs, t.max_seq_length, t.warmup_proportion, t.cards, t.metric) for t in TASKS.values()]
    assert rows == [
        ("AFQMC", 3, 128, 0.1, 1, "accuracy"),
        ("TNEWS", 3, 128, 0.1, 1, "accuracy"),
        ("IFLYTEK", 3, 128, 0.1, 1, "accuracy"),
        ("CMNLI", 2, 128, 0.1, 1, "accuracy"),
        ("OCNLI", 5, 128, 0.1, 1, "accuracy"),
        ("CLUEWSC2020", 50, 128, 0.1, 1, "accuracy"),
        ("CSL", 5, 256, 0.1, 1, "accuracy"),
        ("CMRC2018", 2, 512, 0.1, 2, "em_f1"),
        ("CHID", 3, 64, 0.06, 4, "accuracy"),
        ("C3", 8, 512, 0.1, 4, "accuracy"),
    ]
    assert TASKS["cmrc2018"].max_grad_norm is None
    assert all(task.max_grad_norm == 1.0 for name, task in TASKS.items() if name != "cmrc2018")


def test_the_published_grids():
    rates = (1e-5, 2e-5, 3e-5, 5e-5)
    with_zero, reading = ("iflytek", "cluewsc2020"), ("cmrc2018", "chid", "c3")
    for name, task in TASKS.items():
        sizes = (24, 32) if name in reading else (8, 16, 32, 64) if name == "cluewsc2020" else (16, 32, 64)
        dropouts = (0.1, 0.0) if name in with_zero else (0.1,)
        points = product(rates[:3] if name in reading else rates, sizes, dropouts)
        assert [tuple(point) for point in task.grid.points()] == list(points), name


def test_what_only_reading_comprehension_has():
    assert [(name, task.eval_every_steps) for name, task in TASKS.items() if task.eval_every_steps != 100] == [
        ("cmrc2018", None), ("chid", None), ("c3", None),
    ]  # fmt: skip
    span = TASKS["cmrc2018"]
    assert (span.doc_stride, span.max_query_length, span.max_answer_length, span.n_best_size) == (128, None, 50, 20)
    assert {name: task.num_choices for name, task in TASKS.items() if task.num_choices} == {"chid": 10, "c3": 4}


def test_label_order_decides_what_an_index_means():
    assert TASKS["cmnli"].labels == ("contradiction", "entailment", "neutral")
    assert TASKS["ocnli"].labels == ("entailment", "contradiction", "neutral")
    assert TASKS["cluewsc2020"].labels == ("true", "false")
    assert len(TASKS["iflytek"].labels) == 119 and TASKS["iflytek"].labels[-1] == "118"
    assert TASKS["tnews"].labels[:6] == ("100", "101", "102", "103", "104", "106")


@pytest.mark.parametrize(
    "task, batch, cards, steps",
    [
        ("csl", 32, 1, 2),
        ("cmrc2018", 24, 1, 4),
        ("cmrc2018", 32, 2, 2),
        ("chid", 24, 1, 8),
        ("chid", 32, 4, 2),
        ("c3", 24, 1, 12),
        ("c3", 32, 1, 16),
        ("c3", 24, 4, 3),
        ("c3", 24, 12, 1),
        ("tnews", 64, 1, 1),
        ("tnews", 64, 4, 1),
        ("csl", 32, 2, 1),
    ],
)
def test_accumulation_reaches_the_same_total_batch(task, batch, cards, steps):
    assert TASKS[task].accumulation_steps(batch, cards) == steps
    assert (batch // cards) % steps == 0


@pytest.mark.parametrize(
    "task, batch, cards, message",
    [
        ("chid", 12, 1, r"CHID: batch size 12 .* 8 equal micro-batches on 1 card"),
        ("c3", 1, 1, r"C3: batch size 1 .* 0 equal micro-batches on 1 card"),
        ("c3", 24, 8, r"C3: batch size 24 in 12 micro-batches .* over 8 cards"),  # 3 rows a card, but 1.5 micro-batches
        ("cmrc2018", 24, 3, r"CMRC2018: batch size 24 in 4 micro-batches .* over 3 cards"),
        ("chid", 36, 8, r"CHID: batch size 36 in 8 micro-batches .* over 8 cards"),  # 1 micro-batch a card, of 4.5 rows
        ("tnews", 64, 3, r"TNEWS: batch size 64 in 1 micro-batches .* over 3 cards"),
        ("chid", 12, 4, r"CHID: batch size 12 .* 2 equal micro-batches on 4 card"),
    ],
)
def test_a_batch_that_cannot_be_split_names_the_numbers(task, batch, cards, message):
    with pytest.raises(ValueError, match=message):
        TASKS[task].accumulation_steps(batch, cards)


def test_scores():
    assert TASKS["tnews"].format_score(TASKS["tnews"].parse_score("57")) == "57.00"
    assert TASKS["cmrc2018"].format_score(TASKS["cmrc2018"].parse_score("65.83/87.30")) == "65.83/87.30"
    with pytest.raises(ValueError, match="CMRC2018"):
        TASKS["cmrc2018"].parse_score("57.00")


def test_task_names_in_any_case():
    assert task_named("TNEWS") is task_named(" tnews ") is TASKS["tnews"]
    with pytest.raises(UsageError, match="'mnli'.*afqmc, tnews"):
        task_named("mnli")
