"""The loop: waits for an event, records it, starts what can start.

Nothing in here sleeps or polls. Ended processes, answers of the driver and signals arrive as events from other threads;
what is due at some time (a retry, a trial that shows no progress) is the timeout of the wait. Processes, devices and
the clock are handed in, so that tests and the benchmark run this very loop on simulated time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

from cluebench.machine.nvidia import DeviceLost, Reading
from cluebench.records.result import PAUSED, Result
from cluebench.scheduler.allocation.job_queue import JobQueue, Sparingly
from cluebench.scheduler.allocation.ledger import SUSPICIOUS, Ledger
from cluebench.scheduler.allocation.memory_fit import MemoryFit
from cluebench.scheduler.allocation.promises import Promises
from cluebench.scheduler.loop.device_health import DeviceHealth
from cluebench.scheduler.loop.fault_attribution import ASK_THE_CARD, MAYBE_THE_CARD, Case, Hold, OpenCases
from cluebench.scheduler.plan.estimates import GIB, DurationModel, MemoryModel, Underway, time_left
from cluebench.scheduler.plan.failures import Failure, FailureKind, classify
from cluebench.scheduler.plan.jobs import Attempt, Job, LogReader, State
from cluebench.scheduler.plan.live_halving import HalvingSearch
from cluebench.scheduler.processes.engine import GRACE, Engine, Event, Events, Exited, Interrupted, Measured
from cluebench.scheduler.processes.trial_process import Holding, StartOrder

#: Seconds that the end of a grid waits for what the driver says of the energy of its last trials.
_COUNTERS_DUE = 2.0
#: Seconds that a process may take to die of SIGKILL, before it is given up with its card.
_DEATH_DUE = 60.0
#: Seconds between looks at trials that someone else is running, and before a lock that is just changing hands is.
_ELSEWHERE_PAUSE, _LOCK_PAUSE = 10.0, 0.3
#: When a wait takes so many seconds longer than it was to, the whole job has been suspended.
_SUSPENDED = 10.0
#: Readings of a card that fail before trials on it are ended, if they are silent as well.
_FAILED_READINGS = 3


class Trials(Protocol):
    """What there is to run, and the files of it."""

    jobs: list[Job]  # grows by `more`
    halving: HalvingSearch | None

    def order(self, job: Job, holding: Holding) -> StartOrder: ...  # of the next attempt, on these devices
    def finished(self, job: Job) -> Result | None: ...  # None: it is not done
    def recall(self, job: Job) -> None: ...  # takes in the failures that others have noted of it
    def note_failures(self, job: Job) -> None: ...  # for others
    def written(self, job: Job) -> Result | None: ...  # its result on disk, done or not
    def unwritable(self) -> str | None: ...  # what keeps trials from writing; None: nothing
    def charged(self, job: Job) -> None: ...  # it is known by now what the last attempt cost
    def more(self) -> Sequence[Job]: ...  # that there are, after an attempt


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


# The loop -------------------------------------------------------------------------------------------------------------


class Scheduler:
    """Runs jobs until all are done or failed, or it is interrupted."""

    def __init__(
        self,
        trials: Trials,
        engine: Engine,
        ledger: Ledger,
        durations: DurationModel,
        memory: MemoryModel,
        observer: Observer,
        events: Events,
        rules: Rules | None = None,
        promises: Promises | None = None,  # None: of devices without accounts
    ):
        self.jobs, self.halving, self._trials = trials.jobs, trials.halving, trials
        self.engine, self.ledger, self.events, self.rules = engine, ledger, events, rules or Rules()
        self.durations, self._observer, self._promises = durations, observer, promises
        self._clock = clock = events.clock
        self.interrupted: str | None = None
        self._give_up_at = float("inf")
        self._look_due = self._resumed = float("-inf")
        self.queue = JobQueue(self.jobs, self._length, clock)
        self.memory_fit = MemoryFit(ledger, memory, self.rules.mrc_cards)
        self.health = DeviceHealth(ledger, engine, self._note, clock)
        self._hold, self._cases = Hold(trials.unwritable, self._note, clock), OpenCases()
        self.seconds_left = Sparingly(self._seconds_left, clock)
        self._by_key = {job.key: job for job in self.jobs}
        self.logs = LogReader()
        self.broken: str | None = None  # why a worker leaves trials to others
        self._crashed: set[str] = set()  # keys of a worker's trials, since one ended well
        self._stuck: set[str] = set()  # keys of trials whose processes can't be killed
        self._uncharged: dict[str, Job] = {}  # trial key → whose attempt has ended
        self._news: list[Callable[[], None]] = []  # what observers are still to be told
        for job in self.queue.of(State.DONE):
            if job.result is not None:
                self._learn(job, job.result)

    def _length(self, job: Job) -> float:
        """Of jobs that wait, the one that has most is started first."""
        durations = self.durations
        if self.halving is None:
            return durations.relative(job.trial)
        return self.halving.tail(job, lambda one: durations.relative(one.trial))

    # Life -------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Returns when every job is done, stopped or failed, or after an interruption when their processes are gone.

        Raises UsageError when no trial fits any card.
        """
        for job in [*self._waiting(), *self.queue.of(State.HELD), *self.queue.of(State.STOPPED)]:
            self._take_orphan(job)
        self._refuse_what_never_fits()
        for device_id in self.ledger.slots:
            self.health.ask(device_id)
        while self._unfinished():
            self._dispatch()
            self._tell()
            if not self._unfinished():  # the last one was done elsewhere
                break
            self.ledger.settle(self._clock())
            tick = self._observer.tick(self._clock())
            due = min(tick, self._next_due())
            event = self.events.get(due - self._clock())
            if self._clock() - due > _SUSPENDED:
                self._resumed = self._clock()
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
            return self.queue.count(State.RUNNING) > 0 and self._clock() < self._give_up_at
        if self.rules.leaves and not self.queue.count(State.RUNNING) and all(map(self._is_others, self._waiting())):
            return False
        stuck = all(slot.promised.keys() & self._stuck for slot in self.ledger.slots.values())
        return self.queue.count(State.RUNNING) > 0 or (self.queue.count(State.WAITING) > 0 and not stuck)

    def _is_others(self, job: Job) -> bool:
        """Whether a scheduler that lives runs this trial."""
        orphan = self.engine.orphan(job) if job.elsewhere else None
        return orphan is not None and orphan.pid != 0 and not orphan.is_ours

    def _look_elsewhere(self, now: float) -> None:
        """Takes in what other processes have done with the trials that wait."""
        self._look_due = now + _ELSEWHERE_PAUSE
        self._judge_rivals(self.halving.look_again() if self.halving else [])
        for job in self._waiting():
            if not self._has_ended_elsewhere(job):
                orphan = self.engine.orphan(job)
                job.elsewhere = orphan.elsewhere if orphan else None

    def _waiting(self) -> list[Job]:
        return self.queue.of(State.WAITING)

    def running(self) -> list[Job]:
        return self.queue.of(State.RUNNING)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Exited):
            self._exited(event)
        elif isinstance(event, Measured):
            self._measured(event)
        else:
            self._interrupt(event)

    def _next_due(self) -> float:
        times = [self.queue.next_turn(self._clock()), self._hold.recheck, self.health.next_due(), self._give_up_at]
        times += [self._look_due] if self.rules.leaves else []
        return min(times + [due for job in self.running() for due in (job.progress_due, job.kill_at)])

    def _do_what_is_due(self) -> None:
        now = self._clock()
        self._hold.look_again()
        if self.rules.leaves and self._look_due <= now:
            self._look_elsewhere(now)
        for device_id in self.health.ask_what_is_due():
            self._judge(device_id)
        for job in self.running():
            if job.kill_at <= now:
                self._kill(job, now)
            elif job.progress_due <= now:
                self._check_progress(job, now)

    # What is said of it -----------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        for job in [job for job in self._uncharged.values() if self.ledger.is_counted(job.key)]:
            job.charge_energy()
            self._trials.charged(self._uncharged.pop(job.key))
        news, self._news = self._news, []
        for tell in news:
            tell()

    def _told(self, what: Callable[[Job], None], job: Job) -> None:
        """Tells observers of a job as it is now: until they hear of it, it may be on its next attempt."""
        now = replace(job, attempts=[replace(attempt) for attempt in job.attempts], failures=list(job.failures))
        self._news.append(lambda: what(now))

    def _note(self, text: str) -> None:
        self._news.append(lambda: self._observer.note(text))

    def _seconds_left(self) -> float | None:
        """Estimated time until the grid is done, were no more trials stopped; None while nothing is known of it."""
        now = self._clock()
        held = {job.key: self.ledger.holding(job.key).devices for job in self.running()}
        here = [(job, max(1, len(held[job.key])), now - job.started_at) for job in self.running()]
        there = [(job, by.cards, time.time() - by.started) for job in self._waiting() if (by := job.elsewhere)]
        running = [Underway(job.trial, cards, for_, *self.logs.pace(job)) for job, cards, for_ in here + there]
        waiting = [job.trial for job in (*self.queue.in_order(), *self.queue.of(State.HELD)) if not job.elsewhere]
        devices = len(self.ledger.usable(now)) + sum(cards for _, cards, _ in there)
        return time_left(self.durations, running, waiting, max(1, devices))

    def elsewhere(self) -> int:
        """How many trials other processes are running, as far as is known."""
        return sum(job.elsewhere is not None for job in self._waiting())

    def why_idle(self) -> str | None:
        """Why nothing more is started although a device has room; None when nothing waits, or nothing has room."""
        now = self._clock()
        room = self.ledger.open(now)
        if not self.queue.count(State.WAITING) or not room:
            return None
        if self._hold.cause is not None:
            return f"nothing is started: {self._hold.cause}"
        job, next_turn = self.queue.shortest(), self.queue.next_turn(now)
        if job is None or job.not_before > now:
            return f"next attempt in {min(next_turn, job.not_before if job else next_turn) - now:.0f} s"
        needed = self.memory_fit.needed(job, self.memory_fit.cards(job, now, self.health.coming))
        known = [slot for slot in room if slot.accounted and slot.fresh]
        free = [f"{slot.device.label} {(slot.free_bytes() or 0) / GIB:.1f}" for slot in known]
        if free and not any(slot.fits(needed) for slot in room):
            return f"waiting for {needed / GIB:.1f} GiB of memory; free are {', '.join(free)}"
        silent = [slot.device.label for slot in room if self.health.is_silent(slot.device.id)]
        return f"waiting for the driver to answer about {', '.join(silent)}" if silent else None

    # Starting ---------------------------------------------------------------------------------------------------------

    def _refuse_what_never_fits(self) -> None:
        """Cards too small for any trial are left out; trials too large for every card get smaller micro-batches."""
        for said in self.memory_fit.leave_out_too_small(self._waiting()):
            self._note(said)
        for job in self._waiting():
            if (failure := self.memory_fit.cut_to_fit(job)) is not None:
                self._give_up(job, failure)

    def _dispatch(self) -> None:
        now = self._clock()
        if self.interrupted is not None or self._hold.cause is not None or not self.ledger.has_room(now):
            return
        try:
            with self._promises.locked() if self._promises else nullcontext(()) as others:
                self.ledger.see(others)
                self._start_what_fits(now)
        except BlockingIOError:
            self._note("another scheduler on these cards doesn't answer; tried again")
        if self.queue.count(State.WAITING):
            self.health.ask_soon(self.ledger.waits_for_memory(now))

    def _start_what_fits(self, now: float) -> None:
        closed: list[str] = []
        refused: set[tuple] = set()  # what one trial has no room for, others like it have none for
        for job in self.queue.turn(now):
            if not self.ledger.has_room(now, closed):
                break
            trial, avoid = job.trial, self.ledger.avoided(job.key)
            kind = (trial.model.folder, trial.task, trial.setting.batch_size, job.memory_factor, frozenset(avoid))
            if kind in refused:
                continue
            cards = self.memory_fit.cards(job, now, self.health.coming, closed)
            needed = self.memory_fit.needed(job, cards)
            placed = self.ledger.place(cards, needed, now, avoid=avoid, closed=closed)
            if placed is not None:
                self._start(job, placed)
                continue
            refused.add(kind)
            if not closed:
                # The longest trial that can't start now keeps the devices it needs from being filled up before it.
                closed = self.ledger.held_back_for(cards, needed, now)

    def _done_elsewhere(self, job: Job, result: Result) -> None:
        number = len(job.attempts) + 1
        job.attempts.append(Attempt(number, ["elsewhere"], result.cards, result.accumulation_steps, time.time()))
        self._done(job, result)

    def _has_ended_elsewhere(self, job: Job) -> bool:
        """Whether someone else has finished a trial, brought it to a rung, or given it up: taken as if it were us."""
        if (result := self._trials.finished(job)) is not None:
            self._done_elsewhere(job, result)
            return True
        if self.halving and self.rules.leaves:
            self._judge_rivals(self.halving.verdicts(job))
            if job.state is not State.WAITING:
                return True
        before = len(job.failures)
        self._trials.recall(job)
        if len(job.failures) == before or job.pause_after_failure(self.rules.max_attempts) is not None:
            return False
        self.queue.move(job, State.FAILED)
        self._ended(job)
        return True

    def _start(self, job: Job, device_ids: list[str]) -> None:
        """Starts a trial, unless someone else runs it or has ended it meanwhile."""
        cards, number = len(device_ids), len(job.attempts) + 1
        labels = [self.ledger.slots[device_id].device.label for device_id in device_ids]
        attempt = Attempt(number, labels, cards, job.accumulation(cards) or 1, time.time())
        try:
            if not self.engine.take(job):
                self._take_orphan(job)
                job.not_before = max(job.not_before, self._clock() + _LOCK_PAUSE)
                return
            if self._has_ended_elsewhere(job):
                self.engine.release(job)
                return
            self._begin(job, attempt, device_ids, self.memory_fit.needed(job, cards), os.getpid())
            job.spent.attempts += 1
            job.pid = self.engine.start(self._trials.order(job, self.ledger.holding(job.key)))
            if job.pid is not None:
                self._promise(job, job.pid)
        except OSError as error:
            held = self._release(job) if job.state is State.RUNNING else Holding()
            job.attempts += [attempt] if job.state is not State.RUNNING else []
            self._failed(job, Failure(FailureKind.DISK_FULL, f"can't be started: {error.strerror or error}"), held)
            self.engine.release(job)
            return
        job.elsewhere = None
        self._told(self._observer.started, job)

    def _begin(self, job: Job, attempt: Attempt, device_ids: list[str], promised_bytes: int, pid: int) -> None:
        """From now on an attempt holds devices, whose memory is promised to the process ``pid``."""
        job.started_at = self._clock()
        job.ended_for, job.must_go, job.kill_at, job.killed = None, False, float("inf"), False
        job.progress_due = job.started_at + (self.rules.trial_timeout or float("inf"))
        job.attempts.append(attempt)
        self.queue.move(job, State.RUNNING)
        self.ledger.settle(self._clock())
        self.ledger.spent[job.key] = job.spent
        self.ledger.reserve(job.key, device_ids, promised_bytes)
        self._promise(job, pid)

    def _promise(self, job: Job, pid: int) -> None:
        held = self.ledger.holding(job.key)
        if self._promises is not None and any(self.ledger.is_card(device_id) for device_id in held.devices):
            self._promises.make(job.lock, pid, held.devices, held.promised_bytes)

    def _release(self, job: Job) -> Holding:
        self.ledger.settle(self._clock())
        self._uncharged[job.key] = job
        if self._promises is not None:
            self._promises.drop(job.lock)
        return self.ledger.release(job.key)

    def _take_orphan(self, job: Job) -> None:
        """If a process of an earlier scheduler runs this trial, watches it, or ends it when its settings are others."""
        orphan = self.engine.orphan(job)
        if orphan is None:
            return
        now, record, number = self._clock(), orphan.record, len(job.attempts) + 1
        if orphan.pid == 0 or not orphan.is_ours or self.rules.leaves:  # a worker's trials end with it
            if orphan.pid and not (job.elsewhere and job.elsewhere.who):
                self._note(f"{job.key} is being run by {orphan.elsewhere.who}: left to it")
            job.elsewhere, job.not_before = orphan.elsewhere, now + (_ELSEWHERE_PAUSE if orphan.pid else _LOCK_PAUSE)
            return
        job.pid, job.spent.energy_joules = orphan.pid, None  # nobody counted before this start
        devices = [device for device in record.devices if device in self.ledger.slots]
        attempt = Attempt(number, record.labels, record.cards, record.accumulation, record.started)
        self._begin(job, attempt, devices, record.promised_bytes, orphan.pid)
        self.engine.adopt(orphan)
        if orphan.record.configuration_hash != job.configuration_hash:
            self._note(f"{job.key}: process {orphan.pid} of an earlier grid runs it with other settings: ended")
            self._end(job)
            job.must_go = True
        else:
            self._note(f"{job.key}: process {orphan.pid} of an earlier grid still runs it: adopted")
            self._told(self._observer.started, job)

    # How attempts end -------------------------------------------------------------------------------------------------

    def _exited(self, event: Exited) -> None:
        job = self._by_key.get(event.key)
        if job is not None and job.key in self._stuck:
            self._unstuck(job)
        elif job is None or job.state is not State.RUNNING or job.key in self._cases:
            return
        held = self._release(job)
        for device_id in held.devices:
            self.health.ask(device_id)
        job.attempt.finished = time.time()
        job.progress_due = job.kill_at = float("inf")
        result = self._trials.finished(job)
        if result is not None:
            job.charge_seconds(result)
            self.ledger.succeeded(held.devices)
            self._done(job, result)
        elif (paused := self._paused_result(job, event)) is not None:
            self.ledger.succeeded(held.devices)
            self._paused(job, paused)
        elif job.must_go or (self.interrupted is not None and job.ended_for is None):
            self.queue.move(job, State.WAITING)
            job.attempt.outcome = "interrupted"
            self._carry_out_verdicts(job)
        else:
            case = Case(job, self._failure_of(job, event), held, set(filter(self.health.is_accounted, held.devices)))
            if case.failure.kind in ASK_THE_CARD and case.ask:
                self._cases[job.key] = case
                return
            self._failed(job, case.failure, held)
        self.engine.release(job)

    def _done(self, job: Job, result: Result) -> None:
        job.result = result
        self.queue.move(job, State.DONE)
        self._hold.doubt()
        self._ended_well(job, result, "done")
        self._ended(job)

    def _paused_result(self, job: Job, event: Exited) -> Result | None:
        """Of a process that has ended well at a rung; what an earlier one left there is none of one that failed."""
        result = self._trials.written(job) if event.code in (0, None) else None
        return result if result is not None and result.status == PAUSED else None

    def _paused(self, job: Job, result: Result) -> None:
        job.charge_seconds(result)
        self._ended_well(job, result, PAUSED)
        job.curve = result.curve if job.curve is not None else None
        self.queue.move(job, State.WAITING if job.curve is None else State.HELD)
        self._told(self._observer.judged, job)
        self._carry_out_verdicts(job)

    def _ended_well(self, job: Job, result: Result, outcome: str) -> None:
        self.logs.forget(job)
        self._crashed.clear()
        job.attempt.outcome = outcome
        self._learn(job, result)

    def _learn(self, job: Job, result: Result) -> None:
        """Takes the duration and peak memory of a finished trial, or of one that has paused, into the estimates."""
        share = result.curve.share if result.status == PAUSED else 1.0
        if result.cost > 0 and share > 0:
            self.durations.observe(job.trial, result.cost / share)
            self.queue.estimates_changed()
        self.memory_fit.learn(job, result)

    def _ended(self, job: Job) -> None:
        self._told(self._observer.ended, job)
        self._carry_out_verdicts(job)

    def _carry_out_verdicts(self, job: Job) -> None:
        """What the end of an attempt decides about the trials of its task, and what there is more to do then."""
        self._judge_rivals(self.halving.verdicts(job) if self.halving else [])
        for added in self._trials.more():
            self.jobs.append(added)
            self._by_key[added.key] = added
            self.queue.move(added, added.state)
            self._note(f"{added.key} is planned: its setting is among the best of its task")
            if added.state is State.WAITING:
                self._take_orphan(added)

    def _judge_rivals(self, verdicts: Sequence[tuple[Job, State]]) -> None:
        for other, state in verdicts:
            self.queue.move(other, state)
            self.queue.estimates_changed()
            self._told(self._observer.judged, other)

    # Failures ---------------------------------------------------------------------------------------------------------

    def _failure_of(self, job: Job, event: Exited) -> Failure:
        lines = self.logs.facts(job).last_lines
        result = self._trials.written(job)
        error = result.error if result and result.status == "failed" else None
        return classify(
            event.code,
            lines,
            error,
            no_progress_seconds=self.rules.trial_timeout if job.ended_for is FailureKind.NO_PROGRESS else None,
            device_lost=job.ended_for is FailureKind.LOST_DEVICE,
        )

    def _measured(self, event: Measured) -> None:
        answer = event.answer
        if not self.health.take_in(event.device_id, answer, self._allocated):
            return
        if isinstance(answer, DeviceLost):
            self._end_trials_on(event.device_id, answer)
            self._judge(event.device_id, Failure(FailureKind.LOST_DEVICE, str(answer)))
        else:
            self._judge(event.device_id)

    def _allocated(self, key: str, reading: Reading) -> int:
        """Bytes of a trial on a card: those of its processes where the driver names them; all once it logs steps."""
        named, job = self.engine.allocated(key, reading), self._by_key.get(key)
        if job is None or self.logs.facts(job).step is None:
            return named
        if self._promises is not None:
            self._promises.settle(job.lock)
        return named or self.ledger.holding(key).promised_bytes

    def _end_trials_on(self, device_id: str, lost: DeviceLost) -> None:
        """Ends a trial on a card if that is gone, or keeps failing and the trial's log is silent."""
        slot = self.ledger.slots[device_id]
        for job in self.running():
            if job.key not in slot.promised or job.ended_for is not None or job.key in self._cases:
                continue
            silent = self.engine.silence(job) >= self._clock() - slot.failing_since
            if lost.certain or (slot.failed_readings >= _FAILED_READINGS and silent):
                self._end(job, FailureKind.LOST_DEVICE, grace=5.0)

    def _judge(self, device_id: str, instead: Failure | None = None) -> None:
        """A card has answered, or will not."""
        for case in self._cases.heard(self.ledger.slots[device_id], instead):
            if case.others_took_memory:
                self._wait_for_memory(case)
            else:
                self._failed(case.job, case.failure, case.held, case.free)
            self.engine.release(case.job)

    def _wait_for_memory(self, case: Case) -> None:
        """Out of memory because others have taken what was promised is no failure."""
        job = case.job
        job.attempt.outcome = FailureKind.OUT_OF_MEMORY.value
        job.attempt.detail = f"others have taken its memory: {(case.free or 0) / GIB:.1f} GiB are left"
        self.queue.move(job, State.WAITING)
        self._note(f"{job.key}: {job.attempt.detail}; it waits for {case.held.promised_bytes / GIB:.1f} GiB")

    def _failed(self, job: Job, failure: Failure, held: Holding, free: int | None = None) -> None:
        """Records a failure, and says when and how the trial is tried again, if it is.

        ``held``: what it had; ``free``: bytes that a trial out of memory had for itself on a card, where that is known.
        """
        job.attempt.finished, job.attempt.outcome, job.attempt.detail = time.time(), failure.kind.value, failure.detail
        if failure.policy.holds and self._hold.begin(f"{failure.kind.value}: {failure.detail}"):
            self.queue.move(job, State.WAITING)
            return
        job.failures.append(failure)
        self.ledger.avoid(job.key, held.devices)
        pause = job.pause_after_failure(self.rules.max_attempts)
        if failure.kind is FailureKind.OUT_OF_MEMORY and pause is not None:
            others = [*self._waiting(), *self.queue.of(State.HELD)]
            self.memory_fit.learn_the_limit(job, len(held.devices), free, others)
            pause = pause if job.cut_further() else None
        now, bad = self._clock(), {}
        if failure.kind is FailureKind.LOST_DEVICE:
            bad = dict.fromkeys(held.devices, failure.detail)
        elif failure.kind in MAYBE_THE_CARD:
            bad = self.ledger.suspect(held.devices, job.started_at, now)
        for device_id, reason in bad.items():
            self.health.set_aside(device_id, reason)
        job.not_before = now + (pause or 0.0)
        if failure.kind in MAYBE_THE_CARD and self.rules.leaves:
            self._leave_to_others(job)
        self._trials.note_failures(job)
        self.queue.move(job, State.FAILED if pause is None else State.WAITING)
        self.logs.forget(job)
        self._ended(job)

    def _leave_to_others(self, job: Job) -> None:
        """A worker's trial has crashed: another machine may try it first, and this one may be broken."""
        self._crashed.add(job.key)
        job.not_before += _ELSEWHERE_PAUSE
        if len(self._crashed) >= SUSPICIOUS and self.interrupted is None:
            self.broken = f"the last {len(self._crashed)} trials on this machine crashed ({job.failures[-1].detail})"
            self._interrupt(Interrupted(self.broken))

    def _give_up(self, job: Job, failure: Failure) -> None:
        job.failures.append(failure)
        self.queue.move(job, State.FAILED)
        self._ended(job)

    # Ending what runs -------------------------------------------------------------------------------------------------

    def _interrupt(self, event: Interrupted) -> None:
        second = self.interrupted is not None
        if second and event.name != "SIGINT":  # a batch system may tell this process and the shell that tells it too
            return
        self.interrupted = event.name
        self._give_up_at = self._clock() + (0.0 if second else self.rules.grace) + 10.0
        for job in self.running():
            if second:
                self.engine.stop(job.key, now=True)
            else:
                self._end(job)
        if not second:
            self._note(
                f"{event.name}: ending {len(self.running())} running trials; they go on from their checkpoints "
                "at the next start"
            )

    def _check_progress(self, job: Job, now: float) -> None:
        silence = min(self.engine.silence(job), now - self._resumed)
        if silence >= self.rules.trial_timeout:
            self._end(job, FailureKind.NO_PROGRESS)
        else:
            job.progress_due = now + self.rules.trial_timeout - silence

    def _end(self, job: Job, why: FailureKind | None = None, grace: float | None = None) -> None:
        """Asks a running trial to end; if it hasn't after the grace period it is killed."""
        job.ended_for = job.ended_for or why
        job.progress_due = float("inf")
        job.kill_at = self._clock() + (self.rules.grace if grace is None else grace)
        self.engine.stop(job.key)

    def _kill(self, job: Job, now: float) -> None:
        """A process that the kernel can't end, for a driver in trouble, is given up, and its cards till it is gone."""
        if not job.killed:
            job.kill_at, job.killed = now + _DEATH_DUE, True
            self.engine.stop(job.key, now=True)
            return
        self._stuck.add(job.key)
        labels = ", ".join(job.attempt.devices)
        failure = Failure(FailureKind.UNKILLABLE, f"process {job.pid} on {labels} does not die of SIGKILL")
        for device_id in filter(self.health.is_accounted, self.ledger.holding(job.key).devices):
            self.ledger.slots[device_id].set_aside_until = float("inf")
        self._note(f"{job.key}: {failure.detail}; {labels} is not used, and the trial not tried again, until it does")
        job.kill_at = float("inf")
        job.attempt.outcome, job.attempt.detail = failure.kind.value, failure.detail
        self._give_up(job, failure)

    def _unstuck(self, job: Job) -> None:
        self._stuck.remove(job.key)
        for device_id in self.ledger.holding(job.key).devices:
            self.ledger.slots[device_id].set_aside_until = 0.0
        self._note(f"{job.key}: process {job.pid} has ended after all")
        job.must_go = True
