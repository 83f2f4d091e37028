"""The loop: waits for an event, records it, starts what can start.

Nothing in here sleeps or polls. Ended processes, answers of the driver and signals arrive as events from other threads;
what is due at some time (a retry, a trial that shows no progress) is the timeout of the wait. Processes, devices and
the clock are handed in, so that tests and the benchmark run this very loop on simulated time.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

from cluebench.errors import UsageError
from cluebench.runlog import PAUSED, Result
from cluebench.scheduler.devices import Device, DeviceLost, Reading, most_together
from cluebench.scheduler.estimates import GIB, DurationModel, MemoryModel, Underway, time_left
from cluebench.scheduler.failures import Failure, FailureKind, classify
from cluebench.scheduler.halving_search import HalvingSearch
from cluebench.scheduler.jobs import Attempt, Job, LogReader, State, written
from cluebench.scheduler.launch import BUSY
from cluebench.scheduler.ledger import Ledger, Slot
from cluebench.scheduler.promises import Promises
from cluebench.scheduler.roll import Roll, Sparingly
from cluebench.scheduler.runner import Orphan, StartOrder

#: Seconds between questions to the driver about cards whose memory other people's processes hold, and about all cards.
_MEMORY_RECHECK, _HEALTH_CHECK = 2.0, 30.0
#: Seconds after which a driver that has not answered counts as one that doesn't.
_ANSWER_DUE = 15.0
#: Seconds that the end of a grid waits for what the driver says of the energy of its last trials.
_COUNTERS_DUE = 2.0
#: Seconds between looks at whether a full disk or a missing network has passed.
_HOLD_RECHECK = 30.0
#: Seconds between SIGTERM and SIGKILL: time to finish a step and write a checkpoint.
GRACE = 30.0
#: Seconds that a process may take to die of SIGKILL, before it is given up with its card.
_DEATH_DUE = 60.0
#: Longest pause before a retry, in seconds.
_LONGEST_PAUSE = 1800.0
#: Seconds before a trial that someone else is running is looked at again.
_ELSEWHERE_PAUSE = 10.0
#: Readings of a card that fail before trials on it are ended, if they are silent as well.
_FAILED_READINGS = 3
#: Failures that a card may have caused without anyone having said so.
_MAYBE_THE_CARD = (FailureKind.CRASHED, FailureKind.KILLED, FailureKind.NO_RESULT)
#: Failures that are not judged before the cards have been asked.
_ASK_THE_CARD = (*_MAYBE_THE_CARD, FailureKind.OUT_OF_MEMORY)


# Events ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exited:
    """All processes of a trial are gone."""

    key: str
    code: int | None  # negative: ended by that signal; None: unknown
    lost: bool = False  # the machine it ran on is gone


@dataclass(frozen=True)
class Measured:
    """The driver's answer about a card."""

    device_id: str
    answer: Reading | DeviceLost


@dataclass(frozen=True)
class Changed:
    """A cluster has gained devices, or lost them, or has a node that can't be used."""

    note: str
    joined: Sequence[Device] = ()
    left: Sequence[str] = ()  # ids


@dataclass(frozen=True)
class Interrupted:
    """The user, or the machine, wants the grid to stop."""

    name: str  # of the signal


Event = Exited | Measured | Changed | Interrupted


class Events:
    """The queue between the threads that see things happen and the loop."""

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
    """Where trials run. Results come back as events."""

    @property
    def devices(self) -> Sequence[Device]: ...

    def measure(self, device_id: str) -> None: ...
    def start(self, order: StartOrder, device_ids: Sequence[str]) -> int | None: ...
    def stop(self, key: str, *, now: bool = False) -> None: ...
    def allocated(self, key: str, reading: Reading) -> int: ...
    def silence(self, job: Job) -> float: ...
    def orphan(self, job: Job) -> Orphan | None: ...
    def adopt(self, orphan: Orphan) -> None: ...
    def close(self) -> None: ...


class Observer(Protocol):
    """Told what happens, after the devices have been given on."""

    def started(self, job: Job) -> None: ...
    def ended(self, job: Job) -> None: ...
    def judged(self, job: Job) -> None: ...
    def note(self, text: str) -> None: ...
    def tick(self, now: float) -> float: ...


@dataclass(frozen=True)
class Rules:
    """What the user decides about the loop."""

    max_attempts: int = 3
    trial_timeout: float = 3600.0  # seconds without a new log line; 0: never
    mrc_cards: int | None = None  # None: the task's when that many are free, else 1
    grace: float = GRACE
    leaves: bool = False  # when all that is left is being run by others


