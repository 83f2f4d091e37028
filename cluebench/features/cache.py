"""Feature arrays on disk: made once by whichever process comes first, read memory-mapped by all the others.

An entry is a directory of ``.npy`` files and a ``meta.json`` with its key and the size and checksum of each file. It is
written under a temporary name and renamed, under a lock, so that trials started together build it once. An entry that
is not whole, or not what its meta.json says, is built again.
"""

import errno
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from cluebench.foundation import atomic, json_files, time_limit
from cluebench.foundation.errors import BadFile
from cluebench.foundation.file_facts import FileFacts, facts_of
from cluebench.foundation.notices import notice

_META = "meta.json"
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


def _save(path: Path, key: Mapping[str, Any], arrays: Arrays) -> None:
    """Raises OSError, with no trace left of a half-written entry."""
    with atomic.replacing(path) as temporary:
        temporary.mkdir()
        files = {}
        for name, array in arrays.items():
            _write_array(temporary / f"{name}.npy", np.asarray(array, order="C"))
            files[name] = asdict(facts_of(temporary / f"{name}.npy"))
        meta = {"key": dict(key), "files": files, "digest": _hash({"key": dict(key), "files": files})}
        (temporary / _META).write_text(json.dumps(meta, ensure_ascii=False, indent=1), encoding="utf-8")


def _write_array(file: Path, array: np.ndarray) -> None:
    """As numpy.save, whose error for a full disk doesn't say so."""
    with open(file, "wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        stream.write(array.reshape(-1).view(np.uint8).data)


@dataclass
class _Meta:
    """What lies beside the arrays of an entry. ``digest``: of the rest, so that no file is missed."""

    key: dict[str, Any]
    files: dict[str, FileFacts]
    digest: str


def _load(path: Path, key: Mapping[str, Any]) -> Arrays | None:
    """None when the entry is missing, half, damaged or another key's."""
    try:
        meta = json_files.read(path / _META, _Meta)
        files = {name: asdict(facts) for name, facts in meta.files.items()}
        if _hash(meta.key) != _hash(key) or meta.digest != _hash({"key": meta.key, "files": files}):
            notice(f"{path / _META} is damaged; making it again")
            return None
        arrays = {}
        for name, facts in meta.files.items():
            file = path / f"{name}.npy"
            if facts_of(file) != facts:
                notice(f"{file} is damaged; making it again")
                return None
            arrays[name] = np.load(file, mmap_mode="r", allow_pickle=False)
        return arrays
    except FileNotFoundError:
        return None
    except (OSError, ValueError, BadFile) as error:
        notice(f"{path} is damaged ({error}); making it again")
        return None
