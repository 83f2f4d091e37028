"""Reads weights from files to arrays without running code from a file, and without Paddle.

Two of the formats are pickles, which are programs: the libraries that wrote them run whatever the author put there.
The unpickler here accepts arrays and containers only, and refuses the rest by name. Safetensors files hold no code.
"""

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from cluebench.foundation.errors import UsageError
from cluebench.foundation.json_files import repeated_keys


def read_weights(files: Sequence[Path]) -> dict[str, np.ndarray]:
    """The arrays of one or more files under their saved names; floating-point arrays as float32.

    Reads .safetensors, .pdparams of ``paddle.save`` and .bin of ``torch.save`` (PyTorch 1.6 or later; PyTorch is not
    needed). Raises UsageError naming a file that is damaged, of another format, or a pickle of more than arrays.
    """
    readers = {".safetensors": _read_safetensors, ".pdparams": _read_pickle, ".bin": _read_torch}
    found: dict[str, np.ndarray] = {}
    for file in files:
        try:
            arrays = readers[file.suffix](file)
        except _Forbidden as error:
            raise UsageError(
                f"{file}: the pickle asks for {error}, which no weights need; it is not loaded, as it could run any "
                "program. If you trust its author, save the weights as model.safetensors"
            ) from None
        except UsageError:
            raise
        except Exception as error:  # a damaged pickle, zip or header raises nearly anything
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            raise UsageError(f"{file}: damaged, or not a file of weights ({reason})") from None
        if odd := [name for name in arrays if not isinstance(name, str)]:
            raise UsageError(f"{file}: an array is called {str(odd[0])[:60]}, which is not a name")
        if repeated := found.keys() & arrays.keys():
            raise UsageError(f"{file}: {min(repeated)} is in another of the model's files too")
        found.update((name, _finite_floats(file, name, array)) for name, array in arrays.items())
    return _without_wrappers(found)


#: Modules that PyTorch puts around a model: by DataParallel, compile, FSDP and activation checkpointing.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def _without_wrappers(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names without wrappers: ``"module.bert.pooler.dense.bias"`` → ``"bert.pooler.dense.bias"``.

    Lightning calls a whole model ``model``; only ModernBERT's backbone has that name, and its head stands beside it.
    """
    names = {name: ".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in arrays}
    if all(name.startswith("model.") for name in names.values()):
        names = {name: plain.removeprefix("model.") for name, plain in names.items()}
    if len(set(names.values())) < len(names):
        raise UsageError(
            "the weights hold an array twice, once inside a wrapper such as DataParallel's and once outside"
        )
    return {names[name]: array for name, array in arrays.items()}


def _finite_floats(file: Path, name: str, array: np.ndarray) -> np.ndarray:
    """float32 for every floating-point type; numpy has no bfloat16, whose 16 bits are the upper half of a float32.

    Raises UsageError for NaN and infinity, which only a broken training leaves.
    """
    if array.dtype == np.uint16:
        array = np.asarray(np.left_shift(array, 16, dtype=np.uint32)).view(np.float32)
    if array.dtype.kind != "f":
        return array
    plain = array.astype(np.float32, copy=False)
    with np.errstate(all="ignore"):  # the sum takes one pass; it is not finite either where numbers are very large
        if not np.isfinite(plain.sum()) and not np.isfinite(plain).all():
            problem = "holds NaN or infinite numbers: the file is damaged, or its training diverged"
            raise UsageError(f"{file}: {name} {problem}")
    return plain


_SAFETENSORS_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def _read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """The library checks that the arrays lie end to end and fill the file. (Its numpy reader has no bfloat16.)"""
    arrays, content = {}, file.read_bytes()
    entries = safetensors.deserialize(content)
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    if repeated := repeated_keys(header):  # the library would use the last
        raise UsageError(f"{file}: {min(repeated)} is in it twice")
    for name, entry in entries:
        if entry["dtype"] not in _SAFETENSORS_TYPES:
            raise UsageError(f"{file}: {name} is of type {entry['dtype']}, which is not supported")
        arrays[name] = np.frombuffer(entry["data"], _SAFETENSORS_TYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays


class _Forbidden(Exception):
    """A pickle asks for something that arrays don't need."""


class _StandIn:
    """What a pickle gets for an allowed name. The pickle can call it, but can't change it or what it does.

    A pickle never gets a function or class of numpy: their constructors trust the pickle's sizes and types.
    """

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]):
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _Forbidden("a change of what it gets")


