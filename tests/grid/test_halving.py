"""--search halving on real processes of stand-in scripts: who is stopped, who goes on, and what no kill changes."""

import os
import random
import signal
import subprocess
from contextlib import suppress

import pytest

from cluebench.records.finished_trials import OpenedRun
from cluebench.records.result import Result
from tests.grid.conftest import TABLE_ROW, TNEWS, alive

pytestmark = pytest.mark.slow

HALVING = ("--search", "halving", "--devices", "cpu:2")
#: By the stand-in's rule the larger learning rate is better, then the larger batch.
WORST_TO_BEST = ["1e-05_16_0.1", "1e-05_32_0.1", "3e-05_16_0.1", "3e-05_32_0.1"]


def states(grid, task="tnews"):
    return {trial["name"]: trial["state"] for trial in grid.state()["trials"] if trial["task"] == task}


def steps_done(grid, name, task="tnews"):
    return Result.read(grid.runs / "some-model" / task / f"{name}.json").dev_curve[-1].step


def test_the_best_go_on_and_the_rest_is_stopped_and_reported(grid):
    grid.behave(trials={"*": {"steps": 8}})
    ended = grid.run(*TNEWS, *HALVING, "--rungs", "1/4,1/2")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[1] == TABLE_ROW
    assert "(halving: 3 of 4 trials stopped early)" in ended.stderr and "stopped no trial" not in ended.stderr
    assert list(states(grid).values()) == ["stopped", "stopped", "stopped", "done"]
    assert [steps_done(grid, name) for name in WORST_TO_BEST] == [2, 2, 4, 8]
    assert grid.state()["search"] == "half at 1/4, 1/2" and grid.state()["status"] == "done"
    results = [Result.read(grid.runs / "some-model" / "tnews" / f"{name}.json").status for name in WORST_TO_BEST]
    assert results == ["stopped", "stopped", "stopped", "done"]
    # the winner runs alone from 1/2 on, and the checkpoints of the others are kept
    kept = sorted(path.parent.name for path in grid.runs.glob("*/tnews/*/checkpoint"))
    assert kept == WORST_TO_BEST[:3]
    log = (grid.runs / "some-model" / "grid.log").read_text()
    for reported in ("54.89 after 4/8 steps: waits for the others", "54.89 after 4/8 steps: stopped"):
        assert f"tnews/3e-05_16_0.1 {reported}" in log
    status = grid.run(*TNEWS, *HALVING, "--rungs", "1/4,1/2", "--status").stdout
    assert "not running, done" in status and "1 done, 0 running, 0 waiting, 0 failed, 3 stopped" in status
    # again: nothing is left to do, and the exit code says so
    again = grid.run(*TNEWS, *HALVING, "--rungs", "1/4,1/2")
    assert (again.returncode, again.stdout) == (0, ended.stdout)
    assert "all 4 trials are done already, 3 of them stopped early" in again.stderr


def test_that_nothing_could_be_stopped_is_reported(grid):
    """With two evaluations the second is the last: no verdict comes before the end."""
    grid.behave(trials={"*": {"steps": 2}})
    ended = grid.run(*TNEWS, *HALVING)
    assert ended.returncode == 0 and set(states(grid).values()) == {"done"}
    assert "halving stopped no trial: it needs two settings, and two evaluations before the last" in ended.stderr


def test_a_grid_search_afterwards_finishes_what_was_stopped_from_its_checkpoints(grid):
    grid.behave(trials={"*": {"steps": 8}})
    assert grid.run(*TNEWS, *HALVING).returncode == 0
    ended = grid.run(*TNEWS, "--devices", "cpu:2")
    assert ended.returncode == 0 and ended.stdout.splitlines()[1] == TABLE_ROW
    assert "halving" not in ended.stderr and OpenedRun(grid.runs / "some-model").halving_mark is None
    assert set(states(grid).values()) == {"done"} and grid.state()["search"] is None
    begun = [log.read_text().split("from step ")[1][0] for log in sorted(grid.runs.glob("*/tnews/*_0.1.log"))]
    assert begun == ["2", "2", "4", "4"]  # where each stood; the best is not run again


