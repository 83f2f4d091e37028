"""What the schedulers of a machine have promised of its cards, so that no two of them promise the same memory.

A directory with one file a trial, of any user's schedulers, changed and read under one lock. A file counts as long as
its process lives: the trial's, or while that is being started the scheduler's.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cluebench.foundation import json_files
from cluebench.foundation.errors import BadFile
from cluebench.foundation.json_files import Count, Pid, Seconds
from cluebench.scheduler.processes import launch

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
    """The directory, as one scheduler sees it. ``complain`` is told once when it can't be used: all goes on without."""

    def __init__(self, complain: Callable[[str], None]):
        self._directory = Path(tempfile.gettempdir()) / "cluebench-promises"
        self._complain = complain
        self._own: dict[str, Promise] = {}  # file name → promise

    @contextmanager
    def locked(self) -> Iterator[list[Promise]]:
        """The other schedulers' promises, while nobody can make another. Raises BlockingIOError when that can't be."""
        descriptor = None
        try:
            with suppress(FileExistsError):
                self._directory.mkdir()
                self._directory.chmod(0o1777)  # any user's, as /tmp itself
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            _lock(descriptor)
            others = self._others()
        except BlockingIOError:
            if descriptor is not None:
                os.close(descriptor)
            raise
        except OSError as error:
            self._complain(f"{self._directory}: {error.strerror}; other schedulers on these cards can't be seen")
            self._complain, others = lambda text: None, []
        try:
            yield others
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _others(self) -> list[Promise]:
        found = []
        for path in self._directory.glob("*.json"):
            if path.name in self._own:
                continue
            try:
                promise = json_files.read(path, Promise)
                if launch.start_time(promise.pid) == promise.start_time is not None:
                    found.append(promise)
                    continue
            except (FileNotFoundError, BadFile):
                pass  # written by another version, or by a disk that was full
            with suppress(OSError):  # of a dead process; another user's is left to them
                path.unlink()
        return found

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
        with suppress(OSError):
            new = self._directory / f"{name}.new"
            new.write_text(json.dumps(asdict(promise)), encoding="utf-8")
            os.replace(new, self._directory / name)


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
