"""Files and directories are whole at every instant, however a process ends while it replaces them."""

import os
import shutil
import signal

import pytest

from cluebench.foundation import atomic

#: Everything by which `replacing` changes the disk.
CALLS = ("mkdir", "rename", "replace", "rmdir", "unlink", "fsync", "open")


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "a" / "file"
    atomic.write_text(path, "old\n")
    with pytest.raises(RuntimeError):
        with atomic.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError
    with pytest.raises(ValueError):
        atomic.write_json(path, {"train_seconds": float("nan")})
    assert path.read_text() == "old\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def replace_directory(path, content):
    with atomic.replacing(path) as temporary:
        temporary.mkdir()
        for name in ("a", "b"):
            (temporary / name).write_text(content)


def whole(path):
    """The content of a directory whose files are all of one kind."""
    assert sorted(os.listdir(path)) == ["a", "b"]
    (content,) = {(path / name).read_text() for name in ("a", "b")}
    return content


def test_a_directory_is_replaced_whole(tmp_path):
    for content in ("old", "new"):
        replace_directory(tmp_path / "model", content)
    assert whole(tmp_path / "model") == "new" and [entry.name for entry in tmp_path.iterdir()] == ["model"]


def ended_at(number, how, path, monkeypatch):
    """The exit status of a process that replaces a directory and ends at its ``number``-th call; None: it had fewer."""
    if (pid := os.fork()) == 0:
        left = [number]

        def counting(call):
            def called(*arguments, **keywords):
                done = call(*arguments, **keywords) if number % 2 else None  # ends after every call, or before
                left[0] -= 2
                if -2 < left[0] <= 0:
                    how()
                return done if number % 2 else call(*arguments, **keywords)

            return called

        try:
            for name in CALLS:
                setattr(os, name, counting(getattr(os, name)))
            atomic._exchanged = counting(atomic._exchanged)
            replace_directory(path, "new")
            os._exit(0 if left[0] > 0 else 1)
        except BaseException:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "no exchange"])
@pytest.mark.parametrize("how", [lambda: os.kill(os.getpid(), signal.SIGKILL), interrupt], ids=["SIGKILL", "Ctrl-C"])
def test_an_end_at_any_call_leaves_one_whole_directory(exchanges, how, tmp_path, monkeypatch):
    """At the path at once; where a file system can't exchange, a killed process leaves it aside, for the next one."""
    if not exchanges:
        monkeypatch.setattr(atomic, "_exchanged", lambda one, other: False)
    path, seen = tmp_path / "model", set()
    for number in range(1, 200):
        shutil.rmtree(tmp_path)
        replace_directory(path, "old")
        status = ended_at(number, how, path, monkeypatch)
        if how is interrupt or exchanges:
            assert whole(path)
        atomic.remove_leftovers(tmp_path)
        seen.add(whole(path))
        assert os.listdir(tmp_path) == ["model"]
        if status == 0:
            break
    assert number > 20 and seen == {"old", "new"}


def test_the_new_content_is_on_the_disk_before_the_old_one_goes(tmp_path, monkeypatch):
    path, order, fsync = tmp_path / "model", [], os.fsync
    replace_directory(path, "old")
    at = {"old": lambda: whole(path) == "old", "new": lambda: whole(path) == "new"}

    def synced(descriptor):
        order.append((os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")), at["new"]()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    replace_directory(path, "new")
    assert sorted(order[:2]) == [("a", False), ("b", False)]
    assert order[2:] == [("model", False), (tmp_path.name, True)]
