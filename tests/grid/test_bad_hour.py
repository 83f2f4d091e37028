"""An hour in which a disk, a driver, a neighbour or a terminal misbehaves: real processes and the stand-in driver."""

import time

import pytest


TNEWS = ("--tasks", "tnews", "--learning_rates", "1e-5,3e-5", "--batch_sizes", "32,64")


# A full disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_holds_the_grid_and_costs_nothing(grid):
    grid.prelude = "from cluebench.scheduler import loop; loop._HOLD_RECHECK = 0.5\n"
    grid.behave(trials={"*": {"attempts": [{"exit": 6}], "seconds": 0.1}})
    private = grid.runs / "some-model" / ".scheduler"
    private.mkdir(parents=True)
    (private / "probe").symlink_to("/dev/full")
    scheduler = grid.start(*TNEWS, "--devices", "cpu:2", "--max_attempts", "1")
    grid.wait_for("start", 2)
    time.sleep(2.0)
    assert len(grid.book("start")) == 2 and scheduler.poll() is None
    grid.behave(trials={"*": {"seconds": 0.1}})
    (private / "probe").unlink()
    output, said = scheduler.communicate(timeout=120)
    assert scheduler.returncode == 0, said
    assert "can't be written: No space left on device; looked at again" in said and "going on" in said
    assert all(trial["state"] == "done" for trial in grid.state()["trials"])


@pytest.mark.slow
def test_with_room_on_the_disk_nothing_is_held(grid):
    grid.behave(trials={"*": {"seconds": 0.1}})
    result = grid.run(*TNEWS, "--devices", "cpu:2", "--max_attempts", "1")
    assert result.returncode == 0 and "nothing is started" not in result.stderr
