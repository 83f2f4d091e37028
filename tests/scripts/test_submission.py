"""make_submission.py with the scripts themselves: from kept models to a zip."""

from __future__ import annotations

from pathlib import Path

import make_submission
import pytest

from cluebench import submission
from cluebench.tasks import TASKS
from tests.submission import independent
from tests.submission.test_make_submission import kept

pytestmark = pytest.mark.slow


def test_from_kept_models_of_all_ten_tasks_to_a_zip(demo, run_script, capsys, monkeypatch, tmp_path):
    """Each script's --do_predict on a model in a run directory, in this process; the zip passes the protocol's check."""
    from cluebench import models

    runs, data = tmp_path / "runs", Path(demo[1])
    for task in TASKS.values():
        folder = kept(runs, task.name, "3e-05_32_0.1", (1.0, 2.0) if task.metric == "em_f1" else 1.0, model=False)
        tokenizer = models.load_tokenizer(demo[0])
        models.save_model(models.load_model(task, demo[0]), tokenizer, folder)

    def predict(model, flags, data_dir):
        command = make_submission.prediction_command(model, flags, data_dir)
        ended = run_script(Path(command[2]).relative_to(make_submission.REPOSITORY), *command[3:])
        return "" if ended.code == 0 else ended.err

    monkeypatch.setattr(make_submission, "_predict", predict)
    arguments = [runs, "--output", tmp_path / "z.zip", "--data_dir", data, "--device", "cpu", "--version", "all"]
    code = make_submission.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert code == 0, said.out + said.err
    assert independent.accept(tmp_path / "z.zip", data) == set(submission.FILES)


def test_a_real_prediction_process(demo, capsys, tmp_path):
    from cluebench import models

    folder = kept(tmp_path / "runs", "afqmc", "3e-05_32_0.1", 50.0, model=False)
    models.save_model(models.load_model(TASKS["afqmc"], demo[0]), models.load_tokenizer(demo[0]), folder)
    arguments = [
        tmp_path / "runs",
        "--output",
        tmp_path / "z.zip",
        "--data_dir",
        demo[1],
        "--device",
        "cpu",
        "--offline",
    ]
    assert make_submission.main([str(argument) for argument in arguments]) == 0
    assert independent.accept(tmp_path / "z.zip", Path(demo[1])) == {"afqmc_predict.json"}
    assert "afqmc_predict.json" in (folder / "predict.log").read_text()
