"""What the schedulers of a machine have promised of its cards, so that no two of them promise the same memory.

Each user has a directory in the temporary one that nobody else can write, with a file for each trial. A scheduler reads
all directories, and locks all before it changes its own. It does not trust others' directories: only regular files of
the user in the directory's name count, and a lock that is never free is ignored. A file counts while its process lives:
the trial's process or, during its start, the scheduler.
"""

import errno
import fcntl
import hashlib
import json
import os
import stat
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cluebench.foundation.errors import BadFile
from cluebench.foundation.json_files import Count, NotJson, Pid, Seconds, declared, parse
from cluebench.scheduler.processes import launch

#: A directory's name: this and the number of its user.
_PREFIX = "cluebench-promises-"
#: Most files to read in a directory, and bytes in a file: another user may have written them.
_MOST_FILES, _MOST_BYTES = 1000, 1 << 16
#: Times in a row that a lock is not free, before it is ignored.
_REFUSALS = 3
#: Seconds to wait for a lock. Schedulers need it for milliseconds only.
_PATIENCE = 1.0


@dataclass(frozen=True)
class Promise:
    """Memory of cards that a running trial has or will have."""

    pid: Pid
    start_time: str | None
    devices: list[str]  # ids
    bytes: Count  # on each of them
    settled: Seconds | None = None  # time (since 1970) when it had allocated them: later readings show it


class Promises:
    """The directories, as one scheduler sees them. ``complain`` gets one message if they can't be used."""

    def __init__(self, complain: Callable[[str], None]):
        self._root, self._complain = Path(tempfile.gettempdir()), complain
        self._directory = self._root / f"{_PREFIX}{os.getuid()}"
        self._own: dict[str, Promise] = {}  # by file name
        self._usable = True
        self._refused: Counter[str] = Counter()  # directory → how often in a row its lock was not free

    @contextmanager
    def locked(self) -> Iterator[list[Promise]]:
        """The other schedulers' promises; nobody can make another meanwhile. Raises BlockingIOError."""
        with ExitStack() as opened:
            yield self._others(opened) if self._usable else []

    def _others(self, opened: ExitStack) -> list[Promise]:
        try:
            with suppress(FileExistsError):
                self._directory.mkdir()
                self._directory.chmod(0o755)
            paths = sorted(self._root.glob(f"{_PREFIX}*"))
            found = {path: folder for path in paths if (folder := _opened(path, opened)) is not None}
            if self._directory not in found:
                raise NotADirectoryError(errno.ENOTDIR, "not a directory that you alone can write")
            for path, folder in found.items():
                self._lock(path.name, folder)
            return [promise for path, folder in found.items() for promise in self._in(path, folder)]
        except BlockingIOError:
            raise
        except OSError as error:
            self._usable = False
            self._complain(f"{self._directory}: {error.strerror}; other schedulers on these cards can't be seen")
            return []

    def _lock(self, name: str, folder: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while self._refused[name] < _REFUSALS:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._refused[name] = 0
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    self._refused[name] += 1
                    if self._refused[name] < _REFUSALS:
                        raise
                    self._complain(f"{self._root / name}: another process never frees its lock; the grid ignores it")
                time.sleep(0.01)

    def _in(self, path: Path, folder: int) -> Iterator[Promise]:
        """The living promises of a directory, except for our own; files of dead processes are removed from our own."""
        ours = path == self._directory
        for name in os.listdir(folder)[:_MOST_FILES]:
            if not name.endswith(".json") or (ours and name in self._own):
                continue
            promise = None
            with suppress(OSError, NotJson, BadFile):  # written by another version, or on a full disk
                promise = declared(parse(_content(name, folder)), Promise, path / name)
            if promise and launch.start_time(promise.pid) == promise.start_time is not None:
                yield promise
            elif ours:
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)

    def make(self, lock: Path, pid: int, devices: Sequence[str], size: int) -> None:
        """Promises ``size`` bytes of each device to the trial with this lock. Call it inside `locked`."""
        self._write(_name(lock), Promise(pid, launch.start_time(pid), list(devices), size))

    def settle(self, lock: Path) -> None:
        """The trial has allocated its memory."""
        promise = self._own.get(_name(lock))
        if promise is not None and promise.settled is None:
            self._write(_name(lock), replace(promise, settled=time.time()))

    def drop(self, lock: Path) -> None:
        """The trial has ended."""
        if self._own.pop(_name(lock), None) is not None:
            with suppress(OSError):
                (self._directory / _name(lock)).unlink()

    def _write(self, name: str, promise: Promise) -> None:
        self._own[name] = promise
        if self._usable:
            with suppress(OSError):
                new = self._directory / f"{name}.new"
                new.write_text(json.dumps(asdict(promise)), encoding="utf-8")
                new.chmod(0o644)
                os.replace(new, self._directory / name)


def _opened(path: Path, until: ExitStack) -> int | None:
    """A directory that only the user in its name can write; None for anything else."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    until.callback(os.close, folder)
    status = os.fstat(folder)
    return folder if path.name == f"{_PREFIX}{status.st_uid}" and not status.st_mode & 0o022 else None


def _content(name: str, folder: int) -> bytes:
    """Raises OSError, and NotJson for anything but a regular file of the directory's owner."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(name, flags, dir_fd=folder), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.fstat(folder).st_uid:
            raise NotJson("not a regular file of the directory's owner")
        return stream.read(_MOST_BYTES)


def _name(lock: Path) -> str:
    return f"{os.getuid()}-{hashlib.sha256(os.fsencode(lock)).hexdigest()[:24]}.json"
