"""Which parameters decay: all but biases and layer norms, seen in the weights that one real step leaves."""

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("prefix, name", [("Ernie", "tnews"), ("ErnieGram", "c3"), ("Roberta", "cmrc2018")])
def test_biases_and_layer_norms_do_not_decay(prefix, name, architectures, little_data, run_script, tmp_path):
    """A rate too low to see and a decay as high as that: what decays is halved, everything else stays where it was."""
    decayed = weights_after_a_step(prefix, name, 0.5e9, architectures, little_data, run_script, tmp_path / "decayed")
    kept = weights_after_a_step(prefix, name, 0, architectures, little_data, run_script, tmp_path / "kept")
    assert len(kept) > 20 and {values.ndim for values in kept.values()} == {1, 2}
    for parameter, values in kept.items():
        # What is no matrix is a bias, or the scale of a layer norm.
        share = 1.0 if values.ndim == 1 else 0.5
        np.testing.assert_allclose(decayed[parameter], share * values, atol=1e-6, err_msg=parameter)


def weights_after_a_step(prefix, name, decay, architectures, little_data, run_script, out) -> dict[str, np.ndarray]:
    import paddle

    task = TASKS[name]
    arguments = ["--model_name_or_path", architectures[prefix], "--data_dir", little_data, "--output_dir", out]
    arguments += ["--device", "cpu", "--max_seq_length", 48, "--batch_size", 4, "--max_steps", 1, "--do_train"]
    arguments += ["--learning_rate", 1e-9, "--warmup_proportion", 0, "--weight_decay", decay]
    arguments += ["--task_name", name] if task.is_classification else []
    ended = run_script(task.script, *arguments)
    assert ended.code == 0, ended.err
    return paddle.load(str(out / "model_state.pdparams"), return_numpy=True)
