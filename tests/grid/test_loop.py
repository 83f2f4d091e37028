"""The loop on fake devices and a fake clock."""

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.errors import UsageError
from cluebench.machine.devices import cpu_slots
from cluebench.machine.nvidia import DeviceLost, Reading
from cluebench.pretrained.model import Model
from cluebench.records.result import Result
from cluebench.scheduler.loop import attempt_ends
from cluebench.scheduler.plan.estimates import GIB, MemoryModel
from cluebench.scheduler.plan.failures import FailureKind
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Attempt, State
from cluebench.scheduler.plan.trials import build_plan
from cluebench.scheduler.processes.engine import Exited, Interrupted, Measured
from tests.simulated import Outcome, Run, empty, gpu, job_of, trials


def test_everything_runs_once_on_the_slots_there_are():
    plan = trials("tnews", learning_rates=[1e-5, 2e-5, 3e-5, 5e-5], batch_sizes=[16, 32, 64])
    run = Run(plan, cpu_slots(2), lambda job, ids: Outcome(10.0)).run()
    assert set(run.states()) == {State.DONE}
    assert len(run.engine.starts) == 12
    assert run.time.now == 60.0, "a freed device is handed on at once"
    assert run.grid.seconds_left() == 0


def test_longest_first_and_the_order_learns():
    run = Run(trials("tnews", "cluewsc2020", "cmnli", "chid"), cpu_slots(1)).run()
    assert [key.split("/")[1] for _, key, _ in run.engine.starts][:2] == ["chid", "cmnli"]
    # When cluewsc2020 turns out to take far longer than tnews, its other trials come first.
    plan = trials("tnews", "cluewsc2020", learning_rates=[1e-5, 2e-5, 3e-5])
    run = Run(plan, cpu_slots(1), lambda job, ids: Outcome(9000.0 if job.trial.task == "cluewsc2020" else 1.0),
              trial_timeout=0)  # fmt: skip
    run.grid.durations.observe(plan[0], 1.0)
    run.grid.durations.observe(plan[3], 9000.0)
    run.grid.queue.estimates_changed()
    run.run()
    assert [key.split("/")[1] for _, key, _ in run.engine.starts] == ["cluewsc2020"] * 3 + ["tnews"] * 3


def failing(codes, then=(50.0,)):
    """An outcome that goes through exit codes and then succeeds."""
    left = list(codes)
    return lambda job, ids: Outcome(1.0, left.pop(0), None) if left else Outcome(1.0, 0, then)


@pytest.mark.parametrize(
    "code, kind, attempts",
    [
        (1, FailureKind.CRASHED, 3),
        (2, FailureKind.BAD_SETTING, 1),
        (3, FailureKind.DIVERGED, 1),
        (5, FailureKind.NETWORK, 8),
        (6, FailureKind.DISK_FULL, 8),
        (-9, FailureKind.KILLED, 3),
        (0, FailureKind.NO_RESULT, 3),
    ],
)
def test_what_fails_is_tried_as_often_as_it_can_help(code, kind, attempts):
    run = Run(trials("tnews", "afqmc"), cpu_slots(1), lambda job, ids:
              Outcome(1.0, code, None) if job.trial.task == "tnews" else Outcome(1.0)).run()  # fmt: skip
    tnews, afqmc = sorted(run.jobs, key=lambda job: job.trial.task, reverse=True)
    assert (tnews.state, afqmc.state) == (State.FAILED, State.DONE)
    assert len(tnews.attempts) == attempts
    assert {failure.kind for failure in tnews.failures} == {kind}
    assert (run.time.now > 60) == (
        kind in (FailureKind.NETWORK, FailureKind.DISK_FULL)
    )  # these wait before they try again


