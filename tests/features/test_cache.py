import errno
import multiprocessing
import os
import time
import zlib
from contextlib import nullcontext
from unittest.mock import Mock

import numpy as np
import pytest

from cluebench.features import cache as cache_module
from cluebench.features.cache import FeatureCache
from cluebench.foundation import atomic

KEY = {"task": "tnews", "split": "dev", "data": "0123", "max_seq_length": 128, "limit": None}
ARRAYS = {
    "tokens": np.arange(1000, dtype=np.uint16),
    "texts": np.arange(6).reshape(3, 2),
    "none": np.empty(0, np.int32),
    "length": np.array(128),
}


@pytest.fixture
def build():
    return Mock(return_value=ARRAYS)


def assert_same(arrays):
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tolist() == array.tolist()


def test_built_once_then_read(tmp_path, build):
    folder = tmp_path / "not" / "there yet"
    first, second = FeatureCache(folder), FeatureCache(folder)
    assert_same(first.get(KEY, build))
    again = second.get(KEY, build)
    assert_same(again)
    assert (build.call_count, first.built, second.built) == (1, 1, 0)
    assert isinstance(again["tokens"], np.memmap) and not again["tokens"].flags.writeable
    assert FeatureCache(folder).path(KEY).name.startswith("tnews-dev-")


@pytest.mark.parametrize(
    "change", [{"data": "0124"}, {"limit": 5}, {"max_seq_length": 64}, {"split": "train"}, {"more": 1}]
)
def test_another_key_is_another_entry(tmp_path, build, change):
    cache = FeatureCache(tmp_path)
    cache.get(KEY, build)
    cache.get({**KEY, **change}, build)
    assert build.call_count == 2


def test_the_order_of_a_key_does_not_matter(tmp_path, build):
    cache = FeatureCache(tmp_path)
    cache.get(KEY, build)
    cache.get(dict(reversed(KEY.items())), build)
    assert build.call_count == 1


def test_overwrite_builds_again(tmp_path, build):
    cache = FeatureCache(tmp_path)
    before = cache.get(KEY, build)
    assert_same(cache.get(KEY, build, overwrite=True))
    assert build.call_count == 2
    assert_same(before)  # what others have mapped stays readable


def other_key(content):
    changed = content.replace(b'"limit": null', b'"limit": 7777')[:-4]
    return changed + zlib.crc32(changed).to_bytes(4, "little")


#: What the content of an entry becomes.
DAMAGES = {
    "not there": None,
    "empty": lambda content: b"",
    "cut off": lambda content: content[:100],
    "blank": lambda content: bytes(4),
    "one bit": lambda content: content[:-100] + bytes([content[-100] ^ 4]) + content[-99:],
    "other header": lambda content: content.replace(b'"texts"', b'"tests"'),
    "other key": other_key,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_built_again(tmp_path, build, damage, capsys):
    cache = FeatureCache(tmp_path)
    cache.get(KEY, build)
    entry, change = cache.path(KEY), DAMAGES[damage]
    entry.write_bytes(change(entry.read_bytes())) if change else entry.unlink()
    assert_same(cache.get(KEY, build))
    assert build.call_count == cache.built == 2
    reported = capsys.readouterr().err
    assert (f"{entry} is damaged" in reported and "making it again" in reported) == bool(change)
    assert_same(cache.get(KEY, build))
    assert build.call_count == 2


def test_a_build_that_fails_leaves_nothing(tmp_path, build):
    cache = FeatureCache(tmp_path)

    def fail():
        raise KeyError("row 3")

    with pytest.raises(KeyError):
        cache.get(KEY, fail)
    assert [path for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []
    assert_same(cache.get(KEY, build))  # and no lock remains


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_costs_the_cache_not_the_features(tmp_path, build, monkeypatch, capsys, code):
    def no_space(path):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(atomic, "replacing", no_space)
    cache = FeatureCache(tmp_path)
    assert_same(cache.get(KEY, build))
    (reported,) = capsys.readouterr().err.splitlines()
    assert reported == f"--cache_dir {tmp_path}: the disk is full; free some space, or features are made in every run"
    assert not cache.path(KEY).exists()


def test_a_device_that_is_full_while_arrays_are_written(tmp_path, build, monkeypatch, capsys):
    monkeypatch.setattr(atomic, "replacing", lambda path: nullcontext("/dev/full"))
    assert_same(FeatureCache(tmp_path).get(KEY, build))
    assert "the disk is full" in capsys.readouterr().err


def test_a_directory_that_cannot_be_made(tmp_path, build, capsys):
    (tmp_path / "file").write_text("")
    cache = FeatureCache(tmp_path / "file" / "cache")
    assert_same(cache.get(KEY, build))
    reported = capsys.readouterr().err.splitlines()[-1]
    assert reported == f"--cache_dir {tmp_path}/file/cache can't be written (Not a directory): features are not kept"


def _get_slowly(folder, calls, go):
    """Makes the features once ``go`` is there."""

    def build():
        with open(calls, "a") as stream:
            stream.write("x")
        while not go.exists():
            time.sleep(0.005)
        return ARRAYS

    assert_same(FeatureCache(folder).get(KEY, build))


def test_processes_that_start_together_build_once(tmp_path, monkeypatch):
    """The one that makes the features goes on when the others have reported that they wait."""
    calls, go = tmp_path / "calls", tmp_path / "go"
    monkeypatch.setattr(cache_module, "_PATIENCE", 0.05)
    monkeypatch.setattr(cache_module, "notice", lambda text: (tmp_path / f"{os.getpid()}.waits").touch())
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_get_slowly, args=(tmp_path / "cache", calls, go)) for _ in range(4)]
    for process in processes:
        process.start()
    while len(list(tmp_path.glob("*.waits"))) < 3:
        time.sleep(0.005)
    go.touch()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert calls.read_text() == "x"


def test_a_killed_writer_is_no_obstacle(tmp_path, build):
    """What a process that died while writing leaves behind: its temporary file, and a lock nobody holds."""
    cache = FeatureCache(tmp_path)
    writing = atomic.replacing(cache.path(KEY))
    temporary = writing.__enter__()
    temporary.write_bytes(b"half")
    (tmp_path / f".{cache.path(KEY).name}.lock").write_text("")
    assert_same(cache.get(KEY, build))
    assert build.call_count == 1
    writing.__exit__(KeyError, KeyError(), None)


def test_waiting_for_another_process_is_reported(tmp_path, build, monkeypatch):
    reported, go = [], tmp_path / "go"
    monkeypatch.setattr(cache_module, "_PATIENCE", 0.05)
    monkeypatch.setattr(cache_module, "notice", lambda text: (reported.append(text), go.touch()))
    process = multiprocessing.get_context("fork").Process(target=_get_slowly, args=(tmp_path, tmp_path / "calls", go))
    process.start()
    while not (tmp_path / "calls").exists():
        time.sleep(0.005)
    assert_same(FeatureCache(tmp_path).get(KEY, build))
    process.join()
    assert build.call_count == 0
    assert len(reported) == 1 and "waiting for another process" in reported[0]
