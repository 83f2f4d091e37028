"""A trial on its way through the grid: its state, its attempts, and how its batch is cut into micro-batches."""

import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated

from cluebench.benchmark.tasks import rank
from cluebench.foundation import atomic, json_files
from cluebench.foundation.json_files import Count, Pid, Positive, Seconds, between
from cluebench.foundation.text import duration
from cluebench.pretrained.model import Model
from cluebench.records.grid_file import Spent
from cluebench.records.log import GrowingLog, LogFacts, furthest_step
from cluebench.records.paths import TrialPaths
from cluebench.records.result import Result
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.estimates import Underway
from cluebench.scheduler.plan.failures import Failure, FailureKind
from cluebench.search.halving import Curve

#: Most bytes of a log to read at once: the loop has more to do, and the end of a log matters most.
_MOST = 1 << 20
#: Longest pause before a retry, in seconds.
_LONGEST_PAUSE = 1800.0


class State(str, Enum):
    """The words of grid.json, in their order in displays."""

    DONE = "done"
    RUNNING = "running"
    WAITING = "waiting"
    FAILED = "failed"
    PAUSED = "held"  # codespell:ignore - at a rung, until the other trials of its task are there
    STOPPED = "stopped"  # for good, by the search


@dataclass
class Attempt:
    """One start of a trial's process: the record that the scheduler keeps, and that lies in the trial's lock meanwhile.

    Every field has a default, as a lock may be of another version or cut short.
    """

    pid: Pid = 0  # 0: no process yet, or unknown
    start_time: str = ""  # of the process, as launch.start_time gives it
    host: str = field(default_factory=socket.gethostname)
    mark: str = ""  # in the environment of all its processes
    configuration_hash: str = ""
    devices: list[str] = field(default_factory=list)  # ids
    labels: list[str] = field(default_factory=list)  # of the devices
    cards: Positive = 1
    accumulation: Positive = 1  # micro-batches for each optimizer step on a card
    promised_bytes: Count = 0  # on each device
    started: Seconds = field(default_factory=time.time)  # since 1970
    starter_pid: Pid = 0  # of the process that started it; 0: unknown
    starter_start_time: str | None = None
    ends_with_starter: bool = False  # as the trials of a worker do
    batch_job: str = ""  # "job 4711_2", if a batch system started the starter
    number: Positive = 1  # first, second … attempt at the trial
    finished: Seconds | None = None
    outcome: str | None = None  # "done", "paused", "interrupted" or a kind of failure
    detail: str = ""

    @property
    def who(self) -> str:
        """``job 4711_2 on n2`` or ``process 815 on n1``; empty while the process has not written its record."""
        return f"{self.batch_job or f'process {self.pid}'} on {self.host}" if self.pid else ""

    @property
    def seconds(self) -> float:
        """The time from its start to its end, or to now."""
        return (self.finished or time.time()) - self.started


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
    writes_over: bool = False  # its files are those of a finished trial with other settings
    curve: Curve | None = None  # its evaluations, in a search that stops some trials early
    attempts: list[Attempt] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)  # by earlier starts of the grid too
    memory_factor: int = 1  # how often to halve the task's micro-batches: 1, 2, 4 …
    not_before: float = 0.0  # clock time of the next attempt
    needs_model: bool = False  # it was done without keeping its model, and runs again to keep it
    elsewhere: Attempt | None = None  # by another process, when we looked last
    avoid: frozenset[str] = frozenset()  # ids of cards where it failed: not tried there again while there are others
    began: float = 0.0  # clock time of the last attempt
    ended_for: FailureKind | None = None  # why the scheduler ended it, if it did

    @property
    def key(self) -> str:
        return self.trial.key

    @property
    def group(self) -> tuple[Model, str]:
        """Model and task: the trials among which it may be the best."""
        return self.trial.model, self.trial.task

    @property
    def score(self) -> tuple[float, ...]:
        """The score of a finished trial."""
        assert self.result is not None and self.result.best_score is not None, f"{self.key} is not done"
        return self.result.best_score

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in (State.DONE, State.STOPPED)

    def beginning(self) -> str:
        """``started on gpu 0, gpu 1, accumulation 4, attempt 2``"""
        attempt, devices = self.attempt, ", ".join(self.attempt.labels) or "devices of an earlier grid"
        again = "" if attempt.number == 1 else f", attempt {attempt.number}" if self.failures else ", going on"
        return f"started on {devices}, accumulation {attempt.accumulation}{again}"

    def ending(self) -> str:
        """``done: 57.30 (12 min)`` or ``failed: crashed: exit code 1 (60 s); is tried again``"""
        took = f" ({duration(self.attempt.seconds)})" if self.attempts else ""
        if self.state is State.DONE:
            return f"done: {self.trial.row.format_score(self.score)}{took}"
        failure, after = self.failures[-1], "is tried again" if self.state is State.WAITING else "given up"
        return f"failed: {failure.kind.value}: {failure.detail}{took}; {after}"

    def standing(self) -> str:
        """``57.30 after 40/320 steps: stopped``, of a trial that a search has paused, stopped or let go on."""
        where = {State.PAUSED: "waits for the others", State.STOPPED: "stopped"}.get(self.state, "goes on")
        if self.curve is None or not self.curve.steps:
            return where
        best = self.curve.best_of(len(self.curve.steps))
        return f"{best:.2f} after {self.curve.steps[-1]}/{self.curve.total_steps} steps: {where}"

    @property
    def failure_notes(self) -> Path:
        return self.lock.with_suffix(".failures")

    @property
    def launcher_logs(self) -> Path:
        """Where paddle.distributed.launch keeps the logs of single workers."""
        return self.lock.with_suffix(".workers")

    @property
    def attempt(self) -> Attempt:
        return self.attempts[-1]

    def pause_after_failure(self, max_attempts: int) -> float | None:
        """Seconds from the last failure to the next attempt; None: the trial is given up."""
        last = self.failures[-1]
        same = sum(past.kind is last.kind for past in self.failures)
        counted = sum(past.policy.counts for past in self.failures)
        if not last.policy.retry or counted >= max_attempts or same == last.policy.limit:
            return None
        return min(_LONGEST_PAUSE, last.policy.pause * 2 ** (same - 1))

    def is_given_up(self, max_attempts: int) -> bool:
        return bool(self.failures) and self.pause_after_failure(max_attempts) is None

    def accumulation(self, cards: int = 1) -> int | None:
        """Micro-batches for each optimizer step on each of ``cards`` cards; None if the batch can't be cut that far.

        The task's own number, doubled (or the next number that cuts the batch evenly) each time memory ran out.
        """
        return _accumulation(self.trial, cards, self.memory_factor)

    def micro_batch(self, cards: int = 1) -> int | None:
        """Rows of a micro-batch; None as in `accumulation`."""
        accumulation = self.accumulation(cards)
        return None if accumulation is None else self.trial.setting.batch_size // cards // accumulation

    def cut_further(self) -> bool:
        """Halves the micro-batch for the next attempt; False if it is one row already."""
        finer = _accumulation(self.trial, 1, 2 * self.memory_factor)
        if finer is None or finer == self.accumulation():
            return False
        self.memory_factor *= 2
        return True

    def cut_to(self, factor: int) -> None:
        """Takes a memory factor from a file, if it is larger and can cut the batch."""
        if factor > self.memory_factor and _accumulation(self.trial, 1, factor) is not None:
            self.memory_factor = factor

    def charge_seconds(self, result: Result) -> None:
        """Corrects the result's device seconds: a run counts as if it had its devices alone, but may share them.

        A trial of one attempt costs all seconds from before its process starts until it is gone.
        """
        used = self.spent.held_seconds  # codespell:ignore
        if result.device_seconds and used:
            own = max(result.device_seconds, used) if self.spent.attempts == 1 else result.device_seconds
            result.device_seconds = own * self.spent.device_seconds / used


