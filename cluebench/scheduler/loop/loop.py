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
from cluebench.scheduler.processes.engine import GRACE, Exited, Interrupted, Measured, is_ours

#: Seconds between checks of trials that another process runs, and before a check of a lock that changes its owner.
_ELSEWHERE_PAUSE, _LOCK_PAUSE = 10.0, 0.3
#: Seconds between questions to the driver about a card that trials wait for.
_MEMORY_RECHECK = 2.0
#: If a wait ends this many seconds late, this process was suspended.
_SUSPENDED = 10.0


def run(grid: GridState) -> None:
    """Runs a grid's jobs until all are done, stopped or failed, or it is interrupted and their processes are gone.

    Raises UsageError if no trial fits any card.
    """
    for job in [*grid.waiting(), *grid.queue.of(State.PAUSED), *grid.queue.of(State.STOPPED)]:
        _look_at_orphan(grid, job)
    for message in grid.ledger.leave_out_too_small(grid.waiting()):
        grid.note(message)
    for job in grid.waiting():
        if (failure := grid.ledger.cut_to_fit(job)) is not None:
            attempt_ends.give_up(grid, job, failure)
    for device_id in grid.ledger.slots:
        attempt_ends.ask(grid, device_id)
    if grid.flags.worker:
        grid.timers.set(("look", "elsewhere"), grid.clock(), _look_elsewhere, grid)
    while _unfinished(grid):
        _dispatch(grid)
        grid.tell()
        if not _unfinished(grid):  # another process has done the last one
            break
        grid.ledger.settle(grid.clock())
        due = min(grid.tick(), grid.timers.next(), grid.queue.next_turn(grid.clock()), grid.give_up_at)
        event = grid.events.get(due - grid.clock())
        if grid.clock() - due > _SUSPENDED:
            grid.resumed = grid.clock()
        while event is not None:
            if isinstance(event, Exited):
                attempt_ends.exited(grid, event)
            elif isinstance(event, Measured):
                attempt_ends.measured(grid, event)
            else:
                _interrupt(grid, event)
            event = grid.events.get(0.0)
        grid.timers.act()
    grid.tell()


def _unfinished(grid: GridState) -> bool:
    running, waiting = grid.queue.count(State.RUNNING), grid.queue.count(State.WAITING)
    if grid.interrupted is not None:
        return running > 0 and grid.clock() < grid.give_up_at
    if grid.flags.worker and not running and all(_is_others(grid, job) for job in grid.waiting()):
        return False
    stuck = all(slot.jobs.keys() & grid.stuck for slot in grid.ledger.slots.values())
    return running > 0 or (waiting > 0 and not stuck)


# Starting -------------------------------------------------------------------------------------------------------------


def _dispatch(grid: GridState) -> None:
    now = grid.clock()
    if grid.interrupted or grid.broken or grid.hold or not grid.ledger.open(now):
        return
    try:
        with grid.promises.locked() if grid.promises else nullcontext(()) as others:
            grid.ledger.see(others)
            for job, device_ids, promised_bytes in grid.ledger.placements(grid.queue, now):
                _start(grid, job, device_ids, promised_bytes)
    except BlockingIOError:
        grid.note("another scheduler on these cards doesn't answer; tried again")
    if grid.queue.count(State.WAITING):
        for slot in grid.ledger.open(now):
            grid.timers.hasten(("ask", slot.device.id), now + _MEMORY_RECHECK)


def _start(grid: GridState, job: Job, device_ids: list[str], promised_bytes: int) -> None:
    """Starts a trial, unless another process runs it or has ended it meanwhile."""
    cards = len(device_ids)
    attempt = Attempt(
        pid=os.getpid(),  # until the trial has a process
        devices=device_ids,
        labels=[grid.ledger.slots[device_id].device.label for device_id in device_ids],
        cards=cards,
        accumulation=job.accumulation(cards) or 1,
        promised_bytes=promised_bytes,
        number=len(job.attempts) + 1,
    )
    try:
        if not grid.engine.take(job):
            _look_at_orphan(grid, job)
            job.not_before = max(job.not_before, grid.clock() + _LOCK_PAUSE)
            return
        if _has_ended_elsewhere(grid, job):
            grid.engine.release(job)
            return
        _begin(grid, job, attempt)
        job.spent.attempts += 1
        grid.engine.start(job, grid.trials.order(job))
        _promise(grid, job)
    except OSError as error:
        if job.state is State.RUNNING:
            attempt_ends.release(grid, job)
        else:
            job.attempts.append(attempt)
        attempt_ends.failed(grid, job, Failure(FailureKind.DISK_FULL, f"can't be started: {error.strerror or error}"))
        grid.engine.release(job)
        return
    job.elsewhere = None
    grid.note(job.beginning(), job)


