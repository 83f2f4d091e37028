"""Questions that a broken driver, network or file system may never answer, such as whether it can lock files."""

import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")

#: Seconds to wait for a lock, which takes milliseconds.
LOCK_PATIENCE = 10.0


def answers(questions: Mapping[K, Callable[[], T]], seconds: float) -> dict[K, T | Exception]:
    """What each function returns or raises within ``seconds``; all run at once, in threads.

    A function that does not answer in time is missing. Its thread is abandoned and keeps no process alive.
    """
    found: dict[K, T | Exception] = {}

    def ask(key: K, question: Callable[[], T]) -> None:
        try:
            found[key] = question()
        except Exception as error:
            found[key] = error

    threads = [threading.Thread(target=ask, args=item, daemon=True) for item in questions.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)


def why_no_locks(folder: str | os.PathLike) -> str | None:
    """Why files in an existing directory can't be locked, with the name of its file system; None if they can."""

    def lock() -> None:
        with tempfile.NamedTemporaryFile(prefix=".lock-", dir=os.fspath(folder)) as first, open(first.name) as second:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            raise OSError("flock excludes nobody")

    error = answers({"lock": lock}, LOCK_PATIENCE).get("lock", TimeoutError(f"no answer in {LOCK_PATIENCE:g} s"))
    if error is None:
        return None
    return f"locks do not work: {getattr(error, 'strerror', None) or error}; the file system is {file_system(folder)}"


def file_system(path: str | os.PathLike) -> str:
    """``nfs4 from server:/home``: the type and the source of a path's file system."""
    absolute, found = Path(os.path.realpath(path)), ("", "unknown")
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        mounts = []
    for device, place, kind in (line.split()[:3] for line in mounts):
        if absolute.is_relative_to(place) and len(place) >= len(found[0]):
            found = place, f"{kind} from {device}"
    return found[1]