def by_task(jobs: Iterable[Job]) -> dict[tuple[Model, str], list[Job]]:
    """The jobs of each model and task."""
    groups: dict[tuple[Model, str], list[Job]] = defaultdict(list)
    for job in jobs:
        groups[job.group].append(job)
    return groups


def best_first(jobs: Iterable[Job]) -> list[Job]:
    """The finished jobs of one task, ranked as in the table."""
    done = [job for job in jobs if job.result is not None]
    return sorted(done, key=lambda job: rank(job.score, job.trial.setting), reverse=True)


@dataclass
class FailureNotes:
    """The failed attempts at a trial, for the process that runs it next."""

    configuration_hash: str
    failures: list[Failure]
    memory_factor: Annotated[int, between(1, 1 << 20)] = 1


def note_failures(job: Job) -> None:
    """Writes the notes beside the trial's lock, which the caller has. If that fails, others try the trial once more."""
    notes = FailureNotes(job.configuration_hash, job.failures, job.memory_factor)
    with suppress(OSError):
        atomic.write_json(job.failure_notes, asdict(notes))


def recall_failures(job: Job) -> None:
    """Reads the notes of this very trial; they count if they have more failures than the job."""
    notes = json_files.read_if_sound(job.failure_notes, FailureNotes, ["failures"], "the trial counts as never failed")
    if notes and notes.configuration_hash == job.configuration_hash and len(notes.failures) > len(job.failures):
        job.failures = notes.failures
        job.cut_to(notes.memory_factor)


def _accumulation(trial: Trial, cards: int, factor: int) -> int | None:
    """The smallest number that cuts a card's rows evenly and is at least ``factor`` times the task's own."""
    batch = trial.setting.batch_size
    rows, least = batch // cards, factor * trial.row.accumulation_steps(batch, cards)
    return next((number for number in range(least, rows + 1) if rows % number == 0), None)


class LogReader:
    """Reads the logs of running trials, each time from where it stopped."""

    def __init__(self) -> None:
        self._logs: dict[Path, GrowingLog] = {}
        self._first: dict[Path, tuple[int, float]] = {}  # the first step that we saw, and the clock then

    def facts(self, job: Job) -> LogFacts:
        """Empty facts while there is no log."""
        try:
            return self._logs.setdefault(job.paths.log, GrowingLog(job.paths.log, _MOST)).read()
        except OSError:
            return LogFacts()

    def underway(self, job: Job, attempt: Attempt) -> Underway:
        """How far a trial is that runs here or elsewhere. Its speed: by its log, else since the first step that we saw.

        The time before that step is the start of Python and the model, and says nothing about steps.
        """
        facts = self.facts(job)
        step, speed = furthest_step(facts, job.paths.output_dir), facts.steps_per_second
        if step is not None:
            first, since = self._first.setdefault(job.paths.log, (step[0], time.monotonic()))
            if speed is None and _is_telling(step[0] - first, step[1]):
                speed = (step[0] - first) / max(1e-3, time.monotonic() - since)
            speed = speed if _is_telling(*step) else None
        return Underway(job.trial, attempt.cards, attempt.seconds, step, speed, facts.last_score)

    def forget(self, job: Job) -> None:
        self._logs.pop(job.paths.log, None)
        self._first.pop(job.paths.log, None)


def _is_telling(steps: int, total: int) -> bool:
    """Whether this many steps show the speed of the rest: the first ones are slower."""
    return steps >= min(20, max(1, total // 20))
