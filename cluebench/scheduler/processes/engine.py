"""Where trials run, and the events that report to the loop what happens."""

import queue
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cluebench.machine.nvidia import Device, DeviceLost, Reading
from cluebench.scheduler.plan.jobs import Attempt, Job

#: Seconds between SIGTERM and SIGKILL: time to finish a step and write a checkpoint.
GRACE = 30.0


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

    key: str
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
        # SimpleQueue.put may be called in a signal handler.
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def put(self, event: Event) -> None:
        self._queue.put(event)

    def get(self, timeout: float) -> Event | None:
        """The next event, or None after ``timeout`` seconds."""
        try:
            return self._queue.get(timeout=max(0.0, timeout)) if timeout != float("inf") else self._queue.get()
        except queue.Empty:
            return None


class Engine(Protocol):
    """Where trials run. What happens comes back as events."""

    @property
    def devices(self) -> Sequence[Device]: ...

    def measure(self, device_id: str) -> None: ...
    def take(self, job: Job) -> bool: ...
    def release(self, job: Job) -> None: ...
    def start(self, job: Job, order: StartOrder) -> None: ...
    def stop(self, key: str, *, now: bool = False) -> None: ...
    def allocated(self, key: str, reading: Reading) -> int: ...
    def silence(self, job: Job) -> float: ...
    def orphan(self, job: Job) -> Attempt | None: ...
    def adopt(self, job: Job) -> None: ...
    def close(self) -> None: ...
