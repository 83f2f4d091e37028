"""Whole files or none: every write that matters goes to a temporary name beside its target and is renamed."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluebench.foundation.errors import UsageError


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; on success it is synced and renamed over ``path``, else removed.

    The temporary path may be made a file or a directory; a directory replaces an existing one, which is removed.
    Parent directories are created. Whatever stands at ``path`` is untouched until the new content is whole. Raises
    OSError, and UsageError for a device or a pipe.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UsageError(f"{path} is a device or a pipe, which a file would take the place of: name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    temporary = holder / path.name
    try:
        yield temporary
        if temporary.is_dir():
            if path.exists():
                os.rename(path, holder / "replaced")
        else:
            with open(temporary, "rb") as stream:
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


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