@pytest.mark.parametrize("code, seen", [(6, True), (6, False), (5, False)])
def test_four_minutes_without_disk_or_network_cost_no_trial_an_attempt(code, seen):
    """``seen``: whether the run root says so too."""
    plan = trials("tnews", learning_rates=[1e-5, 2e-5, 3e-5], batch_sizes=[16, 32])
    run = Run(plan, cpu_slots(4), lambda job, ids: Outcome(1.0) if run.time.now > 240 else Outcome(1.0, code, None))
    run.unwritable = lambda: "/runs: No space left on device" if seen and run.time.now < 240 else None
    run.run()
    assert set(run.states()) == {State.DONE} and run.time.now < 480
    assert not any(failure.policy.counts for job in run.jobs for failure in job.failures)
    if seen:  # nothing starts, and the attempts before do not count as failures
        assert len(run.engine.starts) == 4 + 6 and not any(job.failures for job in run.jobs)
        assert "nothing is started for now: /runs: No space left on device; checked again every 30 s" in (
            run.witness.notes
        )


def test_a_hold_is_shown_and_ends_with_the_first_that_can():
    run = Run(trials("tnews"), cpu_slots(1), failing([6]))
    run.unwritable = lambda: "/runs: No space left on device"
    run.time.put(Interrupted("SIGINT"), 100.0)
    run.run()
    assert run.grid.why_idle() == "nothing is started: /runs: No space left on device"
    # the first trial that is done ends a hold at once
    run = Run(trials("chid", "tnews", "afqmc"), cpu_slots(2), lambda job, ids:
              Outcome(1.0, 5, None) if job.trial.task == "chid" else Outcome(10.0)).run()  # fmt: skip
    assert [time for time, key, _ in run.engine.starts if "chid" not in key] == [0.0, 10.0]
    assert "going on: network: exit code 5 may have passed" in run.witness.notes
    # one trial alone that finds no network keeps the others for half a minute, not for ever
    run = Run(trials("tnews", "afqmc"), cpu_slots(2), lambda job, ids:
              Outcome(1.0, 5, None) if job.trial.task == "tnews" else Outcome(10.0)).run()  # fmt: skip
    assert sorted(state.value for state in run.states()) == ["done", "failed"]


def test_out_of_memory_doubles_accumulation_and_keeps_the_batch():
    run = Run(trials("tnews", batch_sizes=[32]), cpu_slots(1), failing([4, 4])).run()
    assert [attempt.accumulation for attempt in run.jobs[0].attempts] == [1, 2, 4]
    assert run.jobs[0].state is State.DONE
    # 24 rows in 8 micro-batches of 3: twice that does not cut 24 evenly, 24 micro-batches do
    run = Run(trials("chid"), cpu_slots(1), failing([4])).run()
    assert [attempt.accumulation for attempt in run.jobs[0].attempts] == [8, 24]
    # a row at a time is the end of it
    run = Run(trials("chid"), cpu_slots(1), failing([4, 4, 4, 4])).run()
    assert run.jobs[0].state is State.FAILED and len(run.jobs[0].attempts) == 2


def test_a_cut_is_no_failed_attempt_and_goes_on_to_what_fits():
    """64 rows do not fit, nor do 32 and 16; the other three trials don't pay for the same lesson."""
    plan = trials("iflytek", batch_sizes=[64], learning_rates=[1e-5, 2e-5, 3e-5, 5e-5])
    run = Run(plan, [gpu(0)], memory=empty, max_attempts=1)
    run.engine.outcome = lambda job, ids: Outcome(1.0, 4, None) if job.micro_batch() > 8 else Outcome(1.0)
    run.run()
    assert set(run.states()) == {State.DONE}
    assert [attempt.accumulation for job in run.jobs for attempt in job.attempts] == [1, 2, 4, 8, 8, 8, 8]


def test_out_of_memory_that_others_caused_is_waited_out():
    def memory(device_id):
        return Reading(24 * GIB, (2 if 5 < run.time.now < 60 else 24) * GIB, {})

    run = Run(trials("tnews"), [gpu(0)], memory=memory, max_attempts=1)
    run.engine.outcome = lambda job, ids: Outcome(10.0, 4, None) if run.time.now < 20 else Outcome(10.0)
    run.run()
    job = run.jobs[0]
    assert job.state is State.DONE and job.failures == [] and job.memory_factor == 1
    assert [attempt.outcome for attempt in job.attempts] == ["out of memory", "done"]
    assert 60 <= run.engine.starts[1][0] < 63
    assert any(
        "other processes use its memory: 2.0 GiB are left; it waits for 5." in note for note in run.witness.notes
    )


