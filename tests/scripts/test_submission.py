"""make_submission.py with the scripts themselves: from kept models to a zip."""

from pathlib import Path

import pytest

from cluebench import submission
from cluebench.benchmark.tasks import TASKS
from cluebench.foundation import repository
from cluebench.pretrained.model import Model
from cluebench.submission import kept as kept_models
from tests.submission import independent
from tests.submission.made_up import kept

pytestmark = pytest.mark.slow
COMMAND = "grid_search_tools/make_submission.py"


def in_this_process(run_command):
    """Runs what make_submission would start as a process."""

    def predict(model, flags, output):
        command = kept_models.prediction_command(model, flags, output)
        ended = run_command(Path(command[2]).relative_to(repository.ROOT), *command[3:])
        return "" if ended.code == 0 else ended.err

    return predict


def test_from_kept_models_of_all_ten_tasks_to_a_zip(demo, run_command, monkeypatch, tmp_path):
    """Each script's --do_predict on a model in a run directory, in this process; the zip passes the protocol's check."""
    from cluebench import models

    runs, data = tmp_path / "runs", Path(demo[1])
    for task in TASKS.values():
        folder = kept(runs, task.name, "3e-05_32_0.1", (1.0, 2.0) if task.metric == "em_f1" else 1.0, model=False)
        tokenizer = models.load_tokenizer(Model.of(demo[0]))
        models.save_model(models.load_model(task, Model.of(demo[0])), tokenizer, folder)

    monkeypatch.setattr(kept_models, "predict", in_this_process(run_command))
    arguments = [runs, "--output", tmp_path / "z.zip", "--data_dir", data, "--device", "cpu", "--version", "all"]
    ended = run_command(COMMAND, *arguments)
    assert ended.code == 0, ended.out + ended.err
    assert independent.accept(tmp_path / "z.zip", data) == set(submission.FILES)


def test_a_real_prediction_process(demo, run_command, tmp_path):
    from cluebench import models

    folder = kept(tmp_path / "runs", "afqmc", "3e-05_32_0.1", 50.0, model=False)
    models.save_model(
        models.load_model(TASKS["afqmc"], Model.of(demo[0])), models.load_tokenizer(Model.of(demo[0])), folder
    )
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
    assert run_command(COMMAND, *arguments).code == 0
    assert independent.accept(tmp_path / "z.zip", Path(demo[1])) == {"afqmc_predict.json"}
    assert "afqmc_predict.json" in (folder / "predict.log").read_text()