class _Dtype(_StandIn):
    """Stands for a numpy type; a pickle has no reason to call it."""

    __slots__ = ("name", "order")

    def __init__(self, name: Any, *_: Any):
        self.name, self.order = name, "<"
        if name not in _TYPES:
            raise _Forbidden(f"numpy.dtype({str(name)[:40]!r})")

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", ">", "|", "=") or tuple(state[2:]) != (None, None, None, -1, -1, 0):
            raise _Forbidden(f"a numpy type of {str(state)[:40]}")
        self.order = state[1]

    def read(self, data: bytes | str, count: int) -> np.ndarray:
        """Raises ValueError unless ``data`` has exactly ``count`` numbers."""
        content = data.encode("latin1") if isinstance(data, str) else data
        dtype = np.dtype(self.order + self.name)
        if not isinstance(content, bytes) or len(content) != count * dtype.itemsize:
            raise ValueError(f"not {count * dtype.itemsize} bytes for {count} numbers of {dtype}")
        return np.frombuffer(content, dtype) if count else np.zeros(0, dtype)


class _Array(_StandIn):
    """Stands for a numpy array, and has one once the pickle has given its content."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray | None = None):
        self.array = array

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_columns, data = state
        if self.array is not None or not isinstance(dtype, _Dtype):
            raise _Forbidden("an array that changes")
        if not _are_counts(shape):
            raise ValueError(f"{str(shape)[:40]} is not a shape")
        self.array = dtype.read(data, math.prod(shape)).reshape(shape, order="F" if by_columns else "C")


def _are_counts(numbers: Any) -> bool:
    """Whether this is a tuple of sizes or steps that numpy can count."""
    is_short = isinstance(numbers, tuple) and len(numbers) <= 32
    return is_short and all(type(number) is int and 0 <= number < 1 << 48 for number in numbers)


class _GeneratorState:
    """Stands for the state of a random generator of Paddle, in checkpoints of PaddleNLP's Trainer."""

    def __setstate__(self, state: Any) -> None:
        device, seed, offset, engine = state
        if not all(type(number) is int for number in (device, seed, offset, *engine)) or not isinstance(engine, list):
            raise _Forbidden("an impossible state of a random generator")


def _data_of(expression: str, names: Mapping[str, Any]) -> Any:
    """Stands for ``eval``, by which Paddle pickles one kind of tensor: always ``eval("data", {"data": array})``."""
    if expression != "data":
        raise _Forbidden(f"eval({expression[:40]!r})")
    return names["data"]


def _encoded(text: str, encoding: str) -> bytes:
    """Stands for ``_codecs.encode``, by which protocol 2 writes bytes."""
    if encoding != "latin1":
        raise _Forbidden(f"the encoding {encoding[:40]!r}")
    return text.encode("latin1")


def _reconstructed(kind: Any, *_: Any) -> _Array:
    if kind is not _NDARRAY:
        raise _Forbidden("an array of another kind")
    return _Array()


