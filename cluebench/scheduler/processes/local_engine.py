"""Trials as processes of this machine, on its cards or its cores: each in a process group of its own."""

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict

import psutil

from cluebench.machine.nvidia import Device, NvidiaDriver, Reading, ask
from cluebench.scheduler.plan.jobs import Attempt, Job
from cluebench.scheduler.processes import launch, trial_process
from cluebench.scheduler.processes.engine import Events, Exited, Measured, StartOrder


class LocalEngine:
    """The loop's `Engine` on this machine. A thread waits for each trial's processes."""

    def __init__(self, devices: Sequence[Device], driver: NvidiaDriver | None, events: Events):
        self.devices, self._driver, self._events = list(devices), driver, events
        self._running: dict[str, Attempt] = {}  # by trial key
        self._locks: dict[str, int] = {}  # trial key → descriptor of its lock

    def measure(self, device_id: str) -> None:
        if self._driver is not None:
            ask(self._driver.read, device_id, lambda *answer: self._events.put(Measured(*answer)))

    def take(self, job: Job) -> bool:
        """Locks a trial; False while another process has the lock. Raises OSError."""
        job.lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(job.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._locks[job.key] = descriptor
        try:
            is_free = trial_process.try_lock(descriptor)
        except OSError:
            self.release(job)
            raise
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
        key, attempt = job.key, job.attempt

        def watch() -> None:
            code = wait()
            # Workers of a distributed run live in sessions of their own and may outlive their launcher.
            trial_process.end_all(attempt.mark)
            self._running.pop(key, None)
            self._events.put(Exited(key, code))

        self._running[key] = attempt
        threading.Thread(target=watch, name=f"wait-{key}", daemon=True).start()

    def stop(self, key: str, *, now: bool = False) -> None:
        """Asks a trial's process group to end (SIGTERM), or kills all its processes ``now`` (SIGKILL)."""
        attempt = self._running.get(key)  # once: the thread that watches may remove it at any time
        if attempt is None:
            return
        if attempt.start_time and launch.start_time(attempt.pid) == attempt.start_time:
            trial_process.signal_group(attempt.pid, signal.SIGKILL if now else signal.SIGTERM)
        if now:
            trial_process.kill_all(attempt.mark)

    def allocated(self, key: str, reading: Reading) -> int:
        """Bytes of a card that the driver reports for a trial's processes; 0 if it reports none."""
        attempt = self._running.get(key)
        if not reading.processes or attempt is None:
            return 0
        pids = {process.pid for process in trial_process.processes_of(attempt.mark)}
        return sum(used for pid, used in reading.processes.items() if pid in pids)

    def silence(self, job: Job) -> float:
        """Seconds since the log of a running trial grew, or since the trial began."""
        try:
            return max(0.0, time.time() - max(job.paths.log.stat().st_mtime, job.attempt.started))
        except OSError:
            return 0.0

    def orphan(self, job: Job) -> Attempt | None:
        return trial_process.orphan_of(job.lock)

    def close(self) -> None:
        """Trials go on without their scheduler; a thread that waits for a driver is left behind."""


def _batch_job() -> str:
    """``job 4711_2``, Slurm's name for the job of this process; empty outside Slurm."""
    array, number, job = (os.environ.get(f"SLURM_{name}") for name in ("ARRAY_JOB_ID", "ARRAY_TASK_ID", "JOB_ID"))
    return f"job {array}_{number}" if array and number else f"job {job}" if job else ""
