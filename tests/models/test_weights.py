"""Reading weights: what every format holds, and that no file is ever run or half believed."""

import codecs
import json
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from cluebench.foundation.errors import UsageError
from cluebench.pretrained import model_files, weights
from cluebench.pretrained.model import Model
from cluebench.pretrained.weights import read_weights, refuse_programs
from tests.models.weight_files import STORAGES, StandInTorch, write_safetensors

ARRAYS = {
    "encoder.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "bias": np.array([1.5, -2.0], np.float32),
    "scalar": np.array(3, np.float32),
}


@pytest.fixture
def torch_file(tmp_path, monkeypatch):
    stand_in = StandInTorch(monkeypatch)
    return stand_in, tmp_path / "pytorch_model.bin"


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


# Every format ---------------------------------------------------------------------------------------------------------


def test_safetensors(tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, ARRAYS, metadata={"format": "pt"})
    assert_same(read_weights([path]), ARRAYS)


def test_half_precisions_become_float32(tmp_path):
    """All numbers here are exact in 8 bits of mantissa."""
    for kind, convert in {
        "F16": lambda array: array.astype(np.float16),
        "BF16": lambda array: (array.view(np.uint32) >> 16).astype(np.uint16),
        "F64": lambda array: array.astype(np.float64),
    }.items():
        write_safetensors(tmp_path / "model.safetensors", ARRAYS, kind, convert)
        assert_same(read_weights([tmp_path / "model.safetensors"]), ARRAYS)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_paddles_pickles(tmp_path, protocol):
    """A dict of arrays, or of (name, array); and the table of structured names beside them."""
    path = tmp_path / "model_state.pdparams"
    named = {name: (f"linear_{number}.w_0", array) for number, (name, array) in enumerate(ARRAYS.items())}
    for saved in (ARRAYS, named):
        path.write_bytes(pickle.dumps({**saved, "StructuredToParameterName@@": {"bias": "b_0"}}, protocol))
        assert_same(read_weights([path]), ARRAYS)


def test_bfloat16_of_paddle(tmp_path):
    path = tmp_path / "model_state.pdparams"
    path.write_bytes(pickle.dumps({"a": np.array([0x3FC0, 0xC000], np.uint16)}))
    assert read_weights([path])["a"].tolist() == [1.5, -2.0]


class Reduced:
    """Pickled as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
def test_paddles_pickled_eval_is_understood_not_run(protocol, tmp_path):
    """And a tuple made by a call; protocol 2 names Python 2's modules."""
    path = tmp_path / "model_state.pdparams"
    evaluated, made = Reduced(eval, "data", {"data": ARRAYS["bias"]}), Reduced(tuple, ["b.w_0", ARRAYS["scalar"]])
    path.write_bytes(pickle.dumps({"a": evaluated, "b": made, "step": np.float32(3)}, protocol))
    assert_same(read_weights([path]), {"a": ARRAYS["bias"], "b": ARRAYS["scalar"]})


def test_pytorchs_files_without_pytorch(torch_file):
    torch, path = torch_file
    numbers = np.arange(24, dtype=np.float32)
    torch.save(path, OrderedDict(
        plain=torch.tensor(ARRAYS["encoder.weight"]),
        part=torch.tensor(numbers, offset=4, size=(2, 3), stride=(3, 1)),
        transposed=torch.tensor(numbers, offset=0, size=(4, 6), stride=(1, 4)),
        half=torch.tensor(np.array([1.5, -2], np.float16), "HalfStorage"),
        brain=torch.tensor(np.array([0x3FC0, 0xC000], np.uint16), "BFloat16Storage"),
        whole=torch.tensor(np.array([7, 8]), "LongStorage"),
        nothing=torch.tensor(np.zeros((0, 3), np.float32)),
        shape=Reduced(torch.torch.Size, [2, 3]),  # no array: left out
        parameter=Reduced(torch.torch._utils._rebuild_parameter, torch.tensor(ARRAYS["bias"]), True, OrderedDict()),
    ))  # fmt: skip
    assert_same(read_weights([path]), {
        "plain": ARRAYS["encoder.weight"],
        "part": numbers[4:10].reshape(2, 3),
        "transposed": numbers.reshape(6, 4).T,
        "half": ARRAYS["bias"],
        "brain": ARRAYS["bias"],
        "whole": np.array([7, 8]),
        "nothing": np.zeros((0, 3), np.float32),
        "parameter": ARRAYS["bias"],
    })  # fmt: skip


@pytest.mark.parametrize("storage", STORAGES)
def test_every_type_of_pytorchs(storage, torch_file):
    torch, path = torch_file
    numbers = np.array([0, 1, 0, 1], STORAGES[storage])
    torch.save(path, {"a": torch.tensor(numbers, storage)})
    kind = np.float32 if numbers.dtype.kind == "f" else numbers.dtype
    assert_same(read_weights([path]), {"a": numbers.astype(kind)})


