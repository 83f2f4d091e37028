"""What the end of an attempt means: done, paused, interrupted or failed, and whose fault a failure is."""

import time
from functools import partial

from cluebench.machine.nvidia import DeviceLost, Reading
from cluebench.records.result import PAUSED, Result
from cluebench.scheduler.allocation.ledger import SUSPICIOUS
from cluebench.scheduler.loop.grid_state import Case, GridState
from cluebench.scheduler.plan.estimates import GIB
from cluebench.scheduler.plan.failures import Failure, FailureKind, classify
from cluebench.scheduler.plan.jobs import Job, State
from cluebench.scheduler.processes.engine import GRACE, Exited, Interrupted, Measured

#: Failures that a card may have caused without a message, and failures that are judged after the cards have answered.
_MAYBE_THE_CARD = (FailureKind.CRASHED, FailureKind.KILLED, FailureKind.NO_RESULT)
_ASK_THE_CARD = (*_MAYBE_THE_CARD, FailureKind.OUT_OF_MEMORY)
#: Seconds between checks of a full disk or a missing network.
_HOLD_RECHECK = 30.0
#: Seconds that a process may need to die of SIGKILL, before the scheduler gives it up with its card.
_DEATH_DUE = 60.0
#: Seconds between questions to the driver about each card, and that it has to answer.
_HEALTH_CHECK, _ANSWER_DUE = 30.0, 15.0
#: Seconds until a card that failed is tried again: at first, and at most. Each further failure doubles them.
_FIRST_SET_ASIDE, _LONGEST_SET_ASIDE = 30.0, 600.0
#: Failed readings of a card in a row that end its silent trials.
_FAILED_READINGS = 3
#: Seconds after a crash in which another machine may try a worker's trial first.
_ELSEWHERE_PAUSE = 10.0


# Watching what runs ---------------------------------------------------------------------------------------------------


def end_if_silent(grid: GridState, job: Job) -> None:
    """Ends a trial without progress. Silence while this process was suspended does not count."""
    silence = min(grid.engine.silence(job), grid.clock() - grid.resumed)
    if silence >= grid.flags.trial_timeout:
        end(grid, job, FailureKind.NO_PROGRESS)
    else:
        due = grid.clock() + grid.flags.trial_timeout - silence
        grid.timers.set(("end", job.key), due, end_if_silent, grid, job)


def end(grid: GridState, job: Job, why: FailureKind, grace: float = GRACE) -> None:
    """Asks a running trial to end; kills it after the grace period. The first reason counts."""
    job.ended_for = job.ended_for or why
    grid.timers.set(("end", job.key), grid.clock() + grace, _kill, grid, job)
    grid.engine.stop(job)


def _kill(grid: GridState, job: Job) -> None:
    grid.timers.set(("end", job.key), grid.clock() + _DEATH_DUE, _give_up_undying, grid, job)
    grid.engine.stop(job, now=True)


def release(grid: GridState, job: Job) -> None:
    """Frees the devices of a job whose attempt has ended."""
    grid.timers.drop(("end", job.key))
    grid.ledger.settle(grid.clock())
    grid.ledger.release(job)
    grid.uncharged[job.key] = job
    if grid.promises is not None:
        grid.promises.drop(job.lock)


# How attempts end -------------------------------------------------------------------------------------------------


def exited(grid: GridState, event: Exited) -> None:
    """The processes of a trial are gone."""
    job = event.job
    if job.key in grid.stuck:
        died_late(grid, job)
    elif job.state is not State.RUNNING or job.key in grid.cases:
        return
    release(grid, job)
    attempt = job.attempt
    for device_id in attempt.devices:
        ask(grid, device_id)
    attempt.finished = time.time()
    result = grid.trials.finished(job)
    if result is None and event.code in (0, None):  # a process that failed may have an earlier one's result
        at_rung = grid.trials.written(job)
        result = at_rung if at_rung and at_rung.status == PAUSED else None
    if result is not None:
        job.charge_seconds(result)
        grid.ledger.succeeded(attempt.devices)
        ended_well(grid, job, result)
    elif job.ended_for is FailureKind.INTERRUPTED:
        grid.queue.move(job, State.WAITING)
        attempt.outcome = "interrupted"
        after_attempt(grid, job)
    else:
        answering = {device_id for device_id in attempt.devices if grid.ledger.slots[device_id].accounted}
        case = Case(job, failure_of(grid, job, event), answering)
        if case.failure.kind in _ASK_THE_CARD and case.ask:
            grid.cases[job.key] = case
            return
        failed(grid, job, case.failure)
    grid.engine.release(job)


