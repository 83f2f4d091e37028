"""Which waiting trial gets which devices: cards, memory on each, and how its batch is cut to fit there."""

from collections.abc import Iterable, Iterator, Sequence

from cluebench.foundation.errors import UsageError
from cluebench.machine.devices import most_together
from cluebench.records.result import Result
from cluebench.scheduler.allocation.job_queue import JobQueue
from cluebench.scheduler.allocation.ledger import Ledger, Need
from cluebench.scheduler.plan.estimates import GIB, MemoryModel
from cluebench.scheduler.plan.failures import Failure, FailureKind
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job


class MemoryFit:
    """What a ledger's cards have room for, by estimates and measurements of the trials' memory."""

    def __init__(self, ledger: Ledger, flags: GridFlags):
        self._ledger, self._mrc_cards = ledger, flags.mrc_cards
        self.memory = MemoryModel(flags.amp)

    def _largest(self) -> int:
        """Bytes of the largest card; 0 if memory is not accounted for."""
        return max((slot.device.total_bytes or 0 for slot in self._ledger.slots.values()), default=0)

    # What starts next -------------------------------------------------------------------------------------------------

    def placements(self, queue: JobQueue, now: float) -> Iterator[tuple[Job, list[str], int]]:
        """(job, device ids, bytes to promise on each) for each job that can start now, in order of their turn."""
        closed: list[str] = []
        refused: set[tuple] = set()  # kinds of trials that have no room
        for job in queue.turn(now):
            if all(slot.device.id in closed for slot in self._ledger.open(now)):
                return
            kind = (*job.group, job.trial.setting.batch_size, job.memory_factor, job.avoid)
            if kind in refused:
                continue
            need = self.need(job, now, closed)
            placed = self._ledger.place(need, now, closed)
            if placed is not None:
                yield job, placed, need.bytes
                continue
            refused.add(kind)
            # The longest trial that can't start now reserves its devices: shorter ones must not fill them up.
            closed = closed or self._ledger.reserved_for(need, now)

    def need(self, job: Job, now: float, closed: Sequence[str] = ()) -> Need:
        """What a trial needs: its task's number of cards, or --mrc_cards, if that many are free, else one card.

        A card with an open question may turn out to be free, so it counts: else a trial that follows one on several
        cards would start alone on the first card that answers. One card is always correct: the trial then accumulates
        more micro-batches.
        """
        row, joinable = job.trial.row, most_together(slot.device for slot in self._ledger.slots.values())
        if row.cards > 1 and joinable > 1:
            if self._mrc_cards is not None:
                return self.need_on(job, min(self._mrc_cards, joinable))
            if job.accumulation(row.cards) is not None:
                several = self.need_on(job, row.cards)
                if self._ledger.place(several, now, closed, expecting=True) is not None:
                    return several
        return self.need_on(job, 1)

    def need_on(self, job: Job, cards: int) -> Need:
        """On so many cards. Never more memory than the largest card has: a wrong estimate must not block a trial."""
        needed, largest = self.memory.needed_bytes(job.trial, job.micro_batch(cards) or 1), self._largest()
        size = min(needed, int(largest * 0.97)) if largest else needed
        return Need(cards, size, job.avoid)

    def why_idle(self, queue: JobQueue, now: float) -> str | None:
        """Why no job starts although a device has room; None if no job waits, no device has room, or it is unknown."""
        room, job = self._ledger.open(now), queue.shortest()
        if not room or job is None:
            return None
        if job.not_before > now:
            return f"next attempt in {min(queue.next_turn(now), job.not_before) - now:.0f} s"
        needed = self.need(job, now).bytes
        fresh = [slot for slot in room if slot.accounted and slot.fresh]
        if fresh and not any(slot.fits(needed) for slot in room):
            free = ", ".join(f"{slot.device.label} {(slot.free_bytes() or 0) / GIB:.1f}" for slot in fresh)
            return f"waiting for {needed / GIB:.1f} GiB of memory; free are {free}"
        silent = [slot.device.label for slot in room if slot.late]
        return f"waiting for the driver to answer about {', '.join(silent)}" if silent else None

    # What never fits, and what is learnt ------------------------------------------------------------------------------

    def leave_out_too_small(self, waiting: Sequence[Job]) -> list[str]:
        """Removes cards that are too small for every waiting trial from the ledger; returns a message for each.

        Raises UsageError with the figures if no device is left.
        """
        messages, smallest = [], min((self.memory.needed_bytes(job.trial, 1) for job in waiting), default=0)
        for device in [slot.device for slot in self._ledger.slots.values() if not slot.promised]:
            total = device.total_bytes
            if total and total < smallest:
                del self._ledger.slots[device.id]
                figures = f"it has {total / GIB:.1f} GiB, the smallest trial needs {smallest / GIB:.1f} GiB"
                messages.append(f"{device.label} ({device.name}) is left out: {figures}")
                if not self._ledger.slots:
                    raise UsageError(f"no trial fits any card: {device.label} is too small, {figures}")
        return messages

    def cut_to_fit(self, job: Job) -> Failure | None:
        """Cuts the micro-batches of a trial that is too large for every card; a failure if one row is too large."""
        largest = self._largest()
        while largest and (needed := self.memory.needed_bytes(job.trial, job.micro_batch() or 1)) > largest:
            if not job.cut_further():
                figures = f"needs about {needed / GIB:.1f} GiB even row by row, the largest card has"
                return Failure(FailureKind.TOO_LARGE, f"{figures} {largest / GIB:.1f} GiB")
        return None

    def learn(self, job: Job, result: Result) -> None:
        """Records the memory that an attempt needed which ended well."""
        if result.peak_memory_bytes and not result.device.startswith("cpu"):
            per_card = job.trial.setting.batch_size // max(1, result.cards)
            micro_batch = max(1, per_card // max(1, result.accumulation_steps))
            self.memory.observe(job.trial, micro_batch, result.peak_memory_bytes)

    def learn_the_limit(self, job: Job, cards: int, free: int | None, others: Iterable[Job]) -> None:
        """Cuts the micro-batches of ``others`` that would run out of memory as this trial did on ``cards``.

        ``free``: bytes of a card that it had for itself, if known.
        """
        micro_batch = job.micro_batch(max(1, cards)) or 1
        largest = max((slot.device.total_bytes or 0) - slot.used_by_others for slot in self._ledger.slots.values())
        if free is not None:
            self.memory.exceeded(job.trial, micro_batch, free)
        for other in others:
            if other.group == job.group:
                while (rows := other.micro_batch() or 1) >= micro_batch and (
                    free is None or self.memory.needed_bytes(other.trial, rows) > largest
                ):
                    if not other.cut_further():
                        break
