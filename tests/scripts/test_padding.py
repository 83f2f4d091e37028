"""The scripts leave padding out, and give the losses and scores that they give with --padding."""

import numpy as np
import pytest

from tests.scripts.running import without_dropout

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["csl", "c3", "cmrc2018"])
def test_losses_and_scores_are_those_with_padding(name, demo, run, tmp_path):
    """Over an incomplete accumulation; the result says which way it was, except where there is only one."""
    arguments = ["--batch_size", 8, "--gradient_accumulation_steps", 4, "--max_steps", 14, "--learning_rate", 1e-3]
    arguments += ["--dropout", 0, "--logging_steps", 1, "--save_steps", 7, "--limit", 42, "--do_train", "--do_predict"]
    arguments += ["--model_name_or_path", without_dropout(demo[0], tmp_path)]
    runs = [run(name, f"out{len(way)}", *arguments, *way) for way in ([], ["--padding"])]
    assert not any("padding" in ended.err for ended in runs)
    assert len(runs[0].losses) == 14
    np.testing.assert_allclose(runs[0].losses, runs[1].losses, atol=2e-4)
    without, with_padding = (ended.result for ended in runs)
    assert [p.score for p in without.dev_curve] == [p.score for p in with_padding.dev_curve]
    np.testing.assert_allclose(*[[p.loss for p in ended.result.dev_curve] for ended in runs], atol=2e-4)
    assert "padding" not in with_padding.configuration
    assert without.configuration.get("padding", True) is (name == "cmrc2018")
    assert (without.configuration_hash == with_padding.configuration_hash) is (name == "cmrc2018")


def test_a_model_that_needs_its_padding_is_reported(run, monkeypatch):
    from cluebench import models

    monkeypatch.setattr(models, "padding_of", lambda model: None)
    ended = run("tnews", "out", "--max_steps", 1, "--do_train", "--limit", 8)
    assert ended.err.count("padding is computed too") == 1