def test_a_trial_without_progress_is_ended_and_tried_again():
    left = [Outcome(None), Outcome(5.0)]
    run = Run(trials("tnews"), cpu_slots(1), lambda job, ids: left.pop(0), trial_timeout=100.0).run()
    assert run.jobs[0].failures[0].kind is FailureKind.NO_PROGRESS
    assert run.jobs[0].state is State.DONE and run.time.now == pytest.approx(105, abs=1)


def test_a_trial_that_ignores_sigterm_is_killed():
    left = [Outcome(None), Outcome(5.0)]
    run = Run(trials("tnews"), cpu_slots(1), lambda job, ids: left.pop(0), trial_timeout=100.0)
    run.engine.deaf.add(run.jobs[0].key)
    run.run()
    assert [(time, now) for time, _, now in run.engine.stopped] == [(100.0, False), (130.0, True)]
    assert run.jobs[0].state is State.DONE


@pytest.mark.parametrize("ends", [True, False])
def test_a_process_that_cannot_be_killed_is_named_and_the_rest_goes_on(ends):
    plan = trials("tnews", learning_rates=[1e-5, 2e-5, 3e-5, 5e-5])
    run = Run(plan, [gpu(0), gpu(1)], memory=empty, trial_timeout=100.0)
    stuck = run.jobs[0].key
    hangs = [None]
    run.engine.outcome = lambda job, ids: Outcome(hangs.pop() if job.key == stuck and hangs else 90.0)
    run.engine.undying.add(stuck)
    if ends:
        run.time.put(Exited(run.jobs[0], -9), 220.0)
    run.run()
    assert run.states() == [State.DONE if ends else State.FAILED] + [State.DONE] * 3
    note = "does not die of SIGKILL; gpu 0 is not used, and the trial not tried again, until it does"
    assert any(note in text for text in run.witness.notes)
    assert [ids for _, _, ids in run.engine.starts][:4] == [("GPU-0",)] + [("GPU-1",)] * 3
    assert run.jobs[0].failures[0].kind is FailureKind.UNKILLABLE


def test_when_no_device_is_left_the_grid_ends():
    run = Run(trials("tnews", "afqmc"), cpu_slots(1), lambda job, ids: Outcome(None), trial_timeout=100.0)
    run.engine.undying |= {job.key for job in run.jobs}
    run.run()
    assert sorted(state.value for state in run.states()) == ["failed", "waiting"]
    assert run.time.now == pytest.approx(100 + 30 + 60, abs=1)


def test_interruption_ends_the_children_and_leaves_the_rest_waiting():
    run = Run(trials("tnews", learning_rates=[1e-5, 2e-5, 3e-5]), cpu_slots(2), lambda job, ids: Outcome(100.0))
    run.time.put(Interrupted("SIGINT"), 10.0)
    run.run()
    assert run.grid.interrupted == "SIGINT"
    assert run.states() == [State.WAITING] * 3 and len(run.engine.starts) == 2
    assert [job.attempts[0].outcome for job in run.jobs if job.attempts] == ["interrupted"] * 2
    assert run.time.now < 11


def test_a_loop_that_was_suspended_grants_the_time_again():
    """As by ``scontrol suspend`` for two hours, when its trial has been silent all along."""
    run = Run(trials("tnews"), cpu_slots(1), lambda job, ids: Outcome(9000.0), trial_timeout=3600.0)
    get, naps = run.time.get, [7200.0]

    def suspended(timeout):
        event = get(timeout)
        if naps and run.time.now > 1800:
            run.time.now += naps.pop()
        return event

    run.time.get = suspended
    run.witness.tick = lambda now: now + 60.0
    run.run()
    assert run.engine.stopped == [] and run.jobs[0].state is State.DONE


@pytest.mark.parametrize("name, first, last", [("SIGTERM", 40, 41), ("SIGINT", 12, 13)])
def test_a_second_sigint_kills_at_once_and_a_second_sigterm_hurries_nobody(name, first, last):
    """A trial has 30 seconds of grace from the first on."""
    run = Run(trials("tnews"), cpu_slots(1), lambda job, ids: Outcome(None))
    run.engine.deaf.add(run.jobs[0].key)
    for at in (10.0, 12.0):
        run.time.put(Interrupted(name), at)
    run.run()
    assert [now for _, _, now in run.engine.stopped] == [False, True] and first <= run.time.now < last