@pytest.mark.parametrize("kind, numpys", [("I64", np.int64), ("I32", np.int32), ("U8", np.uint8), ("BOOL", np.bool_)])
def test_whole_numbers_keep_their_type(kind, numpys, tmp_path):
    numbers = np.array([0, 1, 0, 1], numpys)
    write_safetensors(tmp_path / "model.safetensors", {"a": numbers}, kind)
    assert_same(read_weights([tmp_path / "model.safetensors"]), {"a": numbers})


def test_shards(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    write_safetensors(tmp_path / "a.safetensors", {"bias": ARRAYS["bias"]})
    write_safetensors(tmp_path / "b.safetensors", {"scalar": ARRAYS["scalar"]})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"bias": "a.safetensors", "scalar": "b.safetensors"}}))
    assert set(read_weights(model_files.find(Model.of(tmp_path)).weights)) == {"bias", "scalar"}
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(UsageError, match="lists b.safetensors, which is not there"):
        model_files.find(Model.of(tmp_path))
    index.write_text("[]")
    with pytest.raises(UsageError, match="Expected object, got array"):
        model_files.find(Model.of(tmp_path))


# What must not be believed --------------------------------------------------------------------------------------------


HARMFUL = {
    "posix.system": lambda marker: Reduced(__import__("os").system, f"touch {marker}"),
    "builtins.exec": lambda marker: Reduced(exec, f"open({str(marker)!r}, 'w')"),
    "eval(": lambda marker: Reduced(eval, f"open({str(marker)!r}, 'w')", {}),
    "builtins.getattr": lambda marker: Reduced(getattr, "", "format"),
}


@pytest.mark.parametrize("named", HARMFUL)
def test_a_pickle_that_would_run_something_is_refused_by_name(named, tmp_path):
    marker, path = tmp_path / "it_ran", tmp_path / "model_state.pdparams"
    path.write_bytes(pickle.dumps({"a": ARRAYS["bias"], "b": HARMFUL[named](marker)}))
    with pytest.raises(UsageError) as refused:
        read_weights([path])
    assert named in str(refused.value) and str(path) in str(refused.value) and "\n" not in str(refused.value)
    assert not marker.exists()


def test_pytorchs_files_are_not_run_either(torch_file, tmp_path):
    torch, path = torch_file
    torch.save(path, {"a": HARMFUL["posix.system"](tmp_path / "it_ran")})
    with pytest.raises(UsageError, match=r"posix\.system"):
        read_weights([path])
    assert not (tmp_path / "it_ran").exists()


#: Neighbours of what weights need: half of each of these names is allowed in another place.
NEIGHBOURS = [
    "torch.load", "torch._rebuild_tensor_v2", "torch._utils._rebuild_from_type", "torch._utils.FloatStorage", "torch._utils.Size",
    "evil.FloatStorage", "evil._rebuild_tensor_v2", "evil._rebuild_parameter", "evil.Size", "evil.eval", "numpy.load",
    "builtins.OrderedDict", "evil._reconstruct",
]  # fmt: skip