@dataclass
class Verdict:
    """A trial whose processes are gone, and whose cards are asked before it is said who is to blame."""

    job: Job
    failure: Failure
    ask: set[str]  # ids of devices that have not answered
    free: int | None = None  # bytes on the fullest of those that have


@dataclass
class Hold:
    """Nothing is started meanwhile, for a cause that is no trial's."""

    cause: str
    recheck: float  # clock time


# The loop -------------------------------------------------------------------------------------------------------------


class Scheduler:
    """Runs jobs until all are done or failed, or it is interrupted."""

    def __init__(
        self,
        jobs: list[Job],
        engine: Engine,
        ledger: Ledger,
        durations: DurationModel,
        memory: MemoryModel,
        order_for: Callable[[Job], StartOrder],
        result_of: Callable[[Job], Result | None],
        observer: Observer,
        events: Events,
        rules: Rules | None = None,
        *,
        unwritable: Callable[[], str | None] = lambda: None,
        charged: Callable[[Job], None] = lambda job: None,
        promises: Promises | None = None,
        halving: HalvingSearch | None = None,
        result_on_disk: Callable[[Job], Result | None] = written,
        more: Callable[[], Sequence[Job]] = lambda: (),
        clock: Callable[[], float] = time.monotonic,
    ):
        self.jobs, self._more = jobs, more  # grows by what there is more to do after an attempt
        self.engine, self.ledger, self.events, self.rules = engine, ledger, events, rules or Rules()
        self.durations, self.memory = durations, memory
        self.interrupted: str | None = None
        self._order_for, self._result_of, self._observer = order_for, result_of, observer
        self._clock = clock
        self._promises = promises  # None: of devices without accounts
        self.halving, self._result_on_disk = halving, result_on_disk
        self._charged = charged  # told of a job once it is known what its last attempt cost
        self._unwritable = unwritable  # what keeps trials from writing; None: nothing
        self._hold: Hold | None = None
        self.roll = Roll(self.jobs, self._length, clock)
        self.seconds_left = Sparingly(self._seconds_left, clock)
        self._by_key = {job.key: job for job in self.jobs}
        self._logs = LogReader()
        self._asked: dict[str, float] = {}  # device id → when the driver was asked and has not answered
        self._ask_again: set[str] = set()  # devices whose coming answer is outdated
        self._stuck: set[str] = set()  # keys of trials whose processes can't be killed
        self._verdicts: dict[str, Verdict] = {}  # trial key → while it counts as running
        self._measure_at: dict[str, float] = {}  # device id → when to ask next
        self._uncharged: dict[str, Job] = {}  # trial key → whose attempt has ended
        self._news: list[Callable[[], None]] = []  # what observers are still to be told
        self._give_up_at = float("inf")

    def _length(self, job: Job) -> float:
        """Of jobs that wait, the one that has most is started first."""
        durations = self.durations
        if self.halving is None:
            return durations.relative(job.trial)
        return self.halving.tail(job, lambda one: durations.relative(one.trial))

    # Life -------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Returns when every job is done, stopped or failed, or after an interruption when their processes are gone."""
        for job in [*self._waiting(), *self.roll.of(State.HELD), *self.roll.of(State.STOPPED)]:
            self._take_orphan(job)
        for device_id in self.ledger.slots:
            self._measure(device_id)
        self._refuse_what_never_fits()
        while self._unfinished():
            self._dispatch()
            self._tell()
            if not self._unfinished():  # the last one was done elsewhere
                break
            self.ledger.settle(self._clock())
            tick = self._observer.tick(self._clock())
            event = self.events.get(min(tick, self._next_due()) - self._clock())
            while event is not None:
                self._handle(event)
                event = self.events.get(0.0)
            self._do_what_is_due()
        while not all(map(self.ledger.is_counted, self._uncharged)) and (event := self.events.get(_COUNTERS_DUE)):
            self._handle(event)
        self.ledger.stop_counting()
        self._tell()

    def _unfinished(self) -> bool:
        if self.interrupted is not None:
            return self.roll.count(State.RUNNING) > 0 and self._clock() < self._give_up_at
        if self.rules.leaves and not self.roll.count(State.RUNNING) and all(map(self._is_others, self._waiting())):
            return False
        stuck = all(slot.promised.keys() & self._stuck for slot in self.ledger.slots.values())
        return self.roll.count(State.RUNNING) > 0 or (self.roll.count(State.WAITING) > 0 and not stuck)

    def _is_others(self, job: Job) -> bool:
        """Whether a scheduler that lives runs this trial."""
        orphan = self.engine.orphan(job) if job.elsewhere else None
        return orphan is not None and orphan.pid != 0 and not orphan.is_ours

    def _waiting(self) -> list[Job]:
        return self.roll.of(State.WAITING)

    def running(self) -> list[Job]:
        return self.roll.of(State.RUNNING)

    def _tell(self) -> None:
        for job in [job for job in self._uncharged.values() if self.ledger.is_counted(job.key)]:
            job.charge_energy()
            self._charged(self._uncharged.pop(job.key))
        news, self._news = self._news, []
        for tell in news:
            tell()

    def _told(self, what: Callable[[Job], None], job: Job) -> None:
        """Tells observers of a job as it is now: until they hear of it, it may be on its next attempt."""
        now = replace(job, attempts=[replace(attempt) for attempt in job.attempts], failures=list(job.failures))
        self._news.append(lambda: what(now))

    def _note(self, text: str) -> None:
        self._news.append(lambda: self._observer.note(text))

    # Starting ---------------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        now = self._clock()
        if self.interrupted is not None or self._hold is not None or not self.ledger.has_room(now):
            return
        try:
            with self._promises.locked() if self._promises else nullcontext(()) as others:
                self.ledger.see(others)
                self._start_what_fits(now)
        except BlockingIOError:
            self._note("another scheduler on these cards doesn't answer; tried again")
        if self.roll.count(State.WAITING):
            for device_id in self.ledger.waits_for_memory(now):
                recheck = now + _MEMORY_RECHECK
                self._measure_at[device_id] = min(recheck, self._measure_at.get(device_id, recheck))

    def _start_what_fits(self, now: float) -> None:
        closed: list[str] = []
        refused: set[tuple] = set()  # what one trial has no room for, others like it have none for
        for job in self.roll.turn(now):
            if not self.ledger.has_room(now, closed):
                break
            trial = job.trial
            kind = (trial.model.folder, trial.task, trial.batch_size, job.memory_factor, frozenset(job.avoid))
            if kind in refused:
                continue
            cards = self._cards(job, closed, now)
            needed = self._needed(job, cards)
            placed = self.ledger.place(cards, needed, now, avoid=job.avoid, closed=closed)
            if placed is not None:
                if (result := self._result_of(job)) is not None:
                    self._done_elsewhere(job, result)
                else:
                    self._start(job, placed, now)
                continue
            refused.add(kind)
            if not closed:
                # The longest trial that can't start now keeps the devices it needs from being filled up before it.
                closed = self.ledger.held_back_for(cards, needed, now)

    def _done_elsewhere(self, job: Job, result: Result) -> None:
        number, job.device_ids = len(job.attempts) + 1, []
        job.attempts.append(Attempt(number, ["elsewhere"], result.cards, result.accumulation_steps, time.time()))
        self._done(job, result)

    def _cards(self, job: Job, closed: Sequence[str], now: float) -> int:
        """How many cards a trial is to have: its task's, when that many are free, else one.

        Cards that a reading on its way may show to be free count, or the first to answer after a trial on several would
        be taken alone. One card is always right: the batch is reached by accumulation.
        """
        row, joinable = job.trial.row, most_together(slot.device for slot in self.ledger.slots.values())
        if row.cards == 1 or joinable < 2:
            return 1
        if self.rules.mrc_cards is not None:
            return min(self.rules.mrc_cards, joinable)
        if job.accumulation(row.cards) is None:
            return 1
        coming = [device_id for device_id, asked in self._asked.items() if asked < float("inf")]
        needed = self._needed(job, row.cards)
        free = self.ledger.place(row.cards, needed, now, avoid=job.avoid, closed=closed, coming=coming)
        return 1 if free is None else row.cards

    def _needed(self, job: Job, cards: int) -> int:
        """Bytes on each card; never more than the largest has, or a wrong estimate would keep it waiting for ever."""
        micro_batch = job.micro_batch(cards)
        needed = self.memory.needed_bytes(job.trial, 1 if micro_batch is None else micro_batch)
        largest = max((slot.device.total_bytes or 0 for slot in self.ledger.slots.values()), default=0)
        return min(needed, int(largest * 0.97)) if largest else needed

    def _start(self, job: Job, device_ids: list[str], now: float) -> None:
        cards = len(device_ids)
        job.device_ids, job.started_at = device_ids, now
        self.roll.move(job, State.RUNNING)
        job.ended_for, job.must_go, job.kill_at, job.killed = None, False, float("inf"), False
        job.progress_due = now + (self.rules.trial_timeout or float("inf"))
        labels = [self.ledger.slots[device_id].device.label for device_id in device_ids]
        job.attempts.append(Attempt(len(job.attempts) + 1, labels, cards, job.accumulation(cards) or 1, time.time()))
        job.promised_bytes, job.spent.attempts = self._needed(job, cards), job.spent.attempts + 1
        self._promise(job, os.getpid())
        try:
            job.pid = self.engine.start(self._order_for(job), device_ids)
            if job.pid is not None:
                self._promise(job, job.pid)
        except OSError as error:
            self._release(job)
            self._failed(job, Failure(FailureKind.DISK_FULL, f"can't be started: {error.strerror or error}"), now)
            return
        self._told(self._observer.started, job)

    def _promise(self, job: Job, pid: int) -> None:
        self.ledger.settle(self._clock())
        self.ledger.spent[job.key] = job.spent
        self.ledger.reserve(job.key, job.device_ids, job.promised_bytes)
        if self._promises is not None and any(map(self._is_accounted, job.device_ids)):
            self._promises.make(job.lock, pid, job.device_ids, job.promised_bytes)

    def _release(self, job: Job) -> list[str]:
        self.ledger.settle(self._clock())
        self._uncharged[job.key] = job
        if self._promises is not None:
            self._promises.drop(job.lock)
        return self.ledger.release(job.key)

    def _refuse_what_never_fits(self) -> None:
        """Cards too small for any trial are left out; trials too large for every card get smaller micro-batches.

        Raises UsageError when no device is left, with the figures.
        """
        waiting, slots = self._waiting(), self.ledger.slots
        totals = {slot.device: slot.device.total_bytes for slot in slots.values() if slot.device.total_bytes}
        if not waiting or not totals:
            return
        smallest = min(self.memory.needed_bytes(job.trial, 1) for job in waiting)
        for device, total in totals.items():
            if total < smallest and not slots[device.id].promised:
                del slots[device.id]
                figures = f"it has {total / GIB:.1f} GiB, the smallest trial needs {smallest / GIB:.1f} GiB"
                self._note(f"{device.label} ({device.name}) is left out: {figures}")
                if not slots:
                    raise UsageError(f"no trial fits any card: {device.label} is too small, {figures}")
        largest = max(slot.device.total_bytes or 0 for slot in slots.values())
        for job in waiting:
            self._cut_to_fit(job, largest)

    def _cut_to_fit(self, job: Job, largest: int) -> None:
        while (needed := self.memory.needed_bytes(job.trial, job.micro_batch() or 1)) > largest:
            if not job.cut_further():
                figures = f"needs about {needed / GIB:.1f} GiB even row by row, the largest card has"
                job.failures.append(Failure(FailureKind.TOO_LARGE, f"{figures} {largest / GIB:.1f} GiB"))
                self.roll.move(job, State.FAILED)
                self._ended(job)
                return

    def _learn_the_limit(self, job: Job, free: int | None) -> None:
        """Cuts the micro-batches of the waiting trials that would run out of memory as this one did."""
        micro_batch = job.micro_batch(len(job.device_ids) or 1) or 1
        largest = max((slot.device.total_bytes or 0) - slot.used_by_others for slot in self.ledger.slots.values())
        if free is not None:
            self.memory.exceeded(job.trial, micro_batch, free)
        for other in [*self._waiting(), *self.roll.of(State.HELD)]:
            if (other.trial.model, other.trial.task) != (job.trial.model, job.trial.task):
                continue
            while (rows := other.micro_batch() or 1) >= micro_batch and (
                free is None or self.memory.needed_bytes(other.trial, rows) > largest
            ):
                if not other.cut_further():
                    break

    def _seconds_left(self) -> float | None:
        """Estimated time until the grid is done, were no more trials stopped; None while nothing is known of it."""
        now = self._clock()
        running = [
            Underway(job.trial, max(1, len(job.device_ids)), now - job.started_at, *self._logs.pace(job))
            for job in self.running()
        ]
        waiting = [job.trial for job in (*self.roll.in_order(), *self.roll.of(State.HELD))]
        return time_left(self.durations, running, waiting, max(1, len(self.ledger.usable(now))))

    def why_idle(self) -> str | None:
        """Why nothing more is started although a device has room; None when nothing waits, or nothing has room."""
        now, waits = self._clock(), self.roll.count(State.WAITING)
        room = [slot for slot in self.ledger.usable(now) if len(slot.promised) < self.ledger.jobs_per_device]
        if not waits or not room:
            return None
        if self._hold is not None:
            return f"nothing is started: {self._hold.cause}"
        job, next_turn = self.roll.shortest(), self.roll.next_turn(now)
        if job is None or job.not_before > now:
            return f"next attempt in {min(next_turn, job.not_before if job else next_turn) - now:.0f} s"
        needed = self._needed(job, self._cards(job, (), now))
        known = [slot for slot in room if slot.accounted and slot.fresh]
        free = [f"{slot.device.label} {(slot.free_bytes() or 0) / GIB:.1f}" for slot in known]
        if free and not any(slot.fits(needed) for slot in room):
            return f"waiting for {needed / GIB:.1f} GiB of memory; free are {', '.join(free)}"
        silent = [slot.device.label for slot in room if self._asked.get(slot.device.id) == float("inf")]
        return f"waiting for the driver to answer about {', '.join(silent)}" if silent else None

    # Events -----------------------------------------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        if isinstance(event, Exited):
            self._exited(event)
        elif isinstance(event, Measured):
            self._measured(event)
        elif isinstance(event, Changed):
            self._cluster_changed(event)
        else:
            self._interrupt(event)

    def _exited(self, event: Exited) -> None:
        job = self._by_key.get(event.key)
        if job is not None and job.key in self._stuck:
            self._unstuck(job)
        if job is None or job.state is not State.RUNNING or job.key in self._verdicts:
            return
        now = self._clock()
        for device_id in self._release(job):
            self._measure(device_id)
        job.attempt.finished = time.time()
        job.progress_due = job.kill_at = float("inf")
        result = self._result_of(job)
        if result is not None:
            job.charge_seconds(result)
            self._done(job, result)
        elif event.code == BUSY and job.ended_for is None:
            job.attempts.pop()
            job.spent.attempts -= 1
            self.roll.move(job, State.WAITING)
            self._take_orphan(job)
        elif (paused := self._paused_result(job, event)) is not None:
            self._paused(job, paused)
        elif job.must_go or (self.interrupted is not None and job.ended_for is None):
            self.roll.move(job, State.WAITING)
            job.attempt.outcome = "interrupted"
            self._carry_out_verdicts(job)
        else:
            verdict = Verdict(job, self._failure_of(job, event), set(filter(self._is_accounted, job.device_ids)))
            if verdict.failure.kind in _ASK_THE_CARD and verdict.ask:
                self._verdicts[job.key] = verdict
            else:
                self._failed(job, verdict.failure, now)

    def _done(self, job: Job, result: Result) -> None:
        self._logs.forget(job)
        job.result = result
        self.roll.move(job, State.DONE)
        if self._hold is not None:
            self._hold.recheck = self._clock()  # what one trial can do, others may be able to
        job.attempt.outcome = "done"
        self.ledger.succeeded([device_id for device_id in job.device_ids if device_id in self.ledger.slots])
        self.learn(job)
        self._ended(job)

    def _paused_result(self, job: Job, event: Exited) -> Result | None:
        """Of a process that has ended well at a rung; what an earlier one left there is none of one that failed."""
        result = self._result_on_disk(job) if event.code in (0, None) else None
        return result if result is not None and result.status == PAUSED else None

    def _paused(self, job: Job, result: Result) -> None:
        self._logs.forget(job)
        job.attempt.outcome = PAUSED
        self.ledger.succeeded([device_id for device_id in job.device_ids if device_id in self.ledger.slots])
        job.charge_seconds(result)
        self.learn(job, result)
        job.curve = result.curve if job.curve is not None else None
        self.roll.move(job, State.WAITING if job.curve is None else State.HELD)
        self._told(self._observer.judged, job)
        self._carry_out_verdicts(job)

    def _ended(self, job: Job) -> None:
        self._told(self._observer.ended, job)
        self._carry_out_verdicts(job)

    def _carry_out_verdicts(self, job: Job) -> None:
        """What the end of an attempt decides about the trials of its task, and what there is more to do then."""
        for other, state in self.halving.verdicts(job) if self.halving else ():
            self.roll.move(other, state)
            self.roll.estimates_changed()
            self._told(self._observer.judged, other)
        for added in self._more():
            self.jobs.append(added)
            self._by_key[added.key] = added
            self.roll.move(added, added.state)
            self._note(f"{added.key} is planned: its setting is among the best of its task")
            if added.state is State.WAITING:
                self._take_orphan(added)

    def learn(self, job: Job, so_far: Result | None = None) -> None:
        """Takes the duration and peak memory of a finished trial, or of one that has paused, into the estimates."""
        result = so_far or job.result
        if result is None:
            return
        share = so_far.curve.share if so_far else 1.0
        if result.cost > 0 and share > 0:
            self.durations.observe(job.trial, result.cost / share)
            self.roll.estimates_changed()
        if result.peak_memory_bytes and not result.device.startswith("cpu"):
            per_card = job.trial.batch_size // max(1, result.cards)
            micro_batch = max(1, per_card // max(1, result.accumulation_steps))
            self.memory.observe(job.trial, micro_batch, result.peak_memory_bytes)

    def _failure_of(self, job: Job, event: Exited) -> Failure:
        lines = self._logs.facts(job).last_lines
        result = self._result_on_disk(job)
        error = result.error if result and result.status == "failed" else None
        return classify(
            event.code,
            lines,
            error,
            no_progress_seconds=self.rules.trial_timeout if job.ended_for is FailureKind.NO_PROGRESS else None,
            device_lost=event.lost or job.ended_for is FailureKind.LOST_DEVICE,
        )

    def _failed(self, job: Job, failure: Failure, now: float, free: int | None = None) -> None:
        """Records a failure, and says when and how the trial is tried again, if it is.

        ``free``: bytes that a trial out of memory had for itself on a card, where that is known.
        """
        job.attempt.finished, job.attempt.outcome, job.attempt.detail = time.time(), failure.kind.value, failure.detail
        if failure.policy.holds and self._holds(f"{failure.kind.value}: {failure.detail}", now):
            self.roll.move(job, State.WAITING)
            return
        job.failures.append(failure)
        job.avoid = self.ledger.alike(job.device_ids)
        policy = failure.policy
        same = sum(past.kind is failure.kind for past in job.failures)
        again = policy.retry and job.counted_failures < self.rules.max_attempts and same != policy.limit
        if failure.kind is FailureKind.OUT_OF_MEMORY and again:
            self._learn_the_limit(job, free)
            again = job.cut_further()
        if failure.kind is FailureKind.LOST_DEVICE:
            failed = dict.fromkeys(job.device_ids, failure.detail)
        else:
            maybe = failure.kind in _MAYBE_THE_CARD
            failed = self.ledger.suspect(job.device_ids, job.started_at, now) if maybe else {}
        for device_id, reason in failed.items():
            self._set_aside(device_id, now, reason)
        job.not_before = now + min(_LONGEST_PAUSE, policy.pause * 2 ** (same - 1))
        self.roll.move(job, State.WAITING if again else State.FAILED)
        self._logs.forget(job)
        self._ended(job)

    def _holds(self, said: str, now: float) -> bool:
        """Starts nothing for a while; True when it is known that no trial could run: none is to blame then."""
        cause = self._unwritable()
        if self._hold is None:
            self._note(f"nothing is started for now: {cause or said}; looked at again every {_HOLD_RECHECK:.0f} s")
            self._hold = Hold(cause or said, now + _HOLD_RECHECK)
        return cause is not None

    def _recheck_hold(self, hold: Hold, now: float) -> None:
        cause = self._unwritable()
        if cause is None:
            self._note(f"going on: {hold.cause} may have passed")
            self._hold = None
        else:
            hold.cause, hold.recheck = cause, now + _HOLD_RECHECK

    def _take_orphan(self, job: Job) -> None:
        """If a process of an earlier scheduler runs this trial, watches it, or ends it when its settings are others."""
        orphan = self.engine.orphan(job)
        if orphan is None:
            return
        now = self._clock()
        if orphan.pid == 0 or not orphan.is_ours:
            if orphan.pid and not job.elsewhere:
                self._note(f"{job.key} is being run by process {orphan.pid} on {orphan.host}: left to it")
            job.elsewhere, job.not_before = True, now + (_ELSEWHERE_PAUSE if orphan.pid else 0.3)
            return
        job.started_at = now
        self.roll.move(job, State.RUNNING)
        job.ended_for, job.must_go, job.killed, job.pid = None, False, False, orphan.pid
        record = orphan.record
        job.device_ids = [device for device in record.devices if device in self.ledger.slots]
        job.promised_bytes, job.spent.energy_joules = record.promised_bytes, None  # nobody counted before this start
        self._promise(job, orphan.pid)
        number = len(job.attempts) + 1
        job.attempts.append(Attempt(number, record.labels, record.cards, record.accumulation, record.started))
        job.progress_due = now + (self.rules.trial_timeout or float("inf"))
        self.engine.adopt(orphan)
        if orphan.configuration_hash != job.configuration_hash:
            self._note(f"{job.key}: process {orphan.pid} of an earlier grid runs it with other settings: ended")
            self._end(job, now)
            job.must_go = True
        else:
            self._note(f"{job.key}: process {orphan.pid} of an earlier grid still runs it: adopted")
            self._told(self._observer.started, job)

    def _interrupt(self, event: Interrupted) -> None:
        now = self._clock()
        second = self.interrupted is not None
        self.interrupted = event.name
        self._give_up_at = now + (0.0 if second else self.rules.grace) + 10.0
        for job in self.running():
            if second:
                self.engine.stop(job.key, now=True)
            else:
                self._end(job, now)
        if not second:
            self._note(
                f"{event.name}: ending {len(self.running())} running trials; they go on from their checkpoints "
                "at the next start"
            )

    def _end(self, job: Job, now: float, why: FailureKind | None = None, grace: float | None = None) -> None:
        """Asks a running trial to end; if it hasn't after the grace period it is killed."""
        job.ended_for = job.ended_for or why
        job.progress_due = float("inf")
        job.kill_at = now + (self.rules.grace if grace is None else grace)
        self.engine.stop(job.key)

    # Devices ----------------------------------------------------------------------------------------------------------

    def _measure(self, device_id: str) -> None:
        self._measure_at.pop(device_id, None)
        if not self._is_accounted(device_id):
            return
        if device_id in self._asked:
            self._ask_again.add(device_id)
            return
        self._asked[device_id] = self._clock()
        self.engine.measure(device_id)

    def _measured(self, event: Measured) -> None:
        self._asked.pop(event.device_id, None)
        slot = self.ledger.slots.get(event.device_id)
        if slot is None:
            return
        now = self._clock()
        if isinstance(event.answer, DeviceLost):
            self._ask_again.discard(event.device_id)
            self._device_lost(slot, event.answer, now)
            return
        if event.device_id in self._ask_again:
            self._ask_again.remove(event.device_id)
            self._measure(event.device_id)
            return
        if slot.failed_readings and slot.set_aside_until <= now:
            self._note(f"{slot.device.label} answers again")
        reading = event.answer
        self.ledger.read(event.device_id, reading, lambda key: self._allocated(key, reading))
        self._measure_at[event.device_id] = max(now + _HEALTH_CHECK, slot.set_aside_until)
        self._judge(event.device_id, now)

    def _allocated(self, key: str, reading: Reading) -> int:
        """Bytes of a trial on a card: those of its processes where the driver names them; all once it logs steps."""
        named, job = self.engine.allocated(key, reading), self._by_key.get(key)
        if job is None or self._logs.facts(job).step is None:
            return named
        if self._promises is not None:
            self._promises.settle(job.lock)
        return named or job.promised_bytes

    def _device_lost(self, slot: Slot, lost: DeviceLost, now: float) -> None:
        """The card is set aside. A trial on it is ended if the card is gone, or keeps failing and the log is silent."""
        device_id, slot.failed_readings = slot.device.id, slot.failed_readings + 1
        if slot.failed_readings == 1:
            slot.failing_since = now
        self._set_aside(device_id, now, str(lost))
        for job in self.running():
            if device_id not in job.device_ids or job.ended_for is not None or job.key in self._verdicts:
                continue
            silent = self.engine.silence(job) >= now - slot.failing_since
            if lost.certain or (slot.failed_readings >= _FAILED_READINGS and silent):
                self._end(job, now, FailureKind.LOST_DEVICE, grace=5.0)
        self._judge(device_id, now, Failure(FailureKind.LOST_DEVICE, str(lost)))

    def _judge(self, device_id: str, now: float, instead: Failure | None = None) -> None:
        """A card has answered, or will not. What failed there a moment ago is put down to ``instead``, if given."""
        for verdict in [verdict for verdict in self._verdicts.values() if device_id in verdict.ask]:
            verdict.ask.remove(device_id)
            verdict.failure = instead or verdict.failure
            slot = self.ledger.slots[device_id]
            if slot.fresh:
                free = slot.free_bytes() or 0
                verdict.free = free if verdict.free is None else min(verdict.free, free)
            if not verdict.ask:
                del self._verdicts[verdict.job.key]
                self._conclude(verdict, now)

    def _conclude(self, verdict: Verdict, now: float) -> None:
        """Out of memory because others have taken what was promised is no failure: the trial waits for it to return."""
        job, free = verdict.job, verdict.free
        others = verdict.failure.kind is FailureKind.OUT_OF_MEMORY and free is not None and free < job.promised_bytes
        if not others:
            self._failed(job, verdict.failure, now, free)
            return
        job.attempt.outcome = FailureKind.OUT_OF_MEMORY.value
        self.roll.move(job, State.WAITING)
        job.attempt.detail = f"others have taken its memory: {(free or 0) / GIB:.1f} GiB are left"
        self._note(f"{job.key}: {job.attempt.detail}; it waits for {job.promised_bytes / GIB:.1f} GiB")

    def _cluster_changed(self, event: Changed) -> None:
        new = [device.id for device in event.joined if self.ledger.add(device)]
        for device_id in new:
            self._measure(device_id)
        for device_id in event.left:
            self.ledger.leave(device_id)
        if new or not event.joined:
            self._note(event.note)

    def _is_accounted(self, device_id: str) -> bool:
        return device_id in self.ledger.slots and self.ledger.slots[device_id].accounted

    def _set_aside(self, device_id: str, now: float, reason: str) -> None:
        slot = self.ledger.slots[device_id]
        if not slot.device.suspects:
            return
        already, until = slot.set_aside_until > now, self.ledger.set_aside(device_id, now)
        self._measure_at[device_id] = until
        if not already:
            self._note(f"{slot.device.label} is set aside for {until - now:.0f} s: {reason}")

    def _give_up_killing(self, job: Job) -> None:
        """A process that the kernel can't end, for a driver in trouble: its devices are not used until it is gone."""
        self._stuck.add(job.key)
        labels = ", ".join(job.attempt.devices)
        failure = Failure(FailureKind.UNKILLABLE, f"process {job.pid} on {labels} does not die of SIGKILL")
        for device_id in filter(self._is_accounted, job.device_ids):
            self.ledger.slots[device_id].set_aside_until = float("inf")
        self._note(f"{job.key}: {failure.detail}; {labels} is not used, and the trial not tried again, until it does")
        job.kill_at = float("inf")
        job.attempt.outcome, job.attempt.detail = failure.kind.value, failure.detail
        self.roll.move(job, State.FAILED)
        job.failures.append(failure)
        self._ended(job)

    def _unstuck(self, job: Job) -> None:
        self._stuck.remove(job.key)
        for device_id in job.device_ids:
            self.ledger.slots[device_id].set_aside_until = 0.0
        self._note(f"{job.key}: process {job.pid} has ended after all")
        job.must_go = True
        self.roll.move(job, State.RUNNING)

    # Time -------------------------------------------------------------------------------------------------------------

    def _next_due(self) -> float:
        times = [self.roll.next_turn(self._clock())]
        for job in self.running():
            times += [job.progress_due, job.kill_at]
        times += [self._hold.recheck] if self._hold is not None else []
        times += list(self._measure_at.values())
        times += [asked + _ANSWER_DUE for asked in self._asked.values()]
        return min([*times, self._give_up_at])

    def _do_what_is_due(self) -> None:
        now = self._clock()
        if self._hold is not None and self._hold.recheck <= now:
            self._recheck_hold(self._hold, now)
        for device_id, due in list(self._measure_at.items()):
            if due <= now:
                self._measure(device_id)
        for device_id, asked in list(self._asked.items()):
            if asked + _ANSWER_DUE <= now:
                self._asked[device_id] = float("inf")  # it still may, some day
                self.ledger.slots[device_id].fresh = False
                label = self.ledger.slots[device_id].device.label
                self._note(f"{label}: the driver does not answer; nothing is started there until it does")
                self._judge(device_id, now)
        for job in self.running():
            if job.kill_at <= now:
                if job.killed:
                    self._give_up_killing(job)
                    continue
                job.kill_at, job.killed = now + _DEATH_DUE, True
                self.engine.stop(job.key, now=True)
            elif job.progress_due <= now:
                self._check_progress(job, now)

    def _check_progress(self, job: Job, now: float) -> None:
        silence = self.engine.silence(job)
        if silence >= self.rules.trial_timeout:
            self._end(job, now, FailureKind.NO_PROGRESS)
        else:
            job.progress_due = now + self.rules.trial_timeout - silence
