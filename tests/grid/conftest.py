"""A repository of stand-in scripts, official file names with nothing in them, and the command as a subprocess."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluebench.benchmark.tasks import TASKS
from tests.conftest import ROOT

FAKE_REPOSITORY = Path(__file__).resolve().parent / "fake_repository"

#: A grid of four trials.
TNEWS = ("--tasks", "tnews", "--learning_rates", "1e-5,3e-5", "--batch_sizes", "16,32")
KEYS = ["tnews/1e-05_16_0.1", "tnews/1e-05_32_0.1", "tnews/3e-05_16_0.1", "tnews/3e-05_32_0.1"]
#: What the stand-in scripts score, worked out by their rule.
TABLE_ROW = "-\t74.94\t-\t-\t-\t-\t-\t-\t-\t-"

#: The command, with the repository that its first argument names.
_COMMAND = f"""
import runpy, sys
from pathlib import Path
from cluebench.foundation import repository
repository.ROOT = Path(sys.argv.pop(1))
runpy.run_path({str(ROOT / "grid_search_tools" / "grid_search.py")!r}, run_name="__main__")
"""


class Grid:
    """One run directory, one data directory and the grid_search command on the stand-in scripts."""

    def __init__(self, folder: Path):
        self.prelude = ""  # what runs in the command's process first
        self.folder, self.data, self.runs = folder, folder / "data", folder / "runs"
        unset = ("CUDA_VISIBLE_DEVICES", "CLUE_DATA_DIR")
        self.environment = {key: value for key, value in os.environ.items() if key not in unset}
        self.environment["TMPDIR"] = str(folder)  # schedulers of other tests are on other machines
        self.repository = Path(shutil.copytree(FAKE_REPOSITORY, folder / "repository"))
        for script in {task.script for task in TASKS.values()}:
            (self.repository / script).parent.mkdir(exist_ok=True)
            shutil.copy(FAKE_REPOSITORY / "trial.py", self.repository / script)
        for task in TASKS.values():
            (self.data / f"{task.name}_public").mkdir(parents=True)
            for file in task.files:
                (self.data / f"{task.name}_public" / file).write_text("{}\n")
        (self.data / "synthetic.json").write_text("{}")  # not the official files, and known not to be

    def behave(self, **behaviour):
        """What trials do, by ``task/name`` or ``*``; see fake_repository/trial.py."""
        (self.data / "behaviour.json").write_text(json.dumps(behaviour.pop("trials", {}) | behaviour))

    def command(self, *arguments, model="some-model"):
        shared = ["--data_dir", str(self.data), "--run_root", str(self.runs)]
        return [
            sys.executable,
            "-c",
            self.prelude + _COMMAND,
            str(self.repository),
            model,
            *shared,
            *map(str, arguments),
        ]

    def run(self, *arguments, timeout=60, **more):
        """Runs the command to its end."""
        model = more.pop("model", "some-model")
        return subprocess.run(
            self.command(*arguments, model=model), env=self.environment, capture_output=True, text=True, timeout=timeout
        )

    def start(self, *arguments, model="some-model"):
        """Starts the command and returns its process."""
        return subprocess.Popen(
            self.command(*arguments, model=model),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def book(self, kind):
        """What the stand-in scripts have written down: the lines that begin with ``kind``, as lists of words."""
        path = self.data / "book.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split() for line in lines if line.split()[0] == kind]

    def open_gate(self, name="go"):
        """Lets trials go on that wait there; see fake_repository/trial.py."""
        (self.data / name).touch()

    def wait_for_note(self, text, count=1, model="some-model"):
        """Until the scheduler has written so."""
        log = self.runs / model / "grid.log"
        until(lambda: log.exists() and log.read_text().count(text) >= count, 60, f"{count} times {text!r} in grid.log")

    def wait_for(self, kind, count=1, timeout=60):
        until(lambda: len(self.book(kind)) >= count, timeout, f"{count} lines of {kind!r}")

    def state(self, model="some-model"):
        return json.loads((self.runs / model / "grid.json").read_text())

    def result(self, key, model="some-model"):
        return json.loads((self.runs / model / f"{key}.json").read_text())

    def trial_state(self, key, model="some-model"):
        task, name = key.split("/")
        return next(t for t in self.state(model)["trials"] if (t["task"], t["name"]) == (task, name))


def until(condition, timeout=60, what="the condition"):
    """Waits for something other processes do."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.02)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


@pytest.fixture
def grid(tmp_path):
    made = Grid(tmp_path)
    yield made
    for words in made.book("start") + made.book("worker"):
        pid = int(words[2] if words[0] == "start" else words[1])
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory):
    """The folder with the compiled libnvidia-ml.so.1."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("driver")
    source = Path(__file__).with_name("fake_nvml.c")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return folder


@pytest.fixture
def cards(grid, fake_driver, tmp_path):
    """A grid on a machine with these cards; called with the text of the cards file, again when they change."""
    path = tmp_path / "cards.txt"
    grid.environment |= {"LD_LIBRARY_PATH": str(fake_driver), "FAKE_NVML": str(path)}

    def have(text):
        path.with_suffix(".new").write_text(text)
        os.replace(path.with_suffix(".new"), path)

    return have


def check_nothing_lost_or_twice(grid, result, trials):
    assert result.returncode == 0, result.stdout + result.stderr
    assert not grid.book("overlap")
    done = sorted(words[1] for words in grid.book("done"))
    assert len(done) == trials and len(set(done)) == trials
