"""Grids on a real Slurm: whatever ends a job, the table is the same as without an interruption, and nothing runs twice."""

import re

import pytest

from tests.conftest import ROOT
from tests.grid.conftest import KEYS, TABLE_ROW, TNEWS, alive, until
from tests.slurm.conftest import CONFIGURATIONS

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

LONG = {"*": {"seconds": 20.0, "steps": 20}}
SHORT = {"*": {"seconds": 0.2, "steps": 20}}


def check_as_undisturbed(grid, slurm, log):
    """Each trial was done once, by whomever; one process has concluded the grid; nothing is left behind."""
    assert sorted(words[1] for words in grid.book("done")) == KEYS and not grid.book("overlap")
    assert not any(alive(int(words[2])) for words in grid.book("start"))
    assert TABLE_ROW in log, log
    assert grid.state()["status"] == "done" and grid.state()["counts"]["done"] == len(KEYS)
    for named in re.findall(r"(?:report|log): (\S+?)(?:,|$)", log, re.MULTILINE):
        assert (grid.runs / named).is_file()


@pytest.mark.parametrize("cluster", CONFIGURATIONS, indirect=True)
def test_the_script_at_first_go(grid, slurm):
    """An array on cards; each task's trials have the one core that Slurm gave it, not the machine's two."""
    grid.behave(trials={"*": {"seconds": 1.0}})
    number = slurm.submit(*TNEWS, options=["--array=1-3"])
    slurm.wait_for(number, "COMPLETED")
    check_as_undisturbed(grid, slurm, "".join(slurm.logs(number)))
    assert {words[5] for words in grid.book("start")} == {"threads=1"}
    assert {words[4] for words in grid.book("start")} <= {"cuda=GPU-aaaa", "cuda=GPU-bbbb"}


def test_near_its_time_limit_a_task_queues_itself_again(grid, slurm):
    """The real limit takes half a minute to come near, so it does with one way of tracking only."""
    grid.behave(trials=LONG)
    real = slurm.name == "cgroup"
    limit = ["--time=1", "--signal=B:USR1@55"] if real else []
    number = slurm.submit(*TNEWS, options=["--array=1", *limit])
    task = f"{number}_1"
    grid.wait_for("start", 1)
    until(lambda: list(grid.runs.glob("*/tnews/*/checkpoint")), what="a checkpoint")
    if not real:
        slurm.run("scancel", "--batch", "--signal=USR1", task)
    until(lambda: slurm.job(task)["Restarts"] == "1", 60, "the queue")
    grid.behave(trials=SHORT)
    slurm.run("scontrol", "update", f"JobId={task}", "TimeLimit=10")
    slurm.wait_for_restart(task)
    slurm.wait_for(task, "COMPLETED")
    (log,) = slurm.logs(number)
    check_as_undisturbed(grid, slurm, log)
    assert "the time limit is near: the task is queued again" in log  # the log goes on
    assert len(grid.book("start")) == len(KEYS) + 1


@pytest.mark.parametrize("how", ["requeue", "node down"])
def test_a_task_that_slurm_queues_again_goes_on(grid, slurm, how):
    grid.behave(trials=LONG)
    number = slurm.submit(*TNEWS, options=["--array=1"])
    task = f"{number}_1"
    until(lambda: list(grid.runs.glob("*/tnews/*/checkpoint")), what="a checkpoint")
    node = slurm.job(task)["NodeList"]
    if how == "requeue":
        slurm.run("scontrol", "requeue", task)
    else:
        slurm.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    until(lambda: not any(alive(int(words[2])) for words in grid.book("start")), 60, "the end of the trials")
    grid.behave(trials=SHORT)
    slurm.wait_for_restart(task)
    slurm.wait_for(task, "COMPLETED")
    slurm.run("scontrol", "update", f"NodeName={node}", "State=RESUME")
    check_as_undisturbed(grid, slurm, "".join(slurm.logs(number)))
    assert len(grid.book("start")) == len(KEYS) + 1


