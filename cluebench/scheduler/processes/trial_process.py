"""Processes of trials: each in a process group of its own, with the trial's lock, watched without polling.

A trial's process inherits the trial's lock and writes into it who it is (see launch.py). So the next scheduler finds
the processes that outlived this one: orphans.
"""

import fcntl
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from cluebench.foundation.errors import BadFile
from cluebench.foundation.json_files import NotJson, declared, parse
from cluebench.scheduler.plan.attempts import Attempt, Starter, batch_job
from cluebench.scheduler.plan.jobs import Job
from cluebench.scheduler.processes import launch

#: Seconds that processes may need to die of SIGKILL, before their devices are used again in any case.
_SWEEP_SECONDS = 5.0


@dataclass(frozen=True)
class StartOrder:
    """How to start the last attempt of a job."""

    command: Sequence[str]
    environment: Mapping[str, str]  # added to the scheduler's own
    directory: Path  # where the command runs
    ends_with_us: bool = False  # the trial ends when the scheduler dies


def take(lock: Path) -> int | None:
    """Locks a trial; returns the descriptor, or None while another process has the lock. Raises OSError."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if try_lock(descriptor):
            return descriptor
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def try_lock(descriptor: int) -> bool:
    """Locks an open file for this process alone; False while another process has a lock on it. Raises OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def started(job: Job, order: StartOrder, descriptor: int) -> subprocess.Popen:
    """The process of the job's last attempt, in a group of its own, with the trial's lock. Raises OSError.

    All processes of the attempt have its mark in their environment.
    """
    job.paths.folder.mkdir(parents=True, exist_ok=True)
    attempt, own = job.attempt, os.getpid()
    attempt.mark, attempt.batch_job = f"{job.lock}#{uuid.uuid4().hex}", batch_job()
    attempt.configuration_hash = job.configuration_hash
    attempt.starter = Starter(own, launch.start_time(own), order.ends_with_us)
    specification = {
        "lock": str(job.lock),
        "descriptor": descriptor,
        "log": str(job.paths.log),
        "record": asdict(attempt),
        "command": list(order.command),
        "end_with_parent": order.ends_with_us,
    }
    return subprocess.Popen(
        launch.command(specification),
        env={**os.environ, **order.environment, launch.TRIAL_VARIABLE: attempt.mark},
        cwd=order.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(descriptor,),
    )


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
    starter = orphan.starter
    alive = starter.pid and launch.start_time(starter.pid) == starter.start_time
    return orphan.host == socket.gethostname() and (not alive or starter.pid == os.getpid())


def wait_for_stranger(pid: int, started: str | None) -> None:
    """Returns when a process that is not our child has ended."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if launch.start_time(pid) == started:  # else the pid belongs to a new process
            process.wait()


def processes_of(mark: str) -> list[psutil.Process]:
    """All living processes that the attempt with this mark started, directly or not."""
    marked = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # another user's, or ended
            if process.environ().get(launch.TRIAL_VARIABLE) == mark and process.status() != psutil.STATUS_ZOMBIE:
                marked.append(process)
    return marked


def silence(job: Job) -> float:
    """Seconds since the log of a running trial grew, or since the trial began."""
    try:
        return max(0.0, time.time() - max(job.paths.log.stat().st_mtime, job.attempt.started))
    except OSError:
        return 0.0


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