def orphan_for(job, configuration_hash, **about):
    return job.key, Attempt(4711, devices=["cpu:0"], labels=["cpu 0"], configuration_hash=configuration_hash, **about)


def test_orphan_is_adopted_and_holds_its_device():
    plan = trials("tnews", learning_rates=[1e-5, 2e-5])
    orphan = orphan_for(job_of(plan[0]), f"hash-{plan[0].key}")
    run = Run(plan, cpu_slots(1), orphans=[orphan]).run()
    assert [(time, key) for time, key, _ in run.engine.starts] == [(5.0, plan[1].key)]  # it ends after 5 seconds
    assert set(run.states()) == {State.DONE}
    assert "adopted" in run.witness.notes[0]


def test_orphan_with_other_settings_is_ended_and_the_trial_run():
    plan = trials("tnews")
    run = Run(plan, cpu_slots(1), orphans=[orphan_for(job_of(plan[0]), "another-hash")]).run()
    assert run.engine.stopped[0][1] == plan[0].key
    assert [attempt.outcome for attempt in run.jobs[0].attempts] == ["interrupted", "done"]
    assert run.jobs[0].failures == []


def test_busy_trial_is_left_to_whoever_runs_it():
    """It is looked at again every ten seconds, and nothing is reported about it but once."""
    plan = trials("tnews")
    elsewhere = orphan_for(job_of(plan[0]), f"hash-{plan[0].key}", host="another-machine")
    run = Run(plan, cpu_slots(1), orphans=[elsewhere])
    run.engine.locked = {plan[0].key}
    looks = []

    def take(job):
        looks.append(run.time.now)
        if run.time.now >= 30:
            run.engine.orphans.clear()
            run.engine.locked.clear()
        return job.key not in run.engine.locked

    run.engine.take = take
    run.run()
    assert run.witness.notes == [f"{plan[0].key}: process 4711 on another-machine runs it: left to it"]
    assert looks == [10.0, 20.0, 30.0] and len(run.engine.starts) == 1 and len(run.jobs[0].attempts) == 1


def test_a_trial_that_another_process_has_ended_meanwhile_is_not_run():
    plan = trials("tnews", learning_rates=[1e-5, 2e-5])
    run = Run(plan, cpu_slots(2))
    run.finished = lambda job: Result("tnews", "m", {}, job.configuration_hash, status="done", best_score=(50.0,))
    run.run()
    assert run.engine.starts == [] and set(run.states()) == {State.DONE}


# Memory and cards -----------------------------------------------------------------------------------------------------


def test_card_full_of_other_peoples_processes_is_left_alone_until_it_empties():
    def memory(device_id):
        free = 2 if device_id == "GPU-0" and run.time.now < 100 else 24
        return Reading(24 * GIB, free * GIB, {})

    run = Run(
        trials("tnews", learning_rates=[1e-5, 2e-5, 3e-5]), [gpu(0), gpu(1)], lambda job, ids: Outcome(80.0), memory
    )
    run.run()
    assert [ids[0] for _, _, ids in run.engine.starts] == ["GPU-1", "GPU-1", "GPU-0"]
    assert 100 <= run.engine.starts[2][0] < 103  # looked at every two seconds


def test_jobs_per_device_packs_what_memory_allows():
    plan = trials("tnews", learning_rates=[1e-5, 2e-5, 3e-5, 5e-5], batch_sizes=[16])
    needed = MemoryModel().needed_bytes(plan[0], 16)
    assert 3 * GIB < needed < 8 * GIB
    run = Run(plan, [gpu(0)], lambda job, ids: Outcome(10.0), empty, jobs_per_device=3).run()
    assert [time for time, _, _ in run.engine.starts].count(run.engine.starts[0][0]) == 3
    # of 10 GiB, one of these takes more than half
    run = Run(plan, [gpu(0, 10)], lambda job, ids: Outcome(10.0), lambda i: empty(i, int(1.5 * needed / GIB)),
              jobs_per_device=3).run()  # fmt: skip
    assert [round(time) for time, _, _ in run.engine.starts] == [0, 10, 20, 30]


