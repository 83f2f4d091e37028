"""An hour in which a disk, a driver, a neighbour or a terminal misbehaves: real processes and the stand-in driver."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from cluebench.scheduler.allocation.promises import Promises
from cluebench.scheduler.processes.launch import start_time
from tests.conftest import ROOT
from tests.grid.conftest import TNEWS
from tests.simulated import Run, trials

# A full disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_holds_the_grid_and_costs_nothing(grid):
    grid.prelude = "from cluebench.scheduler.loop import attempt_ends; attempt_ends._HOLD_RECHECK = 0.5\n"
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
    output, reported = scheduler.communicate(timeout=120)
    assert scheduler.returncode == 0, reported
    assert "can't be written: No space left on device; checked again" in reported and "going on" in reported
    assert all(trial["state"] == "done" for trial in grid.state()["trials"])


# Cards, and a driver in trouble ---------------------------------------------------------------------------------------

TWO = "card GPU-aaaa Test-24G 24576 24000 ok\ncard GPU-bbbb Test-24G 24576 24000 ok\n"
HURRY = "from cluebench.scheduler.loop import attempt_ends; attempt_ends._HEALTH_CHECK = 0.3\nattempt_ends._ANSWER_DUE = 0.6\n"
PAIR = ("--tasks", "tnews", "--learning_rates", "1e-5", "--batch_sizes", "16,32", "--max_attempts", "1")


@pytest.mark.slow
def test_children_get_the_uuid_of_their_card(grid, cards):
    cards(TWO)
    grid.behave(trials={"*": {"seconds": 0.3}})
    result = grid.run(*TNEWS)
    assert result.returncode == 0, result.stderr
    assert sorted({words[4] for words in grid.book("start")}) == ["cuda=GPU-aaaa", "cuda=GPU-bbbb"]
    assert len(grid.book("start")) == 4 and "on gpu 0 (Test-24G), gpu 1 (Test-24G)" in result.stderr
    assert "set aside" not in result.stderr and "does not answer" not in result.stderr


@pytest.mark.slow
def test_a_card_lost_under_its_trial(grid, cards):
    grid.prelude = HURRY
    cards(TWO)
    grid.behave(trials={"tnews/1e-05_16_0.1": {"seconds": 60.0}, "tnews/1e-05_32_0.1": {"seconds": 0.1}})
    scheduler = grid.start(*PAIR)
    grid.wait_for("start", 2)
    grid.wait_for("done", 1)
    victim = next(words[4].removeprefix("cuda=") for words in grid.book("start") if "16_0.1" in words[1])
    grid.behave(trials={"*": {"seconds": 0.1}})
    cards(TWO.replace(f"{victim} Test-24G 24576 24000 ok", f"{victim} Test-24G 24576 24000 lost"))
    _, reported = scheduler.communicate(timeout=60)
    assert scheduler.returncode == 0, reported
    assert "is set aside for 30 s: GPU is lost" in reported
    assert [failure["kind"] for failure in grid.trial_state("tnews/1e-05_16_0.1")["failures"]] == ["lost device"]
    assert grid.book("start")[-1][4] != f"cuda={victim}"


@pytest.mark.slow
def test_reading_tasks_run_on_their_published_cards_through_the_launcher(grid, cards):
    cards("".join(f"card GPU-{letter} Test-32G 32768 32000 ok\n" for letter in "abcd"))
    one = ("--tasks", "c3,cmrc2018", "--learning_rates", "2e-5", "--batch_sizes", "24")
    assert grid.run(*one).returncode == 0
    cuda = {words[1]: (words[4], words[6]) for words in grid.book("start")}
    assert cuda["c3/2e-05_24_0.1"] == ("cuda=GPU-a,GPU-b,GPU-c,GPU-d", "accumulation=3")
    assert len(cuda["cmrc2018/2e-05_24_0.1"][0].split(",")) == 2
    attempt = grid.trial_state("c3/2e-05_24_0.1")["attempts"][0]
    assert (attempt["cards"], attempt["accumulation"]) == (4, 3)
    # on one card it is the same trial: nothing runs again
    assert "all 2 trials are done" in grid.run(*one, "--mrc_cards", "1").stderr


@pytest.mark.slow
def test_a_driver_that_hangs_about_one_card_ends_no_healthy_trial(grid, cards):
    cards(TWO)
    grid.prelude = HURRY
    grid.behave(trials={"*": {"gate": "go"}})
    scheduler = grid.start(*PAIR)
    grid.wait_for("start", 2)
    cards(TWO.replace("GPU-bbbb Test-24G 24576 24000 ok", "GPU-bbbb Test-24G 24576 24000 hang"))
    grid.wait_for_note("gpu 1: the driver does not answer; nothing is started there until it does")
    grid.open_gate()
    _, reported = scheduler.communicate(timeout=60)
    assert scheduler.returncode == 0 and "gpu 0" not in reported.partition("does not answer")[2], reported
    assert len(grid.book("start")) == len(grid.book("done")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("interrupt", [False, True])
def test_a_driver_that_hangs_at_the_start_is_reported_and_obeys(grid, cards, interrupt, tmp_path):
    cards(TWO.replace("ok", "hang"))
    asked = tmp_path / "asked"
    grid.prelude = f"""from pathlib import Path