def test_a_trial_that_fails_at_a_rung_gives_its_place_to_the_next_best(grid):
    """Its two attempts end when it goes on from the first rung; the exit code says that a trial failed."""
    crash = {"exit": 1, "log": "ValueError: the middle of nowhere"}
    grid.behave(trials={"*": {"steps": 8}, "tnews/3e-05_32_0.1": {"steps": 8, "attempts": [{}, crash, crash]}})
    ended = grid.run(*TNEWS, *HALVING, "--rungs", "1/4", "--max_attempts", "2")
    assert ended.returncode == 1 and "\n1 trial failed:\n" in ended.stdout
    assert states(grid) == dict(zip(WORST_TO_BEST, ["stopped", "done", "done", "failed"]))
    # tried again at the next start, it takes its place, and what has been done meanwhile stays
    again = grid.run(*TNEWS, *HALVING, "--rungs", "1/4")
    assert again.returncode == 0 and again.stdout.splitlines()[1] == TABLE_ROW
    assert states(grid) == dict(zip(WORST_TO_BEST, ["stopped", "done", "done", "done"]))


def test_when_all_fail_nothing_waits_for_ever(grid):
    grid.behave(trials={"*": {"steps": 8, "attempts": [{"exit": 2}] * 3}})
    assert grid.run(*TNEWS, *HALVING).returncode == 1
    assert set(states(grid).values()) == {"failed"}


