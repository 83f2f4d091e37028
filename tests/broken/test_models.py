"""Files of models and checkpoints, broken by hypothesis, through Paddle: one line each, never a traceback."""

import json
import pickle
import random
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.demo import __main__ as demo
from cluebench.foundation import atomic
from cluebench.foundation.file_facts import facts_of
from cluebench.pretrained.model import Model
from cluebench.pretrained.weights import read_weights
from cluebench.records.result import DevPoint, Result
from cluebench.training.checkpoint_format import COMPLETE_FILE, CheckpointOwner
from tests.broken.mutations import NOWHERE, ODD, broken_bytes, broken_json, for_all, outcome, paths, replaced
from tests.models.conftest import write_model
from tests.models.test_written_by import WRITTEN_BY
from tests.models.weight_files import StandInTorch, write_safetensors

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    from cluebench.foundation import environment

    environment.import_paddle()
    return write_model(tmp_path_factory.mktemp("models") / "Bert", "Bert", tokens=None)


def load(folder):
    from cluebench import models
    from cluebench.features import TextEncoder

    model = Model.of(folder)
    tokenizer = models.load_tokenizer(model)
    TextEncoder(tokenizer).encode(["他们说：hello"])
    return models.load_model(TASKS["tnews"], model, tokenizer=tokenizer, max_seq_length=32)


#: Which directory, and the file of it that is broken: of an architecture made here, or of one that Transformers wrote.
BROKEN = [
    *[("Bert", name) for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")],
    *[(prefix, "config.json") for prefix in ("ModernBert", "DebertaV2", "Albert", "DistilBert")],
    *[(prefix, "tokenizer.json") for prefix in ("XLMRoberta", "ModernBert", "tf5_bert_added_words")],
    *[("tf4_bert_added_words", name) for name in ("tokenizer_config.json", "added_tokens.json")],
]


@pytest.mark.parametrize(("directory", "name"), BROKEN)
def test_a_broken_directory_never_ends_in_a_traceback(directory, name, bert, tmp_path):
    folder = tmp_path / "model"
    if (WRITTEN_BY / directory).is_dir():
        shutil.copytree(WRITTEN_BY / directory, folder)
    elif directory == "Bert":
        shutil.copytree(bert, folder)
    else:
        write_model(folder, directory)
    whole = (folder / name).read_bytes()

    def check(content):
        (folder / name).write_bytes(content)
        found = outcome(lambda: load(folder))
        assert not found.refused or str(folder) in found.refused

    for_all(broken_bytes(whole) if name == "vocab.txt" else broken_json(json.loads(whole)), check)


ARRAYS = {"encoder.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "bias": np.array([1.5, -2.0], np.float32)}


@pytest.fixture(params=["model.safetensors", "model_state.pdparams", "pytorch_model.bin"])
def weights(request, tmp_path, monkeypatch):
    path = tmp_path / request.param
    if request.param.endswith("safetensors"):
        write_safetensors(path, ARRAYS, metadata={"format": "pt"})
    elif request.param.endswith("pdparams"):
        path.write_bytes(pickle.dumps(ARRAYS))
    else:
        torch = StandInTorch(monkeypatch)
        torch.save(path, {name: torch.tensor(array) for name, array in ARRAYS.items()})
    return path


def test_broken_weights_never_end_in_a_traceback(weights):
    whole = weights.read_bytes()

    def check(content):
        weights.write_bytes(content)
        found = outcome(lambda: read_weights([weights]))
        assert str(weights) in found.refused or all(
            array.dtype.kind != "f" or np.isfinite(array).all() for array in found.value.values()
        )

    for_all(broken_bytes(whole), check)


def test_a_broken_safetensors_header_is_reported(tmp_path):
    path = tmp_path / "model.safetensors"
    header = {
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [3], "data_offsets": [8, 20]},
    }

    def check(text):
        path.write_bytes(len(text).to_bytes(8, "little") + text + np.ones(5, "<f4").tobytes())
        found = outcome(lambda: read_weights([path]))
        arrays = found.value or {}
        assert str(path) in found.refused or "a" in arrays or sum(array.nbytes for array in arrays.values()) == 20

    for_all(broken_json(header), check)


RANGES = {
    "overlapping": [[0, 8], [4, 20]],
    "repeated": [[0, 8], [0, 12]],
    "with a hole": [[0, 8], [12, 24]],
    "not to the end": [[0, 4], [4, 16]],
    "backwards": [[8, 0], [8, 20]],
}


@pytest.mark.parametrize("kind", RANGES)
def test_ranges_that_are_not_end_to_end_are_refused(kind, tmp_path):
    (first, last), path = RANGES[kind], tmp_path / "model.safetensors"
    sizes = [abs(end - start) // 4 for start, end in (first, last)]
    entries = zip("ab", sizes, (first, last))
    header = {name: {"dtype": "F32", "shape": [size], "data_offsets": offsets} for name, size, offsets in entries}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + np.ones(5, "<f4").tobytes())
    assert str(path) in outcome(lambda: read_weights([path])).refused


def test_an_array_in_two_files_of_one_model_is_refused(tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        write_safetensors(tmp_path / name, ARRAYS)
    found = outcome(lambda: read_weights([tmp_path / "a.safetensors", tmp_path / "b.safetensors"]))
    assert "is in another of the model's files too" in found.refused


def test_a_tensor_is_no_larger_than_its_storage(tmp_path, monkeypatch):
    """A step of 0 would make any number of numbers out of one."""
    torch = StandInTorch(monkeypatch)
    torch.save(tmp_path / "pytorch_model.bin", {"a": torch.tensor(ARRAYS["bias"], size=(10**6, 10**6), stride=(0, 0))})
    assert "more numbers than its storage" in outcome(lambda: read_weights([tmp_path / "pytorch_model.bin"])).refused


# Checkpoints ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from cluebench.foundation import environment

    environment.import_paddle()
    import paddle

    from cluebench.training.checkpoint import Checkpoint
    from cluebench.training.optimization import Precision

    model = paddle.nn.Linear(3, 2)
    schedule = paddle.optimizer.lr.StepDecay(0.1, 10)
    optimizer = paddle.optimizer.AdamW(schedule, parameters=model.parameters())
    result = Result("tnews", "m", {"seed": 42}, "0" * 16)
    result.add(DevPoint(5, 0, (50.0,)))
    model(paddle.ones([1, 3])).sum().backward()
    optimizer.step()
    made = Checkpoint(tmp_path_factory.mktemp("out") / "checkpoint", model, optimizer, Precision(), result)
    made.save(5)
    assert made.restore() == 5
    return made


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "optimizer.safetensors"])
def test_a_broken_checkpoint_is_used_whole_or_not_at_all(name, checkpoint):
    path = checkpoint.folder / name
    whole = path.read_bytes()

    def check(content):
        path.write_bytes(content)
        before, numbers = random.getstate(), np.random.get_state()[1].tolist()
        found = outcome(checkpoint.restore)
        assert not found.refused and (found.is_loud or found.value == 5)
        if not found.value:
            assert random.getstate() == before and np.random.get_state()[1].tolist() == numbers
            assert all(np.isfinite(parameter.numpy()).all() for parameter in checkpoint.model.parameters())

    try:
        for_all(broken_json(json.loads(whole)) if name == "state.json" else broken_bytes(whole), check)
    finally:
        path.write_bytes(whole)
    assert checkpoint.restore() == 5


