"""Leaving padding out changes nothing: outputs and every gradient are those of PaddleNLP's own forward pass."""

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.pretrained.model import Model
from tests.models.conftest import ARCHITECTURES, write_model

WIDTH, PAD, CLS = 20, 0, 2
#: Lengths of the rows of a batch.
BATCHES = {
    "one row": [13],
    "one length": [12, 12, 12],
    "longest first": [20, 5, 13, 2],
    "longest last": [7, 2, 13, 20],
}


@pytest.fixture(scope="module")
def loaded(models, architectures):
    """(prefix, task name) → the model with the task's head, in training mode, without dropout."""
    import paddle

    def load(prefix, task, dtype, folder=None):
        paddle.seed(3)  # the head's weights: rounding is not the same for all draws
        model = models.load_model(TASKS[task], Model.of(folder or architectures[prefix]))
        for layer in model.sublayers():
            if type(layer).__name__ == "Dropout":
                layer.p = 0
            elif hasattr(layer, "q_proj") and isinstance(layer.dropout, float):
                layer.dropout = 0.0
        for parameter in model.parameters():
            if parameter.ndim == 2:  # as drawn, all rows look alike, and their gradients cancel out
                parameter.set_value(4 * parameter)
        model.train()
        paddle.set_default_dtype(dtype)
        return model.to(dtype=dtype)

    return load


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """What is equal in float32 but for its rounding must be equal in float64 but for that one's."""
    import paddle

    yield request.param
    paddle.set_default_dtype("float32")


def batch(lengths: list[int], options: int = 0) -> dict[str, np.ndarray]:
    """Random rows, in questions of ``options`` if there are any; the padding of token types is 0, as in features."""
    random = np.random.default_rng(len(lengths))
    inside = np.arange(max(lengths)) < np.array(lengths)[:, None]
    ids = np.where(inside, random.integers(5, 100, inside.shape), PAD)
    ids[:, 0] = CLS
    types = np.where(inside, np.arange(inside.shape[1]) > 3, 0).astype(np.int64)
    shape = (-1, options, ids.shape[1]) if options else ids.shape
    return {"input_ids": ids.reshape(shape), "token_type_ids": types.reshape(shape)}


def passed(model, given: dict[str, np.ndarray], padding: int | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logits, of spans starts plus ends, and the gradient of a loss on them of every parameter that has one."""
    import paddle

    from cluebench import models

    model.clear_gradients()
    logits = sum(models.forward(model, models.on_device(given, padding)))
    labels = paddle.arange(logits.shape[0]) % logits.shape[1]
    paddle.nn.functional.cross_entropy(logits, labels).backward()
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    return logits.numpy(), gradients


def assert_equal(model, given: dict[str, np.ndarray]) -> None:
    """Logits, and each gradient next to the largest, are those of a padded pass within a few roundings."""
    logits, gradients = passed(model, given, PAD)
    rounding = 100 * np.finfo(logits.dtype).eps
    expected_logits, expected = passed(model, given)
    np.testing.assert_allclose(logits, expected_logits, rtol=rounding, atol=rounding)
    assert gradients.keys() == expected.keys()
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    for name, gradient in expected.items():
        # Sums over ten options a row: up to 136 roundings were seen in float32.
        np.testing.assert_allclose(gradients[name], gradient, atol=2 * rounding * largest, rtol=0, err_msg=name)


@pytest.mark.parametrize("lengths", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("prefix", ARCHITECTURES)
def test_classification(prefix, lengths, loaded, dtype):
    assert_equal(loaded(prefix, "ocnli", dtype), batch(lengths))


@pytest.mark.parametrize("prefix", ARCHITECTURES)
def test_questions_of_ten_options(prefix, loaded, dtype):
    model = loaded(prefix, "chid", dtype)
    assert_equal(model, batch([9, 20, 3, 4, 5, 20, 7, 8, 2, 11] * 2, options=10))
    assert_equal(model, batch([20] * 10, options=10))
    assert_equal(model, batch([5, 9, 4, 3, 8, 8, 2, 2], options=4))


@pytest.mark.parametrize("first", [0, 3])
def test_positions_begin_where_the_model_has_them(first, loaded, dtype, tmp_path):
    folder = write_model(tmp_path, "Roberta", cluebench={"first_position": first})
    assert_equal(loaded("Roberta", "ocnli", dtype, folder), batch(BATCHES["longest last"]))


def test_one_token_type_only(loaded, dtype, tmp_path):
    folder = write_model(tmp_path, "Bert", type_vocab_size=1)
    assert_equal(loaded("Bert", "ocnli", dtype, folder), batch(BATCHES["longest last"]))


def test_one_layer_only(loaded, dtype, tmp_path):
    folder = write_model(tmp_path, "Ernie", num_hidden_layers=1)
    assert_equal(loaded("Ernie", "ocnli", dtype, folder), batch(BATCHES["longest first"]))


@pytest.mark.parametrize("prefix", ARCHITECTURES)
def test_a_text_may_hold_what_padding_is_made_of(prefix, loaded, dtype):
    """Then it is masked in the middle of a row; positions behind it count it."""
    given = batch(BATCHES["longest first"])
    given["input_ids"][0, 4:6] = PAD
    given["input_ids"][2, 1] = PAD
    assert_equal(loaded(prefix, "ocnli", dtype), given)


def test_only_a_head_that_reads_every_place_gets_every_place(models, architectures):
    found = {}
    for prefix, folder in architectures.items():
        of_tasks = {name: models.padding_of(models.load_model(task, Model.of(folder))) for name, task in TASKS.items()}
        found[prefix] = [name for name, padding in of_tasks.items() if padding is None]
    assert found == dict.fromkeys(ARCHITECTURES, ["cmrc2018"])


def test_afterwards_the_model_is_as_it_was(loaded, architectures):
    """Also when the pass fails: nothing is left on it that would be saved, exported or met by the next call."""
    from cluebench.models.forward_pass import Places, leaving_out

    model, given = loaded("Ernie", "ocnli", "float32"), batch(BATCHES["longest first"])
    before = passed(model, given)[0]
    with pytest.raises(ZeroDivisionError), leaving_out(model, Places(given["input_ids"], PAD)):
        raise ZeroDivisionError
    passed(model, given, PAD)
    assert not any(layer._forward_pre_hooks or layer._forward_post_hooks for layer in model.sublayers(True))
    np.testing.assert_array_equal(passed(model, given)[0], before)
