"""The backward for CPUs gives Paddle's gradients, of every model and head."""

import numpy as np
import pytest

from tests.models.conftest import ARCHITECTURES
from tests.models.test_unpadded import BATCHES, batch, loaded, passed  # noqa: F401


@pytest.mark.parametrize("task", ["tnews", "c3", "cmrc2018"])
@pytest.mark.parametrize("prefix", ARCHITECTURES)
def test_gradients_are_paddles_own(models, prefix, task, loaded):  # noqa: F811
    from cluebench.models import cpu_backward

    model = loaded(prefix, task, "float32")
    given = batch(BATCHES["longest first"], options=2 if task == "c3" else 0)
    logits, expected = passed(model, given)
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            cpu_backward, "_sum_of_rows", lambda values, true=cpu_backward._sum_of_rows: calls.append(1) or true(values)
        )
        with models.sums_as_products(model):
            again, found = passed(model, given)
    assert np.array_equal(logits, again) and expected.keys() == found.keys()
    assert len(calls) > 10 or prefix.startswith("RoFormer")  # which has hardly any bias
    for name, gradient in expected.items():
        scale = max(1e-2, float(np.abs(gradient).max()))
        np.testing.assert_allclose(found[name], gradient, atol=2e-5 * scale, rtol=0, err_msg=name)
    calls.clear()
    passed(model, given)
    assert not calls and "forward" not in {name for layer in model.sublayers() for name in vars(layer)}
