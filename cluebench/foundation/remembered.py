"""Hashes of large files, remembered between processes in the cache directory."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cluebench.foundation import atomic, environment, json_files
from cluebench.foundation.json_files import matching

_READ_BYTES = 1 << 20


@dataclass
class _Remembered:
    """What the files were when they were hashed, see `version_of`."""

    version: str
    hash: Annotated[str, matching("^[0-9a-f]*$")]


def version_of(*files: Path) -> str:
    """Changes whenever the bytes may have changed, even if sizes and times of writing are the same. Raises OSError."""
    facts = map(os.stat, files)
    return " ".join(f"{one.st_ino} {one.st_size} {one.st_mtime_ns} {one.st_ctime_ns}" for one in facts)


def remembered(what: str, files: tuple[Path, ...], compute: Callable[[], str]) -> str:
    """``compute()``, hexadecimal digits that depend on these files only; computed again when a file changes.

    ``what``: names the hash among all hashes of these files. Raises OSError, and what ``compute`` raises.
    """
    key = hashlib.sha256(b"\0".join([what.encode(), *(os.fsencode(file.resolve()) for file in files)])).hexdigest()
    memory = environment.cache_home() / "content" / f"{key[:16]}.json"
    before = version_of(*files)
    found = json_files.read_if_sound(memory, _Remembered, otherwise="the file is hashed again")
    if found and found.version == before:
        return found.hash
    computed = compute()
    if version_of(*files) == before:
        with suppress(OSError):  # without a place for the memory, files are hashed every time
            memory.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_json(memory, asdict(_Remembered(before, computed)))
    return computed


def content_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits. Raises OSError."""

    def compute() -> str:
        digest = hashlib.sha256()
        with open(path, "rb") as stream:
            while block := stream.read(_READ_BYTES):
                digest.update(block)
        return digest.hexdigest()

    return remembered("sha256", (path,), compute)
