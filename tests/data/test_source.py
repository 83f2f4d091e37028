"""Where official files are found, what identifies them, and what is reported when they are missing or others."""

import hashlib
import os

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data import download, source
from cluebench.data.official import OfficialFile, official_files, split_files
from cluebench.data.source import open_source
from cluebench.foundation.errors import DataError

AFQMC = TASKS["afqmc"]


def test_every_official_file_of_the_table_is_known():
    known = official_files()
    for task in TASKS.values():
        for file in task.files:
            assert (task.name, file) in known, f"{task.name} {file}"
    assert known["ocnli", "dev.json"].rows == 3000 and known["ocnli", "dev.json"].usable_rows == 2950
    assert known["chid", "train.json"].md5 is None and known["chid", "train_answer.json"].rows is None


def test_split_files():
    assert split_files(TASKS["c3"], "train") == ("d-train.json", "m-train.json")
    assert split_files(TASKS["chid"], "dev") == ("dev.json", "dev_answer.json")
    assert split_files(TASKS["chid"], "test1.0") == ("test1.0.json",)
    assert split_files(TASKS["tnews"], "test1.1") == ("test.json",)
    with pytest.raises(ValueError, match="AFQMC has no split 'test'; its splits are train, dev, test1.1"):
        split_files(AFQMC, "test")


@pytest.mark.parametrize("prefix", ["", "afqmc_public/", "AFQMC/"])
def test_zip_with_members_at_the_root_or_in_one_folder(shelf, prefix):
    members = {
        f"{prefix}dev.json": b"official",
        f"__MACOSX/{prefix}._dev.json": b"shadow",
        f"{prefix}._dev.json": b"shadow",
        f"{prefix}README.txt": b"hello",
    }
    shelf.zip("afqmc", members)
    assert shelf.source.read(AFQMC, "dev.json") == b"official"
    assert shelf.source.describe(AFQMC, "dev.json") == f"{shelf.folder}/afqmc_public.zip:{prefix}dev.json"
    assert not shelf.source.has(AFQMC, "train.json")


def test_folders_go_before_the_zip(shelf):
    shelf.put("afqmc", "dev.json", "here")
    shelf.put("afqmc", "afqmc_public/test.json", "deeper")
    shelf.zip("afqmc", {"dev.json": b"zip", "train.json": b"zip"})
    read = {file: shelf.source.read(AFQMC, file) for file in ("dev.json", "test.json", "train.json")}
    assert read == {"dev.json": b"here", "test.json": b"deeper", "train.json": b"zip"}
    assert shelf.source.describe(AFQMC, "dev.json") == f"{shelf.folder}/afqmc_public/dev.json"


def test_the_same_file_twice_is_refused(shelf):
    path = shelf.zip("afqmc", {"old/dev.json": b"1", "new/dev.json": b"2"})
    with pytest.raises(DataError, match=f"{path} holds dev.json more than once"):
        shelf.source.read(AFQMC, "dev.json")
    shelf.put("cmnli", "old/dev.json", "1")
    shelf.put("cmnli", "new/dev.json", "2")
    with pytest.raises(DataError, match="cmnli: dev.json is in several folders"):
        shelf.source.read(TASKS["cmnli"], "dev.json")


def test_missing_file_says_where_it_was_looked_for_and_what_to_do(shelf):
    with pytest.raises(DataError) as caught:
        open_source(shelf.folder).read(AFQMC, "dev.json")
    message, stem = str(caught.value), f"{shelf.folder}/afqmc_public"
    address = official_files()["afqmc", "dev.json"].archive_url
    for needle in ("afqmc: dev.json is missing", f"{stem}/dev.json", f"{stem}.zip", address, "--data_dir"):
        assert needle in message and "\n" not in message
    shelf.zip("afqmc", {"train.json": b""})
    with pytest.raises(DataError, match="which has no such member"):
        shelf.source.read(AFQMC, "dev.json")


def test_data_directory_from_flag_or_environment(shelf, tmp_path, monkeypatch):
    shelf.put("afqmc", "dev.json", "x")
    assert open_source(str(shelf.folder)).read(AFQMC, "dev.json") == b"x"
    monkeypatch.setenv("CLUE_DATA_DIR", str(shelf.folder))
    assert open_source().read(AFQMC, "dev.json") == b"x"
    other = tmp_path / "other"
    with pytest.raises(DataError, match=f"--data_dir {other} is not a directory"):
        open_source(other)
    monkeypatch.setenv("CLUE_DATA_DIR", str(other))
    with pytest.raises(DataError, match=f"CLUE_DATA_DIR {other} is not a directory"):
        open_source()


def test_a_given_directory_and_offline_never_touch_the_network(shelf, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was touched")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr(source, "fetch_archive", refuse)
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="is missing"):
        open_source(shelf.folder).read(AFQMC, "dev.json")
    with pytest.raises(DataError, match="leave out --offline"):
        open_source(offline=True).read(AFQMC, "dev.json")
    assert not (tmp_path / "nowhere").exists()


def test_what_is_in_the_data_home_is_used_and_what_is_not_is_fetched(tmp_path, monkeypatch, shelf):
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path / "home"))
    assert download.data_home() == tmp_path / "home" / "datasets" / "clue"
    fetched = []

    def fetch(task, directory):
        fetched.append(task.name)
        directory.mkdir(parents=True)
        os.rename(shelf.zip("afqmc", {"dev.json": b"fetched"}), directory / "afqmc_public.zip")

    monkeypatch.setattr(source, "fetch_archive", fetch)
    opened = open_source()
    assert not opened.has(AFQMC, "dev.json") and fetched == []
    assert opened.read(AFQMC, "dev.json") == b"fetched"
    assert opened.read(AFQMC, "dev.json") == b"fetched"
    assert fetched == ["afqmc"]
    assert open_source(offline=True).read(AFQMC, "dev.json") == b"fetched"


