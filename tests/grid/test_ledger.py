"""Who may have which card: the arithmetic of memory, worked out by hand in bytes; a driver that answers late or never."""

import pytest

from cluebench.benchmark.tasks import Setting
from cluebench.machine.devices import cpu_slots
from cluebench.machine.nvidia import Device, Reading
from cluebench.pretrained.model import Model
from cluebench.records.trial import Trial
from cluebench.scheduler.allocation.ledger import SUSPICIOUS, Ledger, Need
from cluebench.scheduler.allocation.promises import Promise
from cluebench.scheduler.loop.attempt_ends import ask, measured, set_aside
from cluebench.scheduler.plan.estimates import GIB
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Attempt
from cluebench.scheduler.processes.engine import Measured
from tests.simulated import Run, empty, gpu, job_of, trials


def card(name, joinable=True):
    return Device(name, f"gpu {name}", "gpu", "Test Card", 100, joinable)


def ledger_of(*names, jobs_per_device=1, **more):
    """Empty cards of 100 bytes, read."""
    ledger = Ledger([card(name, **more) for name in names], GridFlags(jobs_per_device=jobs_per_device))
    for name in names:
        read(ledger, name, free=100)
    return ledger


def place(ledger, cards, size, now, avoid=(), closed=()):
    return ledger.place(Need(cards, size, avoid), now, closed)


def read(ledger, name, free, **allocated):
    """``allocated``: bytes by the name of a job."""
    ledger.read(name, Reading(100, free, {}), lambda job: allocated.get(job.trial.model.name, 0))


def reserve(ledger, name, device_ids, promised_bytes):
    """A job of this name gets devices."""
    job = job_of(Trial(Model.of(name), "tnews", Setting(1e-5, 32, 0.1)))
    job.attempts.append(Attempt(devices=device_ids, promised_bytes=promised_bytes))
    ledger.reserve(job)
    return job


def test_nothing_is_placed_by_an_outdated_reading():
    ledger = Ledger([card("a")], GridFlags())
    assert ledger.slots["a"].free_bytes() == 0 and place(ledger, 1, 0, now=0) is None
    read(ledger, "a", free=100)
    assert ledger.slots["a"].free_bytes() == 100 and place(ledger, 1, 100, now=0) == ["a"]
    job = reserve(ledger, "one", ["a"], 60)
    assert list(ledger.slots["a"].jobs) == [job.key]
    for _ in range(2):
        ledger.release(job)
        assert ledger.slots["a"].jobs == {}
    assert ledger.slots["a"].free_bytes() == 0 and place(ledger, 1, 0, now=0) is None


def test_a_slot_without_accounted_memory_needs_no_reading():
    ledger = Ledger(cpu_slots(1), GridFlags())
    (slot,) = ledger.slots.values()
    assert slot.free_bytes() is None and place(ledger, 1, 10**12, now=0) == [slot.device.id]
    job = reserve(ledger, "one", [slot.device.id], 10**12)
    assert place(ledger, 1, 0, now=0) is None  # one trial a device, unless the test says otherwise
    ledger.release(job)
    assert place(ledger, 1, 10**12, now=0) == [slot.device.id]


def test_what_is_promised_but_not_allocated_is_not_free():
    ledger = ledger_of("a", jobs_per_device=3)
    reserve(ledger, "one", ["a"], 30)
    reserve(ledger, "two", ["a"], 20)
    assert ledger.slots["a"].free_bytes() == 100 - 50
    read(ledger, "a", free=86, one=14)  # 16 of the first and all of the second are still to come
    assert ledger.slots["a"].free_bytes() == 86 - 16 - 20
    read(ledger, "a", free=40, one=35, two=25)  # both took more than they were promised
    assert ledger.slots["a"].free_bytes() == 40


def test_growth_is_not_mistaken_for_ours_before_our_trial_shows_that_it_is():
    ledger = Ledger([card("a")], GridFlags(jobs_per_device=2))
    read(ledger, "a", free=90)  # someone else has 10
    reserve(ledger, "one", ["a"], 50)
    assert ledger.slots["a"].free_bytes() == 40
    read(ledger, "a", free=70)  # a neighbour's, for all we know
    assert ledger.slots["a"].free_bytes() == 70 - 50
    read(ledger, "a", free=40, one=50)  # it logs steps
    assert ledger.slots["a"].free_bytes() == 40 and ledger.slots["a"].used_by_others == 10


def test_what_another_scheduler_has_promised_is_not_free_until_a_reading_shows_it():
    ledger = ledger_of("a", "b")
    ledger.read("a", Reading(100, 90, {}, time=1000.0), lambda job: 0)
    theirs = [Promise(1, "boot:1", ["a"], 60)]
    ledger.see(theirs)
    assert ledger.slots["a"].free_bytes() == 30 and ledger.slots["b"].free_bytes() == 100
    assert place(ledger, 1, 40, now=0) == ["b"] and place(ledger, 2, 40, now=0) is None
    ledger.see([Promise(1, "boot:1", ["a"], 60, settled=1001.0)])
    assert ledger.slots["a"].free_bytes() == 30
    ledger.read("a", Reading(100, 35, {}, time=1002.0), lambda job: 0)
    assert ledger.slots["a"].free_bytes() == 35


def test_a_trial_fits_to_the_byte():
    ledger = ledger_of("a")
    assert place(ledger, 1, 100, now=0) == ["a"] and place(ledger, 1, 101, now=0) is None


def test_the_emptiest_card_comes_first():
    ledger = ledger_of("a", "b", "c", jobs_per_device=2)
    read(ledger, "a", free=50)
    read(ledger, "b", free=80)
    read(ledger, "c", free=95)
    assert place(ledger, 1, 10, now=0) == ["c"]
    reserve(ledger, "one", ["c"], 1)  # fewer trials count before free memory
    assert place(ledger, 1, 10, now=0) == ["b"]
    assert place(ledger, 1, 10, now=0, closed=["b"]) == ["a"]
    assert place(ledger, 1, 60, now=0, closed=["b"]) == ["c"]