def test_measured_peaks_correct_the_estimate():
    trial = trials("c3")[0]
    model = MemoryModel()
    before = model.needed_bytes(trial, 2)
    model.observe(trial, 2, 3 * GIB)
    assert model.needed_bytes(trial, 2) == pytest.approx(3 * 1.05 * GIB + 0.9 * GIB, rel=0.01)
    assert model.needed_bytes(trials("cmrc2018")[0], 6) < MemoryModel().needed_bytes(trials("cmrc2018")[0], 6)
    assert before > 6 * GIB


def test_published_need_for_c3_on_one_card_is_met():
    """Published runs: more than 16 GB for C3 on one card, 32 being comfortable; the largest published model is meant."""
    trial = trials("c3", model="ernie-3.0-xbase-zh")[0]
    assert 14 * GIB < MemoryModel().needed_bytes(trial, 2) < 32 * GIB


def test_small_card_is_refused_with_figures():
    run = Run(trials("tnews"), [gpu(0, 1), gpu(1, 24)], memory=lambda i: empty(i, 1 if i == "GPU-0" else 24)).run()
    assert [ids for _, _, ids in run.engine.starts] == [("GPU-1",)]
    assert run.witness.notes[0].startswith("gpu 0 (Test Card) is left out: it has 1.0 GiB, the smallest trial needs 3.")


def test_a_driver_that_is_silent_about_a_card_that_was_left_out_ends_no_grid():
    run = Run(trials("tnews"), [gpu(0, 1), gpu(1, 24)], lambda job, ids: Outcome(100.0), memory=empty)
    answer = run.engine.measure
    run.engine.measure = lambda device_id: answer(device_id) if device_id == "GPU-1" else None
    run.run()
    assert {job.state for job in run.jobs} == {State.DONE}
    with pytest.raises(UsageError, match="no trial fits any card: gpu 0 is too small, it has 1.0 GiB, the smallest"):
        Run(trials("tnews"), [gpu(0, 1)], memory=lambda i: empty(i, 1)).run()


def test_trial_too_large_for_every_card_gets_smaller_micro_batches():
    plan = trials("iflytek", batch_sizes=[64], model="ernie-3.0-xbase-zh")
    assert MemoryModel().needed_bytes(plan[0], 64) > 16 * GIB
    run = Run(plan, [gpu(0, 16)], memory=lambda i: empty(i, 16)).run()
    assert run.jobs[0].state is State.DONE and run.jobs[0].attempts[0].accumulation >= 2


def test_reading_tasks_take_their_published_cards_when_free_else_one():
    plan = trials("c3", "tnews", learning_rates=[1e-5, 2e-5, 3e-5])
    four = [gpu(number) for number in range(4)]
    run = Run(plan, four, lambda job, ids: Outcome(100.0 / len(ids)), empty).run()
    assert [len(ids) for _, key, ids in run.engine.starts if "/c3/" in key][0] == 4
    first = run.jobs[3].attempts[0]
    assert (first.cards, first.accumulation) == (4, 3)  # 6 rows a card in micro-batches of 2
    two = Run(plan, four[:2], lambda job, ids: Outcome(100.0 / len(ids)), empty).run()
    assert {len(ids) for _, _, ids in two.engine.starts} == {1}
    assert {job.attempts[0].accumulation for job in two.jobs if job.trial.task == "c3"} == {12}


@pytest.mark.parametrize("answers, cards", [(True, 2), (False, 1)])
def test_a_reading_that_is_on_its_way_is_waited_for_before_one_card_is_used(answers, cards):
    """After C3 on four cards, each is read a tenth of a second later than the one before, or never but the first."""
    run = Run(trials("c3", "cmrc2018", "tnews"), [gpu(n) for n in range(4)], lambda job, ids: Outcome(400.0), empty)

    def measure(device_id):
        number = int(device_id.removeprefix("GPU-"))
        if answers or number == 0 or run.time.now < 400:
            run.time.put(Measured(device_id, empty(device_id)), 0.1 + number / 10)

    run.engine.measure = measure
    run.run()
    starts = [(key.split("/")[1], ids, time) for time, key, ids in run.engine.starts]
    first = starts[0]  # not the first card to answer, alone
    assert first == ("c3", ("GPU-0", "GPU-1", "GPU-2", "GPU-3"), pytest.approx(0.4))
    (_, ids, time) = next(start for start in starts if start[0] == "cmrc2018")
    assert len(ids) == cards and time == pytest.approx(400.4 + (0.2 if answers else 15.0))


