"""The loop: waits for an event, records it, starts what can start.

Nothing here sleeps or polls. Ended processes, the driver's answers and signals arrive as events from other threads. The
time of the next retry or check is the timeout of the wait. Processes, devices and the clock are arguments, so tests and
the benchmark run this very loop on simulated time.
"""

import os
from contextlib import nullcontext
from dataclasses import replace

from cluebench.scheduler.loop import attempt_ends
from cluebench.scheduler.loop.grid_state import GridState
from cluebench.scheduler.plan.failures import Failure, FailureKind
from cluebench.scheduler.plan.jobs import Attempt, Job, State
from cluebench.scheduler.processes.engine import GRACE, Event, Exited, Interrupted, Measured
from cluebench.scheduler.processes.trial_process import is_ours

#: Seconds between checks of trials that another process runs, and before a check of a lock that changes its owner.
_ELSEWHERE_PAUSE, _LOCK_PAUSE = 10.0, 0.3
#: If a wait takes so many seconds too long, this process was suspended.
_SUSPENDED = 10.0


class Scheduler:
    """Runs a grid's jobs until all are done or failed, or it is interrupted."""

    def __init__(self, grid: GridState):
        self._grid = grid
        self._give_up_at, self._look_due = float("inf"), float("-inf")

    # Life -------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Returns when every job is done, stopped or failed, or after an interruption when their processes are gone.

        Raises UsageError if no trial fits any card.
        """
        grid = self._grid
        for job in [*grid.waiting(), *grid.queue.of(State.PAUSED), *grid.queue.of(State.STOPPED)]:
            self._look_at_orphan(job)
        self._refuse_what_never_fits()
        for device_id in grid.ledger.slots:
            grid.health.ask(device_id)
        while self._unfinished():
            self._dispatch()
            grid.tell()
            if not self._unfinished():  # another process has done the last one
                break
            grid.ledger.settle(grid.clock())
            due = min(grid.tick(), self._next_due())
            event = grid.events.get(due - grid.clock())
            if grid.clock() - due > _SUSPENDED:
                grid.deadlines.suspended()
            while event is not None:
                self._handle(event)
                event = grid.events.get(0.0)
            self._do_what_is_due()
        grid.tell()

    def _unfinished(self) -> bool:
        grid = self._grid
        running, waiting = grid.queue.count(State.RUNNING), grid.queue.count(State.WAITING)
        if grid.interrupted is not None:
            return running > 0 and grid.clock() < self._give_up_at
        if grid.flags.worker and not running and all(map(self._is_others, grid.waiting())):
            return False
        stuck = all(slot.promised.keys() & grid.stuck for slot in grid.ledger.slots.values())
        return running > 0 or (waiting > 0 and not stuck)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Exited):
            attempt_ends.exited(self._grid, event)
        elif isinstance(event, Measured):
            attempt_ends.measured(self._grid, event)
        else:
            self._interrupt(event)

    def _next_due(self) -> float:
        grid = self._grid
        due = [grid.hold.recheck, grid.health.next_due(), grid.queue.next_turn(grid.clock()), self._give_up_at]
        due += [min(job.progress_due, job.kill_due) for job in grid.running()]
        return min(due + [self._look_due] if grid.flags.worker else due)

    def _do_what_is_due(self) -> None:
        grid, now = self._grid, self._grid.clock()
        grid.hold.look_again()
        if grid.flags.worker and self._look_due <= now:
            self._look_elsewhere(now)
        for device_id in grid.health.ask_what_is_due():
            attempt_ends.judge(grid, device_id)
        for job in grid.deadlines.act(grid.running()):
            attempt_ends.give_up_undying(grid, job)

    # Starting ---------------------------------------------------------------------------------------------------------

    def _refuse_what_never_fits(self) -> None:
        """Cards too small for any trial are left out; trials too large for every card get smaller micro-batches."""
        for message in self._grid.fit.leave_out_too_small(self._grid.waiting()):
            self._grid.note(message)
        for job in self._grid.waiting():
            if (failure := self._grid.fit.cut_to_fit(job)) is not None:
                attempt_ends.give_up(self._grid, job, failure)

    def _dispatch(self) -> None:
        grid, now = self._grid, self._grid.clock()
        if grid.is_on_hold or not grid.ledger.has_room(now):
            return
        try:
            with grid.promises.locked() if grid.promises else nullcontext(()) as others:
                grid.ledger.see(others)
                for job, device_ids, promised_bytes in grid.fit.placements(grid.queue, now):
                    self._start(job, device_ids, promised_bytes)
        except BlockingIOError:
            grid.note("another scheduler on these cards doesn't answer; tried again")
        if grid.queue.count(State.WAITING):
            grid.health.ask_soon(slot for slot in grid.ledger.open(now) if slot.accounted)

    def _start(self, job: Job, device_ids: list[str], promised_bytes: int) -> None:
        """Starts a trial, unless another process runs it or has ended it meanwhile."""
        grid = self._grid
        cards = len(device_ids)
        attempt = Attempt(
            devices=device_ids,
            labels=[grid.ledger.slots[device_id].device.label for device_id in device_ids],
            cards=cards,
            accumulation=job.accumulation(cards) or 1,
            promised_bytes=promised_bytes,
            number=len(job.attempts) + 1,
        )
        try:
            if not grid.engine.take(job):
                self._look_at_orphan(job)
                job.not_before = max(job.not_before, grid.clock() + _LOCK_PAUSE)
                return
            if self._has_ended_elsewhere(job):
                grid.engine.release(job)
                return
            self._begin(job, attempt, os.getpid())
            job.spent.attempts += 1
            grid.engine.start(job, grid.trials.order(job))
            self._promise(job, attempt.pid)
        except OSError as error:
            if job.state is State.RUNNING:
                attempt_ends.release(grid, job)
            else:
                job.attempts.append(attempt)
            attempt_ends.failed(
                grid, job, Failure(FailureKind.DISK_FULL, f"can't be started: {error.strerror or error}")
            )
            grid.engine.release(job)
            return
        job.elsewhere = None
        grid.will_tell("started", job)

    def _begin(self, job: Job, attempt: Attempt, pid: int) -> None:
        """From now on the attempt has its devices, whose memory is promised to the process ``pid``."""
        grid = self._grid
        job.began = grid.clock()
        job.attempts.append(attempt)
        grid.deadlines.begin(job)
        grid.queue.move(job, State.RUNNING)
        grid.ledger.settle(grid.clock())
        grid.ledger.spent[job.key] = job.spent
        grid.ledger.reserve(job.key, attempt.devices, attempt.promised_bytes)
        self._promise(job, pid)

    def _promise(self, job: Job, pid: int) -> None:
        grid = self._grid
        if grid.promises is not None and any(map(grid.ledger.is_card, job.attempt.devices)):
            grid.promises.make(job.lock, pid, job.attempt.devices, job.attempt.promised_bytes)

    # Other processes --------------------------------------------------------------------------------------------------

    def _look_at_orphan(self, job: Job) -> None:
        """If an earlier scheduler's process runs this trial, watches it, or ends it if it has other settings."""
        grid = self._grid
        orphan = grid.engine.orphan(job)
        if orphan is None:
            return
        if orphan.pid == 0 or not is_ours(orphan) or grid.flags.worker:  # a worker's trials end with it
            if orphan.pid and not (job.elsewhere and job.elsewhere.who):
                grid.note(f"{job.key}: {orphan.who} runs it: left to it")
            job.elsewhere = orphan
            job.not_before = grid.clock() + (_ELSEWHERE_PAUSE if orphan.pid else _LOCK_PAUSE)
            return
        devices = [device for device in orphan.devices if device in grid.ledger.slots]
        self._begin(job, replace(orphan, devices=devices, number=len(job.attempts) + 1), orphan.pid)
        grid.engine.adopt(job)
        if orphan.configuration_hash != job.configuration_hash:
            grid.note(f"{job.key}: process {orphan.pid} of an earlier grid runs it with other settings: ended")
            grid.deadlines.end(job, FailureKind.INTERRUPTED)
        else:
            grid.note(f"{job.key}: process {orphan.pid} of an earlier grid still runs it: adopted")
            grid.will_tell("started", job)

    def _is_others(self, job: Job) -> bool:
        """Whether a living scheduler runs this trial."""
        orphan = self._grid.engine.orphan(job) if job.elsewhere else None
        return orphan is not None and orphan.pid != 0 and not is_ours(orphan)

    def _look_elsewhere(self, now: float) -> None:
        """Learns what other processes have done with the waiting trials."""
        self._look_due = now + _ELSEWHERE_PAUSE
        self._grid.apply(self._grid.halving.look_again() if self._grid.halving else [])
        for job in self._grid.waiting():
            if not self._has_ended_elsewhere(job):
                job.elsewhere = self._grid.engine.orphan(job)

    def _has_ended_elsewhere(self, job: Job) -> bool:
        """Whether another process has finished a trial, paused it at a rung, or given it up: then it counts as ours."""
        grid = self._grid
        if (result := grid.trials.finished(job)) is not None:
            number, cards = len(job.attempts) + 1, result.cards
            attempt = Attempt(labels=["elsewhere"], cards=cards, accumulation=result.accumulation_steps, number=number)
            job.attempts.append(attempt)
            attempt_ends.done(grid, job, result)
            return True
        if grid.halving and grid.flags.worker:
            grid.apply(grid.halving.verdicts(job))
            if job.state is not State.WAITING:
                return True
        before = len(job.failures)
        grid.trials.recall(job)
        if len(job.failures) == before or not job.is_given_up(grid.flags.max_attempts):
            return False
        grid.queue.move(job, State.FAILED)
        attempt_ends.ended(grid, job)
        return True

    # Ending what runs -------------------------------------------------------------------------------------------------

    def _interrupt(self, event: Interrupted) -> None:
        grid = self._grid
        second = grid.interrupted is not None
        if second and event.name != "SIGINT":  # a batch system may signal this process twice, directly and by its shell
            return
        grid.interrupted = event.name
        self._give_up_at = grid.clock() + (0.0 if second else GRACE) + 10.0
        for job in grid.running():
            if second:
                grid.engine.stop(job.key, now=True)
            elif job.key not in grid.cases:
                grid.deadlines.end(job, FailureKind.INTERRUPTED)
        if not second:
            count = len(grid.running())
            grid.note(
                f"{event.name}: ending {count} running trials; they go on from their checkpoints at the next start"
            )
