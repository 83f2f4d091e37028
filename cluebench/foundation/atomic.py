"""Whole files or none: every write that matters goes to a temporary name beside its target and is renamed."""

from __future__ import annotations

import ctypes
import glob
import io
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
#: What is in the way where old and new content can't be exchanged in one step: in the holder of the new content.
_REPLACED = "replaced"


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; on success it is synced and renamed over ``path``, else removed.

    The temporary path may be made a file or a directory; a directory replaces an existing one, which is removed.
    Parent directories are created. Whatever stands at ``path`` is untouched until the new content is whole on the disk.
    If the process is killed, `remove_leftovers` removes the temporary path. Raises OSError, and UsageError for a device
    or a pipe.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UsageError(f"{path} is a device or a pipe, which a file would take the place of: name a file")
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


def _exchanged(one: Path, other: Path) -> bool:
    """Exchanges two paths in one step, so that a whole directory is at each at every instant; False where it can't."""
    renameat2: Any = getattr(ctypes.CDLL(None), "renameat2", None)  # Linux, with a C library of 2018 or later
    paths = os.fsencode(one), os.fsencode(other)
    return bool(renameat2) and renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0


def _remove_holder(holder: Path, path: Path) -> None:
    """Removes a temporary directory of `replacing`. What was moved out of the way goes back if nothing came there."""
    if (holder / _REPLACED).exists() and not path.exists():
        os.rename(holder / _REPLACED, path)
    shutil.rmtree(holder, ignore_errors=True)


def remove_leftovers(folder: str | os.PathLike, name: str | None = None) -> None:
    """Removes what killed processes left of files of one name in `replacing`; None: of all names that are not hidden.

    Only for the one process that writes those files.
    """
    for holder in Path(folder).glob(f".{glob.escape(name) if name else '[!.]*'}.????????.tmp"):
        _remove_holder(holder, holder.with_name(holder.name[1 : -len(".????????.tmp")]))


def sync_tree(path: str | os.PathLike) -> None:
    """Returns when a file, or a directory and all in it, is on the disk. Raises OSError."""
    for folder, _, names in os.walk(os.fspath(path), topdown=False):
        for name in names:
            _sync_file(os.path.join(folder, name))
        sync_directory(folder)
    if os.path.isfile(path):
        _sync_file(path)


def _sync_file(path: str | os.PathLike) -> None:
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def sync_directory(path: str | os.PathLike) -> None:
    """Returns when the names in a directory are on the disk, where its file system can tell."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def why_unwritable(path: str | os.PathLike, *, directory: bool = False) -> str | None:
    """Why no file, or no directory, can be written at ``path``; None when it can be.

    Found out by trying, as permissions say little to root and on read-only disks; nothing is left behind.
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
    nearest = next(one for one in (path, *path.parents)[not directory :] if os.path.lexists(one))
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
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # Unix, so that the permissions count
            member.external_attr = 0o644 << 16
            archive.writestr(member, files[name])
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())