from cluebench.machine import nvidia
nvidia.DISCOVERY_SECONDS = {30 if interrupt else 1}
ask = nvidia.NvidiaDriver.open
nvidia.NvidiaDriver.open = lambda: (Path({str(asked)!r}).touch(), ask())[1]
"""
    scheduler = grid.start(*PAIR)
    if interrupt:
        while not asked.exists() and scheduler.poll() is None:
            time.sleep(0.05)
        scheduler.send_signal(signal.SIGINT)
    _, reported = scheduler.communicate(timeout=20)
    assert scheduler.returncode == (130 if interrupt else 2)
    assert interrupt or "the NVIDIA driver has not answered in 1 s" in reported and "--devices cpu" in reported
    assert grid.book("start") == []


# A terminal that goes away --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_nothing(grid):
    """``| head`` closes the pipe."""
    grid.behave(trials={"*": {"seconds": 1.0}})
    scheduler = grid.start(*TNEWS, "--devices", "cpu:2")
    grid.wait_for("start", 2)
    scheduler.stdout.close()
    scheduler.stderr.close()
    assert scheduler.wait(timeout=60) == 0
    assert len(grid.book("done")) == 4 and grid.state()["status"] == "done"
    reported = (grid.runs / "some-model" / "grid.log").read_text()
    assert "Display falls silent ([Errno 32] Broken pipe); the grid goes on" in reported


def test_an_observer_that_fails_falls_silent_and_the_others_hear_of_it():
    class Broken:
        def hear(self, text, job):
            raise ValueError("no ears")

    class Hears:
        heard = []

        def hear(self, text, job):
            self.heard.append(text)

    run = Run(trials("tnews"), [])
    run.grid.observers = [Broken(), Hears()]
    run.grid.note("one")
    run.grid.note("two")
    run.grid.tell()
    assert sorted(Hears.heard) == ["Broken falls silent (no ears); the grid goes on", "one", "two"]


# One ledger for a machine ---------------------------------------------------------------------------------------------


FOLDER = f"cluebench-promises-{os.getuid()}"


def most_at_once(grid):
    times = [(float(words[3]), 1) for words in grid.book("start")] + [(float(w[3]), -1) for w in grid.book("done")]
    running = most = 0
    for _, change in sorted(times):
        most = max(most, running := running + change)
    return most


@pytest.mark.slow
def test_two_schedulers_promise_no_memory_twice(grid, cards):
    """Six trials of about 5 GiB on a card of 17."""
    cards("card GPU-aaaa Test-17G 17408 17000 ok\n")
    grid.behave(trials={"*": {"gate": "go", "steps": 1}})  # no step is logged before the end
    schedulers = []
    for name in ("one", "two"):
        plan = ("--tasks", "tnews", "--batch_sizes", "16", "--learning_rates", "1e-5,2e-5,3e-5")
        schedulers.append(grid.start(*plan, "--jobs_per_device", "8", model=name))
    grid.wait_for("start", 3)
    time.sleep(1.0)
    grid.open_gate()
    reported = [scheduler.communicate(timeout=120)[1] for scheduler in schedulers]
    assert [scheduler.returncode for scheduler in schedulers] == [0, 0], reported
    assert len(grid.book("done")) == 6
    assert most_at_once(grid) == 3, grid.book("start")
    assert not list(grid.folder.glob("cluebench-promises-*/*.json"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The directory of this user's promises on a machine of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / FOLDER


def others_of(promises):
    with promises.locked() as others:
        return others


def test_promises_of_the_dead_count_for_nothing(folder):
    one, two, lock = Promises(print), Promises(print), folder.parent / "a.lock"
    sleeper = subprocess.Popen(["sleep", "60"])
    with one.locked() as others:
        assert others == []
        one.make(lock, sleeper.pid, ["GPU-0"], 5)
    (folder / "garbage.json").write_text("{")
    with two.locked() as others:
        assert [(other.pid, other.bytes, other.settled) for other in others] == [(sleeper.pid, 5, None)]
        for _ in range(2):
            with pytest.raises(BlockingIOError), one.locked():
                pass
    one.settle(lock)
    assert others_of(two)[0].settled <= time.time()
    sleeper.kill()
    sleeper.wait()
    assert others_of(two) == []
    with one.locked() as others:
        one.make(lock, os.getpid(), ["GPU-0"], 5)
        one.drop(lock)
    assert others_of(two) == []


def promised(folder, name="1-abc.json"):
    """A promise of 7 bytes to this process, in a directory that stands for another user's."""
    folder.mkdir(exist_ok=True)
    promise = {"pid": os.getpid(), "start_time": start_time(os.getpid()), "devices": ["GPU-0"], "bytes": 7}
    (folder / name).write_text(json.dumps(promise))


