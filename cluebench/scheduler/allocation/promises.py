"""What the schedulers of a machine have promised of its cards, so that no two of them promise the same memory.

Each user has a directory in the temporary one that nobody else can write, with one file a trial. All are read, and all
locked before one is changed. Others' directories are not trusted: what is no regular file of the user that the
directory's name tells counts for nothing, and a lock that is never free is passed over. A file counts as long as its
process lives: the trial's, or while that is being started the scheduler's.
"""

from __future__ import annotations

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
from dataclasses import asdict, dataclass
from pathlib import Path

from cluebench.foundation.errors import BadFile
from cluebench.foundation.json_files import Count, NotJson, Pid, Seconds, declared, parse
from cluebench.scheduler.processes import launch

#: Before the number of a user, in the name of a directory.
_PREFIX = "cluebench-promises-"
#: Of a directory and of a file in it that may be a stranger's.
_MOST_FILES, _MOST_BYTES = 1000, 1 << 16
#: Times in a row that a lock may not be free before it is passed over.
_REFUSALS = 3
#: Seconds to wait for a scheduler that holds the lock, which takes milliseconds unless it has been stopped.
_PATIENCE = 1.0


@dataclass(frozen=True)
class Promise:
    """Memory of cards that a running trial has or will have."""

    pid: Pid
    start_time: str | None
    devices: list[str]  # ids
    bytes: Count  # on each of them
    settled: Seconds | None = None  # since when (seconds since 1970) it has allocated them: readings after that show it


class Promises:
    """The directories, as one scheduler sees them. ``complain`` is told once when they can't be used."""

    def __init__(self, complain: Callable[[str], None]):
        self._root, self._complain = Path(tempfile.gettempdir()), complain
        self._directory = self._root / f"{_PREFIX}{os.getuid()}"
        self._own: dict[str, Promise] = {}  # file name → promise
        self._usable = True
        self._refused: Counter[str] = Counter()  # directory → how often its lock was not free, in a row

    @contextmanager
    def locked(self) -> Iterator[list[Promise]]:
        """The other schedulers' promises, while nobody can make another. Raises BlockingIOError when that can't be."""
        with ExitStack() as opened:
            yield self._look(opened) if self._usable else []

    def _look(self, opened: ExitStack) -> list[Promise]:
        try:
            with suppress(FileExistsError):
                self._directory.mkdir()
                self._directory.chmod(0o755)
            paths = sorted(self._root.glob(f"{_PREFIX}*"))
            found = {path: folder for path in paths if (folder := _opened(path, opened)) is not None}
            if self._directory not in found:
                raise NotADirectoryError(errno.ENOTDIR, "no directory that you alone can write")
            for path, folder in found.items():
                self._lock(path.name, folder)
            return [promise for path, folder in found.items() for promise in self._others(path, folder)]
        except BlockingIOError:
            raise
        except OSError as error:
            self._usable = False
            self._complain(f"{self._directory}: {error.strerror}; other schedulers on these cards can't be seen")
            return []

    def _lock(self, name: str, folder: int) -> None:
        if self._refused[name] == _REFUSALS:
            return
        try:
            _lock(folder)
            self._refused[name] = 0
        except BlockingIOError:
            self._refused[name] += 1
            if self._refused[name] < _REFUSALS:
                raise
            self._complain(f"{self._root / name}: somebody keeps its lock; the grid goes on without waiting for it")

    def _others(self, path: Path, folder: int) -> Iterator[Promise]:
        for name in os.listdir(folder)[:_MOST_FILES]:
            if not name.endswith(".json") or (path == self._directory and name in self._own):
                if path == self._directory and _is_old(name, folder):  # half-written by a process that was killed
                    os.unlink(name, dir_fd=folder)
                continue
            try:
                promise = declared(parse(_content(name, folder)), Promise, path / name)
                if launch.start_time(promise.pid) == promise.start_time is not None:
                    yield promise
                    continue
            except (OSError, NotJson, BadFile):
                pass  # written by another version, or by a disk that was full
            if path == self._directory:
                with suppress(OSError):  # of a dead process; another user's is left to them
                    os.unlink(name, dir_fd=folder)

    def make(self, lock: Path, pid: int, devices: Sequence[str], size: int) -> None:
        """Promises ``size`` bytes of each device to the trial with this lock. To be called under the lock here."""
        self._write(_name(lock), Promise(pid, launch.start_time(pid), list(devices), size))

    def settle(self, lock: Path) -> None:
        """The trial has allocated what it was promised."""
        promise = self._own.get(_name(lock))
        if promise is not None and promise.settled is None:
            self._write(_name(lock), Promise(**asdict(promise) | {"settled": time.time()}))

    def drop(self, lock: Path) -> None:
        """The trial has ended."""
        if self._own.pop(_name(lock), None) is not None:
            with suppress(OSError):
                (self._directory / _name(lock)).unlink()

    def _write(self, name: str, promise: Promise) -> None:
        self._own[name] = promise
        if self._usable:
            with suppress(OSError):
                descriptor, new = tempfile.mkstemp(dir=self._directory)  # of a random name, and never through a link
                with open(descriptor, "w", encoding="utf-8") as stream:
                    stream.write(json.dumps(asdict(promise)))
                os.chmod(new, 0o644)
                os.replace(new, self._directory / name)


def _opened(path: Path, until: ExitStack) -> int | None:
    """A directory that only the user whose number its name ends in can write; None for anything else."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    until.callback(os.close, folder)
    status = os.fstat(folder)
    return folder if path.name == f"{_PREFIX}{status.st_uid}" and not status.st_mode & 0o022 else None


def _is_old(name: str, folder: int) -> bool:
    return name.startswith("tmp") and os.stat(name, dir_fd=folder).st_mtime < time.time() - 60


def _content(name: str, folder: int) -> bytes:
    """Raises OSError; ValueError for what is no file of the directory's owner."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(name, flags, dir_fd=folder), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.fstat(folder).st_uid:
            raise NotJson("is no file of its directory's owner")
        return stream.read(_MOST_BYTES)


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _name(lock: Path) -> str:
    return f"{os.getuid()}-{hashlib.sha256(os.fsencode(lock)).hexdigest()[:24]}.json"
