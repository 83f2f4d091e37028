"""Whole files or none: a write goes to a temporary name beside its target, which is then renamed."""

import ctypes
import glob
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cluebench.foundation.errors import UsageError

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
#: The old content, in the temporary directory, if old and new content can't be exchanged in one step.
_REPLACED = "replaced"


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside ``path``, for a file or a directory. On success it replaces ``path``.

    Parent directories are created. ``path`` is unchanged until the new content is whole on the disk. If the process is
    killed, `remove_leftovers` removes the temporary path. Raises OSError, and UsageError for a device or a pipe.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UsageError(f"{path} is a device or a pipe: name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        temporary = holder / path.name
        yield temporary
        sync_tree(temporary)
        if not (temporary.is_dir() and path.exists()):
            os.replace(temporary, path)
        elif not _exchanged(temporary, path):  # on some network file systems
            os.rename(path, holder / _REPLACED)
            os.rename(temporary, path)
        sync_directory(path.parent)
    finally:
        _remove_holder(holder, path)


def _exchanged(first: Path, second: Path) -> bool:
    """Exchanges two paths in one step, so that both are whole at every moment; False if the system can't."""
    renameat2: Any = getattr(ctypes.CDLL(None), "renameat2", None)  # Linux, with a C library of 2018 or later
    paths = os.fsencode(first), os.fsencode(second)
    return bool(renameat2) and renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0


def _remove_holder(holder: Path, path: Path) -> None:
    """Removes a temporary directory of `replacing`. Old content goes back if no new content has replaced it."""
    if (holder / _REPLACED).exists() and not path.exists():
        os.rename(holder / _REPLACED, path)
    shutil.rmtree(holder, ignore_errors=True)


def remove_leftovers(folder: str | os.PathLike, name: str | None = None) -> None:
    """Removes the temporary paths of killed processes for files of one name; None: of all names that are not hidden.

    Only the one process that writes those files may call it.
    """
    for holder in Path(folder).glob(f".{glob.escape(name) if name else '[!.]*'}.????????.tmp"):
        _remove_holder(holder, holder.with_name(holder.name[1 : -len(".????????.tmp")]))


def sync_tree(path: str | os.PathLike) -> None:
    """Returns when a file, or a directory with its content, is on the disk. Raises OSError."""
    path = os.fspath(path)
    folders = list(os.walk(path, topdown=False))
    for file in [os.path.join(folder, name) for folder, _, names in folders for name in names] if folders else [path]:
        with open(file, "rb") as stream:
            os.fsync(stream.fileno())
    for folder, _, _ in folders:
        sync_directory(folder)


def sync_directory(path: str | os.PathLike) -> None:
    """Returns when the names in a directory are on the disk, if its file system can sync directories."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def why_unwritable(path: str | os.PathLike, *, directory: bool = False) -> str | None:
    """Why no file, or no directory, can be written at ``path``; None if it can.

    It tries: permissions mean little for root and on read-only disks. Nothing is left behind.
    """
    path = Path(os.path.expanduser(path)).absolute()
    try:
        path.lstat()
        if not (path.is_dir() if directory else path.is_file()):
            return "a directory" if path.is_dir() else "a file" if path.is_file() else "neither file nor directory"
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        return str(error.strerror)
    nearest = next(place for place in (path, *path.parents)[not directory :] if os.path.lexists(place))
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=nearest))
    except OSError as error:
        return f"{nearest} can't be written ({error.strerror or error})"
    return None


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes UTF-8 text with ``\\n`` line ends, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes indented JSON with a final newline, whole or not at all. NaN is refused with ValueError."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_archive(path: str | os.PathLike, files: Mapping[str, bytes]) -> None:
    """A zip with the files at its root, in order of name. The same files give the same bytes."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in sorted(files):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # Unix, so that the permissions count
            member.external_attr = 0o644 << 16
            archive.writestr(member, files[name], zipfile.ZIP_DEFLATED)