def test_mrc_cards_waits_for_them_and_nothing_slips_in(monkeypatch):
    plan = trials("c3") + trials("tnews", learning_rates=[1e-5, 2e-5, 3e-5, 5e-5])
    run = Run(plan, [gpu(0), gpu(1)], lambda job, ids: Outcome(50.0), empty, mrc_cards=2)
    someone = job_of(plan[0], -1)  # uses one card for a while
    someone.attempts.append(Attempt(devices=["GPU-1"], promised_bytes=20 * GIB))
    run.ledger.reserve(someone)
    run.time.put(Exited(someone, 0), 30.0)
    original = attempt_ends.exited

    def exited(grid, event):
        if event.job is someone:
            run.ledger.release(someone)
            attempt_ends.ask(grid, "GPU-1")
        else:
            original(grid, event)

    monkeypatch.setattr(attempt_ends, "exited", exited)
    run.run()
    assert run.engine.starts[0][1].split("/")[1] == "c3" and len(run.engine.starts[0][2]) == 2
    assert run.engine.starts[0][0] >= 30


def test_instances_of_a_card_never_run_one_trial_together():
    instances = [gpu(number, joinable=False) for number in range(4)]
    run = Run(trials("c3"), instances, memory=empty).run()
    assert [len(ids) for _, _, ids in run.engine.starts] == [1]


def test_lost_card_is_set_aside_its_trial_goes_elsewhere_and_it_comes_back():
    def memory(device_id):
        if device_id == "GPU-0" and 20 <= run.time.now < 200:
            return DeviceLost("GPU is lost")
        return empty(device_id)

    plan = trials("tnews", learning_rates=[1e-5, 2e-5, 3e-5, 5e-5], batch_sizes=[16, 32])
    run = Run(plan, [gpu(0), gpu(1)], lambda job, ids: Outcome(90.0), memory, max_attempts=1)
    run.run()
    assert set(run.states()) == {State.DONE}
    lost = [job for job in run.jobs if job.failures]
    assert [failure.kind for job in lost for failure in job.failures] == [FailureKind.LOST_DEVICE]
    assert all(not 31 < time < 200 for time, _, ids in run.engine.starts if ids == ("GPU-0",))
    assert any(time > 200 for time, _, ids in run.engine.starts if ids == ("GPU-0",))
    assert any("gpu 0 is set aside" in note for note in run.witness.notes)
    assert "gpu 0 answers again" in run.witness.notes


def test_crash_on_a_card_that_turns_out_lost_is_not_the_trials_fault():
    def memory(device_id):
        return DeviceLost("GPU is lost") if run.time.now > 5 and device_id == "GPU-0" else empty(device_id)

    run = Run(trials("tnews"), [gpu(0), gpu(1)], memory=memory, max_attempts=1)
    run.engine.outcome = lambda job, ids: Outcome(10.0, 1, None) if ids == ("GPU-0",) else Outcome(10.0)
    run.run()
    assert run.jobs[0].state is State.DONE
    assert run.jobs[0].failures[0].kind is FailureKind.LOST_DEVICE


def test_driver_that_never_answers_takes_no_trial_with_it():
    run = Run(trials("tnews"), [gpu(0), gpu(1)], memory=empty)
    measure = run.engine.measure
    run.engine.measure = lambda device_id: measure(device_id) if device_id == "GPU-1" else None
    run.run()
    assert run.jobs[0].state is State.DONE and run.engine.starts[0][2] == ("GPU-1",)


def uncertain(text):
    error = DeviceLost(text)
    error.certain = False
    return error