def killed(grid, arguments, kills, chance):
    """Starts the search and kills it at a random instant, again and again, half the time its trials with it."""
    for number in range(kills):
        scheduler = grid.start(*arguments)
        with pytest.raises(subprocess.TimeoutExpired):  # else it is done, and the kills would mean nothing
            scheduler.wait(timeout=chance.uniform(0.05, 3.0))
            print(f"done after {number} kills")
        scheduler.kill()
        scheduler.communicate()
        for pid in (int(words[2]) for words in grid.book("start")) if chance.random() < 0.5 else ():
            if alive(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def test_a_random_kill_at_any_instant_changes_nothing(grid, tmp_path):
    """KILLS=30 pytest -k random_kill, for the long test. Trials also die between an evaluation and its checkpoint."""
    kills = int(os.environ.get("KILLS", 5))
    arguments = ("--tasks", "tnews,cmrc2018", "--learning_rates", "1e-5,2e-5,3e-5", "--devices", "cpu:3")
    arguments += ("--search", "halving", "--rungs", "1/4,1/2")
    undisturbed = type(grid)(tmp_path / "undisturbed")
    chance = random.Random(kills)
    # Scores that cross, of eight evaluations each, the same for both.
    names = [f"{rate}_{batch}_0.1" for rate in (1e-05, 2e-05, 3e-05) for batch in (16, 24, 32, 64)]
    crossing = {
        f"{task}/{name}": {"steps": 8, "curve": [chance.randrange(40, 70) for _ in range(8)]}
        for task in ("tnews", "cmrc2018")
        for name in names
    }
    slow = {"seconds": kills / 4, "before_checkpoint": 0.05}
    grid.behave(trials={key: behaviour | slow for key, behaviour in crossing.items()})
    undisturbed.behave(trials=crossing)
    expected = undisturbed.run(*arguments, timeout=300)
    killed(grid, arguments, kills, chance)
    ended = grid.run(*arguments, timeout=600)
    assert ended.returncode == expected.returncode == 0, ended.stderr
    assert ended.stdout == expected.stdout and not grid.book("overlap")
    assert OpenedRun(grid.runs / "some-model").halving_mark == OpenedRun(undisturbed.runs / "some-model").halving_mark
    for task in ("tnews", "cmrc2018"):
        assert states(grid, task) == states(undisturbed, task) and "stopped" in states(grid, task).values()
        for path in (undisturbed.runs / "some-model" / task).glob("*.json"):
            other = Result.read(grid.runs / "some-model" / task / path.name)
            assert other.dev_curve == Result.read(path).dev_curve and other.status == Result.read(path).status


def test_confirmation_takes_the_settings_that_reached_their_end_and_models_are_kept_of_them(grid):
    grid.behave(trials={"*": {"steps": 8}})
    more = ("--rungs", "1/4", "--confirm_seeds", "2", "--top_k", "3", "--save_best_model", "True")
    ended = grid.run(*TNEWS, *HALVING, *more)
    assert ended.returncode == 0, ended.stderr
    confirmed = [f"{name}_seed43" for name in WORST_TO_BEST[2:]]
    expected = dict(zip([*WORST_TO_BEST, *confirmed], ["stopped"] * 2 + ["done"] * 4))
    assert states(grid) == expected and {words[1] for words in grid.book("paused")} == {
        f"tnews/{name}" for name in WORST_TO_BEST
    }
    assert "\t74.94±0.01\t" in ended.stdout and "(halving: 2 of 6 trials stopped early)" in ended.stderr
    kept = [path.parent.name for path in grid.runs.glob("*/tnews/*/model.safetensors")]
    assert kept == ["3e-05_32_0.1_seed43"]


def test_confirmation_follows_a_verdict_that_ends_its_task(grid):
    """The best has reached its end when the other comes to the rung and is stopped."""
    grid.behave(trials={"*": {"steps": 8, "seconds": 1.5}, "tnews/3e-05_32_0.1": {"steps": 2}})
    two = ("--tasks", "tnews", "--learning_rates", "3e-5", "--batch_sizes", "16,32")
    ended = grid.run(*two, *HALVING, "--rungs", "1/2", "--confirm_seeds", "2", "--top_k", "1")
    assert ended.returncode == 0, ended.stderr
    assert states(grid) == {"3e-05_16_0.1": "stopped", "3e-05_32_0.1": "done", "3e-05_32_0.1_seed43": "done"}


def test_interrupted_at_a_rung_it_goes_on_where_it_was(grid):
    grid.behave(trials={"*": {"steps": 8}, "tnews/3e-05_32_0.1": {"steps": 8, "seconds": 400}})
    scheduler = grid.start(*TNEWS, *HALVING, "--rungs", "1/4,1/2")
    grid.wait_for("paused", 3)
    scheduler.send_signal(signal.SIGINT)
    _, reported = scheduler.communicate(timeout=60)
    assert scheduler.returncode == 130 and "trials left; the same command goes on" in reported
    assert grid.state()["status"] == "stopped" and list(states(grid).values()) == ["held"] * 3 + ["waiting"]
    status = grid.run(*TNEWS, *HALVING, "--rungs", "1/4,1/2", "--status").stdout
    assert " held" in status and "not running, stopped" in status  # codespell:ignore
    grid.behave(trials={"*": {"steps": 8}})
    ended = grid.run(*TNEWS, *HALVING, "--rungs", "1/4,1/2")
    assert (ended.returncode, ended.stdout.splitlines()[1]) == (0, TABLE_ROW)
    assert list(states(grid).values()) == ["stopped", "stopped", "stopped", "done"]


def test_a_plan_says_what_is_stopped_and_starts_nothing(grid):
    grid.behave(trials={"*": {"steps": 8}})
    assert grid.run(*TNEWS, *HALVING).returncode == 0
    starts = len(grid.book("start"))
    plan = grid.run(*TNEWS, *HALVING, "--dry_run", "--list").stdout.splitlines()
    assert f"some-model/tnews/{WORST_TO_BEST[0]}\tstopped\t-" in plan
    assert plan[0] == "4 trials of 1 model: 1 done, 3 stopped, 0 to run" and len(grid.book("start")) == starts
    plan = grid.run(*TNEWS, "--dry_run").stdout.splitlines()
    assert plan[0] == "4 trials of 1 model: 1 done, 3 to run"
