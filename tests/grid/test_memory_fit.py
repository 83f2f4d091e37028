"""A driver that answers late or not at all, an estimate beyond every card."""

from cluebench.scheduler.allocation.ledger import Ledger
from cluebench.scheduler.allocation.memory_fit import MemoryFit
from cluebench.scheduler.loop.attempt_ends import ask, measured, set_aside
from cluebench.scheduler.plan.estimates import GIB
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.processes.engine import Measured
from tests.simulated import Run, empty, gpu, job_of, trials

ANSWER = Measured("GPU-0", empty("GPU-0"))


def one_card():
    """A grid, what it has asked, and its card's slot."""
    run, asked = Run([], [gpu(0)]), []
    run.engine.measure = asked.append
    return run, asked, run.ledger.slots["GPU-0"]


def test_an_answer_to_a_question_from_before_a_trial_ended_says_nothing():
    run, asked, slot = one_card()
    ask(run.grid, "GPU-0")
    ask(run.grid, "GPU-0")
    assert asked == ["GPU-0"]
    measured(run.grid, ANSWER)
    assert asked == ["GPU-0"] * 2 and not slot.fresh
    measured(run.grid, ANSWER)
    assert asked == ["GPU-0"] * 2 and slot.fresh


def test_what_was_read_of_a_card_before_its_driver_fell_silent_counts_no_more():
    run, asked, slot = one_card()
    ask(run.grid, "GPU-0")
    measured(run.grid, ANSWER)
    assert slot.fresh
    run.time.now = run.grid.timers.next()
    run.grid.timers.act()
    assert slot.is_coming and slot.fresh and asked[1:] == ["GPU-0"]
    run.time.now = run.grid.timers.next()
    run.grid.timers.act()
    run.grid.tell()
    assert run.witness.notes == ["gpu 0: the driver does not answer; nothing is started there until it does"]
    assert not slot.fresh and not slot.is_coming and run.grid.timers.next() == float("inf")


def test_a_card_that_fails_is_set_aside_for_longer_each_time():
    run, _, slot = one_card()
    pauses, run.time.now = [], 1000.0
    for _ in range(7):
        set_aside(run.grid, "GPU-0", "gone")
        pauses.append(slot.set_aside_until - run.time.now)
        run.time.now += 1
        set_aside(run.grid, "GPU-0", "gone")  # the same failure
        assert slot.set_aside_until == run.grid.timers.next() == run.time.now - 1 + pauses[-1]
        run.time.now = slot.set_aside_until
    assert pauses == [30, 60, 120, 240, 480, 600, 600]
    run.ledger.succeeded(["GPU-0"])
    set_aside(run.grid, "GPU-0", "gone")
    assert slot.set_aside_until - run.time.now == 30 and not slot.fresh  # not used before it has been read again


def test_no_trial_waits_for_more_than_the_largest_card_has():
    (trial,) = trials("tnews")
    room = MemoryFit(Ledger([gpu(0, 16), gpu(1, 24)]), GridFlags())
    room.memory.exceeded(trial, 24, 40 * GIB)
    assert room.need_on(job_of(trial), 1).bytes == int(0.97 * 24 * GIB)
