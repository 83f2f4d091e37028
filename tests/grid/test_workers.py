"""--worker: several processes on one run root, which come, go and are killed."""

import random
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.grid.conftest import TNEWS as FOUR
from tests.grid.conftest import alive, until

pytestmark = pytest.mark.slow

TNEWS = ("--tasks", "tnews", "--learning_rates", "1e-5,2e-5,3e-5,5e-5", "--batch_sizes", "16,32,64")


def test_four_workers_share_a_run_root_whoever_is_killed(grid):
    """As the tasks of an sbatch array are, killed and requeued."""
    grid.behave(trials={"*": {"seconds": 2.0, "steps": 4}})
    chance = random.Random(5)
    workers = [grid.start(*TNEWS, "--worker", "--devices", "cpu:1") for _ in range(4)]
    for _ in range(6):
        time.sleep(chance.uniform(0.5, 2.0))
        victim = chance.randrange(4)
        workers[victim].send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM]))
        workers[victim].communicate(timeout=60)
        workers[victim] = grid.start(*TNEWS, "--worker", "--devices", "cpu:1")
    reported = [worker.communicate(timeout=180)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, reported
    result = grid.run(*TNEWS, "--devices", "cpu:2")  # whatever a worker that was killed has left
    assert result.returncode == 0
    assert not grid.book("overlap")
    done = [words[1] for words in grid.book("done")]
    assert len(done) == len(set(done)) == 12


def test_a_worker_joins_a_grid_and_leaves_it_to_its_scheduler(grid):
    grid.behave(trials={"*": {"gate": "go"}})
    scheduler = grid.start(*FOUR, "--devices", "cpu:1")
    grid.wait_for("start", 1)
    worker = grid.start(*FOUR, "--worker", "--devices", "cpu:1")
    grid.wait_for("start", 2)
    grid.open_gate()
    assert "none is left to take" in worker.communicate(timeout=120)[1] and worker.returncode == 0
    output, reported = scheduler.communicate(timeout=60)
    assert scheduler.returncode == 0, reported
    assert not grid.book("overlap") and len(grid.book("done")) == 4
    assert grid.state()["status"] == "done" and "on elsewhere" not in reported


def test_workers_alone_conclude_the_grid_and_keep_its_best_model_only(grid):
    """No scheduler ever runs; the plain command afterwards names no file that isn't there."""
    grid.behave(trials={"*": {"seconds": 0.5}})
    kept = ("--save_best_model", "True")
    workers = [grid.start(*FOUR, *kept, "--worker", "--devices", "cpu:1") for _ in range(2)]
    reported = [worker.communicate(timeout=180) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], reported
    folder = grid.runs / "some-model"
    assert sum("TNEWS\t" in output for output, _ in reported) == 1, "one concludes it"
    assert (folder / "report.html").is_file()
    assert grid.state()["status"] == "done" and grid.state()["counts"]["done"] == 4
    assert [path.name for path in (folder / "tnews").iterdir() if path.is_dir()] == ["3e-05_32_0.1"]
    kept_models = [grid.result(f"tnews/{name}")["best_model"] for name in ("1e-05_32_0.1", "3e-05_32_0.1")]
    assert kept_models == [None, str(folder / "tnews" / "3e-05_32_0.1")]
    (folder / "report.html").unlink()
    again = grid.run(*FOUR, *kept)
    assert again.returncode == 0 and "all 4 trials are done already" in again.stderr
    named = re.findall(r"(?:report|log): ([^,\n]+)", again.stderr)
    assert named and all(Path(path).is_file() for path in named)
    assert grid.run(*FOUR, *kept, "--conclude").stdout == again.stdout


def test_conclude_says_what_is_not_done(grid):
    result = grid.run(*TNEWS, "--conclude")
    assert result.returncode == 1 and "12 of 12 trials are not done" in result.stderr and not grid.book("start")


def test_a_trial_that_cannot_succeed_fails_once_for_all_workers(grid):
    """One that crashes is tried as often as --max_attempts says, by all of them together; people may try again."""
    grid.behave(trials={"*": {"seconds": 0.3}, "tnews/1e-05_16_0.1": {"attempts": [{"exit": 3}] * 9},
                        "tnews/1e-05_32_0.1": {"attempts": [{"exit": 1}] * 9}})  # fmt: skip
    plan = (*TNEWS[:2], "--learning_rates", "1e-5", "--batch_sizes", "16,32,64", "--max_attempts", "2")
    workers = [grid.start(*plan, "--worker", "--devices", "cpu:1") for _ in range(3)]
    reported = [worker.communicate(timeout=180) for worker in workers]
    assert [worker.returncode for worker in workers] == [1, 1, 1], reported
    starts = Counter(words[1] for words in grid.book("start"))
    assert starts == {"tnews/1e-05_16_0.1": 1, "tnews/1e-05_32_0.1": 2, "tnews/1e-05_64_0.1": 1}
    assert all(" failed" in err for _, err in reported) and any("2 failed" in err for _, err in reported)
    assert any("some-model/tnews/1e-05_16_0.1\t" in out for out, _ in reported)
    assert "1 done, 0 running, 0 waiting, 2 failed" in grid.run(*plan, "--status").stdout
    grid.behave(trials={"*": {"seconds": 0.3}})
    assert grid.run(*plan).returncode == 0


def test_a_worker_with_other_settings_is_refused_while_others_run(grid):
    grid.behave(trials={"*": {"gate": "go"}})
    first = grid.start(*FOUR, "--worker", "--devices", "cpu:1", "--max_steps", "100")
    grid.wait_for("start", 1)
    for more in (("--worker",), ()):
        refused = grid.run(*FOUR, *more, "--devices", "cpu:1", "--max_steps", "200")
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1
        assert "runs TNEWS there with other settings (max_steps 100 there, 200 here)" in refused.stderr
    grid.open_gate()
    assert first.wait(timeout=120) == 0
    assert grid.run(*FOUR, "--worker", "--devices", "cpu:2", "--max_steps", "200").returncode == 0  # alone by now


def test_the_trials_of_a_worker_that_is_killed_end_with_it(grid):
    grid.behave(trials={"*": {"seconds": 60.0, "steps": 60}})
    worker = grid.start(*TNEWS, "--worker", "--devices", "cpu:2")
    grid.wait_for("start", 2)
    until(lambda: len(list(grid.runs.glob("*/tnews/*/checkpoint"))) == 2, what="checkpoints")
    worker.kill()
    worker.communicate()
    until(lambda: not any(alive(int(words[2])) for words in grid.book("start")), 60, "the end of the trials")


def test_workers_search_by_halving_together(grid, tmp_path):
    halving = ("--search", "halving", "--rungs", "1/4,1/2")
    grid.behave(trials={"*": {"seconds": 0.5, "steps": 8}})
    workers = [grid.start(*TNEWS, *halving, "--worker", "--devices", "cpu:1") for _ in range(3)]
    reported = [worker.communicate(timeout=240) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], reported
    one = type(grid)(tmp_path / "one")
    one.behave(trials={"*": {"seconds": 0.1, "steps": 8}})
    alone = one.run(*TNEWS, *halving, timeout=120)
    assert next(out for out, _ in reported if out) == alone.stdout and not grid.book("overlap")
    assert grid.state()["counts"] == one.state()["counts"] and grid.state()["counts"]["stopped"] > 0


def test_a_worker_refuses_a_file_system_whose_locks_exclude_nobody(grid):
    grid.prelude = "import fcntl; fcntl.flock = lambda *_: None\n"
    result = grid.run(*TNEWS, "--worker")
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and grid.book("start") == []
    assert "its file system has no locks (locks do not work: flock excludes nobody;" in result.stderr