# md5 and fingerprint --------------------------------------------------------------------------------------------------


def test_md5_and_fingerprint_are_those_of_the_content(shelf, tmp_path):
    shelf.put("afqmc", "train.json", "train")
    shelf.put("afqmc", "dev.json", "dev")
    assert shelf.source.md5(AFQMC, "dev.json") == hashlib.md5(b"dev").hexdigest()
    unpacked = shelf.source.fingerprint(AFQMC)
    assert len(unpacked) == 16 and int(unpacked, 16) >= 0
    other = type(shelf)(tmp_path / "zipped")
    other.folder.mkdir()
    other.zip("afqmc", {"x/train.json": b"train", "x/dev.json": b"dev", "x/test.json": b"test"})
    assert other.source.fingerprint(AFQMC) == unpacked
    assert other.source.fingerprint(AFQMC, ["test.json"]) != unpacked
    assert other.source.fingerprint(AFQMC, ["dev.json", "train.json"]) == unpacked


def test_a_fingerprint_is_of_task_texts_and_answers(shelf):
    files = ("train.json", "train_answer.json", "dev.json", "dev_answer.json")
    for task in ("chid", "cmnli"):
        for file in files:
            shelf.put(task, file, file)
    found = {shelf.source.fingerprint(TASKS[task], files) for task in ("chid", "cmnli")}
    for changed in ("dev.json", "train_answer.json"):
        shelf.put("chid", changed, "other")
        found.add(shelf.source.fingerprint(TASKS["chid"]))
    assert len(found) == 4


def test_a_file_is_hashed_once(shelf, monkeypatch):
    shelf.put("afqmc", "dev.json", "dev")
    shelf.source.read(AFQMC, "dev.json")
    monkeypatch.setattr(hashlib, "md5", None)
    assert len(shelf.source.md5(AFQMC, "dev.json")) == 32
    assert len(type(shelf.source)(shelf.folder).fingerprint(AFQMC, ["dev.json"])) == 16


def _official(monkeypatch, content, file="dev.json"):
    md5 = hashlib.md5(content).hexdigest()
    facts = {("afqmc", file): OfficialFile("afqmc", file, 1, 1, md5, "http://127.0.0.1/afqmc.zip", None)}
    monkeypatch.setattr("cluebench.data.official.official_files", lambda: facts)


def test_other_data_is_warned_of_once_a_file(shelf, monkeypatch, capsys):
    _official(monkeypatch, b"official")
    shelf.put("afqmc", "dev.json", "mine")
    shelf.put("afqmc", "test.json", "nothing is known of this one")
    for _ in range(3):
        shelf.source.read(AFQMC, "dev.json")
        shelf.source.read(AFQMC, "test.json")
        shelf.source.fingerprint(AFQMC, ["dev.json"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: afqmc: {shelf.folder}/afqmc_public/dev.json is not the official file")
    assert hashlib.md5(b"mine").hexdigest() in line and hashlib.md5(b"official").hexdigest() in line


def test_official_data_and_synthetic_data_pass_in_silence(shelf, monkeypatch, capsys):
    _official(monkeypatch, b"official")
    shelf.put("afqmc", "dev.json", "official")
    shelf.source.read(AFQMC, "dev.json")
    shelf.put("afqmc", "dev.json", "made up")
    (shelf.folder / source.SYNTHETIC_MARK).write_text("{}")
    open_source(shelf.folder).read(AFQMC, "dev.json")
    assert capsys.readouterr().err == ""


def test_unreadable_file_is_one_line(shelf):
    (shelf.folder / "afqmc_public").mkdir()
    os.symlink(shelf.folder, shelf.folder / "afqmc_public" / "dev.json")
    with pytest.raises(DataError, match="dev.json is missing"):  # a directory of that name is no file
        shelf.source.read(AFQMC, "dev.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(shelf):
    shelf.put("afqmc", "dev.json", "x")
    (shelf.folder / "afqmc_public" / "dev.json").chmod(0)
    with pytest.raises(DataError, match="dev.json can't be read: Permission denied"):
        shelf.source.read(AFQMC, "dev.json")


def test_a_file_that_changes_between_its_md5_and_its_reading_is_not_read(shelf):
    """Its features would be kept under the md5 of what is no longer there."""
    shelf.put("afqmc", "dev.json", "one")
    shelf.source.fingerprint(AFQMC, ["dev.json"])
    shelf.put("afqmc", "dev.json", "another")
    with pytest.raises(DataError, match=r"dev\.json was changed while it was being read: start again"):
        shelf.source.read(AFQMC, "dev.json")
    shelf.source.md5(AFQMC, "dev.json")
    assert shelf.source.read(AFQMC, "dev.json") == b"another"


def test_same_size_and_time_do_not_hide_a_change(shelf):
    shelf.put("afqmc", "dev.json", "one")
    path = shelf.folder / "afqmc_public" / "dev.json"
    before, times = shelf.source.md5(AFQMC, "dev.json"), path.stat()
    path.write_text("two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_mtime_ns == times.st_mtime_ns
    assert shelf.source.md5(AFQMC, "dev.json") == hashlib.md5(b"two").hexdigest() != before
