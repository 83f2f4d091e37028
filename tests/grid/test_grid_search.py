"""The whole scheduler on real processes of stand-in scripts, which fail, hang and are killed for real."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from cluebench.benchmark.tasks import Setting
from cluebench.foundation import repository
from cluebench.pretrained.model import Model
from cluebench.records.paths import TrialPaths
from cluebench.records.result import Result
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.jobs import Attempt, Job
from cluebench.scheduler.processes.engine import Engine, Events, StartOrder, is_ours, orphan_of
from cluebench.scheduler.processes.launch import TRIAL_VARIABLE, marked, start_time
from tests.grid.conftest import KEYS, TABLE_ROW, TNEWS, alive, until

pytestmark = pytest.mark.slow

COMMAND = "grid_search_tools/grid_search.py"
ONE = ("--tasks", "tnews", "--learning_rates", "3e-5", "--batch_sizes", "32")


def test_a_grid_ends_in_its_table_and_runs_nothing_twice(grid):
    first = grid.run(*TNEWS, "--devices", "cpu:2")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[1] == TABLE_ROW
    assert sorted(words[1] for words in grid.book("done")) == KEYS
    folder = grid.runs / "some-model"
    for name in ("grid.json", "grid.log", "report.html", "tnews/3e-05_32_0.1.log", "tnews/3e-05_32_0.1.json"):
        assert (folder / name).is_file()
    assert not (folder / "tnews" / "3e-05_32_0.1").exists()  # no model was to be kept
    assert grid.state()["status"] == "done" and grid.state()["counts"]["done"] == 4
    assert not re.search("nothing is started|falls silent|left to it", (folder / "grid.log").read_text())
    warmups = (grid.data / "warmup.txt").read_text().splitlines()
    second = grid.run(*TNEWS, "--devices", "cpu:2")
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert len(grid.book("start")) == 4  # nothing ran again,
    assert (grid.data / "warmup.txt").read_text().splitlines() == warmups  # nor was anything warmed up
    assert json.loads(warmups[0])[:3] == ["some-model", "--tasks", "tnews"]


def test_both_slots_work_and_the_cores_are_shared(grid):
    grid.environment.pop("OMP_NUM_THREADS", None)
    grid.behave(trials={"*": {"gate": "go"}})
    scheduler = grid.start(*TNEWS, "--devices", "cpu:2")
    grid.wait_for("start", 2)  # two at once,
    grid.open_gate()
    scheduler.communicate(timeout=60)
    starts = sorted(float(words[3]) for words in grid.book("start"))
    dones = sorted(float(words[3]) for words in grid.book("done"))
    assert len(starts) == 4 and starts[2] > dones[0]  # not three
    assert {words[4] for words in grid.book("start")} == {"cuda="}
    assert {words[5] for words in grid.book("start")} == {f"threads={max(1, len(os.sched_getaffinity(0)) // 2)}"}


def test_changed_settings_and_data_are_other_trials(grid):
    one = (*ONE, "--devices", "cpu:1")
    over = "1 finished trial of other settings (such as some-model/tnews/3e-05_32_0.1) will be written over"
    assert over not in grid.run(*one, "--dry_run").stderr
    for number, arguments in enumerate((one, (*one, "--num_train_epochs", "2"), (*one, "--limit", "5"), one)):
        result = grid.run(*arguments)
        assert result.returncode == 0 and (over in result.stderr) == (number > 0), result.stderr
    assert over in grid.run(*one, "--limit", "5", "--dry_run").stderr and over not in grid.run(*one).stderr
    assert len(grid.book("done")) == 4  # each overwrote the one before
    (grid.data / "tnews_public" / "dev.json").write_text('{"a": 1}\n')
    grid.run(*one)
    assert len(grid.book("done")) == 5
    (grid.runs / "some-model" / "tnews" / "3e-05_32_0.1.json").write_text('{"status": "done"')
    grid.run(*one)
    assert len(grid.book("done")) == 6  # a result that is not whole does not count
    grid.run(*one, "--seeds", "42,43")
    assert len(grid.book("done")) == 7 and grid.book("done")[-1][1] == "tnews/3e-05_32_0.1_seed43"


def test_best_settings_are_confirmed_with_more_seeds(grid):
    confirmed = (*TNEWS, "--devices", "cpu:2", "--confirm_seeds", "3", "--top_k", "2")
    plan = grid.run(*confirmed, "--dry_run").stdout.splitlines()
    assert plan[0] == "4 trials of 1 model: 0 done, 4 to run"
    assert plan[1] == "4 more with further seeds, of the best settings of each task once its grid is done"
    result = grid.run(*confirmed)
    assert result.returncode == 0, result.stderr
    # by the stand-in's rule the larger learning rate is better, and a seed adds 0.01
    more = [f"{setting}_seed{seed}" for setting in KEYS[2:] for seed in (43, 44)]
    assert sorted(words[1] for words in grid.book("done")) == sorted([*KEYS, *more])
    assert result.stdout.splitlines()[1].split("\t")[1] == "74.96, 74.95±0.01 (3)"
    assert grid.state()["counts"]["done"] == 8 and grid.state()["status"] == "done"
    assert "some-model/tnews/3e-05_32_0.1_seed44\tdone\t74.96" in grid.run(*confirmed, "--dry_run", "--list").stdout
    assert grid.run(*confirmed).stdout == result.stdout and len(grid.book("start")) == 8


def test_failures_are_retried_listed_and_do_not_stop_the_grid(grid):
    crash = {"log": "Traceback (most recent call last):\nValueError: the middle of nowhere", "exit": 1}
    memory = {"log": "ResourceExhaustedError: Out of memory error on GPU 0", "exit": 1}
    attempts = [[crash] * 3, [{"signal": 9}], [memory], [{"log": "error: no label 199", "exit": 2}]]
    grid.behave(trials={key: {"attempts": its} for key, its in zip(KEYS, attempts)})
    result = grid.run(*TNEWS, "--devices", "cpu:2")
    assert result.returncode == 1
    state = {f"tnews/{trial['name']}": trial for trial in grid.state()["trials"]}
    kinds = {key: [failure["kind"] for failure in trial["failures"]] for key, trial in state.items()}
    assert [kinds[key] for key in KEYS] == [["crashed"] * 3, ["killed"], ["out of memory"], ["bad setting"]]
    assert [state[key]["state"] for key in KEYS] == ["failed", "done", "done", "failed"]
    # the table of failures, and the end of the logs
    assert "some-model/tnews/1e-05_16_0.1\t3\tcrashed\tValueError: the middle of nowhere" in result.stdout
    assert "some-model/tnews/3e-05_32_0.1\t1\tbad setting\terror: no label 199" in result.stdout
    assert "    ValueError: the middle of nowhere" in result.stdout
    # each attempt has kept its log
    folder = grid.runs / "some-model" / "tnews"
    names = sorted(path.name for path in folder.glob("1e-05_16_0.1*.log"))
    assert names == ["1e-05_16_0.1.attempt1.log", "1e-05_16_0.1.attempt2.log", "1e-05_16_0.1.log"]
    # memory ran out: the same batch, twice the accumulation, recorded in the result
    assert Result.read(folder / "3e-05_16_0.1.json").accumulation_steps == 2
    assert [words[-1] for words in grid.book("start") if words[1] == KEYS[2]] == ["accumulation=1", "accumulation=2"]
    # started again, what failed is tried again, and only that
    again = grid.run(*TNEWS, "--devices", "cpu:2")
    assert (again.returncode, again.stdout.splitlines()[1]) == (0, TABLE_ROW)
    assert len(grid.book("done")) == 4


def test_a_hanging_trial_is_ended_after_the_timeout(grid):
    grid.behave(trials={"*": {"attempts": [{"hang": True}]}})
    result = grid.run(*ONE, "--trial_timeout", "1.5")
    assert result.returncode == 0
    assert grid.state()["trials"][0]["failures"][0]["kind"] == "no progress"


def test_workers_in_other_sessions_are_ended_with_their_trial(grid):
    grid.behave(trials={"*": {"attempts": [{"child": True, "exit": 1}]}})
    assert grid.run(*ONE).returncode == 0
    (worker,) = grid.book("worker")
    assert not alive(int(worker[1]))


def test_failed_warm_up_stops_before_any_trial(grid):
    (grid.data / "no-warmup").touch()
    result = grid.run(*TNEWS)
    assert result.returncode == 5
    assert "error: no network" in result.stderr and "so no trial was started" in result.stderr.splitlines()[-1]
    assert grid.book("start") == []


# Interruption ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])  # SIGINT: see the tests of halving
def test_interruption_ends_the_children_and_the_next_start_goes_on(grid, number):
    grid.behave(trials={"*": {"gate": "never", "steps": 30}})
    scheduler = grid.start(*TNEWS, "--devices", "cpu:2")
    grid.wait_for("start", 2)
    until(lambda: len(list(grid.runs.glob("*/tnews/*/checkpoint"))) == 2, what="their checkpoints")
    scheduler.send_signal(number)
    output, reported = scheduler.communicate(timeout=20)
    assert scheduler.returncode == 130
    assert "the same command goes on" in reported and TABLE_ROW.replace("74.94", "-") in output
    assert not any(alive(int(words[2])) for words in grid.book("start"))
    assert grid.state()["status"] == "stopped" and grid.state()["counts"]["waiting"] == 4
    grid.behave(trials={"*": {"seconds": 0.1, "steps": 30}})
    result = grid.run(*TNEWS, "--devices", "cpu:2")
    assert (result.returncode, result.stdout.splitlines()[1]) == (0, TABLE_ROW)
    logs = (grid.runs / "some-model" / "tnews").glob("?e-05_??_0.1.log")
    begun = [int(re.search(r"from step (\d+)", path.read_text())[1]) for path in logs]
    assert sum(step > 0 for step in begun) == 2  # the two that had been interrupted went on where they were
    assert not grid.book("overlap")


def test_status_and_a_second_scheduler_say_who_runs_the_grid(grid):
    """With the time left, from the first log line on."""
    grid.behave(trials={"*": {"seconds": 40.0, "steps": 80}})
    scheduler = grid.start(*TNEWS, "--devices", "cpu:1")
    grid.wait_for("start")
    until(lambda: "time left about" in grid.run(*TNEWS, "--status").stdout, 30)
    status = grid.run(*TNEWS, "--status").stdout
    assert f"running: process {scheduler.pid} on " in status
    assert re.search(r"^0 done, 1 running, 3 waiting, 0 failed; time left about \d+ (s|min)$", status, re.M)
    assert re.search(r"running\ttnews/\S+\tstep \S+\tlast dev \S+\ton cpu 0", status)
    second = grid.run(*TNEWS, "--devices", "cpu:1")
    assert second.returncode == 1 and second.stderr.count("\n") == 1
    assert f"is in use by another grid search: process {scheduler.pid} on " in second.stderr
    scheduler.send_signal(signal.SIGINT)
    scheduler.communicate(timeout=20)
    stopped = grid.run(*TNEWS, "--status").stdout
    assert "not running, stopped" in stopped and "time left" not in stopped


def test_orphans_are_adopted_not_run_again(grid):
    grid.behave(trials={"*": {"gate": "go"}})
    scheduler = grid.start(*TNEWS, "--devices", "cpu:2")
    grid.wait_for("start", 2)
    scheduler.kill()
    scheduler.communicate()
    orphans = {int(words[2]) for words in grid.book("start")}
    assert all(alive(pid) for pid in orphans)
    assert "ended in the middle" in grid.run(*TNEWS, "--status").stdout
    again = grid.start(*TNEWS, "--devices", "cpu:2")
    grid.wait_for_note(": adopted", 2)
    grid.open_gate()
    output, reported = again.communicate(timeout=60)
    assert (again.returncode, output.splitlines()[1]) == (0, TABLE_ROW)
    assert reported.count(": adopted\n") == 2
    assert len(grid.book("start")) == len(grid.book("done")) == 4
    assert orphans <= {int(words[2]) for words in grid.book("done")}


def test_orphans_that_are_not_wanted_any_more_are_ended(grid):
    grid.behave(trials={"*": {"gate": "never"}})
    scheduler = grid.start("--tasks", "tnews,afqmc", *ONE[2:], "--devices", "cpu:2")
    grid.wait_for("start", 2)
    scheduler.kill()
    scheduler.communicate()
    grid.behave(trials={"*": {"seconds": 0.1}})
    # afqmc is not in this plan, and tnews with other epochs is another trial
    result = grid.run(*ONE, "--num_train_epochs", "1", "--devices", "cpu:2")
    assert result.returncode == 0, result.stderr
    assert not any(alive(int(words[2])) for words in grid.book("start"))
    assert [words[1] for words in grid.book("done")] == ["tnews/3e-05_32_0.1"]
    assert not grid.book("overlap")


# Events ---------------------------------------------------------------------------------------------------------------


def test_a_look_for_events_never_waits_longer_than_it_may():
    """On Python 3.10 a grid could hang when its loop looked for another event, as SimpleQueue ignored the limit."""
    events, begin = Events(), time.monotonic()
    for number in range(20_000):
        events.put(number)
        assert [events.get(0.0), events.get(0.0), events.get(-1.0)] == [number, None, None]
    assert events.get(0.05) is None and time.monotonic() - begin < 30


def test_events_of_threads_and_signal_handlers_are_all_heard():
    events, sent = Events(), 2_000
    before = signal.signal(signal.SIGALRM, lambda *_: events.put("signal"))
    threads = [threading.Thread(target=lambda: [events.put("thread") for _ in range(sent)]) for _ in range(2)]
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for thread in threads:
            thread.start()
        heard = [events.get(float("inf")) for _ in range(2 * sent + 20)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    heard += iter(lambda: events.get(0.0), None)
    assert heard.count("thread") == 2 * sent and heard.count("signal") >= 20


# The launch -----------------------------------------------------------------------------------------------------------


def launch_of(tmp_path, command):
    trial, paths = Trial(Model.of("m"), "tnews", Setting(3e-5, 32, 0.1)), TrialPaths(tmp_path / "tnews", "t")
    job = Job(trial, 0, paths, tmp_path / "private" / "t.lock", "h", attempts=[Attempt(started=0.0)])
    return job, StartOrder(command, {}, tmp_path)


def run_launch(launch):
    events = Events()
    engine = Engine([], None, events)
    assert engine.take(launch[0])
    engine.start(*launch)
    code = events.get(timeout=60).code
    engine.release(launch[0])
    return [code]


def test_of_two_launches_of_a_trial_one_runs(tmp_path):
    mark, go = tmp_path / "marks", tmp_path / "go"
    waits = f"while not os.path.exists({str(go)!r}): time.sleep(0.02)"
    code = f"import os, time\nopen({str(mark)!r}, 'a').write('x')\n{waits}"
    (job, order), events = launch_of(tmp_path, [sys.executable, "-c", code]), Events()
    first, *others = (Engine([], None, events) for _ in range(4))
    assert first.take(job) and not any(other.take(job) for other in others)
    first.start(job, order)
    until(mark.exists, what="the trial")
    assert not any(other.take(job) for other in others)
    go.touch()
    assert events.get(timeout=60).code == 0 and mark.read_text() == "x"
    assert not others[0].take(job)  # until it is written down how it ended
    first.release(job)
    assert others[0].take(job)


def test_workers_that_outlived_a_dead_scheduler_are_ended_before_the_trial_starts_again(tmp_path):
    launch = launch_of(tmp_path, [sys.executable, "-c", "pass"])
    environment = {**os.environ, TRIAL_VARIABLE: f"{launch[0].lock}#an-attempt-long-gone"}
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    worker = subprocess.Popen(sleeper, env=environment, start_new_session=True)
    stranger = subprocess.Popen(sleeper, env={**environment, TRIAL_VARIABLE: f"{launch[0].lock}x#another-trial"})
    assert run_launch(launch) == [0]
    assert worker.wait(timeout=5) == -signal.SIGKILL and stranger.poll() is None
    assert marked("") == [] and stranger.pid in marked(f"{launch[0].lock}x#")
    stranger.kill()
    stranger.wait()


def test_command_that_is_not_there_is_a_bad_setting(tmp_path):
    launch = launch_of(tmp_path, ["/nonexistent/python"])
    assert run_launch(launch) == [2]
    assert "No such file" in launch[0].paths.log.read_text()


def test_orphan_is_known_by_its_lock_and_start(tmp_path):
    launch = launch_of(tmp_path, [sys.executable, "-c", "import time; time.sleep(60)"])
    job = launch[0]
    assert orphan_of(job.lock) is None
    # Started by a scheduler that ends: its trial is nobody's child.
    code = "import pickle, sys; from cluebench.scheduler.processes.engine import Engine\n"
    code += "(job, order), engine = pickle.load(sys.stdin.buffer), Engine([], None, None)\n"
    code += "engine.take(job), engine.start(job, order)"
    subprocess.run([sys.executable, "-c", code], input=pickle.dumps(launch), check=True)
    until(lambda: (orphan := orphan_of(job.lock)) and orphan.pid, what="the record")
    orphan = orphan_of(job.lock)
    assert is_ours(orphan) and orphan.start_time == start_time(orphan.pid)
    assert orphan.configuration_hash == "h"
    events = Events()
    other = Engine([], None, events)
    job.attempts = [orphan]
    other.adopt(job)
    other.stop(job)
    assert events.get(timeout=20).code is None and not alive(orphan.pid)
    assert orphan_of(job.lock) is None


def test_full_disk_at_the_start_is_reported(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    launch = launch_of(tmp_path, [sys.executable, "-c", "pass"])
    launch[0].lock.parent.mkdir()
    launch[0].lock.symlink_to("/dev/full")
    assert run_launch(launch) == [6]


# Flags ----------------------------------------------------------------------------------------------------------------


def test_dry_run_prints_the_plan_and_touches_nothing(grid):
    def plan(*arguments):  # others write to the disk meanwhile
        return re.sub("; .* are free", "", grid.run("--dry_run", *arguments).stdout).splitlines()

    lines = plan()
    assert lines[0] == "134 trials of 1 model: 0 done, 134 to run" and len(lines) == 15
    assert lines[6] == "CLUEWSC2020    32 trials    0 done   32 to run, device hours unknown until its first trial ends"
    assert [line.split(":")[0] for line in lines[11:14]] == ["time", "disk", "evaluations"]
    assert lines[14].startswith("--list")
    listed = plan("--list")
    assert listed[:14] == lines[:14] and listed[14] == "some-model/afqmc/1e-05_16_0.1\tto run\t-" and len(listed) == 148
    assert not grid.runs.exists() and not (grid.data / "warmup.txt").exists()
    mistyped = grid.run("--dry_run", model="ernie-3.0-bas-zh").stderr
    assert "ernie-3.0-bas-zh is not a published model: did you mean ernie-3.0-base-zh" in mistyped
    finished = grid.run(*TNEWS)
    place = grid.runs / "some-model"
    assert f"report: {place / 'report.html'}, log: {place / 'grid.log'}\n" in finished.stderr
    again = grid.run(*TNEWS, "--dry_run", "--list")
    assert "some-model/tnews/3e-05_32_0.1\tdone\t74.94" in again.stdout and again.stderr == ""
    assert again.stdout.splitlines()[1] == "TNEWS           4 trials    4 done    0 to run"


def test_a_plan_is_timed_when_asked_and_leaves_nothing(grid):
    timed = grid.run(*TNEWS, "--devices", "cpu:1", "--dry_run", "--time_it")
    assert timed.returncode == 0 and "estimated by 20 steps and an evaluation: TNEWS" in timed.stdout
    assert "4 to run, about " in timed.stdout and len(grid.book("start")) == 1 and not grid.runs.exists()
    grid.behave(trials={"*": {"attempts": [{"exit": 2, "log": "ValueError: a bad day"}] * 3}})
    failing = grid.run(*TNEWS, "--devices", "cpu:1", "--dry_run", "--time_it")
    assert "--time_it: TNEWS does not run: ValueError: a bad day" in failing.stderr
    assert "device hours unknown" in failing.stdout
    assert grid.run(*TNEWS, "--time_it").returncode == 2


@pytest.mark.parametrize(
    "arguments, reported",
    [
        (["--tasks", "sst2"], "--tasks: unknown task 'sst2'"),
        (["--learning_rates", "fast"], "--learning_rates 'fast' is not a number"),
        (["--learning_rates", "0"], "--learning_rates 0: must be more than 0"),
        (["--batch_sizes", "0"], "--batch_sizes 0: must be at least 1"),
        (["--batch_sizes", "15", "--tasks", "csl"], "--batch_sizes: CSL: batch size 15"),
        (["--dropouts", "1.5"], "--dropouts 1.5: must be at most 0.99"),
        (["--devices", "tpu"], "--devices tpu: choose auto"),
        (["--devices", "gpu:0"], "--devices gpu:0: "),
        (["--max_attempts", "0"], "--max_attempts 0: must be at least 1"),
        (["--trial_timeout", "-1"], "--trial_timeout -1: must be at least 0"),
        (["--amp", "fp8"], "--amp fp8: choose from off, fp16, bf16"),
        (["--confirm_seeds", "3", "--seeds", "1,2"], "--confirm_seeds adds seeds after --seeds"),
        (["--keep_all_models"], "--keep_all_models needs --save_best_model True"),
        (["--best_only", "--dropouts", "0.1"], "--best_only takes no"),
        (["--best_only"], "--best_only: some-model has no published settings"),
        (["--ray_address", "auto"], "--ray_address needs --engine ray"),
        (["--demo"], "--demo brings its own model and data"),
        (["--mrc_cards", "2", "--devices", "cpu:2"], "--mrc_cards 2: the grid has 0 card(s)"),
        (["--no_such_flag"], "unrecognized arguments: --no_such_flag"),
        (["--data_dir", "/nonexistent"], "/nonexistent is not a directory"),
        (["--amp", "fp16", "--devices", "cpu"], "--amp fp16: Paddle has no float16 training on CPUs; use --amp off"),
        (["--engine", "ray", "--devices", "auto"], "--engine ray: Ray is not installed; pip install -e '.[ray]'"),
        (["--keep", "2"], "--keep and --rungs need --search halving"),
        (["--rungs", "1/4"], "--keep and --rungs need --search halving"),
        (["--search", "halving", "--rungs", "1/2,1/4"], "--rungs 1/2,1/4: rising shares of the steps, below 1"),
        (["--search", "halving", "--rungs", "1"], "--rungs 1: rising shares of the steps, below 1"),
        (["--search", "halving", "--rungs", "1/0"], "--rungs '1/0' is not a number or a fraction such as 1/4"),
        (["--search", "halving", "--keep", "1"], "--keep 1: must be at least 2"),
        (["--search", "asha"], "--search asha: choose from grid, halving"),
    ],
)
def test_wrong_values_are_one_line_and_code_2(arguments, reported, grid, run_command, monkeypatch):
    """Before the warm-up, also what would only fail in every single trial."""
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(repository, "ROOT", grid.repository)
    monkeypatch.delenv("CLUE_DATA_DIR", raising=False)
    ended = run_command(COMMAND, "some-model", "--data_dir", grid.data, "--run_root", grid.runs, *arguments)
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert reported in ended.err and "Traceback" not in ended.err
    assert grid.book("start") == [] and not (grid.data / "warmup.txt").exists()


def test_directory_of_another_model_is_refused(grid, tmp_path):
    for parent, layers in (("a", 2), ("b", 3)):
        folder = tmp_path / parent / "bert"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(f'{{"num_hidden_layers": {layers}}}')
    assert grid.run(*ONE, model=str(tmp_path / "a" / "bert")).returncode == 0
    refused = grid.run(*ONE, model=str(tmp_path / "b" / "bert"))
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "has runs of" in refused.stderr and "rename one of the two" in refused.stderr
    # the same model, moved: its trials are done
    os.rename(tmp_path / "a", tmp_path / "c")
    assert "all 1 trials are done" in grid.run(*ONE, model=str(tmp_path / "c" / "bert")).stderr


def test_a_grid_that_kept_no_model_runs_only_the_best_trial_of_each_task_again(grid):
    first = grid.run(*TNEWS, "--devices", "cpu:2")
    assert "no model is kept; --save_best_model True keeps each task's best" in first.stderr
    keeping = (*TNEWS, "--save_best_model", "True", "--devices", "cpu:2")
    plan = grid.run(*keeping, "--dry_run")
    assert plan.stdout.splitlines()[0] == "4 trials of 1 model: 3 done, 1 to run"
    assert "1 best trials (such as some-model/tnews/3e-05_32_0.1) run again" in plan.stderr
    assert "written over" not in plan.stderr
    again = grid.run(*keeping)
    assert again.returncode == 0 and len(grid.book("start")) == 5 and again.stdout == first.stdout
    folder = grid.runs / "some-model" / "tnews"
    assert (folder / "3e-05_32_0.1" / "model.safetensors").is_file()
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["3e-05_32_0.1"]
    assert "already" in grid.run(*keeping).stderr and len(grid.book("start")) == 5


def test_several_models_in_one_grid(grid):
    command = grid.command(*ONE, "--devices", "cpu:2")
    command.insert(command.index("some-model"), "hfl/rbt3")
    result = subprocess.run(command, env=grid.environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    assert sorted(path.name for path in grid.runs.iterdir()) == ["hfl--rbt3", "some-model"]
    assert result.stdout.count("74.94") == 4 and "hfl/rbt3:\n" in result.stdout
