"""The scripts leave padding out, and give the losses and scores that they give with --padding."""

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.records.result import Result
from tests.scripts.running import common, losses, without_dropout

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["csl", "c3", "cmrc2018"])
def test_losses_and_scores_are_those_with_padding(name, demo, run_script, tmp_path):
    """Over an incomplete accumulation; the result says which way it was, except where there is only one."""
    task, model = TASKS[name], without_dropout(demo[0], tmp_path)
    arguments = ["--batch_size", 8, "--gradient_accumulation_steps", 4, "--max_steps", 14, "--learning_rate", 1e-3]
    arguments += ["--dropout", 0, "--logging_steps", 1, "--save_steps", 7, "--limit", 42, "--do_train", "--do_predict"]
    arguments += ["--task_name", name] if task.is_classification else []
    results, found = [], []
    for way in ([], ["--padding"]):
        out = tmp_path / f"out{len(way)}"
        ended = run_script(task.script, *common((model, demo[1]), out), *arguments, *way)
        assert ended.code == 0, ended.err
        assert "padding" not in ended.err
        results.append(Result.read(out / "result.json"))
        found.append(losses(ended.lines))
    assert len(found[0]) == 14
    np.testing.assert_allclose(found[0], found[1], atol=2e-4)
    without, with_padding = results
    assert [p.score for p in without.dev_curve] == [p.score for p in with_padding.dev_curve]
    np.testing.assert_allclose(*[[p.loss for p in result.dev_curve] for result in results], atol=2e-4)
    assert "padding" not in with_padding.configuration
    assert without.configuration.get("padding", True) is (name == "cmrc2018")
    assert (without.configuration_hash == with_padding.configuration_hash) is (name == "cmrc2018")


def test_a_model_that_needs_its_padding_is_reported(demo, run_script, tmp_path, monkeypatch):
    from cluebench import models

    monkeypatch.setattr(models, "padding_of", lambda model: None)
    arguments = ["--task_name", "tnews", "--max_steps", 1, "--do_train", "--limit", 8]
    ended = run_script(TASKS["tnews"].script, *common(demo, tmp_path / "out"), *arguments)
    assert ended.code == 0 and ended.err.count("padding is computed too") == 1
