"""How many cards a trial is to have, how much memory on each, and how its batch is cut to fit there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from cluebench.foundation.errors import UsageError
from cluebench.machine.devices import most_together
from cluebench.records.result import Result
from cluebench.scheduler.allocation.ledger import Ledger
from cluebench.scheduler.plan.estimates import GIB, MemoryModel
from cluebench.scheduler.plan.failures import Failure, FailureKind
from cluebench.scheduler.plan.jobs import Job


class MemoryFit:
    """What the cards of a ledger have room for, by what is known of the trials' memory.

    ``mrc_cards``: of a reading task; None: the task's own when that many are free, else one.
    """

    def __init__(self, ledger: Ledger, memory: MemoryModel, mrc_cards: int | None):
        self._ledger, self._memory, self._mrc_cards = ledger, memory, mrc_cards

    def _largest(self) -> int:
        """Bytes of the largest card; 0 where memory is not accounted for."""
        return max((slot.device.total_bytes or 0 for slot in self._ledger.slots.values()), default=0)

    def cards(self, job: Job, now: float, coming: Collection[str], closed: Sequence[str] = ()) -> int:
        """How many cards a trial is to have: its task's, when that many are free, else one.

        Cards that a reading on its way may show to be free (``coming``) count, or the first to answer after a trial on
        several would be taken alone. One card is always right: the batch is reached by accumulation.
        """
        row, joinable = job.trial.row, most_together(slot.device for slot in self._ledger.slots.values())
        if row.cards == 1 or joinable < 2:
            return 1
        if self._mrc_cards is not None:
            return min(self._mrc_cards, joinable)
        if job.accumulation(row.cards) is None:
            return 1
        needed, avoid = self.needed(job, row.cards), self._ledger.avoided(job.key)
        free = self._ledger.place(row.cards, needed, now, avoid=avoid, closed=closed, coming=coming)
        return 1 if free is None else row.cards

    def needed(self, job: Job, cards: int) -> int:
        """Bytes on each card; never more than the largest has, or a wrong estimate would keep it waiting for ever."""
        needed, largest = self._memory.needed_bytes(job.trial, job.micro_batch(cards) or 1), self._largest()
        return min(needed, int(largest * 0.97)) if largest else needed

    def leave_out_too_small(self, waiting: Sequence[Job]) -> list[str]:
        """Takes cards that are too small for every waiting trial out of the ledger; returns what to say of them.

        Raises UsageError when no device is left, with the figures.
        """
        said, smallest = [], min((self._memory.needed_bytes(job.trial, 1) for job in waiting), default=0)
        for device in [slot.device for slot in self._ledger.slots.values() if not slot.promised]:
            total = device.total_bytes
            if total and total < smallest:
                del self._ledger.slots[device.id]
                figures = f"it has {total / GIB:.1f} GiB, the smallest trial needs {smallest / GIB:.1f} GiB"
                said.append(f"{device.label} ({device.name}) is left out: {figures}")
                if not self._ledger.slots:
                    raise UsageError(f"no trial fits any card: {device.label} is too small, {figures}")
        return said

    def cut_to_fit(self, job: Job) -> Failure | None:
        """Cuts the micro-batches of a trial that is too large for every card; a failure if that is not enough."""
        largest = self._largest()
        while largest and (needed := self._memory.needed_bytes(job.trial, job.micro_batch() or 1)) > largest:
            if not job.cut_further():
                figures = f"needs about {needed / GIB:.1f} GiB even row by row, the largest card has"
                return Failure(FailureKind.TOO_LARGE, f"{figures} {largest / GIB:.1f} GiB")
        return None

    def learn(self, job: Job, result: Result) -> None:
        """Takes in what an attempt that ended well has needed."""
        if result.peak_memory_bytes and not result.device.startswith("cpu"):
            per_card = job.trial.setting.batch_size // max(1, result.cards)
            micro_batch = max(1, per_card // max(1, result.accumulation_steps))
            self._memory.observe(job.trial, micro_batch, result.peak_memory_bytes)

    def learn_the_limit(self, job: Job, cards: int, free: int | None, others: Iterable[Job]) -> None:
        """Cuts the micro-batches of those ``others`` that would run out of memory as this trial did on ``cards``.

        ``free``: bytes that it had for itself on a card, where that is known.
        """
        micro_batch = job.micro_batch(max(1, cards)) or 1
        largest = max((slot.device.total_bytes or 0) - slot.used_by_others for slot in self._ledger.slots.values())
        if free is not None:
            self._memory.exceeded(job.trial, micro_batch, free)
        for other in others:
            if (other.trial.model, other.trial.task) != (job.trial.model, job.trial.task):
                continue
            while (rows := other.micro_batch() or 1) >= micro_batch and (
                free is None or self._memory.needed_bytes(other.trial, rows) > largest
            ):
                if not other.cut_further():
                    break