@pytest.mark.parametrize("text", [text for text in ODD if text != "101"], ids=lambda text: text[:12])
def test_no_odd_text_is_a_step(text, checkpoint):
    path = checkpoint.folder / "state.json"
    whole = path.read_text()
    path.write_text(replaced(json.loads(whole), ("step",), text))
    try:
        assert outcome(checkpoint.restore).is_loud
    finally:
        path.write_text(whole)


def test_the_state_of_a_loss_scaler_is_json(checkpoint):
    """float16 scales its loss on GPUs only; what Paddle's scaler gives of itself there has an array in it."""
    from cluebench.training.checkpoint import _scaler_state

    state = {"scale": np.array([32768.0], np.float32), "incr_ratio": 2.0, "use_dynamic_loss_scaling": True}
    made = _scaler_state(SimpleNamespace(state_dict=lambda: state))
    assert json.loads(json.dumps(made)) == {"scale": [32768.0], "incr_ratio": 2.0, "use_dynamic_loss_scaling": True}


def test_a_broken_checkpoint_of_the_trainer_is_passed_over(checkpoint, tmp_path_factory):
    """A run goes on from the last one; if it is broken, which is reported, from the one before it."""
    from cluebench.training import paddlenlp_trainer

    result, folder = checkpoint.result, tmp_path_factory.mktemp("trainer")
    config = SimpleNamespace(flags=SimpleNamespace(output_dir=folder), result=result)
    for step in (5, 10):
        weights = folder / f"checkpoint-{step}" / "model_state.pdparams"
        atomic.write_text(weights, "weights")
        facts = {weights.name: facts_of(weights)}
        owner = CheckpointOwner(result.configuration_hash, result.progress(), result.configuration, facts)
        owner.write(weights.with_name(COMPLETE_FILE))
    last = folder / "checkpoint-10"
    sound = json.loads((last / COMPLETE_FILE).read_text())
    found = outcome(lambda: paddlenlp_trainer._last_checkpoint(config))
    assert found.value == last and not found.is_loud

    def check(content):
        (last / COMPLETE_FILE).write_bytes(content)
        found = outcome(lambda: paddlenlp_trainer._last_checkpoint(config))
        if found.value == last:
            assert json.loads(content) == sound
        else:
            assert found.value == folder / "checkpoint-5" and COMPLETE_FILE in found.printed

    for_all(broken_json(sound), check)
    for at in paths(sound):
        if at:
            (last / COMPLETE_FILE).write_text(replaced(sound, at, NOWHERE))
            found = outcome(lambda: paddlenlp_trainer._last_checkpoint(config))
            assert found.value == folder / "checkpoint-5" and COMPLETE_FILE in found.printed, at
    (last / COMPLETE_FILE).write_text(json.dumps(sound))
    (last / "model_state.pdparams").write_text("Weights")
    found = outcome(lambda: paddlenlp_trainer._last_checkpoint(config))
    assert found.value == folder / "checkpoint-5" and "model_state.pdparams: is not what was written" in found.printed


# The demo -------------------------------------------------------------------------------------------------------------


def test_a_demo_of_a_broken_record_is_made_again(bert, tmp_path_factory, monkeypatch):
    from cluebench.demo import embedded_model

    made: list = []
    monkeypatch.setattr(demo.synthetic, "write_synthetic", lambda folder: made.append(folder))
    monkeypatch.setattr(embedded_model, "write_demo_model", lambda folder, characters: made.append(folder))
    folder = tmp_path_factory.mktemp("demo")
    demo.write(folder)
    record, whole = folder / "made.json", (folder / "made.json").read_bytes()

    def check(content):
        record.write_bytes(content)
        made.clear()
        found = outcome(lambda: demo.write(folder))
        assert found.value == (folder / "model", folder / "data") and bool(made) == (record.read_bytes() != content)
        if made:
            assert record.read_bytes() == whole

    for_all(broken_json(json.loads(whole)), check)
    record.write_text(NOWHERE)
    assert "made.json" in outcome(lambda: demo.write(folder)).printed