def test_directories_of_other_users_are_read_and_not_trusted(folder):
    """Only what belongs to the user that the name tells; nothing through a link."""
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    theirs, promises = folder.with_name("cluebench-promises-4321"), Promises(pytest.fail)
    promised(theirs)
    assert others_of(promises) == []  # root's, under another's name
    for path in (theirs, theirs / "1-abc.json"):
        os.chown(path, 4321, 4321)
    assert [other.bytes for other in others_of(promises)] == [7]
    promised(folder.with_name("elsewhere"))
    (theirs / "2-abc.json").symlink_to(folder.with_name("elsewhere") / "1-abc.json")
    os.mkfifo(theirs / "3-abc.json")
    folder.with_name("cluebench-promises-4322").symlink_to(theirs)
    assert [other.bytes for other in others_of(promises)] == [7]
    theirs.chmod(0o777)  # anyone can write there
    assert others_of(promises) == [] and (theirs / "1-abc.json").exists()


@pytest.mark.parametrize("trap", ["link", "open to all", "file"])
def test_a_directory_that_others_have_laid_out_is_reported_once_and_not_written(trap, folder):
    reported, theirs = [], folder.with_name("theirs")
    theirs.mkdir()
    if trap == "link":
        folder.symlink_to(theirs)
    elif trap == "file":
        folder.write_text("no directory")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    promises = Promises(reported.append)
    for _ in range(2):
        with promises.locked() as others:
            promises.make(folder.parent / "a.lock", os.getpid(), ["GPU-0"], 5)
        assert others == []
    assert len(reported) == 1 and "other schedulers on these cards can't be seen" in reported[0]
    assert "not a directory that you alone can write" in reported[0]
    assert trap == "file" or not list(folder.iterdir())