def ended_well(grid: GridState, job: Job, result: Result) -> None:
    """A trial is done, here or elsewhere, or it has paused at a rung."""
    grid.logs.forget(job)
    grid.crashed.clear()
    job.attempt.outcome = result.status
    grid.learn(job, result)
    _reconsider_hold(grid)  # other trials may succeed too
    if result.status == PAUSED:
        job.curve = result.curve if job.curve is not None else None
        grid.queue.move(job, State.WAITING if job.curve is None else State.PAUSED)
        grid.note(job.standing(), job)
        after_attempt(grid, job)
    else:
        job.result = result
        grid.queue.move(job, State.DONE)
        ended(grid, job)


def ended(grid: GridState, job: Job) -> None:
    grid.note(job.ending(), job)
    after_attempt(grid, job)


def after_attempt(grid: GridState, job: Job) -> None:
    """Applies what the end of an attempt decides about other trials of its task, and adds further trials."""
    grid.apply(grid.halving.verdicts(job) if grid.halving else [])
    for added in grid.trials.more():
        grid.jobs.append(added)
        grid.queue.move(added, added.state)
        grid.note("is planned: its setting is among the best of its task", added)


# Failures ---------------------------------------------------------------------------------------------------------


def failure_of(grid: GridState, job: Job, event: Exited) -> Failure:
    result = grid.trials.written(job)
    return classify(
        event.code,
        grid.logs.facts(job).last_lines,
        result.error if result and result.status == "failed" else None,
        no_progress_seconds=grid.flags.trial_timeout if job.ended_for is FailureKind.NO_PROGRESS else None,
        device_lost=job.ended_for is FailureKind.LOST_DEVICE,
    )


def failed(grid: GridState, job: Job, failure: Failure, free: int | None = None) -> None:
    """Records a failure, and decides whether, when and how the trial is tried again.

    ``free``: bytes of a card that a trial out of memory had for itself, if known.
    """
    attempt, now = job.attempt, grid.clock()
    attempt.finished, attempt.outcome, attempt.detail = time.time(), failure.kind.value, failure.detail
    if failure.policy.holds and _hold(grid, failure):
        grid.queue.move(job, State.WAITING)
        return
    job.failures.append(failure)
    job.avoid = frozenset(filter(grid.ledger.is_card, attempt.devices))
    pause = job.pause_after_failure(grid.flags.max_attempts)
    if failure.kind is FailureKind.OUT_OF_MEMORY and pause is not None:
        others = [*grid.waiting(), *grid.queue.of(State.PAUSED)]
        grid.ledger.learn_the_limit(job, len(attempt.devices), free, others)
        pause = pause if job.cut_further() else None
    job.not_before = now + (pause or 0.0)
    blame_cards(grid, job, failure)
    grid.trials.note_failures(job)
    grid.queue.move(job, State.FAILED if pause is None else State.WAITING)
    grid.logs.forget(job)
    ended(grid, job)


