"""A trial on its way through the grid: its state, its attempts, and how its batch is cut into micro-batches."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated

from cluebench.foundation import atomic, json_files
from cluebench.foundation.json_files import between
from cluebench.records.grid_file import NotedFailure, Spent
from cluebench.records.log import GrowingLog, LogFacts, furthest_step
from cluebench.records.paths import TrialPaths
from cluebench.records.result import Result
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.estimates import is_telling
from cluebench.scheduler.plan.failures import Failure, FailureKind
from cluebench.search.halving import Curve

#: Bytes of a log that are read at once at most: the loop has more to do, and what counts stands at the end.
_MOST = 1 << 20
#: Longest pause before a retry, in seconds.
_LONGEST_PAUSE = 1800.0


class State(str, Enum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    HELD = "held"  # stands still at a rung until the other trials of its task are there
    STOPPED = "stopped"  # for good, by their verdict


@dataclass
class Attempt:
    """One start of a trial's process."""

    number: int
    devices: list[str]  # labels
    cards: int
    accumulation: int  # micro-batches an optimizer step and card
    started: float  # seconds since 1970
    finished: float | None = None
    outcome: str | None = None  # "done", "paused", "interrupted" or a kind of failure
    detail: str = ""


@dataclass(frozen=True)
class Elsewhere:
    """Who else runs a trial, as its lock says."""

    who: str  # "job 4711_2 on n2", "process 815 on n1"; empty: it does not say yet
    cards: int = 1
    started: float = 0.0  # seconds since 1970


@dataclass
class Job:
    """A trial and what the scheduler knows about it."""

    trial: Trial
    number: int  # place in the plan
    paths: TrialPaths
    lock: Path
    configuration_hash: str  # empty while the data is not here
    configuration: Mapping = field(default_factory=dict)  # what is hashed
    state: State = State.WAITING
    result: Result | None = None
    writes_over: bool = False  # a trial that was finished with other settings lay where its files go
    curve: Curve | None = None  # its evaluations, in a search that stops some trials early
    attempts: list[Attempt] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)  # by earlier starts of the grid too
    memory_factor: int = 1  # how often the task's micro-batches are to be halved: 1, 2, 4 …
    not_before: float = 0.0  # clock time of the next attempt
    needs_model: bool = False  # it was done without keeping its model, and runs again to keep it
    elsewhere: Elsewhere | None = None  # someone else ran it when it was last looked at
    # Of the running attempt, but for its devices, which the ledger knows:
    started_at: float = 0.0  # clock time
    progress_due: float = float("inf")  # clock time when its log must have grown
    kill_at: float = float("inf")  # clock time when asking turns into killing, and then when that has failed
    killed: bool = False
    pid: int | None = None  # where it is a process of this machine
    ended_for: FailureKind | None = None  # why the scheduler ended it, when it did
    must_go: bool = False  # ended by the scheduler without being a failure

    @property
    def key(self) -> str:
        return self.trial.key

    @property
    def score(self) -> tuple[float, ...]:
        """Of a trial that is done."""
        assert self.result is not None and self.result.best_score is not None, f"{self.key} is not done"
        return self.result.best_score

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in (State.DONE, State.STOPPED)

    def standing(self) -> str:
        """``57.30 after 40/320 steps: held``, of a trial that a search has held, stopped or let pass."""
        where = {State.HELD: "held for the others", State.STOPPED: "stopped"}.get(self.state, "goes on")
        if self.curve is None or not self.curve.steps:
            return where
        best = self.curve.best_of(len(self.curve.steps))
        return f"{best:.2f} after {self.curve.steps[-1]}/{self.curve.total_steps} steps: {where}"

    @property
    def failure_notes(self) -> Path:
        return self.lock.with_suffix(".failures")

    @property
    def attempt(self) -> Attempt:
        return self.attempts[-1]

    @property
    def counted_failures(self) -> int:
        return sum(failure.policy.counts for failure in self.failures)

    def pause_after_failure(self, max_attempts: int) -> float | None:
        """Seconds until its next attempt, now that the last one has failed; None: it is given up."""
        last = self.failures[-1]
        same = sum(past.kind is last.kind for past in self.failures)
        if not last.policy.retry or self.counted_failures >= max_attempts or same == last.policy.limit:
            return None
        return min(_LONGEST_PAUSE, last.policy.pause * 2 ** (same - 1))

    def accumulation(self, cards: int = 1) -> int | None:
        """Micro-batches an optimizer step on each of ``cards`` cards; None when the batch can't be cut that far.

        The task's own, doubled (or the next number that cuts the batch evenly) for every time memory ran out.
        """
        return _accumulation(self.trial, cards, self.memory_factor)

    def micro_batch(self, cards: int = 1) -> int | None:
        """Rows of a micro-batch; None as in `accumulation`."""
        accumulation = self.accumulation(cards)
        return None if accumulation is None else self.trial.setting.batch_size // cards // accumulation

    def charge_seconds(self, result: Result) -> None:
        """The run has counted as if it had its devices alone: where it shared them it cost its part.

        Of a trial that needed one attempt all of it counts, from before the process starts to when it is gone.
        """
        held = self.spent.held_seconds
        if result.device_seconds and held:
            own = max(result.device_seconds, held) if self.spent.attempts == 1 else result.device_seconds
            result.device_seconds = own * self.spent.device_seconds / held

    def charge_energy(self) -> None:
        """Of the energy of all attempts the result gets the share that it has of their device seconds.

        Where it has more of these than the grid has seen, as of a trial that another machine began, nobody knows it.
        """
        result, spent = self.result, self.spent
        if result and result.device_seconds and spent.energy_joules and spent.device_seconds:
            share = result.device_seconds / spent.device_seconds
            if share < 1 + 1e-9:  # all of it may be a last digit more
                result.energy_joules = spent.energy_joules * min(share, 1.0)

    def cut_further(self) -> bool:
        """Halves the micro-batch for the next attempt; False when it is one row already."""
        finer = _accumulation(self.trial, 1, 2 * self.memory_factor)
        if finer is None or finer == self.accumulation():
            return False
        self.memory_factor *= 2
        return True


