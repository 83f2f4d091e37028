"""The embedded model and data, made once a session, and a way to run a script's main() in this process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluebench.data import synthetic
from cluebench.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]

#: Small enough for seconds, large enough for several steps an epoch.
SIZES = {name: synthetic.Sizes(96, 48, 24) for name in TASKS}


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """(model directory, data directory)"""
    from cluebench import models

    folder = tmp_path_factory.mktemp("demo")
    synthetic.write_synthetic(folder / "data", sizes=SIZES)
    models.write_demo_model(folder / "model", synthetic.characters())
    return str(folder / "model"), str(folder / "data")


@pytest.fixture
def run_script(capsys, monkeypatch):
    """run_script("mrc/run_c3.py", "--do_train", …) runs the script's main as the program would, in this process."""

    def run(script: str, *argv: object) -> Ended:
        monkeypatch.setattr(sys, "argv", [script, *map(str, argv)])
        capsys.readouterr()
        spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        with pytest.raises(SystemExit) as ended:
            command.run(module.main)
        captured = capsys.readouterr()
        return Ended(ended.value.code or 0, captured.out, captured.err)

    return run


@pytest.fixture
def start_script():
    """start_script("mrc/run_c3.py", "--do_train", …, launcher=[…]) → subprocess.Popen, ended with the test."""
    started = []

    def start(script: str, *argv: object, launcher: tuple[str, ...] = (), **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-u", *launcher, str(ROOT / script), *map(str, argv)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