def test_a_lock_that_is_never_free_stops_no_grid(folder, monkeypatch):
    monkeypatch.setattr("cluebench.scheduler.allocation.promises._PATIENCE", 0.01)
    reported = []
    one, two = Promises(print), Promises(reported.append)
    with one.locked():
        one.make(folder.parent / "a.lock", os.getpid(), ["GPU-0"], 5)
        for _ in range(2):
            with pytest.raises(BlockingIOError), two.locked():
                pass
        for _ in range(2):
            assert [other.bytes for other in others_of(two)] == [5]
    assert len(reported) == 1 and "never frees its lock" in reported[0]


# Whose out-of-memory? -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cut_after_out_of_memory_is_remembered_by_the_next_start(grid, cards):
    cards("card GPU-aaaa Test-24G 24576 24000 ok\n")
    grid.behave(trials={"tnews/1e-05_32_0.1": {"attempts": [{"exit": 4}]}})
    one = ("--tasks", "tnews", "--batch_sizes", "32", "--learning_rates")
    result = grid.run(*one, "1e-5,2e-5,3e-5", "--max_attempts", "1")
    assert result.returncode == 0 and "other processes use its memory" not in result.stderr
    assert grid.run(*one, "5e-5").returncode == 0
    assert [words[6] for words in grid.book("start")] == ["accumulation=1"] + ["accumulation=2"] * 4


# By hand beside a grid ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_trial_by_hand_beside_a_grid_runs_once(grid):
    grid.behave(trials={"*": {"seconds": 0.2}, "tnews/1e-05_32_0.1": {"gate": "go"}})
    python = grid.folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    environment = grid.environment | {"RUN_ROOT": str(grid.runs), "PYTHON": str(python)}
    script = grid.repository / "grid_search_tools" / "run_cls.sh"
    for name in ("run_cls.sh", "run_trial.sh", "trial_path.py"):
        shutil.copy(ROOT / "grid_search_tools" / name, script.parent / name)
    command = ["bash", script, "some-model", "TNEWS", "1e-5", "32", "0.1", "--data_dir", grid.data, "--device", "cpu"]
    hand = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    grid.wait_for("start")
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 1 and again.stderr.count("\n") == 1 and "is running already" in again.stderr
    scheduler = grid.start(*TNEWS, "--devices", "cpu:2")
    grid.wait_for_note("left to it")
    grid.open_gate()
    _, reported = scheduler.communicate(timeout=60)
    assert scheduler.returncode == 0, reported
    assert not grid.book("overlap") and len(grid.book("start")) == len(grid.book("done")) == 4
    assert hand.wait(timeout=20) == 0


# Words ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_reported_of_a_trial_is_what_happened(grid):
    grid.behave(trials={"*": {"attempts": [{"exit": 1}, {"exit": 1}], "seconds": 0.1}})
    one = ("--tasks", "tnews", "--learning_rates", "1e-5", "--batch_sizes", "32", "--devices", "cpu:1")
    result = grid.run(*one, "--max_attempts", "2")
    for text in (result.stderr, (grid.runs / "some-model" / "grid.log").read_text()):
        reported = [line for line in text.splitlines() if "failed: crashed: exit code 1" in line]
        assert [line.rpartition("; ")[2] for line in reported] == ["is tried again", "given up"]


@pytest.mark.slow
def test_a_file_system_without_locks_is_refused_in_one_line(grid):
    grid.prelude = """
import errno, fcntl
def flock(*_):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = flock
"""
    result = grid.run(*TNEWS)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and grid.book("start") == []
    assert "its file system has no locks (locks do not work: No locks available; the file system is" in result.stderr
    assert "--run_root" in result.stderr


def test_a_model_directory_in_the_repository_does_not_pass_for_a_published_one(grid):
    (grid.repository / "hfl" / "rbt3").mkdir(parents=True)
    assert grid.run("--dry_run", model="hfl/rbt3").returncode == 0  # without a configuration it is no model
    (grid.repository / "hfl" / "rbt3" / "config.json").write_text("{}")
    result = grid.run("--dry_run", model="hfl/rbt3")
    assert (
        result.returncode == 2 and result.stderr.count("\n") == 1 and "a model directory has that name" in result.stderr
    )
