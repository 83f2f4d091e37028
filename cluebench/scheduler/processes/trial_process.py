"""Processes of trials: started as argument lists, each in a process group of its own, watched without polling.

The process that runs a trial inherits the trial's lock (see launch.py) and writes into it who it is, so that the next
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
from cluebench.scheduler.plan.jobs import Elsewhere, Job
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
    ends_with_us: bool = False  # however the scheduler dies


@dataclass(frozen=True)
class Starter:
    """The process that started a trial."""

    pid: Pid = 0  # 0: nobody knows
    start_time: str | None = None
    is_worker: bool = False  # its trials end with it


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
    batch_job: str = ""  # "job 4711_2", where a batch system has started the starter


@dataclass(frozen=True)
class Orphan:
    """A trial's process that a scheduler before this one started. ``pid`` 0: it has not said yet who it is."""

    key: str
    lock: Path
    pid: int
    host: str
    record: LockRecord

    @property
    def elsewhere(self) -> Elsewhere:
        who = self.record.batch_job or f"process {self.pid}"
        return Elsewhere(f"{who} on {self.host}" if self.pid else "", self.record.cards, self.record.started)

    @property
    def is_local(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def is_ours(self) -> bool:
        """Whether it is for this scheduler to look after: who started it here lives no more."""
        starter = self.record.starter
        alive = starter.pid and launch.start_time(starter.pid) == starter.start_time
        return self.is_local and (not alive or starter.pid == os.getpid())


def take(lock: Path) -> int | None:
    """The descriptor of a trial's lock, taken; None while someone else has it. Raises OSError."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


def started(order: StartOrder, descriptor: int) -> tuple[subprocess.Popen, str]:
    """The process that becomes an attempt, in a group of its own, with the trial's lock; and the attempt's mark.

    All processes of the attempt carry the mark in their environment. Raises OSError when it can't be started at all.
    """
    job, attempt = order.job, order.job.attempt
    job.paths.folder.mkdir(parents=True, exist_ok=True)
    mark = f"{job.lock}#{uuid.uuid4().hex}"
    record = {  # a LockRecord, for the next scheduler
        "devices": order.holding.devices,
        "labels": attempt.devices,
        "cards": attempt.cards,
        "accumulation": attempt.accumulation,
        "promised_bytes": order.holding.promised_bytes,
        "key": job.key,
        "starter": {
            "pid": os.getpid(),
            "start_time": launch.start_time(os.getpid()),
            "is_worker": order.ends_with_us,
        },
        "mark": mark,
        "batch_job": _batch_job(),
        "configuration_hash": job.configuration_hash,
    }
    specified = {
        "lock": str(job.lock),
        "descriptor": descriptor,
        "log": str(job.paths.log),
        "record": record,
        "command": list(order.command),
        "end_with_parent": order.ends_with_us,
    }
    process = subprocess.Popen(
        launch.command(specified),
        env={**os.environ, **order.environment, launch.TRIAL_VARIABLE: mark},
        cwd=order.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(descriptor,),
    )
    return process, mark


def _batch_job() -> str:
    """``job 4711_2``, Slurm's name of what this process belongs to; empty outside."""
    of_array, number, job = (os.environ.get(f"SLURM_{name}") for name in ("ARRAY_JOB_ID", "ARRAY_TASK_ID", "JOB_ID"))
    return f"job {of_array}_{number}" if of_array and number else f"job {job}" if job else ""


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
    return Orphan(key, lock, pid, record.host, record)


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
