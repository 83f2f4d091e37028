"""What trials cost: seconds of devices, charged to who had them; and what a plan will cost."""

import json
import re
import time
from fractions import Fraction

import pytest

from cluebench.benchmark.tasks import TASKS, Setting
from cluebench.machine.devices import cpu_slots
from cluebench.machine.nvidia import DeviceLost, Reading
from cluebench.pretrained.model import Model
from cluebench.records.cost import Cost, cost_by_task, shown
from cluebench.records.finished_trials import OpenedRun
from cluebench.records.result import DevPoint, Result
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.estimates import GIB, forward_tokens
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Attempt
from cluebench.scheduler.run.forecast import Forecast, weight_bytes
from cluebench.scheduler.run.planned_grid import PlannedGrid
from tests.grid.conftest import until
from tests.simulated import Outcome, Run, empty, gpu, trials

CARD = "card GPU-aaaa Test-80G 81920 81000 ok\n"
TNEWS = ("--tasks", "tnews", "--batch_sizes", "16", "--learning_rates")


def on_cards(plan, seconds, cards=1, **more):
    """A run of trials that take so long each, in the plan's order."""
    run = Run(plan, [gpu(number) for number in range(cards)], memory=empty, **more)
    run.engine.outcome = lambda job, ids: Outcome(seconds[job.number])
    return run.run()


def total(folder):
    return sum(cost_by_task(OpenedRun(folder)).values(), Cost())


# By the loop, on simulated time ---------------------------------------------------------------------------------------


def test_trials_on_one_card_share_its_seconds():
    run = on_cards(trials("tnews", learning_rates=[1e-5, 2e-5]), [100.0, 50.0], jobs_per_device=2)
    long, short = run.jobs  # 50 s together, then 50 s alone
    assert long.spent.device_seconds == pytest.approx(75, abs=0.1)
    assert short.spent.device_seconds == pytest.approx(25, abs=0.1)
    assert long.result.device_seconds == long.spent.device_seconds  # the run itself counted 100


def test_a_trial_on_two_cards_spends_both():
    run = on_cards(trials("cmrc2018"), [60.0], cards=2)
    assert run.engine.starts[0][2] == ("GPU-0", "GPU-1")
    assert run.jobs[0].spent.device_seconds == pytest.approx(120, abs=0.1)


def test_failed_attempts_are_charged_to_the_grid_and_not_to_the_result():
    run = Run(trials("tnews"), [gpu(0)], memory=empty)
    attempts = iter([Outcome(40.0, code=1, score=None), Outcome(100.0)])
    run.engine.outcome = lambda job, ids: next(attempts)
    (job,) = run.run().jobs
    assert job.spent.device_seconds == pytest.approx(140, abs=0.1)
    assert job.result.device_seconds == pytest.approx(100, abs=0.1)


def test_slots_of_cores_that_are_shared_are_parts_too():
    run = Run(trials("tnews", learning_rates=[1e-5, 2e-5]), cpu_slots(1), lambda job, ids: Outcome(10.0),
              jobs_per_device=2).run()  # fmt: skip
    assert [job.result.device_seconds for job in run.jobs] == [pytest.approx(5), pytest.approx(5)]


def test_an_adopted_trials_seconds_count_from_then_on():
    """Someone else's process holds its lock, and whoever started that lives no more."""
    run = Run(trials("tnews"), [gpu(0)], memory=empty)
    (job,) = run.jobs

    def left_to_it(job):
        about = {"configuration_hash": job.configuration_hash, "promised_bytes": GIB}
        run.engine.orphans[job.key] = Attempt(4711, devices=["GPU-0"], labels=["gpu 0"], **about)
        return False

    run.engine.take = left_to_it
    run.run()  # 5 s from its adoption
    assert job.spent.device_seconds == pytest.approx(5, abs=0.1)


def test_a_trial_of_one_attempt_cost_all_of_it_and_of_several_what_it_counted_itself():
    """Before it is imported and after it has written its result a process has the device too."""
    first, second = (on_cards(trials("tnews"), [10.0]).jobs[0] for _ in range(2))
    for job, attempts in ((first, 1), (second, 2)):
        job.spent.held_seconds = job.spent.device_seconds = 12.0
        job.spent.attempts, job.result.device_seconds = attempts, 10.0
        job.charge_seconds(job.result)
    assert (first.result.device_seconds, second.result.device_seconds) == (12.0, 10.0)