@pytest.mark.parametrize("silent", [True, False])
def test_a_card_that_only_fails_to_answer_ends_a_trial_after_three_times_and_silence(silent):
    run = Run(trials("tnews"), [gpu(0), gpu(1)], None, None)
    run.engine.memory = lambda i: uncertain("Unknown Error") if run.time.now > 5 and i == "GPU-0" else empty(i)
    run.engine.outcome = lambda job, ids: Outcome(None if ids == ("GPU-0",) and silent else 400.0)
    run.engine.silence = lambda job: 1000.0 if silent else 0.0
    run.run()
    assert run.jobs[0].state is State.DONE and len(run.jobs[0].attempts) == (2 if silent else 1)
    if silent:  # asked at 30 seconds, and after pauses of 30 and 60
        assert run.engine.stopped[0][0] == pytest.approx(120, abs=2)


def test_a_dozen_shots_at_trials_set_no_card_aside():
    run = Run(trials("tnews", learning_rates=[1e-5, 2e-5, 3e-5, 5e-5], batch_sizes=[16, 32, 64]), [gpu(0), gpu(1)],
              failing([-9] * 12), empty, max_attempts=10).run()  # fmt: skip
    assert set(run.states()) == {State.DONE} and run.time.now < 100


def test_a_bad_card_does_not_eat_up_the_grid():
    """GPU-0 crashes every trial in a second, and is always free again; GPU-1 is slow and good."""
    plan = trials("tnews", learning_rates=[1e-5, 2e-5, 3e-5, 5e-5], batch_sizes=[16, 32, 64])
    run = Run(plan, [gpu(0), gpu(1)], memory=empty)
    run.engine.outcome = lambda job, ids: Outcome(1.0, 1, None) if ids == ("GPU-0",) else Outcome(600.0)
    run.run()
    assert set(run.states()) == {State.DONE}
    assert "gpu 0 is set aside for 30 s: the last 3 trials on it crashed" in run.witness.notes
    assert max(len(job.attempts) for job in run.jobs) == 2


def test_why_a_device_idles_is_reported():
    run = Run(trials("tnews"), [gpu(0)], None, lambda device: Reading(24 * GIB, 1 * GIB, {}))
    run.time.put(Interrupted("SIGINT"), 100.0)
    run.run()
    assert run.grid.why_idle() == "waiting for 5.6 GiB of memory; free are gpu 0 1.0"
    run.ledger.slots["GPU-0"].fresh = False  # no figure of an outdated reading is given
    assert run.grid.why_idle() is None
    run.ledger.slots["GPU-0"].late = True
    assert run.grid.why_idle() == "waiting for the driver to answer about gpu 0"
    run = Run(trials("tnews"), cpu_slots(1), failing([5]))
    run.time.put(Interrupted("SIGINT"), 45.0)
    run.run()
    assert run.grid.why_idle() == "next attempt in 16 s"


def test_a_retry_succeeds_and_observers_hear_of_each_attempt_as_it_was():
    run = Run(trials("tnews"), cpu_slots(1), failing([1, 1]), max_attempts=3).run()
    assert [attempt.outcome for attempt in run.jobs[0].attempts] == ["crashed", "crashed", "done"]
    ends = [text.partition(" (")[0] for text in run.witness.lines[1::2]]
    assert ends == ["3e-05_24_0.1 failed: crashed: exit code 1"] * 2 + ["3e-05_24_0.1 done: 50.00"]


def test_retry_avoids_the_card_it_failed_on():
    left = [Outcome(1.0, 1, None)]
    run = Run(trials("tnews"), [gpu(0), gpu(1)], lambda job, ids: left.pop() if left else Outcome(1.0), empty).run()
    first, second = (ids for _, _, ids in run.engine.starts)
    assert first != second


def test_whole_plan_on_eight_cards_uses_no_card_twice_at_once():
    busy = {}

    def outcome(job, ids):
        for device_id in ids:
            assert busy.get(device_id, 0.0) <= run.time.now + 1e-9
            busy[device_id] = run.time.now + 100.0
        return Outcome(100.0)

    run = Run(build_plan([Model.of("ernie-3.0-base-zh")], GridFlags()), [gpu(n) for n in range(8)], outcome, empty)
    run.run()
    assert set(run.states()) == {State.DONE} and len(run.jobs) == 134
    assert {job.trial.task for job in run.jobs} == set(TASKS)
