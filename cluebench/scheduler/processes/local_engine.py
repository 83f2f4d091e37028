"""Trials as processes of this machine, on its cards or its cores."""

import os
import signal
import threading
from collections.abc import Callable, Sequence

from cluebench.machine.nvidia import Device, NvidiaDriver, Reading, ask
from cluebench.scheduler.plan.attempts import Attempt
from cluebench.scheduler.plan.jobs import Job
from cluebench.scheduler.processes import launch, trial_process
from cluebench.scheduler.processes.engine import Events, Exited, Measured
from cluebench.scheduler.processes.trial_process import StartOrder


class LocalEngine:
    """The loop's `Engine` on this machine. A thread waits for each trial's processes."""

    silence = staticmethod(trial_process.silence)

    def __init__(self, devices: Sequence[Device], driver: NvidiaDriver | None, events: Events):
        self.devices, self._driver, self._events = list(devices), driver, events
        self._running: dict[str, Attempt] = {}  # by trial key
        self._locks: dict[str, int] = {}  # trial key → descriptor of its lock

    def measure(self, device_id: str) -> None:
        if self._driver is not None:
            ask(self._driver.read, device_id, lambda *answer: self._events.put(Measured(*answer)))

    def take(self, job: Job) -> bool:
        """Locks a trial; False while another process has the lock. Raises OSError."""
        descriptor = trial_process.take(job.lock)
        if descriptor is not None:
            self._locks[job.key] = descriptor
        return descriptor is not None

    def release(self, job: Job) -> None:
        """Unlocks a trial, once all about its end is on the disk: any process may run it now."""
        if (descriptor := self._locks.pop(job.key, None)) is not None:
            os.close(descriptor)

    def start(self, job: Job, order: StartOrder) -> None:
        """Starts the last attempt of a locked trial. Raises OSError if no process can be made."""
        process = trial_process.started(job, order, self._locks[job.key])
        job.attempt.pid, job.attempt.start_time = process.pid, launch.start_time(process.pid) or ""
        self._watch(job, process.wait)

    def adopt(self, job: Job) -> None:
        """Watches a process of a dead scheduler like our own ones, except for its exit code, which is lost."""
        attempt = job.attempt
        self._watch(job, lambda: trial_process.wait_for_stranger(attempt.pid, attempt.start_time))

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

    def orphan(self, job: Job) -> Attempt | None:
        return trial_process.orphan_of(job.lock)

    def close(self) -> None:
        """Trials go on without their scheduler; a thread that waits for a driver is left behind."""