def test_seconds_of_a_card_that_was_lost_count_too():
    def losing(device_id):
        lost = run.time.now > 5 and device_id == "GPU-0"
        return DeviceLost("gone") if lost else Reading(24 * GIB, 24 * GIB, {})

    run = Run(trials("tnews"), [gpu(0), gpu(1)], lambda job, ids: Outcome(50.0), losing)
    (job,) = run.run().jobs
    assert len(job.attempts) > 1 and job.spent.device_seconds == pytest.approx(run.time.now, abs=0.1)
    assert not run.grid.uncharged


# By real processes on the stand-in driver -----------------------------------------------------------------------------


@pytest.mark.slow
def test_results_and_grid_carry_the_seconds_of_trials_that_share_a_card(grid, cards):
    cards(CARD)
    grid.behave(trials={"*": {"seconds": 1.0}})
    assert grid.run(*TNEWS, "1e-5,3e-5", "--jobs_per_device", "2").returncode == 0
    found = [grid.result(f"tnews/{rate}_16_0.1") for rate in ("1e-05", "3e-05")]
    for result, spent in zip(found, [trial["spent"] for trial in grid.state()["trials"]], strict=True):
        assert result["device_seconds"] == pytest.approx(spent["device_seconds"])
        assert spent["device_seconds"] < 0.75 * spent["held_seconds"]


@pytest.mark.slow
def test_status_and_the_end_say_what_was_spent_failures_and_all(grid):
    crash = {"attempts": [{"after": 0.6, "exit": 3, "log": "boom"}] * 2}
    grid.behave(trials={"tnews/1e-05_16_0.1": crash, "*": {"seconds": 0.3}})
    ended = grid.run(*TNEWS, "1e-5,3e-5", "--devices", "cpu:1", "--max_attempts", "1")
    reported = [line for line in ended.stderr.splitlines() if " device hours" in line]
    assert ended.returncode == 1 and len(reported) == 2 and reported[0].startswith("spent: ") and "TNEWS" in reported[1]
    stopped = grid.run(*TNEWS, "1e-5,3e-5", "--status").stdout
    assert all(line in stopped.splitlines() for line in reported)
    failed, done = (trial["spent"] for trial in grid.state()["trials"])
    cost = total(grid.runs / "some-model")
    assert failed["device_seconds"] > 0.6 and cost.lost_seconds == pytest.approx(failed["device_seconds"])
    assert cost.device_seconds == pytest.approx(done["device_seconds"])
    # The next start goes on counting, of the trial that failed and of the one that is done.
    assert grid.run(*TNEWS, "1e-5,3e-5", "--devices", "cpu:1", "--max_attempts", "1").returncode == 1
    assert grid.trial_state("tnews/1e-05_16_0.1")["spent"]["device_seconds"] > failed["device_seconds"] + 0.6
    assert grid.trial_state("tnews/3e-05_16_0.1")["spent"] == done


@pytest.mark.slow
def test_status_counts_what_still_runs(grid):
    grid.behave(trials={"*": {"seconds": 60.0}})
    scheduler = grid.start(*TNEWS, "1e-5,3e-5", "--devices", "cpu:1", "--jobs_per_device", "2")
    grid.wait_for("start", 2)
    until(lambda: (grid.runs / "some-model" / "grid.json").exists())
    time.sleep(4.0)  # --status reads what grid.json was written with up to two seconds ago
    spent = re.search(r"spent: ([\d.]+) device hours", grid.run(*TNEWS, "1e-5,3e-5", "--status").stdout)
    scheduler.terminate()
    scheduler.communicate(timeout=30)
    # One slot, though two trials have it. And an interruption keeps what they have spent so far.
    assert 2.0 < float(spent[1]) * 3600 < 2.0 + 20
    assert total(grid.runs / "some-model").device_seconds > float(spent[1]) * 3600 - 0.01


# What a plan will cost ------------------------------------------------------------------------------------------------


def planned(run_root, *tasks, model="ernie-3.0-base-zh", left=None, **flags):
    """The forecast of a plan; ``left``: writes what an earlier start has left of some of its jobs."""
    chosen = {"learning_rates": [3e-5], "batch_sizes": [32], "dropouts": [0.1], "devices": "gpu"} | flags
    grid = PlannedGrid.of(GridFlags(models=[str(model)], tasks=list(tasks), run_root=str(run_root), **chosen))
    if left:
        left(grid.jobs())
    return Forecast(grid, grid.jobs())


