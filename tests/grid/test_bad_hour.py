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
from tests.simulated import Run, trials

TNEWS = ("--tasks", "tnews", "--learning_rates", "1e-5,3e-5", "--batch_sizes", "32,64")


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


# A driver in trouble --------------------------------------------------------------------------------------------------

TWO = "card GPU-aaaa Test-24G 24576 24000 ok\ncard GPU-bbbb Test-24G 24576 24000 ok\n"
HURRY = "from cluebench.scheduler.loop import attempt_ends; attempt_ends._HEALTH_CHECK = 0.3\nattempt_ends._ANSWER_DUE = 0.6\n"
PAIR = ("--tasks", "tnews", "--learning_rates", "1e-5", "--batch_sizes", "16,32", "--max_attempts", "1")


@pytest.mark.slow
@pytest.mark.parametrize("status", ["hang", "trouble"])
def test_a_driver_in_trouble_about_one_card_ends_no_healthy_trial(grid, cards, status):
    cards(TWO)
    grid.prelude = HURRY
    grid.behave(trials={"*": {"gate": "go"}})
    scheduler = grid.start(*PAIR)
    grid.wait_for("start", 2)
    cards(TWO.replace("GPU-bbbb Test-24G 24576 24000 ok", f"GPU-bbbb Test-24G 24576 24000 {status}"))
    grid.wait_for_note("gpu 1 is set aside" if status == "trouble" else "gpu 1: the driver does not answer")
    grid.open_gate()
    _, reported = scheduler.communicate(timeout=60)
    assert scheduler.returncode == 0, reported
    assert len(grid.book("start")) == len(grid.book("done")) == 2
    assert ("gpu 1: the driver does not answer; nothing is started there until it does" in reported) == (
        status == "hang"
    )
    assert ("gpu 1 is set aside" in reported) == (status == "trouble") and "gpu 0 is" not in reported


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


@pytest.mark.slow
def test_lost_cards_are_no_reason_to_run_on_the_cpu(grid, cards):
    cards(TWO.replace("ok", "lost"))
    result = grid.run(*PAIR)
    assert result.returncode == 2 and grid.book("start") == []
    assert "--devices auto: 2 NVIDIA card(s) of this machine do not answer" in result.stderr
    grid.environment["CUDA_VISIBLE_DEVICES"] = ""  # who hides them means the CPU
    assert grid.run(*PAIR).returncode == 0


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


def test_promises_of_the_dead_count_for_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one, two = Promises(print), Promises(print)
    sleeper = subprocess.Popen(["sleep", "60"])
    with one.locked() as others:
        assert others == []
        one.make(tmp_path / "a.lock", sleeper.pid, ["GPU-0"], 5)
    (tmp_path / FOLDER / "garbage.json").write_text("{")
    with two.locked() as others:
        assert [(other.pid, other.bytes, other.settled) for other in others] == [(sleeper.pid, 5, None)]
        for _ in range(2):
            with pytest.raises(BlockingIOError), one.locked():
                pass
    one.settle(tmp_path / "a.lock")
    with two.locked() as others:
        assert others[0].settled <= time.time()
    sleeper.kill()
    sleeper.wait()
    with two.locked() as others:
        assert others == []
    with one.locked() as others:
        one.make(tmp_path / "a.lock", os.getpid(), ["GPU-0"], 5)
        one.drop(tmp_path / "a.lock")
    with two.locked() as others:
        assert others == []


def promised(folder, name="1-abc.json"):
    """A promise of 7 bytes to this process, in a directory that stands for another user's."""
    folder.mkdir(exist_ok=True)
    promise = {"pid": os.getpid(), "start_time": start_time(os.getpid()), "devices": ["GPU-0"], "bytes": 7}
    (folder / name).write_text(json.dumps(promise))


