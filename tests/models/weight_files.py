"""Weight files as other libraries write them, without those libraries."""

import io
import json
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np


def write_safetensors(path, arrays, kind="F32", convert=lambda array: array, metadata=None):
    """The format by its published description, not by the library."""
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, array in arrays.items():
        raw = convert(array).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


#: PyTorch's storages and the types of what they hold.
STORAGES = {
    "DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16, "LongStorage": np.int64,
    "IntStorage": np.int32, "ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}  # fmt: skip


class StandInTorch:
    """Makes pickles like torch.save's: tensors rebuilt by a function of torch._utils from storages kept beside."""

    def __init__(self, monkeypatch):
        torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
        self.storages = {}
        for name in ("BFloat16Storage", *STORAGES):
            setattr(torch, name, type(name, (), {"__module__": "torch"}))

        torch.Size = type("Size", (tuple,), {"__module__": "torch"})

        def _rebuild_tensor_v2(*parts):
            raise AssertionError("never called when pickling")

        def _rebuild_parameter(*parts):
            raise AssertionError("never called when pickling")

        for function in (_rebuild_tensor_v2, _rebuild_parameter):
            function.__module__, function.__qualname__ = "torch._utils", function.__name__
            setattr(utils, function.__name__, function)
        torch._utils = utils
        monkeypatch.setitem(sys.modules, "torch", torch)
        monkeypatch.setitem(sys.modules, "torch._utils", utils)
        self.torch = torch

    def tensor(self, array, storage="FloatStorage", offset=0, size=None, stride=None):
        """``array``: the storage's numbers; by default the tensor is all of them in C order."""
        outer = self
        size = array.shape if size is None else size
        stride = tuple(step // array.itemsize for step in array.strides) if stride is None else stride

        class Storage:
            kind, numbers = getattr(self.torch, storage), np.ascontiguousarray(array).ravel()

        class Tensor:
            def __reduce__(self):
                return outer.torch._utils._rebuild_tensor_v2, (Storage(), offset, size, stride, False, OrderedDict())

        return Tensor()

    def save(self, path, value):
        stream, members = io.BytesIO(), []

        class Pickler(pickle.Pickler):
            def persistent_id(self, value):
                if not hasattr(value, "numbers"):
                    return None
                members.append(value.numbers)
                return "storage", value.kind, str(len(members) - 1), "cpu", len(value.numbers)

        Pickler(stream, protocol=2).dump(value)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", stream.getvalue())
            for key, numbers in enumerate(members):
                archive.writestr(f"archive/data/{key}", numbers.tobytes())
            archive.writestr("archive/version", "3\n")
