"""Trials as processes of this machine, on its cards or its cores."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence

from cluebench.machine.nvidia import Device, NvidiaDriver, Reading, ask
from cluebench.scheduler.plan.jobs import Job
from cluebench.scheduler.processes import launch, trial_process
from cluebench.scheduler.processes.engine import Events, Exited, Measured
from cluebench.scheduler.processes.trial_process import Orphan, StartOrder


class LocalEngine:
    """The loop's `Engine` on this machine. A thread waits for each trial's processes."""

    silence = staticmethod(trial_process.silence)

    def __init__(self, devices: Sequence[Device], driver: NvidiaDriver | None, events: Events):
        self.devices, self._events = list(devices), events
        self._processes: dict[str, tuple[int, str | None, str]] = {}  # trial key → pid, start time, mark
        self._locks: dict[str, int] = {}  # trial key → descriptor of its lock
        self._driver = driver

    def measure(self, device_id: str) -> None:
        if self._driver is not None:
            ask(self._driver.read, device_id, lambda *answer: self._events.put(Measured(*answer)))

    def take(self, job: Job) -> bool:
        """Takes a trial's lock, which its process shares then; False while someone else has it. Raises OSError."""
        descriptor = trial_process.take(job.lock)
        if descriptor is not None:
            self._locks[job.key] = descriptor
        return descriptor is not None

    def release(self, job: Job) -> None:
        """What there is to say of a trial's end is on the disk: anyone may run it now."""
        if (descriptor := self._locks.pop(job.key, None)) is not None:
            os.close(descriptor)

    def start(self, order: StartOrder) -> int:
        """Forks and returns the id of the process, of a trial that is taken. Raises OSError when there can't be one."""
        process, mark = trial_process.started(order, self._locks[order.job.key])
        self._watch(order.job.key, process.pid, launch.start_time(process.pid), mark, process.wait)
        return process.pid

    def adopt(self, orphan: Orphan) -> None:
        """Watches a process of a dead scheduler like one of our own, but for its exit code, which is lost."""
        pid, started = orphan.pid, orphan.record.start_time
        self._watch(orphan.key, pid, started, orphan.record.mark, lambda: trial_process.wait_for_stranger(pid, started))

    def _watch(self, key: str, pid: int, started: str | None, mark: str, wait: Callable[[], int | None]) -> None:
        def watch() -> None:
            code = wait()
            # Workers of a distributed run live in sessions of their own and may outlive their launcher.
            trial_process.end_all(mark)
            self._processes.pop(key, None)
            self._events.put(Exited(key, code))

        self._processes[key] = (pid, started, mark)
        threading.Thread(target=watch, name=f"wait-{key}", daemon=True).start()

    def stop(self, key: str, *, now: bool = False) -> None:
        """Asks a trial's process group to end (SIGTERM), or ends every process of it ``now`` (SIGKILL)."""
        # Asked for once: the thread that watches may take it out at any time.
        pid, started, mark = self._processes.get(key, (0, None, None))
        if mark is None:
            return
        if started is not None and launch.start_time(pid) == started:
            trial_process.signal_group(pid, signal.SIGKILL if now else signal.SIGTERM)
        if now:
            trial_process.kill_all(mark)

    def allocated(self, key: str, reading: Reading) -> int:
        _, _, mark = self._processes.get(key, (0, None, None))
        if not reading.processes or mark is None:
            return 0
        pids = {process.pid for process in trial_process.processes_of(mark)}
        return sum(used for pid, used in reading.processes.items() if pid in pids)

    def orphan(self, job: Job) -> Orphan | None:
        return trial_process.orphan_of(job.key, job.lock)

    def close(self) -> None:
        """Trials run on without their scheduler, and a driver that hangs keeps its thread."""
