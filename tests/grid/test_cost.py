"""What trials cost: seconds of devices and energy of cards, charged to who had them; and what a plan will cost."""

import pytest

from cluebench.grid_file import Spent
from cluebench.scheduler.devices import Reading, cpu_slots
from cluebench.scheduler.ledger import Ledger
from cluebench.scheduler.simulated import Outcome
from tests.grid.test_loop import GIB, Run, gpu, trials

WATTS = 300.0
CARD = "card GPU-aaaa Test-80G 81920 81000 ok\n"
TNEWS = ("--tasks", "tnews", "--batch_sizes", "16", "--learning_rates")


def counting(seconds_of, start=5000.0):
    """A card's readings whose counter grows by 300 J a second; ``seconds_of`` gives the run's time."""
    return lambda device_id: Reading(24 * GIB, 24 * GIB, {}, start + WATTS * seconds_of())


def spent(job):
    return job.spent.device_seconds, job.spent.energy_joules


def on_cards(plan, seconds, cards=1, read=counting, **more):
    """A run of trials that take so long each, in the plan's order, on cards read by ``read``."""
    run = Run(plan, [gpu(number) for number in range(cards)], None, lambda device: memory(device), **more)
    memory = read(lambda: run.time.now)
    run.engine.outcome = lambda job, ids: Outcome(seconds[job.number])
    return run.run()


# By the loop, on simulated time ---------------------------------------------------------------------------------------


def test_trials_on_one_card_share_its_seconds_and_its_energy():
    run = on_cards(trials("tnews", learning_rates=[1e-5, 2e-5]), [100.0, 50.0], jobs_per_device=2)
    long, short = run.jobs  # 50 s together, then 50 s alone
    assert spent(long) == (pytest.approx(75, abs=0.1), pytest.approx(75 * WATTS, rel=1e-3))
    assert spent(short) == (pytest.approx(25, abs=0.1), pytest.approx(25 * WATTS, rel=1e-3))
    assert long.result.device_seconds == pytest.approx(75, abs=0.1)  # the run itself counted 100
    assert short.result.energy_joules == pytest.approx(25 * WATTS, rel=1e-3)


def test_a_trial_on_two_cards_spends_both():
    run = on_cards(trials("cmrc2018"), [60.0], cards=2)
    assert run.engine.starts[0][2] == ("GPU-0", "GPU-1")
    assert spent(run.jobs[0]) == (pytest.approx(120, abs=0.1), pytest.approx(120 * WATTS, rel=1e-3))


def test_the_last_trial_of_a_grid_is_charged_to_its_end():
    """The counter is read when its processes are gone, for which the loop waits a moment."""
    run = on_cards(trials("tnews"), [10.0])
    assert run.jobs[0].result.energy_joules == pytest.approx(10 * WATTS, rel=1e-3)


def test_failed_attempts_are_charged_to_the_grid_and_not_to_the_result():
    run = Run(trials("tnews"), [gpu(0)], None, lambda device: memory(device))
    memory = counting(lambda: run.time.now)
    attempts = iter([Outcome(40.0, code=1, score=None), Outcome(100.0)])
    run.engine.outcome = lambda job, ids: next(attempts)
    (job,) = run.run().jobs
    assert spent(job) == (pytest.approx(140, abs=0.1), pytest.approx(140 * WATTS, rel=1e-2))
    assert job.result.device_seconds == pytest.approx(100, abs=0.1)
    assert job.result.energy_joules == pytest.approx(100 * WATTS, rel=1e-2)


def test_a_counter_that_begins_anew_leaves_only_those_unknown_who_ran_meanwhile():
    def reloaded(time):  # the driver is loaded again at second 40, and counts from 0
        return lambda device: Reading(24 * GIB, 24 * GIB, {}, WATTS * (time() if time() < 40 else time() - 40))

    run = on_cards(trials("tnews", learning_rates=[1e-5, 2e-5]), [100.0, 50.0], read=reloaded)
    first, second = run.jobs
    assert spent(first) == (pytest.approx(100, abs=0.1), None) and first.result.energy_joules is None
    assert second.result.energy_joules == pytest.approx(50 * WATTS, rel=1e-2)


def test_energy_is_unknown_where_nothing_counts_it():
    silent = on_cards(trials("tnews"), [10.0], read=lambda time: lambda device: Reading(24 * GIB, 24 * GIB, {}))
    on_cpu = Run(trials("tnews"), cpu_slots(1), lambda job, ids: Outcome(10.0)).run()
    for run in (silent, on_cpu):
        assert spent(run.jobs[0]) == (pytest.approx(10, abs=0.1), None)
        assert (run.jobs[0].result.device_seconds, run.jobs[0].result.energy_joules) == (10.0, None)


def test_slots_of_cores_that_are_shared_are_parts_too():
    run = Run(trials("tnews", learning_rates=[1e-5, 2e-5]), cpu_slots(1), lambda job, ids: Outcome(10.0),
              jobs_per_device=2).run()  # fmt: skip
    assert [job.result.device_seconds for job in run.jobs] == [pytest.approx(5), pytest.approx(5)]


def test_what_a_card_takes_while_it_is_idle_is_nobodys():
    ledger, mine = Ledger([gpu(0)]), Spent()
    ledger.spent["mine"] = mine
    ledger.settle(0.0)
    ledger.read("GPU-0", Reading(24 * GIB, 24 * GIB, {}, 100.0), lambda key: 0)
    ledger.settle(10.0)
    ledger.reserve("mine", ["GPU-0"], GIB)
    ledger.settle(40.0)
    ledger.read("GPU-0", Reading(24 * GIB, 24 * GIB, {}, 500.0), lambda key: 0)
    assert mine == Spent(30.0, 30.0, 400.0 * 30 / 40)


def test_energy_is_unknown_where_the_grid_has_not_seen_all_of_a_trial():
    (job,) = on_cards(trials("tnews"), [10.0]).jobs
    job.result.device_seconds, job.result.energy_joules = 500.0, None  # most of it by another machine, then taken up
    job.charge_energy()
    assert (job.result.device_seconds, job.result.energy_joules) == (500.0, None)


# By real processes on the stand-in driver -----------------------------------------------------------------------------


@pytest.mark.slow
def test_results_and_grid_carry_what_the_drivers_counter_says(grid, cards):
    cards(CARD + "energy 1000000\n")
    grid.behave(trials={"*": {"seconds": 1.0}})
    scheduler = grid.start(*TNEWS, "1e-5,3e-5", "--jobs_per_device", "2")
    grid.wait_for("start", 2)
    cards(CARD + "energy 5000000\n")
    scheduler.communicate(timeout=30)
    found = [grid.result(f"tnews/{rate}_16_0.1") for rate in ("1e-05", "3e-05")]
    joules = [result["energy_joules"] for result in found]
    in_grid = [trial["spent"] for trial in grid.state()["trials"]]
    assert 2000 < sum(joules) < sum(spent["energy_joules"] for spent in in_grid) <= 4000.001  # some while it was idle
    assert joules[0] == pytest.approx(joules[1], rel=0.2)
    for result, spent in zip(found, in_grid, strict=True):
        assert result["device_seconds"] < spent["device_seconds"] < 0.75 * spent["held_seconds"]


@pytest.mark.slow
def test_a_card_without_a_counter_says_nothing_of_energy(grid, cards):
    cards(CARD)
    assert grid.run(*TNEWS, "1e-5").returncode == 0
    assert grid.result("tnews/1e-05_16_0.1")["energy_joules"] is None
    assert grid.state()["trials"][0]["spent"]["energy_joules"] is None