def _begin(grid: GridState, job: Job, attempt: Attempt) -> None:
    """From now on the attempt has its devices, whose memory is promised to its process."""
    job.began = grid.clock()
    job.attempts.append(attempt)
    job.ended_for = None
    due = job.began + (grid.flags.trial_timeout or float("inf"))
    grid.timers.set(("end", job.key), due, attempt_ends.end_if_silent, grid, job)
    grid.queue.move(job, State.RUNNING)
    grid.ledger.settle(grid.clock())
    grid.ledger.reserve(job)
    _promise(grid, job)


def _promise(grid: GridState, job: Job) -> None:
    attempt = job.attempt
    if grid.promises is not None and any(map(grid.ledger.is_card, attempt.devices)):
        grid.promises.make(job.lock, attempt.pid, attempt.devices, attempt.promised_bytes)


# Other processes ------------------------------------------------------------------------------------------------------


def _look_at_orphan(grid: GridState, job: Job) -> None:
    """If an earlier scheduler's process runs this trial, watches it, or ends it if it has other settings."""
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
    _begin(grid, job, replace(orphan, devices=devices, number=len(job.attempts) + 1))
    grid.engine.adopt(job)
    if orphan.configuration_hash != job.configuration_hash:
        grid.note(f"{job.key}: process {orphan.pid} of an earlier grid runs it with other settings: ended")
        attempt_ends.end(grid, job, FailureKind.INTERRUPTED)
    else:
        grid.note(f"{job.key}: process {orphan.pid} of an earlier grid still runs it: adopted")
        grid.note(job.beginning(), job)


def _is_others(grid: GridState, job: Job) -> bool:
    """Whether a living scheduler runs this trial."""
    orphan = grid.engine.orphan(job) if job.elsewhere else None
    return orphan is not None and orphan.pid != 0 and not is_ours(orphan)


def _look_elsewhere(grid: GridState) -> None:
    """Learns what other processes have done with the waiting trials, again and again."""
    grid.timers.set(("look", "elsewhere"), grid.clock() + _ELSEWHERE_PAUSE, _look_elsewhere, grid)
    grid.apply(grid.halving.all_verdicts() if grid.halving else [])
    for job in grid.waiting():
        if not _has_ended_elsewhere(grid, job):
            job.elsewhere = grid.engine.orphan(job)


def _has_ended_elsewhere(grid: GridState, job: Job) -> bool:
    """Whether another process has finished a trial, paused it at a rung, or given it up: then it counts as ours."""
    if (result := grid.trials.finished(job)) is not None:
        number, cards = len(job.attempts) + 1, result.cards
        attempt = Attempt(labels=["elsewhere"], cards=cards, accumulation=result.accumulation_steps, number=number)
        job.attempts.append(attempt)
        attempt_ends.ended_well(grid, job, result)
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


# Ending what runs -----------------------------------------------------------------------------------------------------


def _interrupt(grid: GridState, event: Interrupted) -> None:
    second = grid.interrupted is not None
    if second and event.name != "SIGINT":  # a batch system may signal this process twice, directly and by its shell
        return
    grid.interrupted = event.name
    grid.give_up_at = grid.clock() + (0.0 if second else GRACE) + 10.0
    for job in grid.running():
        if second:
            grid.engine.stop(job, now=True)
        elif job.key not in grid.cases:
            attempt_ends.end(grid, job, FailureKind.INTERRUPTED)
    if not second:
        count = len(grid.running())
        grid.note(f"{event.name}: ending {count} running trials; they go on from their checkpoints at the next start")
