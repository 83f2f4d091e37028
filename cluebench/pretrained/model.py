"""A model as a value: a published name or a directory, its place, the name of its run folder, and its identity.

It is made once, where flags are read. Nothing here needs Paddle, so that a missing or incomplete model is reported
before Paddle is imported.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cluebench.foundation.errors import UsageError
from cluebench.foundation.file_facts import content_hash, visible

#: A directory with one of these is a model's: Hugging Face and PaddleNLP; older PaddleNLP.
CONFIG_FILES = ("config.json", "model_config.json")

_SAMPLED_BLOCKS, _BLOCK_BYTES = 64, 1 << 16
_WEIGHT_SUFFIXES = {".pdparams", ".safetensors", ".bin"}


@dataclass(frozen=True)
class Model:
    """A published model, or a model in a directory. `Model.of` tells which."""

    name: str  # for a command line typed anywhere: the published name, or the directory's absolute path
    typed: str = field(compare=False)

    @classmethod
    def of(cls, typed: str | os.PathLike, flag: str = "--model_name_or_path") -> "Model":
        """``flag``: the flag with this value. Raises UsageError for a path that is not a model directory.

        A folder without a configuration does not count: the published tool's logs lie in folders named like models.
        """
        typed = os.fspath(typed)
        if not typed.strip("/"):
            raise UsageError(f"{flag} {typed!r}: name a published model or the directory of a model")
        path = Path(os.path.expanduser(typed))
        if path.is_file():
            raise UsageError(f"{flag} {typed}: a file; give the directory it lies in")
        if first_of(path, CONFIG_FILES):
            return cls(str(path.resolve()), typed)
        if not typed.startswith((".", "/", "~")) and typed.strip("/").count("/") < 2:
            return cls(typed.strip("/"), typed)
        if not path.is_dir():
            raise UsageError(f"{flag} {typed}: no such directory")
        raise UsageError(f"{path}: no {' or '.join(CONFIG_FILES)} in this model directory")

    def __str__(self) -> str:
        return self.name

    @property
    def directory(self) -> Path | None:
        """Where it lies, links followed; None for a published name."""
        return Path(self.name) if os.path.isabs(self.name) else None

    @property
    def folder(self) -> str:
        """The name of its run directory: ``hfl--rbt3`` for ``hfl/rbt3``; for a directory, the directory's name."""
        return self.directory.name if self.directory else self.name.replace("/", "--")

    @cached_property
    def identity(self) -> str:
        """A published name as it is; for a directory a hash of its content: new weights are a new model."""
        return self._identity_by(lambda path: content_hash(path).encode())

    @cached_property
    def sampled_identity(self) -> str:
        """The `identity` in earlier versions, which read only 64 blocks of 64 KiB of weights over 4 MiB."""
        return self._identity_by(_samples)

    def _identity_by(self, content_of_large: Callable[[Path], bytes]) -> str:
        """Configuration and vocabulary files and small weights are hashed whole."""
        if self.directory is None:
            return self.name
        digest = hashlib.sha256()
        for path in filter(Path.is_file, visible(self.directory)):
            if path.suffix in _WEIGHT_SUFFIXES:
                size = path.stat().st_size
                large = size > _SAMPLED_BLOCKS * _BLOCK_BYTES
                digest.update(f"{path.name}:{size}:".encode())
                digest.update(content_of_large(path) if large else path.read_bytes())
            elif path.suffix in (".json", ".txt", ".model"):
                digest.update(f"{path.name}:".encode() + path.read_bytes())
        return f"directory:{digest.hexdigest()[:16]}"

    def has_changed_since(self, path: Path) -> bool:
        """Whether weights in the directory were changed after the file at ``path`` was written."""
        weights = (file for file in visible(self.directory or Path()) if file.suffix in _WEIGHT_SUFFIXES)
        return any(file.stat().st_mtime_ns > path.stat().st_mtime_ns for file in weights)


def first_of(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of these files that is in the folder."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _samples(path: Path) -> bytes:
    size, blocks = os.path.getsize(path), []
    with open(path, "rb") as stream:
        for block in range(_SAMPLED_BLOCKS):
            stream.seek(block * (size - _BLOCK_BYTES) // (_SAMPLED_BLOCKS - 1))
            blocks.append(stream.read(_BLOCK_BYTES))
    return b"".join(blocks)
