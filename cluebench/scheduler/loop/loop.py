"""The loop: waits for an event, records it, starts what can start.

Nothing here sleeps or polls. Ended processes, the driver's answers and signals arrive as events from other threads. The
time of the next retry or check is the timeout of the wait. Processes, devices and the clock are arguments, so tests and
the benchmark run this very loop on simulated time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Protocol

from cluebench.machine.nvidia import DeviceLost, Reading
from cluebench.records.result import PAUSED, Result
from cluebench.scheduler.allocation.device_health import DeviceHealth
from cluebench.scheduler.allocation.job_queue import JobQueue, Sparingly
from cluebench.scheduler.allocation.ledger import SUSPICIOUS, Ledger
from cluebench.scheduler.allocation.memory_fit import MemoryFit
from cluebench.scheduler.allocation.promises import Promises
from cluebench.scheduler.loop.deadlines import Deadlines
from cluebench.scheduler.loop.fault_attribution import ASK_THE_CARD, MAYBE_THE_CARD, Case, Hold, OpenCases
from cluebench.scheduler.plan.attempts import Attempt
from cluebench.scheduler.plan.estimates import GIB, DurationModel, Underway, time_left
from cluebench.scheduler.plan.failures import Failure, FailureKind, classify
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job, LogReader, State
from cluebench.scheduler.plan.live_halving import HalvingSearch
from cluebench.scheduler.processes.engine import GRACE, Engine, Event, Events, Exited, Interrupted, Measured
from cluebench.scheduler.processes.trial_process import StartOrder, is_ours

#: Seconds that the end of a grid waits for the energy counters of its last trials.
_COUNTERS_DUE = 2.0
#: Seconds between checks of trials that another process runs, and before a check of a lock that changes its owner.
_ELSEWHERE_PAUSE, _LOCK_PAUSE = 10.0, 0.3
#: If a wait takes so many seconds too long, this process was suspended.
_SUSPENDED = 10.0
#: Failed readings of a card in a row that end its silent trials.
_FAILED_READINGS = 3


class Trials(Protocol):
    """The trials to run, and their files."""

    jobs: list[Job]  # grows by `more`
    halving: HalvingSearch | None

    def order(self, job: Job) -> StartOrder: ...  # of its last attempt
    def finished(self, job: Job) -> Result | None: ...  # None: it is not done
    def recall(self, job: Job) -> None: ...  # reads the failures that others have noted
    def note_failures(self, job: Job) -> None: ...  # for others
    def written(self, job: Job) -> Result | None: ...  # its result on disk, done or not
    def unwritable(self) -> str | None: ...  # why trials can't write; None: they can
    def charged(self, job: Job) -> None: ...  # the cost of its last attempt is known now
    def more(self) -> Sequence[Job]: ...  # jobs to add after an attempt


class Observer(Protocol):
    """Hears what happens, after freed devices have new trials."""

    def started(self, job: Job) -> None: ...
    def ended(self, job: Job) -> None: ...
    def judged(self, job: Job) -> None: ...
    def note(self, text: str) -> None: ...
    def tick(self, now: float) -> float: ...  # clock time of the next call


class Scheduler:
    """Runs jobs until all are done or failed, or it is interrupted. ``promises``: None for devices without memory."""

    def __init__(
        self,
        trials: Trials,
        engine: Engine,
        observer: Observer,
        events: Events,
        flags: GridFlags,
        promises: Promises | None = None,
    ):
        self.jobs, self.halving, self._trials = trials.jobs, trials.halving, trials
        self.engine, self._observer, self.events, self.flags = engine, observer, events, flags
        self._clock, self._promises = events.clock, promises
        self.durations, self.logs = DurationModel(flags), LogReader()
        self.queue = JobQueue(self.jobs, self._length, self._clock)
        self.ledger = Ledger(engine.devices, flags.jobs_per_device)
        self.health = DeviceHealth(self.ledger, engine, self._note, self._clock)
        self.fit = MemoryFit(self.ledger, self.health, flags)
        self._deadlines = Deadlines(engine, self._clock, flags.trial_timeout)
        self._hold, self._cases = Hold(trials.unwritable, self._note, self._clock), OpenCases()
        self.seconds_left = Sparingly(self._seconds_left, self._clock)
        self.interrupted: str | None = None
        self.broken: str | None = None  # why a worker leaves trials to others
        self._give_up_at, self._look_due = float("inf"), float("-inf")
        self._by_key = {job.key: job for job in self.jobs}
        self._crashed: set[str] = set()  # keys of a worker's trials, since one ended well
        self._stuck: set[str] = set()  # keys of trials whose processes can't be killed
        self._uncharged: dict[str, Job] = {}  # trial key → job whose attempt has ended
        self._news: list[Callable[[], None]] = []  # calls of the observer that are still to come
        for job in self.queue.of(State.DONE):
            if job.result is not None:
                self._learn(job, job.result)

    def _length(self, job: Job) -> float:
        """How long a job, or the contest that waits for it, takes: the longest starts first."""
        durations = self.durations
        if self.halving is None:
            return durations.relative(job.trial)
        return self.halving.tail(job, lambda one: durations.relative(one.trial))

    # Life -------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Returns when every job is done, stopped or failed, or after an interruption when their processes are gone.

        Raises UsageError if no trial fits any card.
        """
        for job in [*self._waiting(), *self.queue.of(State.PAUSED), *self.queue.of(State.STOPPED)]:
            self._look_at_orphan(job)
        self._refuse_what_never_fits()
        for device_id in self.ledger.slots:
            self.health.ask(device_id)
        while self._unfinished():
            self._dispatch()
            self._tell()
            if not self._unfinished():  # another process has done the last one
                break
            self.ledger.settle(self._clock())
            due = min(self._observer.tick(self._clock()), self._next_due())
            event = self.events.get(due - self._clock())
            if self._clock() - due > _SUSPENDED:
                self._deadlines.suspended()
            while event is not None:
                self._handle(event)
                event = self.events.get(0.0)
            self._do_what_is_due()
        while not all(map(self.ledger.is_counted, self._uncharged)) and (event := self.events.get(_COUNTERS_DUE)):
            self._handle(event)
        self.ledger.stop_counting()
        self._tell()

    def _unfinished(self) -> bool:
        running, waiting = self.queue.count(State.RUNNING), self.queue.count(State.WAITING)
        if self.interrupted is not None:
            return running > 0 and self._clock() < self._give_up_at
        if self.flags.worker and not running and all(map(self._is_others, self._waiting())):
            return False
        stuck = all(slot.promised.keys() & self._stuck for slot in self.ledger.slots.values())
        return running > 0 or (waiting > 0 and not stuck)

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
        look = self._look_due if self.flags.worker else float("inf")
        times = self._hold.recheck, self.health.next_due(), self._deadlines.next_due(), self._give_up_at, look
        return min(self.queue.next_turn(self._clock()), *times)

    def _do_what_is_due(self) -> None:
        now = self._clock()
        self._hold.look_again()
        if self.flags.worker and self._look_due <= now:
            self._look_elsewhere(now)
        for device_id in self.health.ask_what_is_due():
            self._judge(device_id)
        for job in self._deadlines.act(self.running()):
            self._give_up_undying(job)

    # What observers hear and ask --------------------------------------------------------------------------------------

    def _tell(self) -> None:
        for job in [job for job in self._uncharged.values() if self.ledger.is_counted(job.key)]:
            job.charge_energy()
            self._trials.charged(self._uncharged.pop(job.key))
        news, self._news = self._news, []
        for tell in news:
            tell()

    def _will_tell(self, what: Callable[[Job], None], job: Job) -> None:
        """Observers will hear of a job as it is now: by then it may be on its next attempt."""
        now = replace(job, attempts=[replace(attempt) for attempt in job.attempts], failures=list(job.failures))
        self._news.append(partial(what, now))

    def _note(self, text: str) -> None:
        self._news.append(lambda: self._observer.note(text))

    def _seconds_left(self) -> float | None:
        """Estimated time until the grid is done if no more trials are stopped; None while durations are unknown."""
        now, elsewhere = self._clock(), [job for job in self._waiting() if job.elsewhere]
        here = [(job, max(1, len(job.attempt.devices)), now - job.began) for job in self.running()]
        there = [(job, by.cards, by.seconds) for job in elsewhere if (by := job.elsewhere)]
        running = [Underway(job.trial, cards, for_, *self.logs.pace(job)) for job, cards, for_ in here + there]
        waiting = [job.trial for job in (*self.queue.in_order(), *self.queue.of(State.PAUSED)) if not job.elsewhere]
        devices = len(self.ledger.usable(now)) + sum(cards for _, cards, _ in there)
        return time_left(self.durations, running, waiting, max(1, devices))

    def elsewhere(self) -> int:
        """How many trials other processes run, as far as we know."""
        return sum(job.elsewhere is not None for job in self._waiting())

    def why_idle(self) -> str | None:
        """Why nothing more starts although a device has room; None if no job waits, or no device has room."""
        now = self._clock()
        if not self.queue.count(State.WAITING) or not self.ledger.open(now):
            return None
        return f"nothing is started: {self._hold.cause}" if self._hold.cause else self.fit.why_idle(self.queue, now)

    # Starting ---------------------------------------------------------------------------------------------------------

    def _refuse_what_never_fits(self) -> None:
        """Cards too small for any trial are left out; trials too large for every card get smaller micro-batches."""
        for message in self.fit.leave_out_too_small(self._waiting()):
            self._note(message)
        for job in self._waiting():
            if (failure := self.fit.cut_to_fit(job)) is not None:
                self._give_up(job, failure)

    def _dispatch(self) -> None:
        now = self._clock()
        if self.interrupted is not None or self._hold.cause is not None or not self.ledger.has_room(now):
            return
        try:
            with self._promises.locked() if self._promises else nullcontext(()) as others:
                self.ledger.see(others)
                for job, device_ids, promised_bytes in self.fit.placements(self.queue, now):
                    self._start(job, device_ids, promised_bytes)
        except BlockingIOError:
            self._note("another scheduler on these cards doesn't answer; tried again")
        if self.queue.count(State.WAITING):
            self.health.ask_soon(self.ledger.waits_for_memory(now))

    def _start(self, job: Job, device_ids: list[str], promised_bytes: int) -> None:
        """Starts a trial, unless another process runs it or has ended it meanwhile."""
        cards = len(device_ids)
        attempt = Attempt(
            devices=device_ids,
            labels=[self.ledger.slots[device_id].device.label for device_id in device_ids],
            cards=cards,
            accumulation=job.accumulation(cards) or 1,
            promised_bytes=promised_bytes,
            number=len(job.attempts) + 1,
        )
        try:
            if not self.engine.take(job):
                self._look_at_orphan(job)
                job.not_before = max(job.not_before, self._clock() + _LOCK_PAUSE)
                return
            if self._has_ended_elsewhere(job):
                self.engine.release(job)
                return
            self._begin(job, attempt, os.getpid())
            job.spent.attempts += 1
            self.engine.start(job, self._trials.order(job))
            self._promise(job, attempt.pid)
        except OSError as error:
            if job.state is State.RUNNING:
                self._release(job)
            else:
                job.attempts.append(attempt)
            self._failed(job, Failure(FailureKind.DISK_FULL, f"can't be started: {error.strerror or error}"))
            self.engine.release(job)
            return
        job.elsewhere = None
        self._will_tell(self._observer.started, job)

    def _begin(self, job: Job, attempt: Attempt, pid: int) -> None:
        """From now on the attempt has its devices, whose memory is promised to the process ``pid``."""
        job.began = self._clock()
        job.attempts.append(attempt)
        self._deadlines.begin(job)
        self.queue.move(job, State.RUNNING)
        self.ledger.settle(self._clock())
        self.ledger.spent[job.key] = job.spent
        self.ledger.reserve(job.key, attempt.devices, attempt.promised_bytes)
        self._promise(job, pid)

    def _promise(self, job: Job, pid: int) -> None:
        if self._promises is not None and any(map(self.ledger.is_card, job.attempt.devices)):
            self._promises.make(job.lock, pid, job.attempt.devices, job.attempt.promised_bytes)

    def _release(self, job: Job) -> None:
        self.ledger.settle(self._clock())
        self.ledger.release(job.key)
        self._uncharged[job.key] = job
        if self._promises is not None:
            self._promises.drop(job.lock)

    # Other processes --------------------------------------------------------------------------------------------------

    def _look_at_orphan(self, job: Job) -> None:
        """If an earlier scheduler's process runs this trial, watches it, or ends it if it has other settings."""
        orphan = self.engine.orphan(job)
        if orphan is None:
            return
        if orphan.pid == 0 or not is_ours(orphan) or self.flags.worker:  # a worker's trials end with it
            if orphan.pid and not (job.elsewhere and job.elsewhere.who):
                self._note(f"{job.key}: {orphan.who} runs it: left to it")
            job.elsewhere = orphan
            job.not_before = self._clock() + (_ELSEWHERE_PAUSE if orphan.pid else _LOCK_PAUSE)
            return
        job.spent.energy_joules = None  # nobody counted it before this start
        devices = [device for device in orphan.devices if device in self.ledger.slots]
        self._begin(job, replace(orphan, devices=devices, number=len(job.attempts) + 1), orphan.pid)
        self.engine.adopt(job)
        if orphan.configuration_hash != job.configuration_hash:
            self._note(f"{job.key}: process {orphan.pid} of an earlier grid runs it with other settings: ended")
            self._deadlines.end(job, FailureKind.INTERRUPTED)
        else:
            self._note(f"{job.key}: process {orphan.pid} of an earlier grid still runs it: adopted")
            self._will_tell(self._observer.started, job)

    def _is_others(self, job: Job) -> bool:
        """Whether a living scheduler runs this trial."""
        orphan = self.engine.orphan(job) if job.elsewhere else None
        return orphan is not None and orphan.pid != 0 and not is_ours(orphan)

    def _look_elsewhere(self, now: float) -> None:
        """Learns what other processes have done with the waiting trials."""
        self._look_due = now + _ELSEWHERE_PAUSE
        self._apply(self.halving.look_again() if self.halving else [])
        for job in self._waiting():
            if not self._has_ended_elsewhere(job):
                job.elsewhere = self.engine.orphan(job)

    def _has_ended_elsewhere(self, job: Job) -> bool:
        """Whether another process has finished a trial, paused it at a rung, or given it up: then it counts as ours."""
        if (result := self._trials.finished(job)) is not None:
            number, cards = len(job.attempts) + 1, result.cards
            attempt = Attempt(labels=["elsewhere"], cards=cards, accumulation=result.accumulation_steps, number=number)
            job.attempts.append(attempt)
            self._done(job, result)
            return True
        if self.halving and self.flags.worker:
            self._apply(self.halving.verdicts(job))
            if job.state is not State.WAITING:
                return True
        before = len(job.failures)
        self._trials.recall(job)
        if len(job.failures) == before or not job.is_given_up(self.flags.max_attempts):
            return False
        self.queue.move(job, State.FAILED)
        self._ended(job)
        return True

    # How attempts end -------------------------------------------------------------------------------------------------

    def _exited(self, event: Exited) -> None:
        job = self._by_key.get(event.key)
        if job is not None and job.key in self._stuck:
            self._died_late(job)
        elif job is None or job.state is not State.RUNNING or job.key in self._cases:
            return
        self._release(job)
        self._deadlines.forget(job)
        attempt = job.attempt
        for device_id in attempt.devices:
            self.health.ask(device_id)
        attempt.finished = time.time()
        result = self._trials.finished(job)
        if result is not None:
            job.charge_seconds(result)
            self.ledger.succeeded(attempt.devices)
            self._done(job, result)
        elif (paused := self._paused_result(job, event)) is not None:
            self.ledger.succeeded(attempt.devices)
            self._paused(job, paused)
        elif job.ended_for is FailureKind.INTERRUPTED:
            self.queue.move(job, State.WAITING)
            attempt.outcome = "interrupted"
            self._after_attempt(job)
        else:
            case = Case(job, self._failure_of(job, event), set(filter(self.health.is_accounted, attempt.devices)))
            if case.failure.kind in ASK_THE_CARD and case.ask:
                self._cases[job.key] = case
                return
            self._failed(job, case.failure)
        self.engine.release(job)

    def _done(self, job: Job, result: Result) -> None:
        job.result = result
        self.queue.move(job, State.DONE)
        self._hold.doubt()
        self._ended_well(job, result, "done")
        self._ended(job)

    def _paused_result(self, job: Job, event: Exited) -> Result | None:
        """The result of a process that paused at a rung. One that failed may have an earlier process's result."""
        result = self._trials.written(job) if event.code in (0, None) else None
        return result if result is not None and result.status == PAUSED else None

    def _paused(self, job: Job, result: Result) -> None:
        job.charge_seconds(result)
        self._ended_well(job, result, PAUSED)
        job.curve = result.curve if job.curve is not None else None
        self.queue.move(job, State.WAITING if job.curve is None else State.PAUSED)
        self._will_tell(self._observer.judged, job)
        self._after_attempt(job)

    def _ended_well(self, job: Job, result: Result, outcome: str) -> None:
        self.logs.forget(job)
        self._crashed.clear()
        job.attempt.outcome = outcome
        self._learn(job, result)

    def _learn(self, job: Job, result: Result) -> None:
        """Improves the estimates by the duration and peak memory of a trial that is done or paused."""
        share = result.curve.share if result.status == PAUSED else 1.0
        if result.cost > 0 and share > 0:
            self.durations.observe(job.trial, result.cost / share)
            self.queue.estimates_changed()
        self.fit.learn(job, result)

    def _ended(self, job: Job) -> None:
        self._will_tell(self._observer.ended, job)
        self._after_attempt(job)

    def _after_attempt(self, job: Job) -> None:
        """Applies what the end of an attempt decides about other trials of its task, and adds further trials."""
        self._apply(self.halving.verdicts(job) if self.halving else [])
        for added in self._trials.more():
            self.jobs.append(added)
            self._by_key[added.key] = added
            self.queue.move(added, added.state)
            self._note(f"{added.key} is planned: its setting is among the best of its task")
            if added.state is State.WAITING:
                self._look_at_orphan(added)

    def _apply(self, verdicts: Sequence[tuple[Job, State]]) -> None:
        for other, state in verdicts:
            self.queue.move(other, state)
            self.queue.estimates_changed()
            self._will_tell(self._observer.judged, other)

    # Failures ---------------------------------------------------------------------------------------------------------

    def _failure_of(self, job: Job, event: Exited) -> Failure:
        result = self._trials.written(job)
        return classify(
            event.code,
            self.logs.facts(job).last_lines,
            result.error if result and result.status == "failed" else None,
            no_progress_seconds=self.flags.trial_timeout if job.ended_for is FailureKind.NO_PROGRESS else None,
            device_lost=job.ended_for is FailureKind.LOST_DEVICE,
        )

    def _measured(self, event: Measured) -> None:
        answer = event.answer
        if not self.health.record(event.device_id, answer, self._allocated):
            return
        if isinstance(answer, DeviceLost):
            self._end_trials_on(event.device_id, answer)
            self._judge(event.device_id, Failure(FailureKind.LOST_DEVICE, str(answer)))
        else:
            self._judge(event.device_id)

    def _allocated(self, key: str, reading: Reading) -> int:
        """Bytes of a trial on a card: what the driver reports for its processes; once it logs steps, its promise."""
        reported, job = self.engine.allocated(key, reading), self._by_key.get(key)
        if job is None or self.logs.facts(job).step is None:
            return reported
        if self._promises is not None:
            self._promises.settle(job.lock)
        return reported or job.attempt.promised_bytes

    def _end_trials_on(self, device_id: str, lost: DeviceLost) -> None:
        """Ends the trials on a card that is gone, or that fails again and again while their logs are silent."""
        slot = self.ledger.slots[device_id]
        for job in self.running():
            if job.key not in slot.promised or job.ended_for is not None or job.key in self._cases:
                continue
            silent = self.engine.silence(job) >= self._clock() - slot.failing_since
            if lost.certain or (slot.failed_readings >= _FAILED_READINGS and silent):
                self._deadlines.end(job, FailureKind.LOST_DEVICE, grace=5.0)

    def _judge(self, device_id: str, instead: Failure | None = None) -> None:
        """Judges the failures on a card that has answered, or whose answer is overdue."""
        for case in self._cases.answered(self.ledger.slots[device_id], instead):
            if case.others_took_memory:
                self._wait_for_memory(case.job, case.free or 0)
            else:
                self._failed(case.job, case.failure, case.free)
            self.engine.release(case.job)

    def _wait_for_memory(self, job: Job, free: int) -> None:
        """Out of memory is not a failure if other processes use the memory that was promised."""
        attempt = job.attempt
        attempt.outcome = FailureKind.OUT_OF_MEMORY.value
        attempt.detail = f"other processes use its memory: {free / GIB:.1f} GiB are left"
        self.queue.move(job, State.WAITING)
        self._note(f"{job.key}: {attempt.detail}; it waits for {attempt.promised_bytes / GIB:.1f} GiB")

    def _failed(self, job: Job, failure: Failure, free: int | None = None) -> None:
        """Records a failure, and decides whether, when and how the trial is tried again.

        ``free``: bytes of a card that a trial out of memory had for itself, if known.
        """
        attempt, now = job.attempt, self._clock()
        attempt.finished, attempt.outcome, attempt.detail = time.time(), failure.kind.value, failure.detail
        if failure.policy.holds and self._hold.begin(f"{failure.kind.value}: {failure.detail}"):
            self.queue.move(job, State.WAITING)
            return
        job.failures.append(failure)
        self.ledger.avoid(job.key, attempt.devices)
        pause = job.pause_after_failure(self.flags.max_attempts)
        if failure.kind is FailureKind.OUT_OF_MEMORY and pause is not None:
            others = [*self._waiting(), *self.queue.of(State.PAUSED)]
            self.fit.learn_the_limit(job, len(attempt.devices), free, others)
            pause = pause if job.cut_further() else None
        job.not_before = now + (pause or 0.0)
        self._blame_cards(job, failure)
        self._trials.note_failures(job)
        self.queue.move(job, State.FAILED if pause is None else State.WAITING)
        self.logs.forget(job)
        self._ended(job)

    def _blame_cards(self, job: Job, failure: Failure) -> None:
        """Sets aside the cards that are probably the reason of a failure; after crashes a worker may leave."""
        devices, bad = job.attempt.devices, dict[str, str]()
        if failure.kind is FailureKind.LOST_DEVICE:
            bad = dict.fromkeys(devices, failure.detail)
        elif failure.kind in MAYBE_THE_CARD:
            bad = self.ledger.suspect(devices, job.began, self._clock())
        for device_id, reason in bad.items():
            self.health.set_aside(device_id, reason)
        if failure.kind in MAYBE_THE_CARD and self.flags.worker:
            # Another machine may try the trial first, as this one may be broken.
            self._crashed.add(job.key)
            job.not_before += _ELSEWHERE_PAUSE
            if len(self._crashed) >= SUSPICIOUS and self.interrupted is None:
                self.broken = f"the last {len(self._crashed)} trials on this machine crashed ({failure.detail})"
                self._interrupt(Interrupted(self.broken))

    def _give_up(self, job: Job, failure: Failure) -> None:
        job.failures.append(failure)
        self.queue.move(job, State.FAILED)
        self._ended(job)

    # Ending what runs -------------------------------------------------------------------------------------------------

    def _interrupt(self, event: Interrupted) -> None:
        second = self.interrupted is not None
        if second and event.name != "SIGINT":  # a batch system may signal this process twice, directly and by its shell
            return
        self.interrupted = event.name
        self._give_up_at = self._clock() + (0.0 if second else GRACE) + 10.0
        for job in self.running():
            if second:
                self.engine.stop(job.key, now=True)
            elif job.key not in self._cases:
                self._deadlines.end(job, FailureKind.INTERRUPTED)
        if not second:
            count = len(self.running())
            self._note(
                f"{event.name}: ending {count} running trials; they go on from their checkpoints at the next start"
            )

    def _give_up_undying(self, job: Job) -> None:
        """Gives up a process that the kernel can't end, as its driver is in trouble, and its cards until it is gone."""
        self._stuck.add(job.key)
        self._deadlines.forget(job)
        attempt, labels = job.attempt, ", ".join(job.attempt.labels)
        failure = Failure(FailureKind.UNKILLABLE, f"process {attempt.pid} on {labels} does not die of SIGKILL")
        for device_id in filter(self.health.is_accounted, attempt.devices):
            self.ledger.slots[device_id].set_aside_until = float("inf")
        self._note(f"{job.key}: {failure.detail}; {labels} is not used, and the trial not tried again, until it does")
        attempt.outcome, attempt.detail = failure.kind.value, failure.detail
        self._give_up(job, failure)

    def _died_late(self, job: Job) -> None:
        """A process that was given up has ended after all: its cards are used, and its trial tried, again."""
        self._stuck.remove(job.key)
        for device_id in job.attempt.devices:
            self.ledger.slots[device_id].set_aside_until = 0.0
        self._note(f"{job.key}: process {job.attempt.pid} has ended after all")
        job.ended_for = FailureKind.INTERRUPTED
