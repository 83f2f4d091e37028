"""Outputs and gradients are those of the original library, within 1e-5 of their size: see write_expected.py."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cluebench.benchmark.tasks import TASKS
from cluebench.pretrained.model import Model

FILES = sorted((Path(__file__).parent / "expected").glob("*.npz"))
#: Kind of head → a task that has it, with as many labels.
OF_KIND = {"pair": "ocnli", "choice": "c3", "span": "cmrc2018"}
#: Transformers' head reads another token.
UNLIKE = {("roformer", "choice"), ("roformer_value", "choice")}
CASES = [
    pytest.param(file, kind, id=f"{file.stem}-{kind}")
    for file in FILES
    for kind in OF_KIND
    if f"{kind}/config" in np.load(file) and (file.stem, kind) not in UNLIKE
]


def write_directory(folder: Path, file: Path, kind: str) -> Path:
    """config.json and model.safetensors as the library names everything."""
    arrays = np.load(file)
    folder.mkdir(exist_ok=True)
    weights = {}
    for name in arrays:
        part, _, key = name.partition("weights/")
        if part in ("", f"{kind}/") and key:
            weights[key] = arrays[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads(str(arrays[f"{kind}/config"]))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(f"t{number}" for number in range(40)))
    return folder


def assert_as_expected(models, model, file: Path, kind: str, leave_out: bool = False) -> None:
    """Outputs, and each parameter's gradient of the sum of factors times outputs."""
    import paddle

    from cluebench.models.architectures import architecture_of, in_paddle, plain_name

    arrays, padding = np.load(file), models.padding_of(model) if leave_out else None
    assert (padding is not None) is leave_out
    batch = {name: arrays[name] for name in ("input_ids", "token_type_ids")}
    if kind == "choice":
        batch = {name: ids.reshape(2, 2, -1) for name, ids in batch.items()}
    outputs = models.forward(model, models.on_device(batch, padding))
    factors = [arrays[f"{kind}/factors/{number}"] for number in range(len(outputs))]
    sum((output * paddle.to_tensor(factor)).sum() for output, factor in zip(outputs, factors)).backward()
    for number, (output, factor) in enumerate(zip(outputs, factors)):
        expected = arrays[f"{kind}/outputs/{number}"]
        assert np.abs(output.numpy() - expected)[factor != 0].max() < 1e-5 * np.abs(expected).max()
    architecture, start = architecture_of(type(model)), f"{kind}/gradients/"
    expected = in_paddle(
        {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}, architecture
    )
    found = {plain_name(name, architecture): parameter.grad for name, parameter in model.named_parameters()}
    found = {name: gradient.numpy() for name, gradient in found.items() if gradient is not None}
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    compared = 0
    for name, gradient in expected.items():
        if name == "embeddings.word_embeddings.weight":  # PyTorch gives the row of padding no gradient
            pad = model.base_model.config.pad_token_id
            gradient, found[name] = np.delete(gradient, pad, 0), np.delete(found[name], pad, 0)
        if not gradient.any() and name not in found:
            continue
        assert np.abs(found[name] - gradient).max() < 1e-5 * largest, name
        compared += 1
    assert compared > 10


@pytest.fixture(scope="module")
def load(models, tmp_path_factory):
    def of(file: Path, kind: str):
        folder = write_directory(tmp_path_factory.mktemp(file.stem), file, kind)
        model = models.load_model(TASKS[OF_KIND[kind]], Model.of(folder))
        models.set_dropout(model, 0.0)
        for layer in model.sublayers():
            if type(layer).__name__ == "Dropout":
                layer.p = 0.0
        model.train()
        return model

    return of


@pytest.mark.parametrize("file, kind", CASES)
def test_outputs_and_gradients(models, file, kind, load):
    assert_as_expected(models, load(file, kind), file, kind)


LEFT_OUT = [
    case
    for case in CASES
    if case.values[1] != "span" and not case.values[0].stem.startswith(("deberta", "modernbert_biased"))
]


@pytest.mark.parametrize("file, kind", LEFT_OUT)
def test_outputs_and_gradients_with_padding_left_out(models, file, kind, load):
    assert_as_expected(models, load(file, kind), file, kind, leave_out=True)


def test_rounded_positions_are_reported(models, tmp_path, capfd):
    """RoFormer's sines and cosines in half precision, which Transformers would compute with."""
    folder = write_directory(tmp_path / "model", Path(__file__).parent / "expected" / "roformer.npz", "pair")
    models.load_model(TASKS["ocnli"], Model.of(folder))
    assert "is rounded" not in capfd.readouterr().err
    weights = load_file(folder / "model.safetensors")
    save_file({name: array.astype(np.float16) for name, array in weights.items()}, folder / "model.safetensors")
    models.load_model(TASKS["ocnli"], Model.of(folder))
    assert "its table of positions is rounded" in capfd.readouterr().err