_TYPES = frozenset("b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split())
_NDARRAY = _StandIn(_reconstructed)

#: Everything that a pickle of arrays may name.
_ALLOWED = {
    "collections.OrderedDict": OrderedDict,
    "builtins.tuple": tuple,
    "builtins.eval": _StandIn(_data_of),
    "_codecs.encode": _StandIn(_encoded),
    "paddle.base.libpaddle.GeneratorState": _GeneratorState,
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _StandIn(_Dtype),
    "numpy.core.multiarray._reconstruct": _StandIn(_reconstructed),
    "numpy.core.multiarray.scalar": _StandIn(lambda dtype, data: dtype.read(data, 1).item()),
}
#: Module names of Python 2 and numpy 2.
_OTHER_NAMES = {"__builtin__": "builtins", "numpy._core.multiarray": "numpy.core.multiarray"}


class _ArrayUnpickler(pickle.Unpickler):
    allowed = _ALLOWED

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{_OTHER_NAMES.get(module, module)}.{name}"
        if full_name not in self.allowed:
            raise _Forbidden(f"{module}.{name}")
        return self.allowed[full_name]


def refuse_programs(checkpoint: Path) -> None:
    """Raises UsageError when a pickle in a checkpoint of PaddleNLP's Trainer, which would load it, is not safe."""
    for file in (path for path in sorted(checkpoint.iterdir()) if path.suffix in (".pdparams", ".pdopt", ".pth")):
        try:
            with open(file, "rb") as stream:
                _ArrayUnpickler(stream, encoding="latin1").load()
        except Exception as error:
            why = f"the pickle asks for {error}" if isinstance(error, _Forbidden) else f"damaged ({error})"
            advice = "so this checkpoint can't be resumed; --overwrite_output_dir starts again"
            raise UsageError(f"{file}: {why}, {advice}") from None


def _read_pickle(file: Path) -> dict[str, np.ndarray]:
    with open(file, "rb") as stream:
        return _state_in(file, _ArrayUnpickler(stream, encoding="latin1").load())


#: Keys under which training programs keep the model beside its optimizer; the first one present is read.
_STATES = ("state_dict", "model_state_dict", "model", "module")


def _state_in(file: Path, saved: Any) -> dict[str, np.ndarray]:
    """The arrays of a saved dict, or of the dict in it that is a model's. ``paddle.save`` may write (name, array)."""
    if not isinstance(saved, dict):
        raise UsageError(f"{file}: holds a {type(saved).__name__}, not a model's state")
    if "UnpackBigParamInfor@@" in saved:
        raise UsageError(f"{file}: an array over 1 GB was cut into parts; save the weights again with protocol=4")
    inner = next((saved[key] for key in _STATES if isinstance(saved.get(key), dict)), saved)
    values = {name: value[1] if isinstance(value, tuple) else value for name, value in inner.items()}
    return {
        name: value.array for name, value in values.items() if isinstance(value, _Array) and value.array is not None
    }


# PyTorch --------------------------------------------------------------------------------------------------------------

_TORCH_TYPES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "u2", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "b1",
}  # fmt: skip


def _rebuild_tensor(stored: _Array, offset: int, size: tuple, stride: tuple, *_: Any) -> _Array:
    """A view of a storage; a view beyond its end is refused."""
    storage = stored.array
    if storage is None or storage.ndim != 1 or not all(map(_are_counts, (size, stride, (offset,)))):
        raise ValueError("a tensor without a storage, or with impossible sizes")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride))
    if len(size) != len(stride) or (all(size) and last >= len(storage)):
        raise ValueError("a tensor lies outside its storage")
    if math.prod(size) > len(storage):
        raise ValueError("a tensor has more numbers than its storage")
    steps = [step * storage.itemsize for step in stride]
    return _Array(np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False))


_TORCH_ALLOWED = {
    **_ALLOWED,
    "torch._utils._rebuild_tensor_v2": _StandIn(_rebuild_tensor),
    "torch._utils._rebuild_parameter": _StandIn(lambda data, *_: data),
    "torch.Size": tuple,
}


class _TorchUnpickler(_ArrayUnpickler):
    """``torch.save`` keeps the numbers of each tensor in a member of its own, named by a persistent id."""

    allowed = _TORCH_ALLOWED

    def __init__(self, stream: Any, archive: zipfile.ZipFile, root: str):
        super().__init__(stream, encoding="utf-8")
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _TORCH_TYPES:
            return _Dtype(_TORCH_TYPES[name])
        return super().find_class(module, name)

    def persistent_load(self, identity: tuple) -> _Array:
        _, kind, key, _, count = identity
        member = self._archive.getinfo(f"{self._root}/data/{key}")
        if member.compress_type != zipfile.ZIP_STORED:  # else a few bytes could unpack to any size
            raise ValueError(f"{member.filename} is packed, as torch.save never does")
        return _Array(kind.read(self._archive.read(member), count))


#: For a machine with PyTorch; shared tensors are cloned, since safetensors refuses them.
_TORCH_CONVERSION = (
    "python -c \"import torch; from safetensors.torch import save_file; w = torch.load('pytorch_model.bin', "
    "map_location='cpu', weights_only=True); save_file({k: v.clone().contiguous() for k, v in w.items()}, "
    "'model.safetensors')\""
)


def _read_torch(file: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(file):
        raise UsageError(
            f"{file}: cut off, or of the format before PyTorch 1.6: where there is a PyTorch, run in its directory "
            + _TORCH_CONVERSION
        )
    with zipfile.ZipFile(file) as archive:
        member = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if member is None:
            raise UsageError(f"{file}: a zip archive without data.pkl, so not written by torch.save")
        with archive.open(member) as stream:
            return _state_in(file, _TorchUnpickler(stream, archive, member.removesuffix("/data.pkl")).load())
