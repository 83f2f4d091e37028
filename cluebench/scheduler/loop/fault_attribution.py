"""Failures that may be no trial's fault: a card is asked before one is judged, and a full disk holds all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluebench.scheduler.allocation.ledger import Slot
from cluebench.scheduler.plan.failures import Failure, FailureKind
from cluebench.scheduler.plan.jobs import Job
from cluebench.scheduler.processes.trial_process import Holding

#: Seconds between looks at whether a full disk or a missing network has passed.
_HOLD_RECHECK = 30.0
#: Failures that a card may have caused without anyone having said so.
MAYBE_THE_CARD = (FailureKind.CRASHED, FailureKind.KILLED, FailureKind.NO_RESULT)
#: Failures that are not judged before the cards have been asked.
ASK_THE_CARD = (*MAYBE_THE_CARD, FailureKind.OUT_OF_MEMORY)


@dataclass
class Case:
    """A failure that is still to be judged."""

    job: Job
    failure: Failure
    held: Holding
    ask: set[str]  # ids of devices that have not answered
    free: int | None = None  # bytes on the fullest of those that have

    @property
    def others_took_memory(self) -> bool:
        """Whether it ran out of memory because others have taken what it was promised."""
        is_memory = self.failure.kind is FailureKind.OUT_OF_MEMORY
        return is_memory and self.free is not None and self.free < self.held.promised_bytes


class OpenCases(dict[str, Case]):
    """By trial key. A trial counts as running, though its processes are gone, until its cards have answered."""

    def heard(self, slot: Slot, instead: Failure | None = None) -> Iterator[Case]:
        """A card has answered, or will not: gives the cases that can be judged now.

        ``instead``: what failed there a moment ago is put down to this.
        """
        for case in [case for case in self.values() if slot.device.id in case.ask]:
            case.ask.remove(slot.device.id)
            case.failure = instead or case.failure
            if slot.fresh:
                free = slot.free_bytes() or 0
                case.free = free if case.free is None else min(case.free, free)
            if not case.ask:
                del self[case.job.key]
                yield case


class Hold:
    """While there is a ``cause`` nothing is started. ``unwritable`` says what keeps every trial from writing, if so."""

    def __init__(self, unwritable: Callable[[], str | None], note: Callable[[str], None], clock: Callable[[], float]):
        self._unwritable, self._note, self._clock = unwritable, note, clock
        self.cause: str | None = None
        self.recheck = float("inf")  # clock time

    def begin(self, said: str) -> bool:
        """For what a trial has ``said``; True when it is known that none could run: none is to blame then."""
        cause = self._unwritable()
        if self.cause is None:
            self.cause, self.recheck = cause or said, self._clock() + _HOLD_RECHECK
            self._note(f"nothing is started for now: {self.cause}; looked at again every {_HOLD_RECHECK:.0f} s")
        return cause is not None

    def doubt(self) -> None:
        """A trial was done: what one can do, others may be able to."""
        self.recheck = self._clock() if self.cause is not None else self.recheck

    def look_again(self) -> None:
        """Ends the hold, if it is time to and trials can write."""
        if self.cause is None or self.recheck > self._clock():
            return
        cause = self._unwritable()
        if cause is None:
            self._note(f"going on: {self.cause} may have passed")
        self.cause, self.recheck = cause, float("inf") if cause is None else self._clock() + _HOLD_RECHECK