def leave(job, status, step, **more):
    """What a start of this very trial has left: its result after ``step`` of 400 steps."""
    points = [DevPoint(number, 0, (50.0,)) for number in range(100, step + 1, 100)]
    job.paths.folder.mkdir(parents=True, exist_ok=True)
    Result(
        job.trial.task, "m", dict(job.configuration), job.configuration_hash, status=status, total_steps=400,
        dev_curve=points, best_score=(50.0,), best_step=100, device="gpu:0", device_seconds=step * 9.0, **more,
    ).write(job.paths.result)  # fmt: skip


def finished(run_root, model, task, seconds, device="gpu:0", **settings):
    """A trial of a grid that lies under the run root."""
    folder = run_root / str(model).replace("/", "--")
    (folder / task).mkdir(parents=True, exist_ok=True)
    (folder / "grid.json").write_text(json.dumps({"format": 1, "model": model, "status": "done", "trials": []}))
    configuration = {"task": task, "epochs": TASKS[task].epochs, "limit": None, "max_steps": -1} | settings
    result = Result(task, model, configuration, "0" * 16, status="done", device=device, device_seconds=seconds)
    result.add(DevPoint(100, 0, (57.0,)))
    result.write(folder / task / "3e-05_32_0.1.json")


def test_hours_by_this_models_own_trials_then_by_those_of_similar_models(tmp_path):
    finished(tmp_path, "ernie-3.0-medium-zh", "tnews", 3600.0)
    finished(tmp_path, "ernie-3.0-nano-zh", "afqmc", 3600.0)  # 4 layers of 312: too small to say anything
    finished(tmp_path, "hfl/rbt6", "tnews", 7200.0, device="cpu")  # another kind of device
    forecast = planned(tmp_path, "tnews", "afqmc", learning_rates=[1e-5, 3e-5])
    hours = 2 * 1.02 / 0.52  # two trials, 12 layers of 768 to 6 of 768, each with the same 0.02 beside them
    assert forecast.hours(TASKS["tnews"]) == (pytest.approx(hours), pytest.approx(hours))
    assert forecast.of_task(TASKS["tnews"]) == ", about 3.92 device hours by ernie-3.0-medium-zh"
    assert forecast.of_task(TASKS["afqmc"]) == ", device hours unknown until its first trial ends"
    total = "time: about 3.92 device hours (gpu); unknown until the first trial of each task ends: AFQMC"
    assert forecast.in_all()[0] == total
    finished(tmp_path, "ernie-1.0-base-zh", "tnews", 9000.0)  # as large
    finished(tmp_path, "ernie-3.0-base-zh", "tnews", 1800.0)
    assert planned(tmp_path, "tnews").of_task(TASKS["tnews"]) == ", about 0.5 device hours"


def test_shorter_trials_of_another_grid_count_as_what_they_are(tmp_path):
    finished(tmp_path, "ernie-3.0-base-zh", "tnews", 60.0, max_steps=100)
    trial = Trial(Model.of("ernie-3.0-base-zh"), "tnews", Setting(3e-5, 32, 0.1))
    work = forward_tokens(trial, GridFlags()) / forward_tokens(trial, GridFlags(max_steps=100))
    assert planned(tmp_path, "tnews").hours(TASKS["tnews"])[1] == pytest.approx(work * 60 / 3600)
    assert planned(tmp_path, "tnews", max_steps=100).hours(TASKS["tnews"])[1] == pytest.approx(60 / 3600)


def test_a_search_costs_from_what_its_rule_can_stop_to_everything(tmp_path):
    """Of 8 settings 4 stop at a quarter, 2 at half: 8 - 4 * 3/4 - 2 * 1/2 = 4 whole trials at least."""
    finished(tmp_path, "ernie-3.0-base-zh", "tnews", 3600.0, max_steps=800)
    rates = [number * 1e-5 for number in range(1, 9)]
    search = {"search": "halving", "keep": 2, "rungs": [Fraction(1, 4), Fraction(1, 2)], "max_steps": 800}
    forecast = planned(tmp_path, "tnews", learning_rates=rates, **search)
    assert forecast.hours(TASKS["tnews"]) == (pytest.approx(4.0), pytest.approx(8.0))
    assert forecast.in_all()[0] == "time: about 4 to 8 device hours (gpu)"
    # AFQMC and TNEWS are evaluated every 100 steps, and nothing is judged before a second evaluation: at half of 400.
    early = search | {"rungs": [Fraction(1, 8)], "max_steps": 400}
    least, most = planned(tmp_path, "tnews", learning_rates=rates, **early).hours(TASKS["tnews"])
    assert least / most == pytest.approx((4 + 4 / 2) / 8)


