"""The files of a directory, and the facts by which a file is recognised: hashes are remembered between processes."""

import hashlib
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cluebench.foundation import atomic, environment, json_files
from cluebench.foundation.json_files import Count, Meta


@dataclass(frozen=True)
class FileFacts:
    """Size and checksum: a file with other facts is not the one that was written."""

    bytes: Count
    crc32: Count


def facts_of(path: str | os.PathLike) -> FileFacts:
    """The facts of a file, which is read whole, so that later reads are quick. Raises OSError."""
    checksum = 0
    with open(path, "rb") as stream:
        while block := stream.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return FileFacts(os.path.getsize(path), checksum)


def visible(folder: str | os.PathLike, pattern: str = "*") -> list[Path]:
    """The entries of a directory by name, without hidden ones such as macOS's ``._name``. Empty without a directory."""
    return sorted(path for path in Path(folder).glob(pattern) if not path.name.startswith("."))


@dataclass
class _Remembered:
    """What the files were when they were hashed, see `version_of`."""

    version: str
    hash: Annotated[str, Meta(pattern="^[0-9a-f]*$")]


def version_of(*files: Path) -> str:
    """Changes whenever the bytes may have changed, even if sizes and times of writing are the same. Raises OSError."""
    facts = map(os.stat, files)
    return " ".join(f"{file.st_ino} {file.st_size} {file.st_mtime_ns} {file.st_ctime_ns}" for file in facts)


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
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    return remembered("sha256", (path,), compute)
