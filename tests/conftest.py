"""Settings every test runs under: no network, the project's own caches left alone, Paddle as in the scripts."""

import os
import runpy
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from cluebench.foundation import environment

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("OMP_NUM_THREADS", "1")  # several tests run at a time, on a core each
environment.prepare()
os.environ["HF_HUB_OFFLINE"] = "1"

settings.register_profile("no clocks", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clocks")  # a busy machine fails no test


#: Tests that share a costly fixture, or wait for clocks of their own: in one process, one after the other. The begin
#: of their node ids → the group. (pytest-xdist 3.8 does not see its own marks under pytest 9.2.)
GROUPS = {
    "tests/slurm/": "slurm",
    "tests/grid/test_ray.py": "ray",
    "tests/pages/": "pages",
    "tests/scripts/test_two_processes.py": "two processes",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return next((group for begin, group in GROUPS.items() if nodeid.startswith(begin)), nodeid)

    return ByGroup(config, log)


@pytest.fixture(autouse=True)
def private_caches(tmp_path_factory, monkeypatch):
    """Nothing a test does reaches the caches or the data home of the user.

    Features stay for the tests that follow; what is known of a data set's rows does not, as reports show it.
    """
    if "CLUEBENCH_CACHE" not in os.environ:
        monkeypatch.setenv("CLUEBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    yield
    shutil.rmtree(tmp_path_factory.getbasetemp() / "cache" / "rows", ignore_errors=True)


@pytest.fixture(scope="session")
def clue_data_dir():
    """The directory of real CLUE archives; tests that need it are skipped where there is none."""
    folder = os.environ.get("CLUE_DATA_DIR")
    if not folder:
        pytest.skip("CLUE_DATA_DIR names no directory of real CLUE data")
    return folder


@pytest.fixture(scope="session", autouse=True)
def signals_reach_children():
    """Shells start background jobs with SIGINT ignored, nohup with SIGHUP; processes inherit that, but no handler."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: lambda *_: None}
    ignored = [number for number in handlers if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, handlers[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@dataclass
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture
def run_command(capsys, monkeypatch):
    """run_command("mrc/run_c3.py", "--do_train", …) → Ended: a command of the repository, run in this process."""

    def run(path: str, *argv: object) -> Ended:
        monkeypatch.setattr(sys, "argv", [Path(path).name, *map(str, argv)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / path), run_name="__main__")
        captured = capsys.readouterr()
        return Ended(ended.value.code or 0, captured.out, captured.err)

    return run
