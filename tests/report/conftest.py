import numpy as np
import pytest

from cluebench.dev_predictions import DevPredictions
from cluebench.report.evidence import measured

PROTOCOL = {"data": "0123456789abcdef", "epochs": 3, "limit": None, "learning_rate": 3e-05, "model": "m", "seed": 42}


def predictions_of(tmp_path, task, right, clusters=None, f1=None, **settings):
    """Predictions of a task as a file gives them back, right or wrong [rows] as asked for."""
    right = np.asarray(right, int)
    if task == "cmrc2018":
        ids = [f"q{number}" for number in range(len(right))]
        said = dict.fromkeys(ids, "光荣")
        made = DevPredictions.of_spans(ids, said, right, right if f1 is None else f1, clusters)
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
