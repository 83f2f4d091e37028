"""The files of a directory, and the facts by which a file is recognised."""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from cluebench.foundation.json_files import Count


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
