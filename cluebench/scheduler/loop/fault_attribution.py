"""Failures that may not be the trial's fault: the cards are asked first, and a full disk stops all starts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluebench.scheduler.allocation.ledger import Slot
from cluebench.scheduler.plan.failures import Failure, FailureKind
from cluebench.scheduler.plan.jobs import Job

#: Seconds between checks of a full disk or a missing network.
_HOLD_RECHECK = 30.0
#: Failures that a card may have caused without a message.
MAYBE_THE_CARD = (FailureKind.CRASHED, FailureKind.KILLED, FailureKind.NO_RESULT)
#: Failures that are judged after the cards have answered.
ASK_THE_CARD = (*MAYBE_THE_CARD, FailureKind.OUT_OF_MEMORY)


@dataclass
class Case:
    """A failure that waits for its cards' answers."""

    job: Job
    failure: Failure
    ask: set[str]  # ids of devices that have not answered
    free: int | None = None  # bytes on the fullest of those that have

    @property
    def others_took_memory(self) -> bool:
        """Whether it ran out of memory because other processes use what it was promised."""
        is_memory = self.failure.kind is FailureKind.OUT_OF_MEMORY
        return is_memory and self.free is not None and self.free < self.job.attempt.promised_bytes


class OpenCases(dict[str, Case]):
    """By trial key. A trial counts as running until its cards have answered, though its processes are gone."""

    def answered(self, slot: Slot, instead: Failure | None = None) -> Iterator[Case]:
        """A card has answered, or its answer is overdue: the cases that can be judged now.

        ``instead``: the reason of what failed there a moment ago.
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
    """While there is a ``cause``, nothing starts. ``unwritable`` returns why no trial can write, if that is so."""

    def __init__(self, unwritable: Callable[[], str | None], note: Callable[[str], None], clock: Callable[[], float]):
        self._unwritable, self._note, self._clock = unwritable, note, clock
        self.cause: str | None = None
        self.recheck = float("inf")  # clock time

    def begin(self, failure: str) -> bool:
        """After a trial's ``failure``; True if no trial could have run, so that this one is not to blame."""
        cause = self._unwritable()
        if self.cause is None:
            self.cause, self.recheck = cause or failure, self._clock() + _HOLD_RECHECK
            self._note(f"nothing is started for now: {self.cause}; checked again every {_HOLD_RECHECK:.0f} s")
        return cause is not None

    def doubt(self) -> None:
        """A trial was done, so others may succeed too."""
        self.recheck = self._clock() if self.cause is not None else self.recheck

    def look_again(self) -> None:
        """Ends the hold if its check is due and trials can write."""
        if self.cause is None or self.recheck > self._clock():
            return
        cause = self._unwritable()
        if cause is None:
            self._note(f"going on: {self.cause} may have passed")
        self.cause, self.recheck = cause, float("inf") if cause is None else self._clock() + _HOLD_RECHECK
