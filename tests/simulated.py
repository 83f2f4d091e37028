"""The loop's events, clock and engine on simulated time: days of a grid in a second, for tests and the benchmark."""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from cluebench.machine.nvidia import Device, DeviceLost, Reading
from cluebench.pretrained.model import Model
from cluebench.records.paths import TrialPaths
from cluebench.records.result import Result
from cluebench.records.trial import Trial
from cluebench.scheduler.loop import loop
from cluebench.scheduler.loop.grid_state import GridState
from cluebench.scheduler.plan.estimates import GIB
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Attempt, Job, State
from cluebench.scheduler.plan.live_halving import HalvingSearch
from cluebench.scheduler.plan.trials import build_plan
from cluebench.scheduler.processes.engine import Event, Exited, Measured, StartOrder
from cluebench.search.halving import Rule


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
    outcome: Callable[[Job, Sequence[str]], Outcome]
    memory: Callable[[str], Reading | DeviceLost] | None = None
    orphans: Mapping[str, Attempt] = field(default_factory=dict)
    starts: list[tuple[float, str, tuple[str, ...]]] = field(default_factory=list)  # time, key, device ids
    running: dict[str, Outcome] = field(default_factory=dict)
    stopped: list[tuple[float, str, bool]] = field(default_factory=list)
    locked: set[str] = field(default_factory=set)  # keys of trials whose locks others have
    deaf: set[str] = field(default_factory=set)  # keys of trials that ignore SIGTERM
    undying: set[str] = field(default_factory=set)  # keys of trials that SIGKILL does not end

    def measure(self, device_id: str) -> None:
        if self.memory is not None:
            self.time.put(Measured(device_id, self.memory(device_id)), 0.001)

    def start(self, job: Job, order: StartOrder) -> None:
        devices = tuple(job.attempt.devices)
        assert job.key not in self.running, f"{job.key} runs twice at once"
        self.starts.append((self.time.now, job.key, devices))
        self._run(job, self.outcome(job, devices))

    def take(self, job: Job) -> bool:
        """Nobody else has its lock, unless a test says so."""
        return job.key not in self.locked

    def release(self, job: Job) -> None:
        """Locks are the test's."""

    def _run(self, job: Job, outcome: Outcome) -> None:
        self.running[job.key] = outcome
        if outcome.seconds is not None:
            self.time.put(Exited(job, outcome.code), outcome.seconds)

    def stop(self, job: Job, *, now: bool = False) -> None:
        key = job.key
        self.stopped.append((self.time.now, key, now))
        if key in self.running and key not in self.undying and (now or key not in self.deaf):
            self.running[key] = Outcome(code=-9 if now else 130, score=None)
            self.time.put(Exited(job, self.running[key].code), 0.01)

    def allocated(self, job: Job, reading: Reading) -> int:
        return 0

    def silence(self, job: Job) -> float:
        return self.time.now - job.began

    def orphan(self, job: Job) -> Attempt | None:
        return self.orphans.get(job.key)

    def adopt(self, job: Job) -> None:
        self._run(job, Outcome(5.0))

    def result_of(self, job: Job) -> Result | None:
        """Called by the loop when the job's processes have ended, or were someone else's."""
        outcome = self.running.pop(job.key, Outcome(score=None))
        if outcome.score is None:
            return None
        return Result(
            task=job.trial.task, model=job.trial.model.name, configuration={},
            configuration_hash=job.configuration_hash, status="done", best_score=outcome.score,
            train_seconds=outcome.seconds or 0.0, device_seconds=(outcome.seconds or 0.0) * job.attempt.cards,
            peak_memory_bytes=outcome.peak_bytes, device="gpu", cards=job.attempt.cards,
            accumulation_steps=job.attempt.accumulation,
        )  # fmt: skip


class Witness:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []  # about the whole grid
        self.lines: list[str] = []  # about a job

    def hear(self, text: str, job: Job | None) -> None:
        if job is None:
            self.notes.append(text)
        else:
            self.lines.append(f"{job.trial.name} {text}")

    def tick(self, now: float) -> float:
        return float("inf")


def gpu(number: int, gigabytes: int = 24, joinable: bool = True) -> Device:
    return Device(f"GPU-{number}", f"gpu {number}", "gpu", "Test Card", gigabytes * GIB, joinable)


def empty(device_id: str, gigabytes: int = 24) -> Reading:
    return Reading(gigabytes * GIB, gigabytes * GIB, {})


def trials(*tasks: str, model: str = "ernie-3.0-base-zh", **selection: Any) -> list[Trial]:
    chosen: dict = {"learning_rates": [3e-5], "batch_sizes": [24], "dropouts": [0.1]} | selection
    return build_plan([Model.of(model)], GridFlags(tasks=tasks, **chosen))


def job_of(trial: Trial, number: int = 0) -> Job:
    nowhere = Path("/nonexistent")
    return Job(trial, number, TrialPaths(nowhere, trial.name), nowhere / "lock", f"hash-{trial.key}")


class Run:
    """The scheduler's own loop on simulated time. It is the loop's `Trials`, too, without any files."""

    def __init__(self, trials: Iterable[Trial], devices: Sequence[Device],
                 outcome: Callable[[Job, Sequence[str]], Outcome] = lambda job, ids: Outcome(),
                 memory: Callable[[str], Reading | DeviceLost] | None = None,
                 orphans: Iterable[tuple[str, Attempt]] = (), rule: Rule | None = None, **flags: Any):  # fmt: skip
        self.time, self.witness = SimulatedTime(), Witness()
        self.jobs = [job_of(trial, number) for number, trial in enumerate(trials)]
        self.halving = HalvingSearch(rule, self.jobs, self.written) if rule else None
        self.engine = SimulatedEngine(self.time, devices, outcome, memory, dict(orphans))
        self.grid = GridState(self, self.engine, [self.witness], self.time, GridFlags(**flags))
        self.ledger = self.grid.ledger

    def run(self) -> "Run":
        loop.run(self.grid)
        return self

    def states(self) -> list[State]:
        return [job.state for job in self.jobs]

    # As the loop's `Trials` -------------------------------------------------------------------------------------------

    def order(self, job: Job) -> StartOrder:
        return StartOrder((), {}, Path("/nonexistent"))

    def finished(self, job: Job) -> Result | None:
        return self.engine.result_of(job)

    def written(self, job: Job) -> Result | None:
        return None

    def unwritable(self) -> str | None:
        return None

    def more(self) -> Sequence[Job]:
        return ()

    def charged(self, job: Job) -> None: ...
    def recall(self, job: Job) -> None: ...
    def note_failures(self, job: Job) -> None: ...
