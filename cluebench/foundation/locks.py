"""Whether a file system can lock files: a broken network file system may never answer."""

import fcntl
import os
import tempfile
from pathlib import Path

from cluebench.foundation.time_limit import answers

#: Seconds to wait for an answer that takes milliseconds.
PATIENCE = 10.0


def why_none(folder: str | os.PathLike) -> str | None:
    """Why files in an existing directory can't be locked, with the name of its file system; None if they can."""

    def lock() -> None:
        with tempfile.NamedTemporaryFile(prefix=".lock-", dir=os.fspath(folder)) as one, open(one.name) as two:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            raise OSError("flock excludes nobody")

    error = answers({"lock": lock}, PATIENCE).get("lock", TimeoutError(f"no answer in {PATIENCE:g} s"))
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
