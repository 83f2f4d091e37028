"""Settings every test runs under: no network, the project's own caches left alone, Paddle as in the scripts."""

import os

import pytest

from cluebench import environment

environment.prepare()
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def private_caches(tmp_path_factory, monkeypatch):
    """Nothing a test does reaches the caches or the data home of the user."""
    if "CLUEBENCH_CACHE" not in os.environ:
        monkeypatch.setenv("CLUEBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def clue_data_dir():
    """The directory of real CLUE archives; tests that need it are skipped where there is none."""
    folder = os.environ.get("CLUE_DATA_DIR")
    if not folder:
        pytest.skip("CLUE_DATA_DIR names no directory of real CLUE data")
    return folder
