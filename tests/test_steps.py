"""Step arithmetic, worked out by hand."""

import pytest

pytestmark = pytest.mark.slow


def steps(rows, batch, accumulation, epochs, done=0, **more):
    from cluebench.training.steps import StepPlan, optimizer_steps, order_of

    examples = range(rows)
    plan = StepPlan(len(order_of(examples, batch)), accumulation, epochs, **more)
    return plan, list(optimizer_steps(examples, batch, plan, done))


def test_an_incomplete_accumulation_is_a_step_of_its_own_epoch():
    plan, found = steps(rows=11, batch=2, accumulation=4, epochs=2)
    assert plan.steps_per_epoch == 2 and plan.total_steps == 4
    assert [len(step.micro_batches) for step in found] == [4, 2, 4, 2]
    assert [(step.number, step.epoch, step.batch, step.evaluates) for step in found] == [
        (1, 0, 3, False), (2, 0, 5, True), (3, 1, 3, False), (4, 1, 5, True),
    ]  # fmt: skip
    for epoch in (0, 1):
        seen = [row for step in found if step.epoch == epoch for rows in step.micro_batches for row in rows]
        assert sorted(seen) == list(range(11))


def test_the_order_is_the_published_samplers():
    import numpy as np

    _, found = steps(rows=8, batch=4, accumulation=1, epochs=3)
    for epoch in range(3):
        expected = list(range(8))
        np.random.RandomState(epoch).shuffle(expected)
        assert [row for step in found if step.epoch == epoch for row in step.micro_batches[0]] == expected


@pytest.mark.parametrize("done", range(7))
def test_going_on_takes_exactly_the_steps_that_are_left(done):
    assert steps(11, 2, 3, 3, done)[1] == steps(11, 2, 3, 3)[1][done:]


def test_max_steps_may_stop_early_or_add_epochs():
    plan, found = steps(rows=8, batch=4, accumulation=1, epochs=2, max_steps=3)
    assert len(found) == plan.total_steps == 3
    plan, found = steps(rows=8, batch=4, accumulation=1, epochs=2, max_steps=7)
    assert len(found) == 7 and found[-1].epoch == 3


def test_evaluates_on_the_cadence_and_always_after_the_last_step():
    plan, found = steps(rows=10, batch=1, accumulation=1, epochs=1, eval_every=4)
    assert [step.number for step in found if step.evaluates] == [4, 8, 10]
    plan, found = steps(rows=10, batch=3, accumulation=1, epochs=2, eval_every=None, max_steps=6)
    assert [step.number for step in found if step.evaluates] == [4, 6]


def test_no_checkpoint_after_the_last_step():
    plan, found = steps(rows=10, batch=1, accumulation=1, epochs=1, checkpoint_every=5)
    assert [step.number for step in found if step.checkpoints] == [5]


def test_an_empty_split_is_refused():
    from cluebench.foundation.errors import DataError
    from cluebench.training.steps import StepPlan

    with pytest.raises(DataError, match="empty"):
        StepPlan(micro_batches=0, accumulation=1, epochs=1)
    assert StepPlan(micro_batches=1, accumulation=4, epochs=1).total_steps == 1
