"""Feature arrays on disk: made once by whichever process comes first, read memory-mapped by all the others.

An entry is a file: a line of JSON with its key and the types and shapes of the arrays, the arrays, each from a multiple
of 64 bytes on, and a checksum of everything before it. It is written under a temporary name and renamed, under a lock,
so that trials started together build it once. An entry that is not whole is built again.
"""

import errno
import hashlib
import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from cluebench.foundation import atomic, json_files, time_limit
from cluebench.foundation.file_facts import facts_of
from cluebench.foundation.json_files import Count
from cluebench.foundation.notices import notice

_ALIGNMENT, _CHECKSUM_BYTES = 64, 4
_PATIENCE = 10  # seconds another process may build before it is worth a line

Arrays = dict[str, np.ndarray]


class FeatureCache:
    """Entries of one cache directory, which is made when first needed.

    Failing to write never costs the caller its arrays: they are returned from memory, and one line says why.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)
        self.built = 0  # entries that were not there

    def path(self, key: Mapping[str, Any]) -> Path:
        """Where the entry of a key lies; the name starts with what people look for: task and split."""
        name = "-".join(str(key[part]) for part in ("task", "split") if part in key)
        return self.directory / f"{name or 'entry'}-{_hash(key)}"

    def get(self, key: Mapping[str, Any], build: Callable[[], Arrays], overwrite: bool = False) -> Arrays:
        """The arrays of ``key``, from the cache or else from ``build`` and then kept; read-only when from the cache.

        ``key`` holds everything that decides the arrays, as JSON values. ``overwrite`` builds in any case.
        Raises only what ``build`` raises.
        """
        path = self.path(key)
        if not overwrite and (arrays := _load(path, key)) is not None:
            return arrays
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if why := time_limit.why_no_locks(self.directory):
                raise OSError(errno.ENOLCK, why)
            lock = FileLock(str(self.directory / f".{path.name}.lock"))
            try:
                lock.acquire(timeout=_PATIENCE)
            except Timeout:
                notice(f"waiting for another process that is making {path}")
                lock.acquire()
        except OSError as error:
            self._report(error)
            return self._build(build)
        try:
            if not overwrite and (arrays := _load(path, key)) is not None:
                return arrays  # another process built it meanwhile
            arrays = self._build(build)
            try:
                atomic.remove_leftovers(self.directory, path.name)  # of processes that were killed
                _save(path, key, arrays)
            except OSError as error:
                self._report(error)
                return arrays
            return _load(path, key) or arrays
        finally:
            lock.release()

    def _build(self, build: Callable[[], Arrays]) -> Arrays:
        self.built += 1
        return build()

    def _report(self, error: OSError) -> None:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = ": the disk is full; free some space, or features are made in every run"
        else:
            reason = f" can't be written ({error.strerror or error}): features are not kept"
        notice(f"--cache_dir {self.directory}{reason}")


def _hash(key: Mapping[str, Any]) -> str:
    text = json.dumps(key, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class _Header:
    """The first line of an entry, as JSON."""

    key: dict[str, Any]
    arrays: dict[str, tuple[str, list[Count]]]  # type and shape


def _save(path: Path, key: Mapping[str, Any], arrays: Arrays) -> None:
    """Raises OSError, with no trace left of a half-written entry."""
    header = {"key": key, "arrays": {name: (array.dtype.str, array.shape) for name, array in arrays.items()}}
    with atomic.replacing(path) as temporary:
        with open(temporary, "wb") as stream:
            stream.write(json.dumps(header, ensure_ascii=False).encode() + b"\n")
            for array in arrays.values():
                stream.write(bytes(-stream.tell() % _ALIGNMENT))
                stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        with open(temporary, "ab") as stream:
            stream.write(facts_of(temporary).crc32.to_bytes(_CHECKSUM_BYTES, "little"))


def _load(path: Path, key: Mapping[str, Any]) -> Arrays | None:
    """None when the entry is missing, half, damaged or another key's."""
    try:
        content: np.ndarray = np.memmap(path, np.uint8, "r")
        if zlib.crc32(content[:-_CHECKSUM_BYTES].data) != int.from_bytes(
            content[-_CHECKSUM_BYTES:].tobytes(), "little"
        ):
            raise ValueError("its checksum is another")
        with open(path, "rb") as stream:
            line = stream.readline()
        header = json_files.converted(json_files.parse(line), _Header)
        if _hash(header.key) != _hash(key):
            raise ValueError("its key is another")
        arrays, end = {}, len(line)
        for name, (kind, shape) in header.arrays.items():
            start = end + -end % _ALIGNMENT
            end = start + np.dtype(kind).itemsize * math.prod(shape)
            arrays[name] = content[start:end].view(kind).reshape(shape)
        return arrays
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        notice(f"{path} is damaged ({error}); making it again")
        return None
