"""A search that runs, on simulated devices, chooses and stops what the replay says, and keeps the devices busy."""

import random
from fractions import Fraction

import pytest

from cluebench.benchmark.tasks import Setting
from cluebench.foundation.errors import OutOfMemory
from cluebench.machine.devices import cpu_slots
from cluebench.machine.nvidia import Device
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import State
from cluebench.search.halving import Curve, Rule, standings
from cluebench.search.replay import RULES
from tests.search.curves import NAN, A, B, C, D, outcome
from tests.search.simulated import LiveSearch, real_runs, recorded, with_durations
from tests.simulated import Outcome

HALF = Rule(2, (Fraction(1, 2),))
USUAL = GridFlags(search="halving").rule


def curves(grid):
    return {setting: [one.curve for one in seeds] for setting, seeds in grid.items()}


def check_same_as_replay(live, task, grid, rule):
    found, replayed = standings(rule, curves(grid)), outcome(rule, grid, None)
    assert live.of(task, State.STOPPED) == {setting for setting, standing in found.items() if standing.stopped}
    for setting, number in live.evaluations(task).items():
        assert number == (found[setting].pauses[0] or len(grid[setting][0].curve.steps))
    assert live.chosen(task) == replayed.chosen
    assert sum(job.state is State.STOPPED for job in live.jobs if job.trial.task == task) >= replayed.stopped


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("devices", [1, 4])
def test_on_real_curves_it_stops_and_chooses_as_the_replay_does(rule, devices):
    grids = real_runs()
    live = LiveSearch(grids, rule, cpu_slots(devices)).run()
    assert len(grids) == 7 and all(len(grid) == 12 for grid in grids.values())
    for task, grid in grids.items():
        check_same_as_replay(live, task, grid, rule)


@pytest.mark.slow
@pytest.mark.parametrize("draw", range(2))
@pytest.mark.parametrize("devices", [1, 4, 8])
def test_no_rung_idles_a_card_for_long(devices, draw):
    """Within a tenth of what the work that was done takes at least: the whole work on all cards, or the longest trial.

    Durations are those of the published grid; the scheduler's estimates of them have an error. If a rule leaves few
    trials in a contest, the slowest contest with all cards to itself is the bound.
    """
    grids = with_durations(real_runs(), draw)
    for rule in (USUAL, RULES[6], RULES[-1]):
        live = LiveSearch(grids, rule, cpu_slots(devices)).run()
        bound = max(live.work / devices, max(job.result.train_seconds for job in live.jobs if job.result))
        alone = max(LiveSearch({task: grid}, rule, cpu_slots(devices)).run().time.now for task, grid in grids.items())
        assert live.time.now <= 1.10 * max(bound, alone), rule
        if rule == USUAL:
            assert live.time.now <= 1.10 * bound


@pytest.mark.parametrize("seed", range(30))
def test_attempts_that_are_killed_anywhere_change_no_verdict(seed):
    """Each is tried again; what stands is what the replay says, of a setting or several, with equal scores or none yet."""
    chance = random.Random(seed)
    rule = chance.choice(RULES)
    settings = [Setting(rate, batch, 0.1) for rate in (1e-5, 2e-5, 3e-5) for batch in (16, 32)]

    def drawn():
        scores = [chance.randrange(40, 60) for _ in range(chance.randrange(1, 17))]
        unknown = chance.choice((0, 0, chance.randrange(len(scores))))
        return recorded(*[NAN] * unknown, *scores[unknown:])

    seeds = chance.choice((1, 1, 2))
    grids = {
        task: {one: [drawn() for _ in range(seeds)] for one in settings[: chance.randrange(1, 7)]}
        for task in ("tnews", "c3")
    }

    def killed(job):
        return Outcome(chance.random(), code=-9, score=None) if chance.random() < 0.4 else None

    live = LiveSearch(grids, rule, cpu_slots(3), killed, max_attempts=99).run()
    assert {job.state for job in live.jobs} <= {State.DONE, State.STOPPED}
    for task, grid in grids.items():
        check_same_as_replay(live, task, grid, rule)


# Odd cases ------------------------------------------------------------------------------------------------------------


def searched(grid, rule=HALF, devices=2, **more):
    return LiveSearch(
        {"tnews": {setting: [one] for setting, one in grid.items()}}, rule, cpu_slots(devices), **more
    ).run()


def test_a_curve_that_does_not_say_of_how_many_steps_has_no_share_of_them():
    assert Curve((100, 200), (50.0, 51.0), 0).share == 0.0
    assert Curve((), (), 0).share == 0.0 and Curve((100, 200), (50.0, 51.0), 800).share == 0.25


