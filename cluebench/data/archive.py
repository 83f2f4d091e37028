"""Zip archives of data sets, read in place: members are never unpacked to disk.

An archive is refused if unpacking it could do harm (members that leave the target folder, links), or if a member is
compressed far more than JSON text can be (a decompression bomb).
"""

import hashlib
import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from cluebench.foundation.errors import DataError

#: The largest official member is CHID's train.json, about 180 MB; the limits leave room for larger data of a user.
MAX_MEMBER_BYTES = 512 << 20
MAX_ARCHIVE_BYTES = 1 << 30
#: JSON text packs to a tenth or so, and very repetitive text to a fiftieth; deflate can't exceed about 1:1000.
MAX_RATIO = 200
#: Below this size a member is harmless at any ratio.
_HARMLESS_BYTES = 1 << 20

#: What zipfile raises on broken, encrypted (RuntimeError) and unusually packed (NotImplementedError) archives.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, EOFError, ValueError)


def find_member(path: Path, file: str) -> str | None:
    """The member that is ``file``, at the root of the archive or inside one folder; None when there is none.

    Raises DataError when the archive can't be read or several folders hold such a file.
    """
    with opened(path) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
    found = [name for name in names if name == file] or [
        name for name in names if PurePosixPath(name).name == file and len(PurePosixPath(name).parts) == 2
    ]
    if len(found) > 1:
        raise DataError(f"{path} holds {file} more than once ({', '.join(found)}): leave only the right one")
    return found[0] if found else None


@contextmanager
def open_member(path: Path, member: str) -> Iterator[IO[bytes]]:
    """A stream of a member's bytes. Raises DataError when the archive is broken, or the member looks like a bomb."""
    with opened(path) as archive:
        _check_size(path, archive.getinfo(member))
        with archive.open(member) as stream:
            yield stream


def check_archive(path: Path) -> None:
    """Raises DataError unless every member stays inside its folder, is an ordinary file, of a sane size, and whole.

    Every byte is decompressed once to check its CRC.
    """
    with opened(path) as archive:
        total = 0
        for info in archive.infolist():
            _check_name(path, info)
            _check_size(path, info)
            total += info.file_size
            if total > MAX_ARCHIVE_BYTES:
                raise DataError(f"{path} unpacks to more than {MAX_ARCHIVE_BYTES} bytes: not a CLUE archive")
        broken = archive.testzip()
    if broken is not None:
        raise DataError(f"{path}: member {broken!r} is damaged (its CRC doesn't match); get the archive again")


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; whatever zipfile raises while it is in use becomes one DataError line naming the archive."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no ordinary file")  # reading a pipe could wait for ever
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _ZIP_ERRORS as error:
        raise DataError(f"{path} can't be read as a zip archive ({error}); get the archive again") from error
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error


def md5_of(stream: IO[bytes]) -> str:
    """32 hexadecimal digits of the rest of a stream."""
    digest = hashlib.md5(usedforsecurity=False)
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _check_name(path: Path, info: zipfile.ZipInfo) -> None:
    # orig_filename, because zipfile already cuts names at NUL bytes; backslashes separate folders on Windows.
    name = info.orig_filename.replace("\\", "/")
    if not PurePosixPath(name).parts:
        raise DataError(f"{path}: a member without a name ({info.orig_filename!r}); refused")
    if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/") or "\0" in name:
        raise DataError(f"{path}: member {info.orig_filename!r} would leave the folder it is unpacked to; refused")
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"{path}: member {info.orig_filename!r} is a link or a device, not a file; refused")


def _check_size(path: Path, info: zipfile.ZipInfo) -> None:
    if info.file_size > MAX_MEMBER_BYTES:
        raise DataError(f"{path}: member {info.filename!r} unpacks to {info.file_size} bytes: not a CLUE file; refused")
    if (not info.file_size and info.CRC) or (info.file_size and not info.compress_size):
        # zipfile compares the CRC of what it reads only, which is nothing then
        raise DataError(f"{path}: member {info.filename!r} is damaged (empty, by its size); get the archive again")
    if info.file_size > _HARMLESS_BYTES and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        raise DataError(
            f"{path}: member {info.filename!r} unpacks from {info.compress_size} to {info.file_size} bytes, "
            f"like a decompression bomb; refused"
        )
