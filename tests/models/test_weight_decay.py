"""Which parameters decay: all but biases and layer norms, seen in the weights that one real step leaves."""

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.pretrained.model import Model
from tests.models.conftest import ARCHITECTURES, LATER, write_model


@pytest.mark.parametrize("prefix", [*ARCHITECTURES, *LATER])
def test_only_matrices_decay(prefix, models, architectures, tmp_path):
    from cluebench.training.optimization import decayed_parameters

    folder = architectures.get(prefix) or str(write_model(tmp_path / "model", prefix))
    model = models.load_model(TASKS["tnews"], Model.of(folder))
    assert decayed_parameters(model) == {parameter.name for parameter in model.parameters() if parameter.ndim > 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    "prefix, name", [("Ernie", "tnews"), ("ErnieGram", "c3"), ("Roberta", "cmrc2018"), ("XLMRoberta", "trainer")]
)
def test_biases_and_layer_norms_do_not_decay(prefix, name, run, tmp_path):
    """A rate too low to see and a decay as high as that: what decays is halved, everything else stays where it was."""
    import paddle

    flags = ["--model_name_or_path", write_model(tmp_path / "model", prefix), "--max_seq_length", 48, "--max_steps", 1]
    flags += ["--do_train", "--learning_rate", 1e-9]
    if name == "trainer":
        flags += ["--dataset", "tnews", "--per_device_train_batch_size", 4, "--warmup_ratio", 0]
    else:
        flags += ["--batch_size", 4, "--warmup_proportion", 0]
    folders = [run(name, str(decay), *flags, "--weight_decay", decay).folder for decay in (0.5e9, 0)]
    decayed, kept = (paddle.load(str(folder / "model_state.pdparams"), return_numpy=True) for folder in folders)
    assert len(kept) > 20 and {values.ndim for values in kept.values()} == {1, 2}
    for parameter, values in kept.items():
        # What is no matrix is a bias, or the scale of a layer norm.
        share = 1.0 if values.ndim == 1 else 0.5
        np.testing.assert_allclose(decayed[parameter], share * values, atol=1e-6, err_msg=parameter)
