"""Hashes of large files, remembered between processes."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cluebench.foundation import atomic, environment, json_files
from cluebench.foundation.json_files import matching

_READ_BYTES = 1 << 20


@dataclass
class _Remembered:
    """What a file was when its content was hashed."""

    size: int
    mtime_ns: int
    inode: int
    sha256: Annotated[str, matching("^[0-9a-f]{64}$")]


def content_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits.

    Remembered in the cache directory by size, time of the last change in ns, and inode: while these are the same the
    file is not read again. Raises OSError.
    """
    path = path.resolve()
    place = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    memory = environment.cache_home() / "content" / f"{place}.json"
    before = _facts(path)
    known = json_files.read_if_sound(memory, _Remembered, otherwise="the file is hashed again")
    if known and (known.size, known.mtime_ns, known.inode) == before:
        return known.sha256
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    if _facts(path) == before:
        with suppress(OSError):  # no place for a memory: hashed every time
            memory.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_json(memory, asdict(_Remembered(*before, digest.hexdigest())))
    return digest.hexdigest()


def _facts(path: Path) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino
