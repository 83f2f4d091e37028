"""Zip archives that are broken or could do harm are refused in one line."""

import io
import stat
import struct
import zipfile

import pytest

from cluebench.data import archive
from cluebench.data.archive import check_archive, find_member, open_member
from cluebench.foundation.errors import DataError
from tests.data.conftest import zip_of


@pytest.fixture
def path(tmp_path):
    return tmp_path / "afqmc_public.zip"


def test_ordinary_archives_pass(path):
    """Small files may be packed tightly."""
    members = {"afqmc_public/": b"", "afqmc_public/dev.json": b"x" * 1000, "a..b.json": b"", "0.json": b"\0" * 500_000}
    check_archive(zip_of(path, members))
    with open_member(path, find_member(path, "dev.json")) as stream:
        assert stream.read() == b"x" * 1000


def one_member(name="dev.json", content=bytes(range(256)) * 40, kind=stat.S_IFREG):
    """An archive. The name is written as it is: zipfile would tidy some of them up."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        info = zipfile.ZipInfo("x")
        info.filename = info.orig_filename = name
        info.external_attr = (kind | 0o777) << 16
        packed.writestr(info, content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def with_heads(content, local, central, value):
    """The archive with other bytes at these offsets of the two heads of its member."""
    for signature, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        at = content.index(signature) + offset
        content = content[:at] + value + content[at + len(value) :]
    return content


WHOLE = one_member()
OUTSIDE = ["../dev.json", "data/../../dev.json", "/etc/passwd", "C:\\dev.json", "C:dev.json", "..\\dev.json", "a/.."]
LINKS = {"link": stat.S_IFLNK, "pipe": stat.S_IFIFO, "device": stat.S_IFCHR}
REFUSED = {
    **{name: (one_member(name), "would leave the folder") for name in OUTSIDE},
    **{name: (one_member(kind=kind), "'dev.json' is a link or a device") for name, kind in LINKS.items()},
    "bomb": (one_member(content=b"\0" * (4 << 20)), "like a decompression bomb"),
    # The size in the directory is a claim; reading stops there, and the CRC doesn't match.
    "larger than it says": (with_heads(WHOLE, 22, 24, struct.pack("<I", 100)), "CRC|can't be read"),
    "flipped byte": (WHOLE[:60] + bytes([WHOLE[60] ^ 0xFF]) + WHOLE[61:], "afqmc_public.zip"),
    "cut": (WHOLE[:-30], "can't be read as a zip archive"),
    "no zip at all": (b"<html>404</html>", "can't be read as a zip archive"),
    "encrypted": (with_heads(WHOLE, 6, 8, b"\1"), "encrypted"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_archive_that_may_do_harm_is_refused(path, name):
    content, message = REFUSED[name]
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        check_archive(path)


@pytest.mark.parametrize("name", ["bomb", "cut", "encrypted"])
def test_nor_is_a_member_of_it_read(path, name):
    content, message = REFUSED[name]
    path.write_bytes(content)
    with pytest.raises(DataError, match=message), open_member(path, find_member(path, "dev.json")) as stream:
        stream.read()


def test_members_that_are_too_large_alone_or_together(path, monkeypatch):
    zip_of(path, {"dev.json": b"x" * 600, "train.json": b"y" * 600})
    monkeypatch.setattr(archive, "MAX_ARCHIVE_BYTES", 1000)
    with pytest.raises(DataError, match="unpacks to more than 1000 bytes"):
        check_archive(path)
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 500)
    with pytest.raises(DataError, match="'dev.json' unpacks to 600 bytes"):
        check_archive(path)


def test_missing_archive(path):
    with pytest.raises(DataError, match="No such file"):
        find_member(path, "dev.json")


def test_no_member_is_many_times_the_largest_official_one():
    """11 MB of zip that unpack to 1.9 GB, at a ratio that text can have."""
    assert 180 << 20 < archive.MAX_MEMBER_BYTES < 1 << 30
