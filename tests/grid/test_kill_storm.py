"""Schedulers and trials killed at random instants, again and again: nothing is lost, run twice or left lying about."""

import os
import random
import signal
import time
from contextlib import suppress

import pytest

from tests.grid.conftest import alive, until

TNEWS = ("--tasks", "tnews", "--learning_rates", "1e-5,2e-5,3e-5,5e-5", "--batch_sizes", "16,32,64")


@pytest.mark.slow
def test_a_storm_of_kills(grid):
    """KILLS=300 pytest -k storm, for the long test."""
    kills = int(os.environ.get("KILLS", 6))
    chance = random.Random(kills)
    # Long enough for the grid not to be done before the storm: a trial goes on from its checkpoint each time.
    grid.behave(trials={"*": {"steps": 40, "seconds": max(2.0, kills / 4)}})
    arguments = (*TNEWS, "--save_best_model", "True", "--keep_all_models", "--devices", "cpu:4")
    furthest = {}
    for _ in range(kills):
        begun, scheduler = len(grid.book("start")), grid.start(*arguments)
        if chance.random() < 0.7:  # else at any instant of its start
            with suppress(AssertionError):  # it goes on with trials that run
                until(lambda begun=begun: len(grid.book("start")) > begun, 10, "a trial")
        time.sleep(chance.uniform(0.1, 2.0))
        victims = [int(words[2]) for words in grid.book("start") if alive(int(words[2]))]
        for pid in victims if chance.random() < 0.5 else chance.sample(victims, len(victims) // 2):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if chance.random() < 0.8:
            scheduler.kill()
        else:
            scheduler.send_signal(signal.SIGTERM)
        scheduler.communicate(timeout=60)
        for path in grid.runs.glob("*/tnews/*/checkpoint/step"):
            with suppress(FileNotFoundError):  # its trial has ended, or replaces it
                step = int(path.read_text())
                assert step >= furthest.get(path, 0), path
                furthest[path] = step
    result = grid.run(*arguments, timeout=600)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1].split("\t")[1] == "88.94"  # by the stand-in's rule, of 5e-05_32_0.1
    assert not grid.book("overlap")
    done = [words[1] for words in grid.book("done")]
    results = sorted(path.stem for path in (grid.runs / "some-model" / "tnews").glob("*.json"))
    assert len(results) == 12 and len(done) == len(set(done)) <= 12
    entries = [path for path in grid.runs.rglob("*") if ".scheduler" not in path.parts]
    left = [path for path in entries if path.name.startswith(".") or path.name == "checkpoint"]
    assert not left
    assert len(list(grid.runs.glob("*/tnews/*/model.safetensors"))) == 12
