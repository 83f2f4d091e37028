"""Runs of the scripts on the embedded model, and what their logs say."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.records.result import Result
from tests.conftest import Ended

LOSS = re.compile(
    r"global step (\d+)/(\d+), epoch: (\d+), batch: (\d+), rank_id: 0, loss: (\S+), lr: (\S+), speed: \S+ step/s"
)
TRAINER = "classification/run_clue_classifier_trainer.py"


@dataclass
class Run(Ended):
    """A script that has ended; ``folder``: its --output_dir."""

    folder: Path

    @property
    def training(self) -> list[tuple[str, ...]]:
        return training(self.lines)

    @property
    def losses(self) -> list[float]:
        return losses(self.lines)

    @property
    def result(self) -> Result:
        return Result.read(self.folder / "result.json")


def training(lines):
    """What each training line says but for its speed."""
    return [match.groups() for match in map(LOSS.match, lines) if match]


def losses(lines):
    return [float(line[4]) for line in training(lines)]


def command(demo, task: str, out: Path, *flags) -> list:
    """The script of a task, or the Trainer's for "trainer", and its flags; the last of equal flags counts."""
    model, data = demo
    named = ["--task_name", task] if task in TASKS and TASKS[task].is_classification else []
    script = TASKS[task].script if task in TASKS else TRAINER
    places = ["--model_name_or_path", model, "--data_dir", data, "--output_dir", out]
    return [script, *places, "--device", "cpu", *named, *flags]


def without_dropout(model: str, folder: Path) -> str:
    """A copy of the model whose attention dropout, which --dropout leaves alone, is off too."""
    copy = Path(shutil.copytree(model, folder / "without_dropout"))
    config = json.loads((copy / "config.json").read_text())
    config.update(attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    (copy / "config.json").write_text(json.dumps(config))
    return str(copy)


def kill_after(process, step: int) -> None:
    """SIGKILL as soon as the step is logged."""
    for line in process.stdout:
        if line.startswith(f"global step {step}/"):
            process.kill()
            break
    assert process.wait() == -9, process.stderr.read()


def assert_same_curve(a: Result, b: Result) -> None:
    assert (a.dev_curve, a.best_score, a.best_step) == (b.dev_curve, b.best_score, b.best_step)


def assert_same_weights(*folders) -> None:
    import paddle

    a, b = (paddle.load(str(folder / "model_state.pdparams"), return_numpy=True) for folder in folders)
    assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def assert_scalars(folder: Path, steps: list[int]) -> None:
    """The file for VisualDL has all curves, and the training loss of these steps."""
    from visualdl import LogReader

    reader = LogReader(file_path=str(next(folder.iterdir())))
    assert set(reader.get_tags()["scalar"]) == {"train/loss", "train/lr", "train/speed", "dev/loss", "dev/accuracy"}
    assert [record.id for record in reader.get_data("scalar", "train/loss")] == steps


def assert_same(folder, other):
    """Of the run in ``folder`` and that with bounded evaluations in ``other``; returns the latter's result."""
    a, b = Result.read(folder / "result.json"), Result.read(other / "result.json")
    assert a.configuration_hash == b.configuration_hash and b.status == "done"
    assert (a.best_score, a.best_step) == (b.best_score, b.best_step)
    assert (folder / "result.predictions").read_bytes() == (other / "result.predictions").read_bytes()
    assert_same_weights(folder, other)
    labels = [
        [{**json.loads(line), "score": None} for line in (path / "dev_predictions.jsonl").read_text().splitlines()]
        for path in (folder, other)
    ]
    assert labels[0] == labels[1]
    assert [point.step for point in a.dev_curve] == [point.step for point in b.dev_curve]
    best = None
    for full, bounded in zip(a.dev_curve, b.dev_curve):
        if bounded.cut_after is None:
            assert bounded.score == full.score and bounded.loss == pytest.approx(full.loss, abs=1e-5)
            best = max(best, full.score) if best else full.score
        else:
            assert full.score <= bounded.score <= best and bounded.loss is None
    return b
