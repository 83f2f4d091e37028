"""Trials as processes of this machine, on its cards or its cores."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from cluebench.scheduler import launch, runner
from cluebench.scheduler.devices import Device, NvidiaDriver, Reading, ask
from cluebench.scheduler.engine import GRACE, Events, Exited, Measured
from cluebench.scheduler.jobs import Job
from cluebench.scheduler.runner import Orphan, StartOrder
from cluebench.scheduler.state import RunDirectory


class LocalEngine:
    """The loop's `Engine` on this machine. A thread waits for each trial's processes."""

    silence = staticmethod(runner.silence)

    def __init__(self, devices: Sequence[Device], driver: NvidiaDriver | None, events: Events):
        self.devices, self._events = list(devices), events
        self._processes: dict[str, tuple[int, str | None, str]] = {}  # trial key → pid, start time, mark
        self._driver = driver

    def measure(self, device_id: str) -> None:
        if self._driver is not None:
            ask(self._driver.read, device_id, lambda *answer: self._events.put(Measured(*answer)))

    def start(self, order: StartOrder, device_ids: Sequence[str]) -> int:
        """Forks and returns the process's id. Raises OSError when the process can't be started at all."""
        specified, mark = runner.prepared(order)
        process = runner.started_process(specified, {**order.environment, launch.TRIAL_VARIABLE: mark}, order.directory)
        self._watch(order.job.key, process.pid, launch.start_time(process.pid), mark, process.wait)
        return process.pid

    def adopt(self, orphan: Orphan) -> None:
        """Watches a process of a dead scheduler like one of our own, but for its exit code, which is lost."""
        pid, started = orphan.pid, orphan.start_time
        self._watch(orphan.key, pid, started, orphan.record.mark, lambda: runner.wait_for_stranger(pid, started))

    def _watch(self, key: str, pid: int, started: str | None, mark: str, wait: Callable[[], int | None]) -> None:
        def watch() -> None:
            code = wait()
            # Workers of a distributed run live in sessions of their own and may outlive their launcher.
            runner.end_all(mark)
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
            runner.signal_group(pid, signal.SIGKILL if now else signal.SIGTERM)
        if now:
            runner.kill_all(mark)

    def allocated(self, key: str, reading: Reading) -> int:
        _, _, mark = self._processes.get(key, (0, None, None))
        if not reading.processes or mark is None:
            return 0
        pids = {process.pid for process in runner.processes_of(mark)}
        return sum(used for pid, used in reading.processes.items() if pid in pids)

    def orphan(self, job: Job) -> Orphan | None:
        return runner.orphan_of(job.key, job.lock)

    def close(self) -> None:
        """Trials run on without their scheduler, and a driver that hangs keeps its thread."""


def end_strays(directories: Iterable[RunDirectory], planned: Collection[Path], note: Callable[[str], None]) -> None:
    """Ends trials of a dead scheduler on this machine whose locks are not among ``planned``.

    They would hold devices that nobody accounts for. Returns when they are gone, after the grace period at the latest.
    """
    due = time.monotonic() + GRACE
    marks = []
    for directory in directories:
        for lock in sorted(directory.private.glob("*--*.lock")):
            key = f"{directory.path.name}/{lock.stem.replace('--', '/', 1)}"
            orphan = None if lock in planned else runner.orphan_of(key, lock)
            if orphan is not None and orphan.pid and orphan.is_ours:
                note(f"{key}: process {orphan.pid} of an earlier grid runs it, and it is not in this plan: ended")
                runner.signal_group(orphan.pid, signal.SIGTERM)
                marks.append(orphan.record.mark)
    for mark in marks:
        runner.end_all(mark, grace=max(0.0, due - time.monotonic()))
