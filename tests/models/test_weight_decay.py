"""Which parameters decay: all but biases and layer norms, seen in the weights that one real step leaves."""

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from tests.models.conftest import ARCHITECTURES, LATER, write_model


@pytest.mark.parametrize("prefix", [*ARCHITECTURES, *LATER])
def test_only_matrices_decay(prefix, architectures, tmp_path):
    from cluebench import models
    from cluebench.pretrained.model import Model
    from cluebench.training.optimization import decayed_parameters

    folder = architectures.get(prefix) or str(write_model(tmp_path / "model", prefix))
    model = models.load_model(TASKS["tnews"], Model.of(folder))
    assert decayed_parameters(model) == {parameter.name for parameter in model.parameters() if parameter.ndim > 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    "prefix, name", [("Ernie", "tnews"), ("ErnieGram", "c3"), ("Roberta", "cmrc2018"), ("XLMRoberta", "the Trainer")]
)
def test_biases_and_layer_norms_do_not_decay(prefix, name, little_data, run_script, tmp_path):
    """A rate too low to see and a decay as high as that: what decays is halved, everything else stays where it was."""
    model = write_model(tmp_path / "model", prefix)
    decayed = weights_after_a_step(model, name, 0.5e9, little_data, run_script, tmp_path / "decayed")
    kept = weights_after_a_step(model, name, 0, little_data, run_script, tmp_path / "kept")
    assert len(kept) > 20 and {values.ndim for values in kept.values()} == {1, 2}
    for parameter, values in kept.items():
        # What is no matrix is a bias, or the scale of a layer norm.
        share = 1.0 if values.ndim == 1 else 0.5
        np.testing.assert_allclose(decayed[parameter], share * values, atol=1e-6, err_msg=parameter)


def weights_after_a_step(model, name, decay, little_data, run_script, out) -> dict[str, np.ndarray]:
    import paddle

    arguments = ["--model_name_or_path", model, "--data_dir", little_data, "--output_dir", out, "--device", "cpu"]
    arguments += ["--max_seq_length", 48, "--max_steps", 1, "--do_train", "--learning_rate", 1e-9]
    arguments += ["--weight_decay", decay]
    if name == "the Trainer":
        script = "classification/run_clue_classifier_trainer.py"
        arguments += ["--dataset", "tnews", "--per_device_train_batch_size", 4, "--warmup_ratio", 0]
    else:
        task = TASKS[name]
        script = task.script
        arguments += ["--batch_size", 4, "--warmup_proportion", 0]
        arguments += ["--task_name", name] if task.is_classification else []
    ended = run_script(script, *arguments)
    assert ended.code == 0, ended.err
    return paddle.load(str(out / "model_state.pdparams"), return_numpy=True)