def test_scancel_ends_the_trials_and_the_next_job_goes_on(grid, slurm):
    grid.behave(trials=LONG)
    number = slurm.submit(*TNEWS, options=["--array=1-2"])
    grid.wait_for("start", 2)
    until(lambda: len(list(grid.runs.glob("*/tnews/*/checkpoint"))) == 2, what="checkpoints")
    status = grid.run(*TNEWS, "--status").stdout
    assert re.search(
        rf"running, by workers\n0 done, 2 running \(job {number}_1 on \S+, job {number}_2 on \S+\), 2 wait", status
    )
    slurm.run("scancel", number)
    slurm.wait_for(number, "CANCELLED")
    until(lambda: not any(alive(int(words[2])) for words in grid.book("start")), 30, "the end of the trials")
    logs = "".join(slurm.logs(number))
    assert "queued again" not in logs and logs.count("stopped by SIGTERM: 0 of 4 trials are done") == 2
    grid.behave(trials=SHORT)
    again = slurm.submit(*TNEWS, options=["--array=1"])
    slurm.wait_for(again, "COMPLETED")
    check_as_undisturbed(grid, slurm, "".join(slurm.logs(again)))


def test_a_trial_that_cannot_succeed_fails_once_for_two_arrays_and_conclude_names_it(grid, slurm):
    grid.behave(trials={"*": {"seconds": 0.5}, "tnews/1e-05_16_0.1": {"attempts": [{"exit": 3}] * 9}})
    numbers = [slurm.submit(*TNEWS, options=["--array=1-2"]) for _ in range(2)]
    after = ["--array=1", f"--dependency=afterany:{':'.join(numbers)}"]
    last = slurm.submit(*TNEWS, "--conclude", options=after)
    slurm.wait_for(last, "FAILED")
    assert len(grid.book("start")) == 4 and not grid.book("overlap")
    (log,) = slurm.logs(last)
    assert "tnews/1e-05_16_0.1\t1\tdiverged" in log and (grid.runs / "some-model" / "report.html").is_file()
    assert "1 failed" in "".join(slurm.logs(numbers[0]) + slurm.logs(numbers[1]))


@pytest.mark.parametrize("cluster", ["linuxproc"], indirect=True)
def test_a_real_trial_loses_no_step_when_it_is_queued_again(cluster, demo, tmp_path):
    """The embedded model, through the fine-tuning script itself."""
    model, data = demo
    runs = tmp_path / "runs"
    one = ["--tasks", "tnews", "--learning_rates", "1e-3", "--batch_sizes", "16", "--max_steps", "600"]
    places = ["--data_dir", data, "--run_root", runs, "--cache_dir", tmp_path / "cache", "--devices", "cpu:1"]
    options = ["--parsable", "--array=1", "--gres=none", "--cpus-per-task=1", f"--chdir={tmp_path}"]
    number = cluster.run("sbatch", *options, ROOT / "grid_search_tools" / "slurm.sbatch", model, *one, *places).stdout
    task = f"{number.strip()}_1"

    def step():
        found = list(runs.glob("*/tnews/*/step.txt"))
        return int((found[0].read_text() or "0").partition("/")[0]) if found else 0

    until(lambda: step() > 20, 120, "some steps")
    cluster.run("scancel", "--batch", "--signal=USR1", task)
    before = step()
    cluster.wait_for_restart(task)
    cluster.wait_for(task, "COMPLETED", 240)
    (log,) = (path.read_text() for path in runs.glob("*/tnews/*.log") if "attempt" not in path.name)
    (first,) = (path.read_text() for path in runs.glob("*/tnews/*.attempt1.log"))
    saved = int(re.search(r"asked to end: the checkpoint after step (\d+) is written", first)[1])
    assert before <= saved < 600 and f"going on from the checkpoint after step {saved}/600" in log
