"""A driver that answers late or not at all, a hold that may have passed, an estimate beyond every card."""

from cluebench.scheduler.allocation.ledger import DeviceHealth, Ledger
from cluebench.scheduler.allocation.memory_fit import MemoryFit
from cluebench.scheduler.loop.grid_state import Hold
from cluebench.scheduler.plan.estimates import GIB
from cluebench.scheduler.plan.grid_flags import GridFlags
from tests.grid.simulated_run import empty, gpu, job_of, trials
from tests.simulated import SimulatedEngine, SimulatedTime


def one_card():
    """Its cards, what they have asked and noted, its slot, and the clock."""
    time, ledger, asked, notes = SimulatedTime(), Ledger([gpu(0)]), [], []
    engine = SimulatedEngine(time, [], {}, None)
    engine.measure = asked.append
    return DeviceHealth(ledger, engine, notes.append, time.clock), asked, notes, ledger.slots["GPU-0"], time


def test_an_answer_to_a_question_from_before_a_trial_ended_says_nothing():
    cards, asked, _, slot, _ = one_card()
    cards.ask("GPU-0")
    cards.ask("GPU-0")
    assert asked == ["GPU-0"]
    assert not cards.record("GPU-0", empty("GPU-0"), lambda key, reading: 0) and not slot.fresh
    assert asked == ["GPU-0"] * 2
    assert cards.record("GPU-0", empty("GPU-0"), lambda key, reading: 0) and slot.fresh


def test_what_was_read_of_a_card_before_its_driver_fell_silent_counts_no_more():
    cards, asked, notes, slot, time = one_card()
    cards.ask("GPU-0")
    assert cards.record("GPU-0", empty("GPU-0"), lambda key, reading: 0) and slot.fresh
    time.now = cards.next_due()
    assert cards.ask_what_is_due() == [] and slot.is_coming and asked[1:] == ["GPU-0"]
    time.now = cards.next_due()
    assert cards.ask_what_is_due() == ["GPU-0"] and not slot.fresh
    assert notes == ["gpu 0: the driver does not answer; nothing is started there until it does"]
    assert slot.asked == float("inf") and not slot.is_coming and cards.next_due() == float("inf")


def test_a_hold_ends_at_once_when_a_trial_is_done_meanwhile():
    time, notes = SimulatedTime(), []
    hold = Hold(lambda: None, notes.append, time.clock)
    hold.begin("network: no route")
    hold.look_again()
    assert hold.cause == "network: no route"
    hold.doubt()
    hold.look_again()
    assert hold.cause is None and notes[-1] == "going on: network: no route may have passed"


def test_no_trial_waits_for_more_than_the_largest_card_has():
    (trial,) = trials("tnews")
    room = MemoryFit(Ledger([gpu(0, 16), gpu(1, 24)]), GridFlags())
    room.memory.exceeded(trial, 24, 40 * GIB)
    assert room.need_on(job_of(trial), 1).bytes == int(0.97 * 24 * GIB)
