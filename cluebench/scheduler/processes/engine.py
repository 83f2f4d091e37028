"""Trials as processes of this machine, on its cards or its cores, and the events that report to the loop what happens.

Each trial is a process group of its own. Its process inherits the trial's lock and writes its own id into it (see
launch.py). So the next scheduler finds the processes that outlived this one: orphans.
"""

import fcntl
import os
import select
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from cluebench.foundation.errors import BadFile
from cluebench.foundation.json_files import NotJson, declared, parse
from cluebench.machine.nvidia import Device, DeviceLost, NvidiaDriver, Reading
from cluebench.scheduler.plan.jobs import Attempt, Job
from cluebench.scheduler.processes import launch

#: Seconds between SIGTERM and SIGKILL: time to finish a step and write a checkpoint.
GRACE = 30.0
#: Seconds that processes may need to die of SIGKILL, before their devices are used again in any case.
_SWEEP_SECONDS = 5.0


@dataclass(frozen=True)
class StartOrder:
    """How to start the last attempt of a job."""

    command: Sequence[str]
    environment: Mapping[str, str]  # added to the scheduler's own
    directory: Path  # where the command runs
    ends_with_us: bool = False  # the trial ends when the scheduler dies


@dataclass(frozen=True)
class Exited:
    """All processes of a trial are gone."""

    job: Job
    code: int | None  # negative: ended by that signal; None: unknown


@dataclass(frozen=True)
class Measured:
    """The driver's answer about a card."""

    device_id: str
    answer: Reading | DeviceLost


@dataclass(frozen=True)
class Interrupted:
    """The user, or the machine, wants the grid to stop."""

    name: str  # of the signal


Event = Exited | Measured | Interrupted


class Events:
    """The queue between the threads that see things happen and the loop, and the loop's clock."""

    clock = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()
        # Counts them, and may be written in a signal handler. On Python 3.10 queue.SimpleQueue can wait for ever.
        self._count = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
        self._poll = select.poll()
        self._poll.register(self._count, select.POLLIN)

    def put(self, event: Event) -> None:
        self._waiting.append(event)
        os.eventfd_write(self._count, 1)

    def get(self, timeout: float) -> Event | None:
        """The next event, or None after ``timeout`` seconds, a day at most."""
        if not self._poll.poll(1000 * min(max(0.0, timeout), 86400.0)):
            return None
        os.eventfd_read(self._count)
        return self._waiting.popleft()


class Engine:
    """Where trials run. A thread waits for each trial's processes, another for each answer of the driver."""

    def __init__(self, devices: Sequence[Device], driver: NvidiaDriver | None, events: Events):
        self.devices, self._driver, self._events = list(devices), driver, events
        self._locks: dict[str, int] = {}  # trial key → descriptor of its lock

    def measure(self, device_id: str) -> None:
        """Asks the driver about a card. It may take minutes to answer, so a thread waits for it."""
        if (driver := self._driver) is None:
            return

        def ask() -> None:
            try:
                answer: Reading | DeviceLost = driver.read(device_id)
            except DeviceLost as error:
                answer = error
            self._events.put(Measured(device_id, answer))

        threading.Thread(target=ask, name=f"ask-{device_id}", daemon=True).start()

    def take(self, job: Job) -> bool:
        """Locks a trial; False while another process has the lock. Raises OSError."""
        job.lock.parent.mkdir(parents=True, exist_ok=True)
        self._locks[job.key] = os.open(job.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        is_free = False  # or no lock works here
        try:
            is_free = try_lock(self._locks[job.key])
        finally:
            if not is_free:
                self.release(job)
        return is_free

    def release(self, job: Job) -> None:
        """Unlocks a trial, once all about its end is on the disk: any process may run it now."""
        if (descriptor := self._locks.pop(job.key, None)) is not None:
            os.close(descriptor)

    def start(self, job: Job, order: StartOrder) -> None:
        """Starts the last attempt of a locked trial. Raises OSError if no process can be made.

        All processes of the attempt have its mark in their environment.
        """
        job.paths.folder.mkdir(parents=True, exist_ok=True)
        attempt, own, descriptor = job.attempt, os.getpid(), self._locks[job.key]
        attempt.mark, attempt.batch_job = f"{job.lock}#{uuid.uuid4().hex}", _batch_job()
        attempt.configuration_hash = job.configuration_hash
        attempt.starter_pid, attempt.starter_start_time = own, launch.start_time(own)
        attempt.ends_with_starter = order.ends_with_us
        specification = {
            "lock": str(job.lock),
            "descriptor": descriptor,
            "log": str(job.paths.log),
            "record": asdict(attempt),
            "command": list(order.command),
            "end_with_parent": order.ends_with_us,
        }
        process = subprocess.Popen(
            launch.command(specification),
            env={**os.environ, **order.environment, launch.TRIAL_VARIABLE: attempt.mark},
            cwd=order.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(descriptor,),
        )
        attempt.pid, attempt.start_time = process.pid, launch.start_time(process.pid) or ""
        self._watch(job, process.wait)

    def adopt(self, job: Job) -> None:
        """Watches a process of a dead scheduler like our own ones, except for its exit code, which is lost."""
        attempt = job.attempt

        def wait() -> None:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(attempt.pid)
                if launch.start_time(attempt.pid) == attempt.start_time:  # else the pid belongs to a new process
                    process.wait()

        self._watch(job, wait)

    def _watch(self, job: Job, wait: Callable[[], int | None]) -> None:
        mark = job.attempt.mark

        def watch() -> None:
            code = wait()
            end_all(mark)  # workers of a distributed run live in sessions of their own and may outlive their launcher
            self._events.put(Exited(job, code))

        threading.Thread(target=watch, name=f"wait-{job.key}", daemon=True).start()

    def stop(self, job: Job, *, now: bool = False) -> None:
        """Asks a trial's process group to end (SIGTERM), or kills all its processes ``now`` (SIGKILL)."""
        attempt = job.attempt
        if launch.start_time(attempt.pid) == attempt.start_time:
            signal_group(attempt.pid, signal.SIGKILL if now else signal.SIGTERM)
        if now:
            kill_all(attempt.mark)

    def allocated(self, job: Job, reading: Reading) -> int:
        """Bytes of a card that the driver reports for a trial's processes; 0 if it reports none."""
        pids = set(launch.marked(job.attempt.mark)) if reading.processes else ()
        return sum(used for pid, used in reading.processes.items() if pid in pids)

    def silence(self, job: Job) -> float:
        """Seconds since the log of a running trial grew, or since the trial began."""
        try:
            return max(0.0, time.time() - max(job.paths.log.stat().st_mtime, job.attempt.started))
        except OSError:
            return 0.0

    def orphan(self, job: Job) -> Attempt | None:
        return orphan_of(job.lock)


def _batch_job() -> str:
    """``job 4711_2``, Slurm's name for the job of this process; empty outside Slurm."""
    array, number, job = (os.environ.get(f"SLURM_{name}") for name in ("ARRAY_JOB_ID", "ARRAY_TASK_ID", "JOB_ID"))
    return f"job {array}_{number}" if array and number else f"job {job}" if job else ""


# Locks and processes, also those of other schedulers ------------------------------------------------------------------


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
    processes = []
    for pid in launch.marked(mark):
        with suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    return processes


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