def blame_cards(grid: GridState, job: Job, failure: Failure) -> None:
    """Sets aside the cards that are probably the reason of a failure; after crashes a worker may leave."""
    devices, bad = job.attempt.devices, dict[str, str]()
    if failure.kind is FailureKind.LOST_DEVICE:
        bad = dict.fromkeys(devices, failure.detail)
    elif failure.kind in _MAYBE_THE_CARD:
        bad = grid.ledger.suspect(devices, job.began, grid.clock())
    for device_id, reason in bad.items():
        set_aside(grid, device_id, reason)
    if failure.kind in _MAYBE_THE_CARD and grid.flags.worker:
        # Another machine may try the trial first, as this one may be broken.
        grid.crashed.add(job.key)
        job.not_before += _ELSEWHERE_PAUSE
        if len(grid.crashed) >= SUSPICIOUS and grid.interrupted is None:
            grid.broken = f"the last {len(grid.crashed)} trials on this machine crashed ({failure.detail})"
            grid.events.put(Interrupted(grid.broken))


def give_up(grid: GridState, job: Job, failure: Failure) -> None:
    """A trial fails for good."""
    job.failures.append(failure)
    grid.queue.move(job, State.FAILED)
    ended(grid, job)


def _give_up_undying(grid: GridState, job: Job) -> None:
    """Gives up a process that the kernel can't end, as its driver is in trouble, and its cards until it is gone."""
    grid.stuck.add(job.key)
    attempt, labels = job.attempt, ", ".join(job.attempt.labels)
    failure = Failure(FailureKind.UNKILLABLE, f"process {attempt.pid} on {labels} does not die of SIGKILL")
    for device_id in attempt.devices:
        grid.ledger.slots[device_id].set_aside_until = float("inf")
    grid.note(f"{job.key}: {failure.detail}; {labels} is not used, and the trial not tried again, until it does")
    attempt.outcome, attempt.detail = failure.kind.value, failure.detail
    give_up(grid, job, failure)


def died_late(grid: GridState, job: Job) -> None:
    """A process that was given up has ended after all: its cards are used, and its trial tried, again."""
    grid.stuck.remove(job.key)
    for device_id in job.attempt.devices:
        grid.ledger.slots[device_id].set_aside_until = 0.0
    grid.note(f"{job.key}: process {job.attempt.pid} has ended after all")
    job.ended_for = FailureKind.INTERRUPTED


def _hold(grid: GridState, failure: Failure) -> bool:
    """Nothing starts for a while after a failure; True if no trial could have run, so that this one is not to blame."""
    cause = grid.trials.unwritable()
    if grid.hold is None:
        grid.hold = cause or f"{failure.kind.value}: {failure.detail}"
        grid.note(f"nothing is started for now: {grid.hold}; checked again every {_HOLD_RECHECK:.0f} s")
        grid.timers.set(("end", "hold"), grid.clock() + _HOLD_RECHECK, _reconsider_hold, grid)
    return cause is not None


def _reconsider_hold(grid: GridState) -> None:
    """Ends a hold if trials can write."""
    if (reason := grid.hold) is None:
        return
    grid.hold = grid.trials.unwritable()
    if grid.hold is None:
        grid.note(f"going on: {reason} may have passed")
    else:
        grid.timers.set(("end", "hold"), grid.clock() + _HOLD_RECHECK, _reconsider_hold, grid)


# What the driver reports about cards ----------------------------------------------------------------------------------


def ask(grid: GridState, device_id: str) -> None:
    """Asks the driver. If a question is open, its answer will be outdated, and the question is repeated then."""
    slot = grid.ledger.slots[device_id]
    if not slot.accounted:
        return
    grid.timers.drop(("ask", device_id))
    slot.outdated = slot.asked
    if not slot.asked:
        slot.asked = True
        grid.timers.set(("answer", device_id), grid.clock() + _ANSWER_DUE, _is_late, grid, device_id)
        grid.engine.measure(device_id)


def _is_late(grid: GridState, device_id: str) -> None:
    """The driver's answer is overdue. It may still come."""
    slot = grid.ledger.slots[device_id]
    slot.late, slot.fresh = True, False
    grid.note(f"{slot.device.label}: the driver does not answer; nothing is started there until it does")
    judge(grid, device_id)


