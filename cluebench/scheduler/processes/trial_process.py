"""Processes of trials: started as argument lists, each in a process group of its own, watched without polling.

The process that runs a trial holds the trial's lock (see launch.py) and has written into it who it is, so that the next
scheduler finds the orphans of one that died.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cluebench.foundation.errors import BadFile
from cluebench.foundation.json_files import Count, NotJson, Pid, Positive, Seconds, declared, parse
from cluebench.scheduler.plan.jobs import Job
from cluebench.scheduler.processes import launch

#: How long processes that outlive their trial may take to die of SIGKILL before the devices are given on regardless.
_SWEEP_SECONDS = 5.0


@dataclass(frozen=True)
class Holding:
    """What the ledger has given to a trial, or has just taken back from it."""

    devices: tuple[str, ...] = ()  # ids
    promised_bytes: int = 0  # on each of them


@dataclass(frozen=True)
class StartOrder:
    """Everything needed to start one attempt of a trial."""

    job: Job  # that has this attempt as its last
    holding: Holding
    command: Sequence[str]
    environment: Mapping[str, str]  # on top of the scheduler's own
    directory: Path  # where the command runs
    result_sum: int | None = None  # `launch.content_sum` of the trial's result when that was found not to be done


@dataclass(frozen=True)
class Starter:
    """The process that started a trial."""

    pid: Pid = 0  # 0: nobody knows
    start_time: str | None = None


@dataclass(frozen=True)
class LockRecord:
    """What launch.py has written into a trial's lock: who the process is, and what it was given."""

    pid: Pid = 0  # 0: nobody knows
    start_time: str = ""
    host: str = field(default_factory=socket.gethostname)
    mark: str = ""
    configuration_hash: str = ""
    devices: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    cards: Positive = 1
    accumulation: Positive = 1
    promised_bytes: Count = 0
    started: Seconds = field(default_factory=time.time)
    starter: Starter = field(default_factory=Starter)


@dataclass(frozen=True)
class Orphan:
    """A trial's process that a scheduler before this one started. ``pid`` 0: it has not said yet who it is."""

    key: str
    lock: Path
    pid: int
    start_time: str | None
    host: str
    configuration_hash: str
    record: LockRecord

    @property
    def is_local(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def is_ours(self) -> bool:
        """Whether it is for this scheduler to look after: who started it here lives no more."""
        starter = self.record.starter
        alive = starter.pid and launch.start_time(starter.pid) == starter.start_time
        return self.is_local and (not alive or starter.pid == os.getpid())


def started_process(specified: dict, environment: Mapping[str, str], directory: str | Path) -> subprocess.Popen:
    """The process that becomes an attempt, in a group of its own; ``environment`` on top of this process's.

    Raises OSError when it can't be started at all.
    """
    return subprocess.Popen(
        launch.command(specified),
        env={**os.environ, **environment},
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def prepared(order: StartOrder) -> tuple[dict, str]:
    """What launch.py is told, and the mark that all processes of this attempt carry in their environment.

    The folders are there then. Raises OSError when they can't be made.
    """
    job, attempt = order.job, order.job.attempt
    for folder in (job.lock.parent, job.paths.folder):
        folder.mkdir(parents=True, exist_ok=True)
    mark = f"{job.lock}#{uuid.uuid4().hex}"
    record = {  # a LockRecord, for the next scheduler
        "devices": order.holding.devices,
        "labels": attempt.devices,
        "cards": attempt.cards,
        "accumulation": attempt.accumulation,
        "promised_bytes": order.holding.promised_bytes,
        "key": job.key,
        "starter": {"pid": os.getpid(), "start_time": launch.start_time(os.getpid())},
        "mark": mark,
        "configuration_hash": job.configuration_hash,
    }
    specified = {
        "lock": str(job.lock),
        "log": str(job.paths.log),
        "result": str(job.paths.result),
        "result_sum": order.result_sum,
        "record": record,
        "command": list(order.command),
    }
    return specified, mark


def held_by(lock: Path) -> bytes | None:
    """What the holder of a lock has written into its file; None when nobody holds it."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # A shared lock: two that only look don't get into each other's way, nor into the way of a launch.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return os.pread(descriptor, 1 << 16, 0)
    finally:
        os.close(descriptor)


def orphan_of(key: str, lock: Path) -> Orphan | None:
    """The process that holds a trial's lock though this scheduler has not started it; None when the lock is free."""
    content = held_by(lock)
    if content is None:
        return None
    try:
        record = declared(parse(content), LockRecord, lock)
    except (NotJson, BadFile):
        record = LockRecord()
    pid = record.pid
    if record.host == socket.gethostname() and launch.start_time(pid) != record.start_time:
        pid = 0  # the record is of an earlier attempt: who holds the lock now is about to write his own
    return Orphan(key, lock, pid, record.start_time, record.host, record.configuration_hash, record)


def wait_for_stranger(pid: int, started: str | None) -> None:
    """Returns when a process that is not our child has ended."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if launch.start_time(pid) == started:  # else the pid has been given to someone else
            process.wait()


def processes_of(mark: str) -> list[psutil.Process]:
    """Every living process that was started, however indirectly, by the attempt with this mark."""
    marked = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(launch.TRIAL_VARIABLE) == mark and process.status() != psutil.STATUS_ZOMBIE:
                marked.append(process)
        except (psutil.Error, OSError):
            continue  # another user's, or gone meanwhile
    return marked


def silence(job: Job) -> float:
    """Seconds since the log of a running trial grew, or it began."""
    try:
        return max(0.0, time.time() - max(job.paths.log.stat().st_mtime, job.attempt.started))
    except OSError:
        return 0.0


def signal_group(leader: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def end_all(mark: str, grace: float = 0.0) -> None:
    """Kills what an attempt has left of processes after ``grace`` seconds, and waits a while until they are gone."""
    if grace:
        psutil.wait_procs(processes_of(mark), timeout=grace)
    psutil.wait_procs(kill_all(mark), timeout=_SWEEP_SECONDS)


def kill_all(mark: str) -> list[psutil.Process]:
    """The processes of an attempt, sent SIGKILL."""
    left = processes_of(mark)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    return left