def test_one_setting_only_is_not_even_paused():
    live = searched({A: recorded(50, 60, 70, 80)}, USUAL)
    assert (
        len(live.engine.starts) == 1
        and live.of("tnews", State.DONE) == {A}
        and not any("after" in line for line in live.witness.lines)
    )


def failing(setting, code, times=99, start=0):
    """The attempts of a setting that end with ``code``: the next ``times`` after the first ``start``."""
    seen = []

    def trouble(job):
        seen.extend([job.key] * (job.trial.setting == setting))
        fails = job.trial.setting == setting and start < len(seen) <= start + times
        return Outcome(0.5, code=code, score=None) if fails else None

    return trouble


GOING_DOWN = {setting: recorded(*[60 - place] * 4) for place, setting in enumerate((A, B, C, D))}


def test_the_place_of_a_trial_that_fails_behind_a_rung_goes_to_the_next_best():
    live = searched(GOING_DOWN, trouble=failing(A, 1, start=1))
    assert live.of("tnews", State.FAILED) == {A} and live.of("tnews", State.DONE) == {B, C}
    assert f"{C.learning_rate}_32_0.1 58.00 after 200/400 steps: goes on" in live.witness.lines


def test_a_trial_that_fails_before_a_rung_holds_up_nobody():
    live = searched(GOING_DOWN, trouble=failing(D, 2))
    assert live.of("tnews", State.FAILED) == {D} and live.of("tnews", State.DONE) == {A, B}


def test_one_seed_that_fails_leaves_its_setting_to_the_others():
    grid = {A: [recorded(60, 60, 60, 60)] * 2, B: [recorded(50, 50, 50, 50)] * 2}
    bad = failing(A, 2, times=1)
    live = LiveSearch({"tnews": grid}, HALF, cpu_slots(1), bad).run()
    states = {job.key.split("/", 1)[1]: job.state for job in live.jobs}
    assert [state.value for state in states.values()] == ["failed", "done", "stopped", "stopped"]


def test_out_of_memory_at_a_rung_is_tried_again_in_smaller_micro_batches():
    live = searched(GOING_DOWN, trouble=failing(A, OutOfMemory.exit_code, times=1, start=1))
    (best,) = (job for job in live.jobs if job.trial.setting == A)
    assert best.state is State.DONE and best.memory_factor == 2 and live.of("tnews", State.DONE) == {A, B}


def test_reading_tasks_on_several_cards_go_on_on_several():
    cards = [Device(f"GPU-{number}", f"gpu {number}", "gpu", joinable=True) for number in range(4)]
    grid = {Setting(rate, 24, 0.1): [recorded(60 + place, 60 + place, 70)] for place, rate in enumerate((1e-5, 2e-5))}
    live = LiveSearch({"c3": grid}, HALF, cards).run()
    assert [len(ids) for _, _, ids in live.engine.starts] == [4, 4, 4]
    assert live.of("c3", State.DONE) == {Setting(2e-5, 24, 0.1)}


def test_what_a_trial_that_shared_its_card_took_to_a_rung_is_its_part(monkeypatch):
    """Or the time left would be computed as if each had had the card alone."""
    grid, learnt = {A: [recorded(60, 60, 60, 60)], B: [recorded(50, 50, 50, 50)]}, []
    live = LiveSearch({"tnews": grid}, HALF, cpu_slots(1), jobs_per_device=2)

    def outcome(job, device_ids):
        found, result = live.outcome(job, device_ids), live.results[job.key]
        result.device_seconds = result.train_seconds
        return found

    live.engine.outcome = outcome
    monkeypatch.setattr(live.grid.durations, "observe", lambda trial, seconds: learnt.append(seconds))
    live.run()
    whole = live.recordings[live.jobs[0].trial].seconds_until(None)
    assert learnt[:2] == [pytest.approx(whole / 2, rel=0.05)] * 2


def test_a_plain_grid_takes_a_pause_for_no_failure():
    """Its process was started by a halving search before it."""
    grid = {"tnews": {A: [recorded(50, 60)]}}
    live = LiveSearch(grid, None, cpu_slots(1), lambda job: Outcome(1.0, score=None) if not job.attempts[1:] else None)
    live.results = LiveSearch(grid, None, cpu_slots(1)).run().results
    live.results[live.jobs[0].key].status = "paused"
    live.run()
    assert live.jobs[0].state is State.DONE and not live.jobs[0].failures
