"""Whether a file system answers when it is asked for a lock: a broken network file system keeps its caller for ever."""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from pathlib import Path

#: Seconds to wait for an answer, which takes milliseconds.
PATIENCE = 10.0


def why_none(folder: str | os.PathLike) -> str | None:
    """Why no lock can be had in a directory that is there, with the name of its file system; None when it can."""
    said: list[str | None] = []

    def ask() -> None:
        try:
            with tempfile.NamedTemporaryFile(prefix=".lock-", dir=os.fspath(folder)) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            said.append(None)
        except OSError as error:
            said.append(str(error.strerror or error))

    thread = threading.Thread(target=ask, name="lock", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    reason = said[0] if said else f"no answer in {PATIENCE:g} s"
    return reason and f"locks do not work: {reason}; the file system is {file_system(folder)}"


def file_system(path: str | os.PathLike) -> str:
    """``nfs4 from server:/home``: the kind of file system that holds a path, and where it comes from."""
    absolute, found = Path(os.path.realpath(path)), ("", "unknown")
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        mounts = []
    for device, place, kind in (line.split()[:3] for line in mounts):
        if absolute.is_relative_to(place) and len(place) >= len(found[0]):
            found = place, f"{kind} from {device}"
    return found[1]
