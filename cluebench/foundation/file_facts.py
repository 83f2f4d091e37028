"""Which files a directory holds, and by what one is known to be the one that was written."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from cluebench.foundation.json_files import Count


@dataclass(frozen=True)
class FileFacts:
    """By which a file is known to be the one that was written."""

    bytes: Count
    crc32: Count


def facts_of(path: str | os.PathLike) -> FileFacts:
    """Reading a file whole also brings it into memory for what follows. Raises OSError."""
    checksum = 0
    with open(path, "rb") as stream:
        while block := stream.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return FileFacts(os.path.getsize(path), checksum)


def visible(folder: str | os.PathLike, pattern: str = "*") -> list[Path]:
    """The entries of a directory by name, without hidden ones such as the ``._name`` that macOS lays beside a file.

    Empty where there is no directory.
    """
    return sorted(path for path in Path(folder).glob(pattern) if not path.name.startswith("."))
