"""The loop's events, clock and engine on simulated time: days of a grid in a second, for tests and the benchmark."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from cluebench.machine.nvidia import Device, DeviceLost, Reading
from cluebench.records.result import Result
from cluebench.scheduler.plan.jobs import Attempt, Job
from cluebench.scheduler.plan.live_halving import HalvingSearch
from cluebench.scheduler.processes.engine import Event, Exited, Measured, StartOrder


class SimulatedTime:
    """A clock that jumps to the next event, and the queue of events to come."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = count()
        self._coming: list[tuple[float, int, Event]] = []

    def clock(self) -> float:
        return self.now

    def put(self, event: Event, after: float = 0.0) -> None:
        """Schedules an event."""
        heapq.heappush(self._coming, (self.now + after, next(self._order), event))

    def get(self, timeout: float) -> Event | None:
        """The next event if it comes within ``timeout`` seconds of simulated time, which passes meanwhile."""
        if self._coming and self._coming[0][0] <= self.now + timeout:
            self.now, _, event = heapq.heappop(self._coming)
            return event
        if timeout == float("inf"):
            raise RuntimeError("the loop waits for an event that will never come")
        self.now += max(0.0, timeout)
        return None


@dataclass
class Outcome:
    """How one attempt ends: after ``seconds``, with an exit code, with or without a result. None: it hangs."""

    seconds: float | None = 1.0
    code: int = 0
    score: tuple[float, ...] | None = (50.0,)
    peak_bytes: int | None = None


@dataclass
class SimulatedEngine:
    """Attempts end as ``outcome`` says (of a job and its devices); memory is what ``memory`` says (of a device id)."""

    time: SimulatedTime
    devices: Sequence[Device]
    jobs: Mapping[str, Job]
    outcome: Callable[[Job, Sequence[str]], Outcome]
    memory: Callable[[str], Reading | DeviceLost] | None = None
    orphans: Mapping[str, Attempt] = field(default_factory=dict)
    starts: list[tuple[float, str, tuple[str, ...]]] = field(default_factory=list)  # time, key, device ids
    running: dict[str, Outcome] = field(default_factory=dict)
    stopped: list[tuple[float, str, bool]] = field(default_factory=list)
    finished: dict[str, Outcome] = field(default_factory=dict)
    locked: set[str] = field(default_factory=set)  # keys of trials whose locks others have
    deaf: set[str] = field(default_factory=set)  # keys of trials that pay no heed to SIGTERM
    undying: set[str] = field(default_factory=set)  # keys of trials that pay no heed to SIGKILL either

    def measure(self, device_id: str) -> None:
        if self.memory is not None:
            self.time.put(Measured(device_id, self.memory(device_id)), 0.001)

    def start(self, job: Job, order: StartOrder) -> None:
        devices = tuple(job.attempt.devices)
        assert job.key not in self.running, f"{job.key} runs twice at once"
        self.starts.append((self.time.now, job.key, devices))
        self._run(job.key, self.outcome(job, devices))

    def take(self, job: Job) -> bool:
        """Nobody else has its lock, unless a test says so."""
        return job.key not in self.locked

    def release(self, job: Job) -> None:
        """Locks are the test's."""

    def _run(self, key: str, outcome: Outcome) -> None:
        self.running[key] = outcome
        if outcome.seconds is not None:
            self.time.put(Exited(key, outcome.code), outcome.seconds)

    def stop(self, key: str, *, now: bool = False) -> None:
        self.stopped.append((self.time.now, key, now))
        if key in self.running and key not in self.undying and (now or key not in self.deaf):
            self.running[key] = Outcome(code=-9 if now else 130, score=None)
            self.time.put(Exited(key, self.running[key].code), 0.01)

    def allocated(self, key: str, reading: Reading) -> int:
        return 0

    def silence(self, job: Job) -> float:
        return self.time.now - job.began

    def orphan(self, job: Job) -> Attempt | None:
        return self.orphans.get(job.key)

    def adopt(self, job: Job) -> None:
        self._run(job.key, Outcome(5.0))

    def result_of(self, job: Job) -> Result | None:
        """Called by the loop when the job's processes have ended, or were someone else's."""
        outcome = self.running.pop(job.key, Outcome(score=None))
        self.finished[job.key] = outcome
        if outcome.score is None:
            return None
        return Result(
            task=job.trial.task, model=job.trial.model.name, configuration={},
            configuration_hash=job.configuration_hash, status="done", best_score=outcome.score,
            train_seconds=outcome.seconds or 0.0, device_seconds=(outcome.seconds or 0.0) * job.attempt.cards,
            peak_memory_bytes=outcome.peak_bytes, device="gpu", cards=job.attempt.cards,
            accumulation_steps=job.attempt.accumulation,
        )  # fmt: skip


@dataclass
class SimulatedTrials:
    """The loop's `Trials`, with no files but what it is given: ``finished`` is the engine's `result_of`, or its own."""

    jobs: list[Job]
    finished: Callable[[Job], Result | None]
    written: Callable[[Job], Result | None] = lambda job: None
    unwritable: Callable[[], str | None] = lambda: None
    halving: HalvingSearch | None = None

    @staticmethod
    def order(job: Job) -> StartOrder:
        """An order that starts nothing."""
        return StartOrder((), {}, Path("/nonexistent"))

    def charged(self, job: Job) -> None: ...

    def recall(self, job: Job) -> None: ...

    def note_failures(self, job: Job) -> None: ...

    def more(self) -> Sequence[Job]:
        return ()