def written(job: Job) -> Result | None:
    """The result of this very trial on disk, done or not."""
    result = Result.read(job.paths.result)
    return result if result and result.configuration_hash == job.configuration_hash else None


@dataclass
class FailureNotes:
    """What whoever takes a trial next must know of the attempts that failed, in whatever process."""

    configuration_hash: str
    failures: list[NotedFailure]
    memory_factor: Annotated[int, between(1, 1 << 20)] = 1


def note_failures(job: Job) -> None:
    """Beside the trial's lock, which the caller has. Where that can't be written others try the trial once more."""
    noted = [NotedFailure(failure.kind.value, failure.detail) for failure in job.failures]
    with suppress(OSError):
        atomic.write_json(job.failure_notes, asdict(FailureNotes(job.configuration_hash, noted, job.memory_factor)))


def recall_failures(job: Job) -> None:
    """Takes in the failures that were noted of this very trial, if they are more than are known."""
    notes = json_files.read_if_sound(job.failure_notes, FailureNotes, ["failures"], "the trial counts as never failed")
    if notes is None or notes.configuration_hash != job.configuration_hash:
        return
    kinds = {kind.value: kind for kind in FailureKind}
    known = [Failure(kinds[noted.kind], noted.detail) for noted in notes.failures if noted.kind in kinds]
    if len(known) > len(job.failures):
        usual, job.failures = job.memory_factor, known
        job.memory_factor = max(usual, notes.memory_factor)
        if job.accumulation() is None:  # a batch that can't be cut so far
            job.memory_factor = usual


def _accumulation(trial: Trial, cards: int, factor: int) -> int | None:
    """The smallest number that cuts a card's rows evenly and is at least ``factor`` times the task's own."""
    batch = trial.setting.batch_size
    rows, least = batch // cards, factor * trial.row.accumulation_steps(batch, cards)
    return next((number for number in range(least, rows + 1) if rows % number == 0), None)


class LogReader:
    """Reads the logs of running trials on from where they were left."""

    def __init__(self) -> None:
        self._logs: dict[Path, GrowingLog] = {}
        self._first: dict[Path, tuple[int, float]] = {}  # the first step that was seen, and the clock then

    def facts(self, job: Job) -> LogFacts:
        """Empty facts while there is no log."""
        try:
            return self._logs.setdefault(job.paths.log, GrowingLog(job.paths.log, _MOST)).read()
        except OSError:
            return LogFacts()

    def step(self, job: Job) -> tuple[int, int] | None:
        """(step, total) of a running trial; None before its first step."""
        return furthest_step(self.facts(job), job.paths.output_dir)

    def pace(self, job: Job) -> tuple[tuple[int, int] | None, float | None]:
        """Its `step`, and the steps a second: those that its log says, else since the first one that was seen here.

        The time before that is the start of Python and the model, which is no measure of steps. None while unknown.
        """
        step, speed = self.step(job), self.facts(job).steps_per_second
        if step is None:
            return None, None
        first, since = self._first.setdefault(job.paths.log, (step[0], time.monotonic()))
        if speed is None and is_telling(step[0] - first, step[1]):
            speed = (step[0] - first) / max(1e-3, time.monotonic() - since)
        return step, speed if is_telling(*step) else None

    def seconds_left(self, job: Job) -> float | None:
        """Of a running trial, by the speed of its steps."""
        step, speed = self.pace(job)
        return (step[1] - step[0]) / speed if step and speed else None

    def forget(self, job: Job) -> None:
        self._logs.pop(job.paths.log, None)
        self._first.pop(job.paths.log, None)
