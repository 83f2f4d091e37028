"""A file system that keeps whoever asks for a lock, as a broken network one does, is named."""

import fcntl
import time

import pytest

from cluebench.diagnosis.doctor import Doctor
from cluebench.features.cache import FeatureCache
from cluebench.foundation import time_limit
from cluebench.foundation.errors import UsageError
from cluebench.pretrained.model import Model
from cluebench.scheduler.run.planned_grid import RunDirectory


@pytest.fixture
def silent(monkeypatch):
    """flock never answers."""
    monkeypatch.setattr(fcntl, "flock", lambda *arguments: time.sleep(5))
    monkeypatch.setattr(time_limit, "LOCK_PATIENCE", 0.2)


def test_where_locks_work_nothing_is_reported(tmp_path):
    assert time_limit.why_no_locks(tmp_path) is None and not list(tmp_path.iterdir())
    kind, _, _ = time_limit.file_system(tmp_path).partition(" ")
    assert kind not in ("", "unknown") and time_limit.file_system("/proc/self").startswith("proc")


def test_a_grid_is_refused_with_the_name_of_the_file_system(silent, tmp_path):
    directory = RunDirectory(tmp_path, Model.of("some-model"))
    with pytest.raises(UsageError) as refused:
        directory.acquire()
    message = str(refused.value)
    assert "no answer in 0.2 s" in message and time_limit.file_system(tmp_path) in message and "--run_root" in message


def test_features_are_made_without_the_cache(silent, tmp_path, capsys):
    import numpy as np

    arrays = FeatureCache(tmp_path).get({"task": "tnews"}, lambda: {"ids": np.arange(3)})
    assert arrays["ids"].tolist() == [0, 1, 2]
    assert "no answer in 0.2 s" in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["--run_root", "--cache_dir"])
def test_doctor_tries_a_lock(variable, silent, tmp_path):
    doctor = Doctor(tmp_path)
    doctor.look_at_disk("files", tmp_path, variable)
    [(problem, fix)] = doctor.problems
    assert "no answer in 0.2 s" in problem and "another file system" in fix
