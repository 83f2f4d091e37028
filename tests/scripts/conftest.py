"""The embedded model and data, made once a session, and scripts on them, in this process or in another."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.demo import synthetic
from tests.conftest import ROOT
from tests.scripts.running import Run, command

#: Small enough for seconds, large enough for several steps an epoch.
SIZES = {name: synthetic.Sizes(96, 48, 24) for name in TASKS} | {
    "chid": synthetic.Sizes(32, 16, 8)
}  # of several blanks


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """(model directory, data directory)"""
    from cluebench.demo.embedded_model import write_demo_model

    folder = tmp_path_factory.mktemp("demo")
    synthetic.write_synthetic(folder / "data", sizes=SIZES)
    write_demo_model(folder / "model", synthetic.characters())
    return str(folder / "model"), str(folder / "data")


@pytest.fixture
def run(demo, run_command, tmp_path):
    """run("tnews", "out", "--do_train", …) → Run, in this process: see `command`. It ends with ``code``."""

    def ended(task: str, folder: str | Path, *flags: object, code: int = 0) -> Run:
        out = tmp_path / folder
        with trainers_names() if task == "trainer" else nullcontext():
            found = run_command(*command(demo, task, out, *flags))
        assert found.code == code, found.err
        return Run(found.code, found.out, found.err, out)

    return ended


def trainers_names():
    """Parameters named as in a process of its own: the Trainer's checkpoints of the optimizer go by these names."""
    from paddle.utils import unique_name

    return unique_name.guard()


def start(script: str, *argv: object, launcher: tuple[str, ...] = (), **environment: str) -> subprocess.Popen:
    """A script as a process of its own, its output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-u", *launcher, str(ROOT / script), *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )


@pytest.fixture
def start_script():
    """start_script("mrc/run_c3.py", "--do_train", …, launcher=[…]) → subprocess.Popen, ended with the test."""
    started = []

    def start_one(*argv: object, **settings) -> subprocess.Popen:
        started.append(start(*argv, **settings))
        return started[-1]

    yield start_one
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def check_interrupted(process: subprocess.Popen, line_start: str) -> None:
    """Sends Ctrl-C after a line of the log; the script ends with its code and one line."""
    next(line for line in process.stdout if line.startswith(line_start))
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr.read().strip().splitlines()[-1] == "interrupted"