@pytest.mark.parametrize("named", NEIGHBOURS)
def test_half_an_allowed_name_is_not_enough(named, tmp_path):
    """The pickles hold {"a": named}."""
    module, _, name = named.rpartition(".")
    pickled = b"\x80\x02}U\x01ac" + f"{module}\n{name}\n".encode() + b"s."
    torch, paddle = tmp_path / "pytorch_model.bin", tmp_path / "model_state.pdparams"
    paddle.write_bytes(pickled)
    with zipfile.ZipFile(torch, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    for path in (torch, paddle):
        with pytest.raises(UsageError) as refused:
            read_weights([path])
        assert f"the pickle asks for {named}, which no weights need" in str(refused.value)


class Numpy(Reduced):
    """Pickled as numpy pickles an array, with a state that may contradict itself."""

    def __init__(self, shape, dtype, data, kind=np.ndarray, version=1):
        self.call = np.zeros(0).__reduce__()[0], (kind, (0,), b"b"), (version, shape, dtype, False, data)


class Type(Reduced):
    def __init__(self, name, order="<", fields=None):
        self.call = np.dtype, (name, False, True), (3, order, None, fields, None, -1, -1, 0)


CONTRADICTIONS = {
    "more numbers than bytes": Numpy((1 << 20,), Type("f4"), b"12345678"),
    "fewer numbers than bytes": Numpy((1,), Type("f4"), b"12345678"),
    "a negative size": Numpy((-1, -2), Type("f4"), b"12345678"),
    "sizes whose product overflows": Numpy((1 << 32, 1 << 32), Type("f4"), b""),
    "sizes that are none": Numpy((2.0,), Type("f4"), b"12345678"),
    "a shape that is none": Numpy([2], Type("f4"), b"12345678"),
    "a number of bytes for bytes": Numpy((2,), Type("f4"), 8),
    "numbers for bytes": Numpy((2,), Type("f4"), [1.0, 2.0]),
    "no type": Numpy((2,), "f4", b"12345678"),
    "objects": Numpy((1,), Type("O8", "|"), [1]),
    "addresses": Numpy((1,), Type("O8", "|"), b"12345678"),
    "records": Numpy((1,), Type("V8", "|", ("a",)), b"12345678"),
    "fields of a number": Numpy((1,), Type("f8", "<", ("a",)), b"12345678"),
    "an unknown order": Numpy((1,), Type("f8", "x"), b"12345678"),
    "text": Numpy((1,), Type("U2"), b"12345678"),
    "an array of another class": Numpy((1,), Type("f8"), b"12345678", kind=OrderedDict),
    "a scalar of other size": Reduced(np.float32(0).__reduce__()[0], Type("f4"), b"12345678"),
    "another encoding": Reduced(codecs.encode, "text", "rot13"),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_sizes_types_and_bytes_that_contradict_each_other_are_refused(what, tmp_path):
    """In weights, and in a checkpoint of the Trainer, who would hand them to numpy."""
    path = tmp_path / "model_state.pdparams"
    path.write_bytes(pickle.dumps({"a": CONTRADICTIONS[what]}, 4))
    for read in (lambda: read_weights([path]), lambda: refuse_programs(tmp_path)):
        with pytest.raises(UsageError) as refused:
            read()
        assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_no_constructor_of_a_library_is_handed_out():
    """What a pickle gets is of this module, but for two containers of Python's own that can't be changed."""
    for name, given in {**weights._ALLOWED, **weights._TORCH_ALLOWED}.items():
        modules = {type(given).__module__, given.__module__}
        assert given in (tuple, OrderedDict) or weights.__name__ in modules, name


@pytest.mark.parametrize(
    "named", ["numpy.dtype", "numpy.ndarray", "numpy.core.multiarray._reconstruct", "builtins.eval"]
)
def test_what_a_pickle_is_handed_can_not_be_changed_by_it(named, tmp_path):
    """BUILD, which sets attributes."""
    module, _, name = named.rpartition(".")
    path = tmp_path / "model_state.pdparams"
    before = [weights._ALLOWED[one] for one in weights._ALLOWED]
    path.write_bytes(b"\x80\x02}U\x01ac" + f"{module}\n{name}\n".encode() + b"N}U\x05_callK\x01s\x86" + b"bs.")
    with pytest.raises(UsageError, match="a change of what it gets"):
        read_weights([path])
    assert before == [weights._ALLOWED[one] for one in weights._ALLOWED]


@pytest.mark.parametrize(
    "offset, size, stride", [(0, (2, 13), (13, 1)), (20, (5,), (1,)), (0, (3,), (-1,)), (-1, (2,), (1,))]
)
def test_a_tensor_outside_its_storage_is_refused(torch_file, offset, size, stride):
    torch, path = torch_file
    numbers = np.arange(24, dtype=np.float32)
    torch.save(path, {"a": torch.tensor(numbers, offset=offset, size=size, stride=stride)})
    with pytest.raises(UsageError, match="damaged"):
        read_weights([path])


def test_damaged_files_get_one_line(tmp_path, torch_file):
    torch, torch_path = torch_file
    safe, paddle = tmp_path / "model.safetensors", tmp_path / "model_state.pdparams"
    write_safetensors(safe, ARRAYS)
    paddle.write_bytes(pickle.dumps(ARRAYS))
    torch.save(torch_path, {"a": torch.tensor(ARRAYS["bias"])})
    for path in (safe, paddle, torch_path):
        whole = path.read_bytes()
        for length in (0, 5, len(whole) // 2, len(whole) - 3):
            path.write_bytes(whole[:length])
            with pytest.raises(UsageError) as refused:
                read_weights([path])
            assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    paddle.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UsageError, match="not a model's state"):
        read_weights([paddle])
    torch_path.write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")  # how PyTorch began its files before 1.6
    with pytest.raises(UsageError, match="before PyTorch 1.6.*python -c .*save_file"):
        read_weights([torch_path])


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def architectures(models):
    from cluebench.models import architectures

    return architectures


@pytest.mark.slow  # PaddleNLP is imported
def test_gamma_and_beta_of_old_files_are_weight_and_bias(architectures):
    bert = architectures.ARCHITECTURES["Bert"]
    names = ("bert.embeddings.LayerNorm.gamma", "bert.encoder.layer.11.output.LayerNorm.beta")
    old = dict.fromkeys(names, np.arange(3.0))
    assert architectures.is_hugging_face(old, bert)
    assert list(architectures.in_paddle(old, bert)) == ["embeddings.layer_norm.weight", "encoder.layers.11.norm2.bias"]


@pytest.mark.slow
@pytest.mark.parametrize("shape, expected", [((8, 12), False), ((12, 8), True)])
def test_where_both_libraries_have_the_same_names_the_matrices_tell(shape, expected, architectures):
    name = "encoder.layer.0.intermediate.dense"
    weights = {f"{name}.weight": np.zeros(shape), f"{name}.bias": np.zeros(12)}
    assert architectures.is_hugging_face(weights, architectures.ARCHITECTURES["XLMRoberta"]) is expected
