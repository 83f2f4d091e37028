"""Places that can't be written are reported in one line by every command, before anything is computed."""

import os
import subprocess
import sys

import pytest

from cluebench.foundation import atomic
from cluebench.foundation.repository import ROOT

CLASSIFIER, GRID = "classification/run_clue_classifier.py", "grid_search_tools/grid_search.py"
RUN = ("--model_name_or_path", "some-model", "--do_train")
#: Command and what it needs → its flags that name a place, each with what is written there.
COMMANDS = {
    (CLASSIFIER, *RUN, "--task_name", "tnews"): {
        "--output_dir": "directory", "--cache_dir": "directory", "--visualdl_dir": "directory", "--result_json": "file"
    },
    ("mrc/run_c3.py", *RUN): {"--output_dir": "directory", "--result_json": "file"},
    ("mrc/run_chid.py", *RUN): {"--output_dir": "directory"},
    ("mrc/run_cmrc2018.py", *RUN): {"--output_dir": "directory"},
    (GRID, "some-model"): {"--run_root": "directory", "--cache_dir": "directory"},
    ("grid_search_tools/warmup_dataset_and_model.py", "some-model"): {"--cache_dir": "directory"},
    ("grid_search_tools/make_submission.py", "/"): {"--output": "file", "--cache_dir": "directory"},
    ("grid_search_tools/bundle.py", "pack", "/"): {"--output": "file"},
    ("grid_search_tools/bundle.py", "merge", "/"): {"--run_root": "directory"},
    ("cluebench/demo/__main__.py",): {"folder": "directory"},
}  # fmt: skip
TRAINER = ("classification/run_clue_classifier_trainer.py", *RUN, "--dataset", "clue tnews")


@pytest.fixture
def places(tmp_path):
    """Name → a path at which nothing can be written, even by root."""
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    found = {"device": "/dev/full", "kernel": "/proc/out/deeper", "long": tmp_path / ("x" * 300)}
    found |= {name: tmp_path / name for name in ("fifo", "link", "file", "directory")}
    return found | {"below a file": tmp_path / "file" / "out", "below a device": "/dev/null/out"}


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_can_be_written_is_found_out_without_leaving_anything(kind, places, tmp_path):
    good = {places.pop(kind), tmp_path / "new", tmp_path / "new" / "deeper", os.path.relpath(tmp_path / "new")}
    before = sorted(tmp_path.iterdir())
    assert [atomic.why_unwritable(place, directory=kind == "directory") for place in good] == [None] * 4
    for name, place in places.items():
        reason = atomic.why_unwritable(place, directory=kind == "directory")
        assert reason and "\n" not in reason, name
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_command_tries_every_place_first(command, places, tmp_path, monkeypatch, run_command):
    monkeypatch.chdir(tmp_path)
    for flag, kind in COMMANDS[command].items():
        for name in places.keys() - {kind, "link"}:  # a grid takes the place a link leads to
            words = (flag, places[name]) if flag.startswith("--") else (places[name],)
            ended = run_command(*command, *words)
            assert ended.code == 2 and ended.err.count("\n") == 1, ended.err
            assert f"{flag} {places[name]}: " in ended.err and ended.err.endswith("; name another place\n")


def test_the_default_place_is_tried_too(places, monkeypatch, run_command, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").touch()
    ended = run_command(CLASSIFIER, *RUN, "--task_name", "tnews")
    assert (ended.code, ended.err) == (2, "error: --output_dir out: a file; name another place\n")


def test_a_file_where_a_models_runs_belong_is_one_line(tmp_path, run_command):
    (tmp_path / "some-model").touch()
    ended = run_command(GRID, "some-model", "--run_root", tmp_path)
    assert ended.code == 2 and ended.err.count("\n") == 1 and str(tmp_path / "some-model") in ended.err


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--output_dir", "--cache_dir", "--visualdl_dir", "--result_json", "--logging_dir"])
def test_so_does_the_trainer_script(flag, places, run_command):
    other = () if flag == "--output_dir" else ("--output_dir", places["directory"])
    ended = run_command(*TRAINER, *other, flag, places["below a file"])
    assert ended.code == 2 and f"{flag} {places['below a file']}: " in ended.err.splitlines()[-1]


def test_a_reader_that_has_gone_is_no_error(tmp_path):
    """As in ``grid_search.py … | head``."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, ROOT / GRID, "some-model", "--dry_run", "--data_dir", tmp_path]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_another_broken_pipe_is_an_error():
    code = (
        "from cluebench.foundation import command\ndef main(): raise BrokenPipeError('of a worker')\ncommand.run(main)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stderr.endswith("BrokenPipeError: of a worker\n")
