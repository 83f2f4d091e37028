"""--search halving on real processes of stand-in scripts: who is stopped, who goes on, and what no kill changes."""

import pytest

from cluebench.report.scores import halving_mark
from cluebench.runlog import Result

pytestmark = pytest.mark.slow

TNEWS = ("--tasks", "tnews", "--learning_rates", "1e-5,3e-5", "--batch_sizes", "16,32")
HALVING = ("--search", "halving", "--devices", "cpu:2")
#: By the stand-in's rule the larger learning rate is better, then the larger batch.
WORST_TO_BEST = ["1e-05_16_0.1", "1e-05_32_0.1", "3e-05_16_0.1", "3e-05_32_0.1"]
TABLE_ROW = "-\t74.94\t-\t-\t-\t-\t-\t-\t-\t-"


def states(grid, model="some-model"):
    return {trial["name"]: trial["state"] for trial in grid.state(model)["trials"]}


def steps_done(grid, name, task="tnews"):
    return Result.read(grid.runs / "some-model" / task / f"{name}.json").dev_curve[-1].step


def test_the_best_go_on_and_the_rest_is_stopped_and_said(grid):
    grid.behave(trials={"*": {"steps": 8}})
    ended = grid.run(*TNEWS, *HALVING, "--rungs", "1/4,1/2")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[1] == TABLE_ROW
    assert "(halving: 3 of 4 trials stopped early)" in ended.stderr
    assert list(states(grid).values()) == ["stopped", "stopped", "stopped", "done"]
    assert [steps_done(grid, name) for name in WORST_TO_BEST] == [2, 2, 4, 8]
    assert grid.state()["search"] == "half at 1/4, 1/2" and grid.state()["status"] == "done"
    results = [Result.read(grid.runs / "some-model" / "tnews" / f"{name}.json").status for name in WORST_TO_BEST]
    assert results == ["stopped", "stopped", "stopped", "done"]
    # the winner runs alone from 1/2 on, and the checkpoints of the others are kept
    kept = sorted(path.parent.name for path in grid.runs.glob("*/tnews/*/checkpoint"))
    assert kept == WORST_TO_BEST[:3]
    log = (grid.runs / "some-model" / "grid.log").read_text()
    for said in ("54.89 after 4/8 steps: held for the others", "54.89 after 4/8 steps: stopped"):
        assert f"tnews/3e-05_16_0.1 {said}" in log
    status = grid.run(*TNEWS, *HALVING, "--rungs", "1/4,1/2", "--status").stdout
    assert "not running, done" in status and "1 done, 0 running, 0 waiting, 0 failed, 3 stopped" in status
    # again: nothing is left to do, and the exit code says so
    again = grid.run(*TNEWS, *HALVING, "--rungs", "1/4,1/2")
    assert (again.returncode, again.stdout) == (0, ended.stdout)
    assert "all 4 trials are done already, 3 of them stopped early" in again.stderr


def test_a_grid_search_afterwards_finishes_what_was_stopped_from_its_checkpoints(grid):
    grid.behave(trials={"*": {"steps": 8}})
    assert grid.run(*TNEWS, *HALVING).returncode == 0
    ended = grid.run(*TNEWS, "--devices", "cpu:2")
    assert ended.returncode == 0 and ended.stdout.splitlines()[1] == TABLE_ROW
    assert "halving" not in ended.stderr and halving_mark(grid.runs / "some-model") is None
    assert set(states(grid).values()) == {"done"} and grid.state()["search"] is None
    begun = [log.read_text().split("from step ")[1][0] for log in sorted(grid.runs.glob("*/tnews/*_0.1.log"))]
    assert begun == ["2", "2", "4", "4"]  # where each stood; the best is not run again


def test_a_trial_that_fails_at_a_rung_gives_its_place_to_the_next_best(grid):
    """Its two attempts end when it goes on from the first rung; the exit code says that a trial failed."""
    crash = {"exit": 1, "log": "ValueError: the middle of nowhere"}
    grid.behave(trials={"*": {"steps": 8}, "tnews/3e-05_32_0.1": {"steps": 8, "attempts": [{}, crash, crash]}})
    ended = grid.run(*TNEWS, *HALVING, "--rungs", "1/4", "--max_attempts", "2")
    assert ended.returncode == 1
    assert states(grid) == dict(zip(WORST_TO_BEST, ["stopped", "done", "done", "failed"]))
    # tried again at the next start, it takes its place, and what has been done meanwhile stays
    again = grid.run(*TNEWS, *HALVING, "--rungs", "1/4")
    assert again.returncode == 0 and again.stdout.splitlines()[1] == TABLE_ROW
    assert states(grid) == dict(zip(WORST_TO_BEST, ["stopped", "done", "done", "done"]))


def test_when_all_fail_nothing_waits_for_ever(grid):
    grid.behave(trials={"*": {"steps": 8, "attempts": [{"exit": 2}] * 3}})
    assert grid.run(*TNEWS, *HALVING).returncode == 1
    assert set(states(grid).values()) == {"failed"}
