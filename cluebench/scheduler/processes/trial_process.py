"""Locks and processes of trials, also those of other schedulers.

A trial's process inherits the trial's lock and writes into it who it is (see launch.py). So the next scheduler finds
the processes that outlived this one: orphans.
"""

import fcntl
import os
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from cluebench.foundation.errors import BadFile
from cluebench.foundation.json_files import NotJson, declared, parse
from cluebench.scheduler.plan.jobs import Attempt
from cluebench.scheduler.processes import launch

#: Seconds that processes may need to die of SIGKILL, before their devices are used again in any case.
_SWEEP_SECONDS = 5.0


def try_lock(descriptor: int) -> bool:
    """Locks an open file for this process alone; False while another process has a lock on it. Raises OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def record_in(lock: Path) -> bytes | None:
    """The content of a lock's file while a process holds the lock; None if it is free."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # A shared lock: two readers do not disturb each other, nor a start.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return os.pread(descriptor, 1 << 16, 0)
    finally:
        os.close(descriptor)


def orphan_of(lock: Path) -> Attempt | None:
    """The attempt that another process runs now, by the trial's lock; None if the lock is free.

    Its ``pid`` is 0 while that process has not written its record.
    """
    content = record_in(lock)
    if content is None:
        return None
    try:
        attempt = declared(parse(content), Attempt, lock)
    except (NotJson, BadFile):
        return Attempt()
    if attempt.host == socket.gethostname() and launch.start_time(attempt.pid) != attempt.start_time:
        return replace(attempt, pid=0)  # the record of an earlier attempt
    return attempt


def is_ours(orphan: Attempt) -> bool:
    """Whether this scheduler looks after an orphan: it runs here, and its starter is dead or this process."""
    starter = orphan.starter_pid
    alive = starter and launch.start_time(starter) == orphan.starter_start_time
    return orphan.host == socket.gethostname() and (not alive or starter == os.getpid())


def processes_of(mark: str) -> list[psutil.Process]:
    """All living processes that the attempt with this mark started, directly or not."""
    marked = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # another user's, or ended
            if process.environ().get(launch.TRIAL_VARIABLE) == mark and process.status() != psutil.STATUS_ZOMBIE:
                marked.append(process)
    return marked


def signal_group(leader: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def end_all(mark: str, grace: float = 0.0) -> None:
    """Kills the processes of an attempt that live after ``grace`` seconds, and waits a few seconds for their end."""
    if grace:
        psutil.wait_procs(processes_of(mark), timeout=grace)
    psutil.wait_procs(kill_all(mark), timeout=_SWEEP_SECONDS)


def kill_all(mark: str) -> list[psutil.Process]:
    """Sends SIGKILL to the processes of an attempt, and returns them."""
    left = processes_of(mark)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    return left