def measured(grid: GridState, event: Measured) -> None:
    """The driver has answered about a card."""
    device_id, answer, now = event.device_id, event.answer, grid.clock()
    slot = grid.ledger.slots[device_id]
    outdated, slot.asked, slot.late, slot.outdated = slot.outdated, False, False, False
    grid.timers.drop(("answer", device_id))
    if isinstance(answer, DeviceLost):
        slot.failed_readings += 1
        if slot.failed_readings == 1:
            slot.failing_since = now
        set_aside(grid, device_id, str(answer))
        end_trials_on(grid, device_id, answer)
        judge(grid, device_id, Failure(FailureKind.LOST_DEVICE, str(answer)))
    elif outdated:
        ask(grid, device_id)
    else:
        if slot.failed_readings and slot.set_aside_until <= now:
            grid.note(f"{slot.device.label} answers again")
        grid.ledger.read(device_id, answer, partial(allocated, grid, answer))
        due = max(now + _HEALTH_CHECK, slot.set_aside_until)
        grid.timers.set(("ask", device_id), due, ask, grid, device_id)
        judge(grid, device_id)


def set_aside(grid: GridState, device_id: str, reason: str) -> None:
    """Does not use a failed card until the driver has been asked again. A core can't fail."""
    now, slot = grid.clock(), grid.ledger.slots[device_id]
    if not grid.ledger.is_card(device_id):
        return
    slot.fresh = not slot.accounted
    if slot.set_aside_until <= now:  # else it is the same failure
        seconds = min(_LONGEST_SET_ASIDE, _FIRST_SET_ASIDE * 2**slot.failures)
        slot.failures, slot.set_aside_until = slot.failures + 1, now + seconds
        grid.note(f"{slot.device.label} is set aside for {seconds:.0f} s: {reason}")
    grid.timers.set(("ask", device_id), slot.set_aside_until, ask, grid, device_id)


def allocated(grid: GridState, reading: Reading, job: Job) -> int:
    """Bytes of a trial on a card: what the driver reports for its processes; once it logs steps, its promise."""
    reported = grid.engine.allocated(job, reading)
    if grid.logs.facts(job).step is None:
        return reported
    if grid.promises is not None:
        grid.promises.settle(job.lock)
    return reported or job.attempt.promised_bytes


def end_trials_on(grid: GridState, device_id: str, lost: DeviceLost) -> None:
    """Ends the trials on a card that is gone, or that fails again and again while their logs are silent."""
    slot = grid.ledger.slots[device_id]
    for job in slot.jobs.values():
        if job.ended_for is not None:
            continue
        silent = grid.engine.silence(job) >= grid.clock() - slot.failing_since
        if lost.certain or (slot.failed_readings >= _FAILED_READINGS and silent):
            end(grid, job, FailureKind.LOST_DEVICE, grace=5.0)


def judge(grid: GridState, device_id: str, instead: Failure | None = None) -> None:
    """Judges the failures whose last card has answered, or whose answer is overdue.

    ``instead``: the reason of what failed there a moment ago.
    """
    slot = grid.ledger.slots[device_id]
    for case in [case for case in grid.cases.values() if device_id in case.ask]:
        case.ask.remove(device_id)
        case.failure = instead or case.failure
        if slot.fresh:
            free = slot.free_bytes() or 0
            case.free = free if case.free is None else min(case.free, free)
        if case.ask:
            continue
        job, free_bytes, promised = case.job, case.free, case.job.attempt.promised_bytes
        del grid.cases[job.key]
        is_memory = case.failure.kind is FailureKind.OUT_OF_MEMORY
        if is_memory and free_bytes is not None and free_bytes < promised:  # no failure: others use what was promised
            job.attempt.outcome = FailureKind.OUT_OF_MEMORY.value
            job.attempt.detail = f"other processes use its memory: {free_bytes / GIB:.1f} GiB are left"
            grid.queue.move(job, State.WAITING)
            grid.note(f"{job.key}: {job.attempt.detail}; it waits for {promised / GIB:.1f} GiB")
        else:
            failed(grid, job, case.failure, free_bytes)
        grid.engine.release(job)
