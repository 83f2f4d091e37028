"""Kinds of broken input that other people's reports were about: each ends in one line that names file, row or flag."""

import json
import pickle
import struct
import zipfile

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data import archive
from cluebench.data.rows import load_rows
from cluebench.data.source import open_source
from cluebench.foundation import flags
from cluebench.foundation.errors import DataError, UsageError
from cluebench.pretrained.weights import read_weights
from cluebench.submission.packing import report, wanted_entries
from tests.conftest import ROOT

LONG = "甲" * 5000


def refused(error, action, *arguments):
    """The line of the error."""
    with pytest.raises(error) as raised:
        action(*arguments)
    return str(raised.value)


# Flags ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value, why", [
    ("~nobody_has_this_name/data", "there is no user 'nobody_has_this_name'"),
    (LONG, "a name of more than 255 bytes"),
    ("data/" + LONG + "/x", "a name of more than 255 bytes"),
    ("model-\udcff", "is not UTF-8 text"),
])  # fmt: skip
@pytest.mark.parametrize(
    "script", ["grid_search_tools/grid_search.py", "mrc/run_c3.py", "grid_search_tools/leaderboard.py"]
)
def test_a_text_that_is_no_path_is_refused(script, value, why, run_command, monkeypatch):
    given = [value] if "leaderboard" in script else ["m", "--data_dir", value, "--dry_run"]
    given = ["--model_name_or_path", value, "--do_train"] if "c3" in script else given
    ended = run_command(script, *given)
    assert ended.code == 2 and why in ended.err and ended.err.count("\n") == 1 and len(ended.err) < 600
    if "leaderboard" not in script:
        monkeypatch.setenv("CLUE_DATA_DIR", value.replace("\udcff", ""))
        if why != "is not UTF-8 text":
            assert why in refused(DataError, open_source)


def test_a_line_break_in_a_name_makes_no_second_line(run_command, tmp_path):
    for name in ("a\nb", "a\x1b[2J"):
        ended = run_command("grid_search_tools/leaderboard.py", str(tmp_path / name))
        assert ended.code == 2 and ended.err.count("\n") == 1 and "\x1b" not in ended.err


# Data -----------------------------------------------------------------------------------------------------------------


def test_an_id_beyond_64_bits_is_named_with_its_line(tmp_path):
    folder = tmp_path / "tnews_public"
    folder.mkdir()
    row = {"sentence": "甲", "label": "100", "keywords": ""}
    (folder / "dev.json").write_text(f"{json.dumps(row)}\n{json.dumps({**row, 'id': 10**30})}\n")
    message = refused(DataError, load_rows, open_source(tmp_path), TASKS["tnews"], "dev")
    assert "dev.json, line 2: holds " in message and "as id, which is beyond 64 bits" in message


# Archives -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "./"])
def test_a_member_without_a_name(name, tmp_path):
    path = tmp_path / "tnews_public.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(zipfile.ZipInfo(name or "x"), b"")
        made.writestr("dev.json", b"{}")
    if not name:
        path.write_bytes(path.read_bytes().replace(b"x", b"."))
    assert archive.find_member(path, "dev.json") == "dev.json"
    assert "a member without a name" in refused(DataError, archive.check_archive, path)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_whatever_packed_it(method, tmp_path):
    path = tmp_path / "tnews_public.zip"
    with zipfile.ZipFile(path, "w", method) as made:
        made.writestr("dev.json", bytes(range(256)) * 50)
    content = bytearray(path.read_bytes())
    start = 30 + len("dev.json")
    content[start + 4 : start + 40] = b"\xff" * 36
    path.write_bytes(content)

    def read():
        with archive.open_member(path, "dev.json") as stream:
            stream.read()

    for action in (read, lambda: archive.check_archive(path)):
        message = refused(DataError, action)
        assert str(path) in message and "\n" not in message


# Weights --------------------------------------------------------------------------------------------------------------


def test_weights_whose_names_are_numbers(tmp_path):
    path = tmp_path / "model_state.pdparams"
    path.write_bytes(pickle.dumps({0: np.zeros(2, np.float32)}, 4))
    assert refused(UsageError, read_weights, [path]) == f"{path}: an array is called 0, which is not a name"


@pytest.mark.parametrize("other", [[0, 8], [8, 16]])
def test_an_array_twice_in_one_file(other, tmp_path):
    entry = '"a": {"dtype": "F32", "shape": [2], "data_offsets": %s}'
    header = "{" + ", ".join(entry % place for place in ([0, 8], other)) + "}"
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(other[1]))
    message = refused(UsageError, read_weights, [path])
    assert str(path) in message and ("a is in it twice" in message or "damaged" in message)


def test_an_array_inside_a_wrapper_and_outside(tmp_path):
    path = tmp_path / "model_state.pdparams"
    path.write_bytes(pickle.dumps({name: np.zeros(2, np.float32) for name in ("a.b", "module.a.b")}, 4))
    assert "an array twice" in refused(UsageError, read_weights, [path])


# Lines ----------------------------------------------------------------------------------------------------------------


def test_no_line_of_a_report_is_as_long_as_a_text(capsys):
    (entry,) = wanted_entries(["cmrc2018"], "1.1")
    entry.problems = [f"{entry.test.submission}: question {'甲' * 350_000} is missing"]
    report([entry], ["x" * 350_000])
    assert all(len(line) < 600 for line in capsys.readouterr().out.splitlines())


def test_flags_say_why_a_text_is_none():
    assert flags.why_no_text("/a/b c/甲") is flags.why_no_text("~/runs") is flags.why_no_text("") is None
    assert (ROOT / "SECURITY.md").is_file()
