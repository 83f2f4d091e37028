"""--worker: several processes on one run root, which come, go and are killed."""

import random
import signal
import time

import pytest

pytestmark = pytest.mark.slow

TNEWS = ("--tasks", "tnews", "--learning_rates", "1e-5,2e-5,3e-5,5e-5", "--batch_sizes", "16,32,64")


@pytest.mark.parametrize("kills", [0, 6])
def test_four_workers_share_a_run_root_whoever_is_killed(grid, kills):
    """As the tasks of an sbatch array are, killed and requeued; without kills it is the benign twin."""
    grid.behave(trials={"*": {"seconds": 2.0, "steps": 4}})
    chance = random.Random(5)
    workers = [grid.start(*TNEWS, "--worker", "--devices", "cpu:1") for _ in range(4)]
    for _ in range(kills):
        time.sleep(chance.uniform(0.5, 2.0))
        victim = chance.randrange(4)
        workers[victim].send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM]))
        workers[victim].communicate(timeout=60)
        workers[victim] = grid.start(*TNEWS, "--worker", "--devices", "cpu:1")
    said = [worker.communicate(timeout=180)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, said
    result = grid.run(*TNEWS, "--devices", "cpu:2")  # whatever a worker that was killed has left
    assert result.returncode == 0
    assert not grid.book("overlap")
    done = [words[1] for words in grid.book("done")]
    assert len(done) == len(set(done)) == 12


def test_a_worker_joins_a_grid_and_leaves_it_to_its_scheduler(grid):
    grid.behave(trials={"*": {"seconds": 1.5}})
    scheduler = grid.start(*TNEWS, "--devices", "cpu:1")
    grid.wait_for("start", 1)
    worker = grid.start(*TNEWS, "--worker", "--devices", "cpu:1")
    assert "none is left to take" in worker.communicate(timeout=120)[1] and worker.returncode == 0
    output, said = scheduler.communicate(timeout=60)
    assert scheduler.returncode == 0, said
    assert not grid.book("overlap") and len(grid.book("done")) == 12
    assert grid.state()["status"] == "done" and "on elsewhere" not in said


def test_a_worker_refuses_a_file_system_whose_locks_exclude_nobody(grid):
    grid.prelude = "import fcntl; fcntl.flock = lambda *_: None\n"
    result = grid.run(*TNEWS, "--worker")
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and grid.book("start") == []
    assert "its file system has no locks (flock excludes nobody)" in result.stderr
