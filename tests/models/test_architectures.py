"""Every published architecture runs every task: train, save, load, evaluate to the same number, predict."""

from __future__ import annotations

import pytest

from cluebench.runlog import Result
from cluebench.tasks import TASKS
from tests.models.conftest import ARCHITECTURES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
@pytest.mark.parametrize("prefix", ARCHITECTURES)
def test_every_architecture_does_every_task(prefix, task, architectures, little_data, run_script, tmp_path):
    out = tmp_path / "out"
    common = ["--data_dir", little_data, "--device", "cpu", "--max_seq_length", 48, "--offline"]
    common += ["--task_name", task.name] if task.is_classification else []
    trained = run_script(
        task.script, *common, "--model_name_or_path", architectures[prefix], "--output_dir", out, "--batch_size", 4,
        "--learning_rate", 1e-3, "--dropout", 0.2, "--max_steps", 2, "--logging_steps", 1, "--do_train", "--do_predict",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    result = Result.read(out / "result.json")
    assert result.status == "done" and result.total_steps == 2 and result.dev_curve[-1].step == 2
    assert all((out / test.submission).stat().st_size > 0 for test in task.test_sets)
    again = run_script(
        task.script, *common, "--model_name_or_path", out, "--output_dir", tmp_path / "again", "--do_eval", "--do_predict",
        "--result_json", tmp_path / "again.json",
    )  # fmt: skip
    assert again.code == 0, again.err
    assert Result.read(tmp_path / "again.json").best_score == result.best_score
    for test in task.test_sets:
        assert (tmp_path / "again" / test.submission).read_bytes() == (out / test.submission).read_bytes()