def test_what_an_earlier_start_has_done_is_not_done_again(tmp_path, grid):
    """One of four trials of an hour is done, one three quarters: of 2.25 hours left a search needs half an hour each."""
    finished(tmp_path, "ernie-1.0-base-zh", "tnews", 3600.0, max_steps=400)

    def left(jobs):
        leave(jobs[3], "done", 400)
        leave(jobs[2], "paused", 300)

    plan = {"data_dir": str(grid.data), "learning_rates": [1e-5, 2e-5, 3e-5, 5e-5], "max_steps": 400}
    assert planned(tmp_path, "tnews", left=left, **plan).hours(TASKS["tnews"]) == pytest.approx((2.25, 2.25))
    search = {"search": "halving", "keep": 4, "rungs": [Fraction(1, 2)]}
    assert planned(tmp_path, "tnews", **plan, **search).hours(TASKS["tnews"]) == pytest.approx((1.0, 2.25))


def test_a_model_that_is_kept_already_is_replaced_by_the_next(tmp_path, grid):
    plan = {"data_dir": str(grid.data), "learning_rates": [1e-5, 3e-5], "save_best_model": True}
    assert "to be kept" in planned(tmp_path, "tnews", **plan).in_all()[1]
    kept = planned(tmp_path, "tnews", left=lambda jobs: leave(jobs[0], "done", 400, best_model="there"), **plan)
    assert "to be kept" not in kept.in_all()[1]


def test_disk_worked_out_by_hand(tmp_path):
    model = tmp_path / "mine"
    model.mkdir()
    (model / "config.json").write_text('{"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100}')
    (model / "vocab.txt").write_text("[PAD]\n")
    with open(model / "model_state.pdparams", "wb") as weights:
        weights.truncate(400_000_000)
    assert weight_bytes(Model.of(model)) == 400_000_000
    assert weight_bytes(Model.of("ernie-3.0-nano-zh")) == 4 * (12 * 4 * 312**2 + 40_000 * 312)  # not on this machine

    def disk(**flags):
        return planned(tmp_path / "runs", "tnews", "afqmc", model=model, **flags).in_all()[1].rpartition(";")[0]

    # Two checkpoints of three times the weights; two best models; then what is kept.
    assert disk() == "disk: up to 2.4 GB for each trial that runs at a time"
    kept = disk(save_best_model=True, learning_rates=[1e-5, 3e-5])
    assert kept == "disk: up to 3.2 GB for each trial that runs at a time, 0.8 GB for the models to be kept"
    every = disk(save_best_model=True, keep_all_models=True, learning_rates=[1e-5, 3e-5])
    assert every.endswith("1.6 GB for the models to be kept")
    # Of two trials all may be paused at a rung, each with a checkpoint.
    assert disk(search="halving").endswith("at a time, up to 2.4 GB for trials that are paused or stopped")
    with open(model / "model_state.pdparams", "wb") as weights:
        weights.truncate(5_000_000)
    assert disk(save_best_model=True, learning_rates=[3e-5]).endswith(", 10 MB for the models to be kept")


@pytest.mark.slow
def test_dry_run_says_what_is_to_run_and_its_cost_and_lists_the_trials_when_asked(grid):
    first = grid.run(*TNEWS, "1e-5,3e-5", "--devices", "cpu:1", "--dry_run")
    assert "\nTNEWS           2 trials    0 done    2 to run, device hours unknown" in first.stdout
    assert grid.run(*TNEWS, "1e-5", "--devices", "cpu:1").returncode == 0
    reported = grid.run(*TNEWS, "1e-5,3e-5", "--devices", "cpu:1", "--dry_run", "--list")
    assert reported.stdout.splitlines()[0] == "2 trials of 1 model: 1 done, 1 to run"
    done, to_run = reported.stdout.splitlines()[-2:]
    assert done.startswith("some-model/tnews/1e-05_16_0.1\tdone\t")
    assert to_run == "some-model/tnews/3e-05_16_0.1\tto run\t-"
    own = grid.result("tnews/1e-05_16_0.1")["device_seconds"]  # two settings of the same size
    assert f"about {shown(own / 3600)} device hours (cpu)" in reported.stdout
    nothing_left = grid.run(*TNEWS, "1e-5", "--devices", "cpu:1", "--dry_run").stdout
    assert "device hours" not in nothing_left and "disk" not in nothing_left
