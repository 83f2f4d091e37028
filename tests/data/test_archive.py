"""Zip archives that are broken or could do harm are refused in one line."""

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
    check_archive(zip_of(path, {"afqmc_public/": b"", "afqmc_public/dev.json": b"x" * 1000, "a..b.json": b""}))
    with open_member(path, find_member(path, "dev.json")) as stream:
        assert stream.read() == b"x" * 1000


@pytest.mark.parametrize(
    "name", ["../dev.json", "data/../../dev.json", "/etc/passwd", "C:\\dev.json", "C:dev.json", "..\\dev.json", "a/.."]
)
def test_members_that_leave_the_folder(path, name):
    zip_of(path, {"dev.json": b"fine", "placeholder": b"x"})
    # The name is written as it is: zipfile would tidy some of them up.
    with zipfile.ZipFile(path, "w") as packed:
        info = zipfile.ZipInfo("x")
        info.filename = info.orig_filename = name
        packed.writestr(info, b"evil")
    with pytest.raises(DataError, match="would leave the folder"):
        check_archive(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(path, kind):
    with zipfile.ZipFile(path, "w") as packed:
        info = zipfile.ZipInfo("dev.json")
        info.external_attr = (kind | 0o777) << 16
        packed.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="'dev.json' is a link or a device"):
        check_archive(path)


def test_bombs_are_refused_unopened(path):
    zip_of(path, {"dev.json": b"\0" * (4 << 20)})
    for look in (check_archive, lambda path: open_member(path, "dev.json").__enter__()):
        with pytest.raises(DataError, match="like a decompression bomb"):
            look(path)


def test_small_files_may_be_packed_tightly(path):
    check_archive(zip_of(path, {"dev.json": b"\0" * 500_000}))


def test_members_that_are_too_large_alone_or_together(path, monkeypatch):
    zip_of(path, {"dev.json": b"x" * 600, "train.json": b"y" * 600})
    monkeypatch.setattr(archive, "MAX_ARCHIVE_BYTES", 1000)
    with pytest.raises(DataError, match="unpacks to more than 1000 bytes"):
        check_archive(path)
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 500)
    with pytest.raises(DataError, match="'dev.json' unpacks to 600 bytes"):
        check_archive(path)


def test_a_member_larger_than_it_says_is_refused(path):
    """The size in the directory is a claim; reading stops there and the CRC doesn't match."""
    zip_of(path, {"dev.json": bytes(range(256)) * 40})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = content.index(signature) + offset
        content[at : at + 4] = struct.pack("<I", 100)
    path.write_bytes(content)
    with pytest.raises(DataError, match="CRC|can't be read"):
        check_archive(path)


def test_flipped_byte_cut_file_and_no_zip_at_all(path):
    content = zip_of(path, {"dev.json": bytes(range(256)) * 40}).read_bytes()
    path.write_bytes(content[:60] + bytes([content[60] ^ 0xFF]) + content[61:])
    with pytest.raises(DataError, match="afqmc_public.zip"):
        check_archive(path)
    path.write_bytes(content[:-30])
    with pytest.raises(DataError, match="can't be read as a zip archive"):
        find_member(path, "dev.json")
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(DataError, match="can't be read as a zip archive"):
        check_archive(path)


def test_encrypted_member(path):
    zip_of(path, {"dev.json": b"secret" * 10})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x03\x04") + 6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="encrypted"), open_member(path, "dev.json") as stream:
        stream.read()


def test_missing_archive(path):
    with pytest.raises(DataError, match="No such file"):
        find_member(path, "dev.json")


def test_no_member_is_many_times_the_largest_official_one():
    """11 MB of zip that unpack to 1.9 GB, at a ratio that text can have."""
    assert 180 << 20 < archive.MAX_MEMBER_BYTES < 1 << 30
