from functools import partial

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS, Setting
from cluebench.records import dev_predictions
from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.paths import trial_name
from cluebench.records.result import DevPoint, Result
from cluebench.report.evidence import measured

PROTOCOL = {"data": "0123456789abcdef", "epochs": 3, "limit": None, "learning_rate": 3e-05, "model": "m", "seed": 42}


def predictions_of(tmp_path, task, right, clusters=None, f1=None, **settings):
    """Predictions of a task as a file gives them back, right or wrong [rows] as asked for."""
    right = np.asarray(right, int)
    if task == "cmrc2018":
        ids = [f"q{number}" for number in range(len(right))]
        predicted = dict.fromkeys(ids, "光荣")
        made = DevPredictions.of_spans(ids, predicted, right, right if f1 is None else f1, clusters)
    else:
        made = DevPredictions.of_choices(range(len(right)), right, np.ones(len(right), int), clusters)
    made.write(tmp_path / "written", {**PROTOCOL, "task": task, **settings}, 100)
    return DevPredictions.read(tmp_path / "written")


@pytest.fixture
def predictions(tmp_path):
    return lambda task, right, *args, **settings: predictions_of(tmp_path, task, right, *args, **settings)


@pytest.fixture
def evidence(predictions):
    return lambda task, right, *args, **settings: measured([predictions(task, right, *args, **settings)])


def write_finished(tmp_path, folder, task, right, clusters=None, learning_rate=3e-05, seed=42, keeps=True, **settings):
    predicted = predictions_of(tmp_path, task, right, clusters, learning_rate=learning_rate, seed=seed, **settings)
    result = Result(task, "m", dict(predicted.configuration), "0" * 16, status="done", total_steps=200)
    result.metric = TASKS[task].metric
    result.add(DevPoint(100, 0, predicted.score))
    path = folder / task / f"{trial_name(Setting(learning_rate, 32, 0.1), seed)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    result.write(path)
    if keeps:
        predicted.write(dev_predictions.beside(path), predicted.configuration, 100)
    return path


@pytest.fixture
def finished(tmp_path):
    """finished(folder, task, right [rows], …) → the path of a finished trial's result."""
    return partial(write_finished, tmp_path)
