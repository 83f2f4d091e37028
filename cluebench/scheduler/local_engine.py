"""Trials as processes of this machine, on its cards or its cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from cluebench.scheduler.devices import Device, DeviceMonitor, NvidiaDriver, Reading
from cluebench.scheduler.jobs import Job
from cluebench.scheduler.loop import GRACE, Events, Exited, Measured
from cluebench.scheduler.runner import LocalRunner, Orphan, StartOrder, end_orphans, orphan_of
from cluebench.scheduler.state import RunDirectory


class LocalEngine:
    """The loop's `Engine` on this machine."""

    def __init__(self, devices: Sequence[Device], driver: NvidiaDriver | None, events: Events):
        self.devices = list(devices)
        self._runner = LocalRunner(lambda key, code: events.put(Exited(key, code)))
        self._monitor = None
        if driver is not None and any(device.total_bytes is not None for device in devices):
            self._monitor = DeviceMonitor(driver.read, lambda device, answer: events.put(Measured(device, answer)))

    def measure(self, device_id: str) -> None:
        if self._monitor is not None:
            self._monitor.request(device_id)

    def start(self, order: StartOrder, device_ids: Sequence[str]) -> int | None:
        return self._runner.start(order)

    def stop(self, key: str, *, now: bool = False) -> None:
        self._runner.stop(key, now=now)

    def allocated(self, key: str, reading: Reading) -> int:
        if not reading.processes:
            return 0
        pids = self._runner.pids(key)
        return sum(used for pid, used in reading.processes.items() if pid in pids)

    def silence(self, job: Job) -> float:
        try:
            return max(0.0, time.time() - job.paths.log.stat().st_mtime)
        except OSError:
            return 0.0

    def orphan(self, job: Job) -> Orphan | None:
        return orphan_of(job.key, job.lock)

    def adopt(self, orphan: Orphan) -> None:
        self._runner.adopt(orphan)

    def close(self) -> None:
        if self._monitor is not None:
            self._monitor.close()


def end_strays(directories: Iterable[RunDirectory], planned: Collection[Path], note: Callable[[str], None]) -> None:
    """Ends trials of a dead scheduler on this machine whose locks are not among ``planned``.

    They would hold devices that nobody accounts for. Returns when they are gone, after the grace period at the latest.
    """
    found = []
    for directory in directories:
        for lock in sorted(directory.private.glob("*--*.lock")):
            key = f"{directory.path.name}/{lock.stem.replace('--', '/', 1)}"
            orphan = None if lock in planned else orphan_of(key, lock)
            if orphan is not None and orphan.pid and orphan.is_ours:
                note(f"{key}: process {orphan.pid} of an earlier grid runs it, and it is not in this plan: ended")
                found.append(orphan)
    end_orphans(found, GRACE)