def test_directories_of_other_users_are_read_and_not_trusted(tmp_path, monkeypatch):
    """Only what belongs to the user that the name tells; nothing through a link."""
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    promised(tmp_path / "cluebench-promises-4321")
    promises = Promises(pytest.fail)
    with promises.locked() as others:
        assert others == []  # root's, under another's name
    for path in (tmp_path / "cluebench-promises-4321", tmp_path / "cluebench-promises-4321" / "1-abc.json"):
        os.chown(path, 4321, 4321)
    with promises.locked() as others:
        assert [other.bytes for other in others] == [7]
    promised(tmp_path / "elsewhere")
    (tmp_path / "cluebench-promises-4321" / "2-abc.json").symlink_to(tmp_path / "elsewhere" / "1-abc.json")
    os.mkfifo(tmp_path / "cluebench-promises-4321" / "3-abc.json")
    (tmp_path / "cluebench-promises-4322").symlink_to(tmp_path / "cluebench-promises-4321")
    with promises.locked() as others:
        assert [other.bytes for other in others] == [7]
    (tmp_path / "cluebench-promises-4321").chmod(0o777)  # anyone can write there
    with promises.locked() as others:
        assert others == []
    assert (tmp_path / "cluebench-promises-4321" / "1-abc.json").exists()


@pytest.mark.parametrize("trap", ["link", "open to all"])
def test_a_directory_that_others_have_laid_out_is_not_written(trap, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "theirs").mkdir()
    if trap == "link":
        (tmp_path / FOLDER).symlink_to(tmp_path / "theirs")
    else:
        (tmp_path / FOLDER).mkdir()
        (tmp_path / FOLDER).chmod(0o777)
    reported = []
    promises = Promises(reported.append)
    with promises.locked() as others:
        promises.make(tmp_path / "a.lock", os.getpid(), ["GPU-0"], 5)
    assert others == [] and len(reported) == 1 and "not a directory that you alone can write" in reported[0]
    assert not list((tmp_path / FOLDER).iterdir())


def test_a_lock_that_is_never_free_stops_no_grid(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("cluebench.scheduler.allocation.promises._PATIENCE", 0.01)
    reported = []
    one, two = Promises(print), Promises(reported.append)
    with one.locked():
        one.make(tmp_path / "a.lock", os.getpid(), ["GPU-0"], 5)
        for _ in range(2):
            with pytest.raises(BlockingIOError), two.locked():
                pass
        for _ in range(2):
            with two.locked() as others:
                assert [other.bytes for other in others] == [5]
    assert len(reported) == 1 and "never frees its lock" in reported[0]


def test_a_machine_without_a_place_for_promises_is_reported_once(tmp_path, monkeypatch):
    (tmp_path / FOLDER).write_text("no directory")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reported = []
    promises = Promises(reported.append)
    for _ in range(2):
        with promises.locked() as others:
            assert others == []
            promises.make(tmp_path / "a.lock", os.getpid(), ["GPU-0"], 5)
    assert len(reported) == 1 and "other schedulers on these cards can't be seen" in reported[0]


# Whose out-of-memory? -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("others", [True, False])
def test_whose_out_of_memory(grid, cards, others):
    """A neighbour takes the card under a trial and leaves it again; the twin has the card for itself."""
    text = "card GPU-aaaa Test-24G 24576 24000 ok\n"
    cards(text)
    grid.behave(trials={"*": {"seconds": 0.2}, "tnews/1e-05_32_0.1": {"gate": "go", "attempts": [{"exit": 4}]}})
    scheduler = grid.start("--tasks", "tnews", "--learning_rates", "1e-5,2e-5,3e-5", "--batch_sizes", "32",
                           "--max_attempts", "1")  # fmt: skip
    grid.wait_for("start", 1)
    if others:
        cards(text.replace("24000", "1000"))
        grid.open_gate()
        grid.wait_for_note("other processes use its memory")
        time.sleep(3.0)
        assert len(grid.book("start")) == 1
        cards(text)
    grid.open_gate()
    _, reported = scheduler.communicate(timeout=60)
    assert scheduler.returncode == 0, reported
    assert [words[6] for words in grid.book("start")[1:]] == ["accumulation=1" if others else "accumulation=2"] * 3
    assert ("other processes use its memory" in reported) == others
    more = grid.run("--tasks", "tnews", "--learning_rates", "5e-5", "--batch_sizes", "32")  # remembered
    assert more.returncode == 0 and grid.book("start")[-1][6] == ("accumulation=1" if others else "accumulation=2")


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