def test_cards_to_avoid_are_used_only_when_there_are_no_others():
    ledger = ledger_of("a", "b", "c")
    assert place(ledger, 1, 10, now=0, avoid=["a", "b"]) == ["c"]
    assert place(ledger, 2, 10, now=0, avoid=["a", "b"]) == ["c", "a"]
    reserve(ledger, "one", ["c"], 10)
    assert place(ledger, 1, 10, now=0, avoid=["a", "b"]) is None  # waits for the card that is left
    assert place(ledger, 1, 10, now=0, avoid=["a", "b", "c"]) == ["a"]


def test_several_cards_are_whole_cards():
    ledger = ledger_of("a", "b", jobs_per_device=2)
    assert place(ledger, 2, 10, now=0) == ["a", "b"] and place(ledger, 3, 10, now=0) is None
    reserve(ledger, "one", ["a"], 10)
    assert place(ledger, 2, 10, now=0) is None and place(ledger, 1, 10, now=0) == ["b"]
    parts = ledger_of("a", "b", joinable=False)
    assert place(parts, 2, 10, now=0) is None and place(parts, 1, 10, now=0) == ["a"]


def test_cards_are_kept_back_only_where_our_own_trials_stand_in_the_way():
    ledger = ledger_of("a", "b", "c")
    reserve(ledger, "one", ["a"], 100)
    assert ledger.reserved_for(Need(2, 100), now=0) == ["b", "c"]
    read(ledger, "b", free=70)  # 30 of somebody else's
    assert ledger.reserved_for(Need(2, 100), now=0) == ["c", "a"]
    assert ledger.reserved_for(Need(3, 70), now=0) == ["b", "c", "a"]
    assert ledger.reserved_for(Need(3, 71), now=0) == []
    parts = ledger_of("a", "b", joinable=False)
    assert parts.reserved_for(Need(2, 10), now=0) == [] and parts.reserved_for(Need(1, 10), now=0) == ["a"]


def test_a_card_that_is_set_aside_has_no_room():
    ledger, now = ledger_of("a"), 1000.0
    ledger.slots["a"].set_aside_until = now + 600
    assert not ledger.open(now + 599) and place(ledger, 1, 10, now + 599) is None
    assert ledger.open(now + 600) and place(ledger, 1, 10, now + 600) == ["a"]


def test_three_crashes_in_a_row_make_a_card_suspicious():
    ledger = ledger_of("a", "b")
    crashed = {"a": "the last 3 trials on it crashed"}
    assert [ledger.suspect(["a"], now - 0.5, now) for now in (1, 2, 3, 4)] == [{}, {}, crashed, crashed]
    assert not ledger.suspect(["b"], 4.5, 5) and SUSPICIOUS == 3
    ledger.succeeded(["a"])
    assert not ledger.suspect(["a"], 5.5, 6)


def test_trials_that_crash_together_are_one_incident():
    ledger = ledger_of("a", "b", jobs_per_device=3)
    assert not any(ledger.suspect(["a"], began, 1) for began in (0, 0, 0.5, 1))
    assert not ledger.suspect(["a"], 1.5, 2) and ledger.suspect(["a"], 2.5, 3)


def test_when_every_card_is_suspect_none_is():
    ledger = ledger_of("a", "b")
    for now in (1, 2, 3):
        ledger.suspect(["a"], now - 0.5, now)
    ledger.slots["a"].set_aside_until = 33
    assert not any(ledger.suspect(["b"], now - 0.5, now) for now in (4, 5, 6))
    assert len(ledger.usable(6)) == 2 and not ledger.suspect(["a"], 6.5, 7)
    lost, dumb = ledger_of("a", "b"), ledger_of("a", "b")
    for ledger in (lost, dumb):  # but a card that is gone, or that the driver can't read, stays set aside
        for now in (1, 2, 3):
            ledger.suspect(["a"], now - 0.5, now)
    lost.slots["a"].set_aside_until = float("inf")
    dumb.slots["a"].set_aside_until, dumb.slots["a"].failed_readings = 33, 1
    for ledger in (lost, dumb):
        assert not any(ledger.suspect(["b"], now - 0.5, now) for now in (4, 5, 6))
        assert [slot.device.id for slot in ledger.usable(6)] == ["b"]
    alone = ledger_of("a")
    assert not any(alone.suspect(["a"], now - 0.5, now) for now in range(9))


@pytest.mark.parametrize("jobs_per_device", [1, 2])
def test_room_is_counted_in_trials(jobs_per_device):
    ledger = ledger_of("a", jobs_per_device=jobs_per_device)
    for number in range(jobs_per_device):
        assert ledger.open(now=0)
        reserve(ledger, f"trial {number}", ["a"], 1)
    assert not ledger.open(now=0) and place(ledger, 1, 1, now=0) is None


# Questions to the driver ----------------------------------------------------------------------------------------------

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
    assert slot.asked and slot.fresh and asked[1:] == ["GPU-0"]
    run.time.now = run.grid.timers.next()
    run.grid.timers.act()
    run.grid.tell()
    assert run.witness.notes == ["gpu 0: the driver does not answer; nothing is started there until it does"]
    assert not slot.fresh and slot.late and run.grid.timers.next() == float("inf")


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
    room = Ledger([gpu(0, 16), gpu(1, 24)], GridFlags())
    room.memory.exceeded(trial, 24, 40 * GIB)
    assert room.need_on(job_of(trial), 1).bytes == int(0.97 * 24 * GIB)
