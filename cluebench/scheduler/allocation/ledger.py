"""Which trial has which device, and what fits there: a trial gets a promise of memory before its process starts.

A card's free memory for another trial is what the driver reports as free, minus what any scheduler of the machine has
promised to trials that have not allocated it yet. The ledger also charges trials for the time that they have devices.
Pure bookkeeping: readings and the time are arguments.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cluebench.foundation.errors import UsageError
from cluebench.machine.nvidia import Device, Reading
from cluebench.records.result import Result
from cluebench.scheduler.allocation.job_queue import JobQueue
from cluebench.scheduler.allocation.promises import Promise
from cluebench.scheduler.plan.estimates import GIB, MemoryModel
from cluebench.scheduler.plan.failures import Failure, FailureKind
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job

#: Crashes in a row that make a card suspicious: a bad card, always free again, would fail every trial of the grid.
SUSPICIOUS = 3


@dataclass(frozen=True)
class Need:
    """What a trial needs to start."""

    cards: int
    bytes: int  # on each card
    avoid: Collection[str] = ()  # ids of devices where it failed: not used while there are others


@dataclass
class Slot:
    """A device and what runs on it."""

    device: Device
    jobs: dict[str, Job] = field(default_factory=dict)  # by trial key
    allocated: dict[str, int] = field(default_factory=dict)  # trial key → promised bytes that the last reading shows
    others: list[Promise] = field(default_factory=list)  # of other schedulers on this machine
    reading: Reading | None = None
    fresh: bool = False  # read since the last trial here started or ended
    used_by_others: int = 0  # bytes in use that our trials do not have
    set_aside_until: float = 0.0
    failures: int = 0  # of the card, since a trial last ended well here
    crashes: int = 0  # of trials here, in a row
    last_crash: float = float("-inf")  # time
    failed_readings: int = 0  # in a row
    failing_since: float = 0.0  # time of the first of these
    asked: bool = False  # the driver has been asked, and has not answered
    late: bool = False  # its answer is overdue
    outdated: bool = False  # its answer will be

    @property
    def accounted(self) -> bool:
        return self.device.total_bytes is not None

    def free_bytes(self) -> int | None:
        """For another trial; None if memory is not accounted for, 0 while the last reading is outdated."""
        if not self.accounted:
            return None
        if self.reading is None or not self.fresh:
            return 0
        # Some of what we or other schedulers have promised is not allocated yet.
        ours = sum(max(0, job.attempt.promised_bytes - self.allocated.get(key, 0)) for key, job in self.jobs.items())
        unsettled = (promise for promise in self.others if (promise.settled or float("inf")) > self.reading.time)
        return max(0, self.reading.free - ours - sum(promise.bytes for promise in unsettled))

    def fits(self, needed: int) -> bool:
        """Whether a trial of this size has room, if memory is accounted for."""
        free = self.free_bytes()
        return free is None or (self.fresh and free >= needed)


class Ledger:
    """The devices of a grid, and the estimated memory of its trials. Not thread-safe: only the loop uses it."""

    def __init__(self, devices: Sequence[Device], flags: GridFlags):
        self.slots = {device.id: Slot(device, fresh=device.total_bytes is None) for device in devices}
        self._flags, self.memory = flags, MemoryModel(flags.amp)
        self._settled = 0.0

    # Cost -------------------------------------------------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """Charges each trial on a device for its share of the seconds since the last call."""
        seconds, self._settled = now - self._settled, now
        for slot in self.slots.values():
            share = seconds / max(1, len(slot.jobs))
            for job in slot.jobs.values():
                job.spent.device_seconds += share
                job.spent.held_seconds += seconds  # codespell:ignore

    # Memory -----------------------------------------------------------------------------------------------------------

    def reserve(self, job: Job) -> None:
        """Gives a job the devices of its last attempt, before its process starts."""
        for device_id in job.attempt.devices:
            self.slots[device_id].jobs[job.key] = job

    def release(self, job: Job) -> None:
        """Frees the devices of a job's last attempt. Their memory has to be read again."""
        for slot in map(self.slots.__getitem__, job.attempt.devices):
            slot.jobs.pop(job.key, None)
            slot.allocated.pop(job.key, None)
            slot.fresh = not slot.accounted

    def read(self, device_id: str, reading: Reading, allocated: Callable[[Job], int]) -> None:
        """Records the driver's answer; ``allocated`` gives the bytes of it that certainly belong to a trial."""
        slot = self.slots[device_id]
        slot.reading, slot.fresh, slot.failed_readings = reading, True, 0
        slot.allocated = {key: allocated(job) for key, job in slot.jobs.items()}
        if all(slot.allocated.values()):
            slot.used_by_others = max(0, reading.total - reading.free - sum(slot.allocated.values()))

    def see(self, promises: Sequence[Promise]) -> None:
        """Records what other schedulers of this machine have promised."""
        for device_id, slot in self.slots.items():
            slot.others = [promise for promise in promises if device_id in promise.devices]

    # Cards that fail --------------------------------------------------------------------------------------------------

    def is_card(self, device_id: str) -> bool:
        return device_id in self.slots and self.slots[device_id].device.kind != "cpu"

    def succeeded(self, device_ids: Iterable[str]) -> None:
        """A trial ended well on these devices: their failures are forgotten."""
        for device_id in device_ids:
            slot = self.slots[device_id]
            slot.failures, slot.crashes, slot.last_crash = 0, 0, float("-inf")

    def suspect(self, device_ids: Iterable[str], started_at: float, now: float) -> dict[str, str]:
        """A trial crashed here that began at ``started_at``; returns the cards that are probably the reason, and why.

        These are cards where several crashed in a row; trials that crash together count once. If every card is
        suspicious, none is: the reason is something that they share.
        """
        found: dict[str, str] = {}
        for slot in [self.slots[device_id] for device_id in device_ids if self.is_card(device_id)]:
            if started_at <= slot.last_crash:
                continue
            slot.crashes, slot.last_crash = slot.crashes + 1, now
            peers = [peer for peer in self.slots.values() if peer.set_aside_until < float("inf")]
            if all(peer.crashes >= SUSPICIOUS for peer in peers):
                for peer in self.slots.values():
                    peer.crashes, peer.last_crash = 0, float("-inf")
                    if peer in peers and not peer.failed_readings:
                        peer.set_aside_until = min(peer.set_aside_until, now)
            elif slot.crashes >= SUSPICIOUS:
                found[slot.device.id] = f"the last {SUSPICIOUS} trials on it crashed"
        return found

    # Room for another trial -------------------------------------------------------------------------------------------

    def usable(self, now: float) -> list[Slot]:
        """Devices that are not set aside."""
        return [slot for slot in self.slots.values() if slot.set_aside_until <= now]

    def open(self, now: float) -> list[Slot]:
        """Usable devices with fewer trials than they may have."""
        return [slot for slot in self.usable(now) if self._has_place(slot)]

    def _has_place(self, slot: Slot) -> bool:
        if slot.device.takes_one:
            return not slot.jobs and not slot.others
        return len(slot.jobs) < self._flags.jobs_per_device

    def place(self, need: Need, now: float, closed: Collection[str] = (), expecting: bool = False) -> list[str] | None:
        """Devices for a trial, the emptiest first; None while there are too few.

        Several cards must be whole cards without other trials of ours. ``closed`` devices are not used. If
        ``expecting``, a device whose first reading since a trial ended is still to come counts as empty.
        """
        usable = self.usable(now)
        elsewhere = [slot for slot in usable if slot.device.id not in need.avoid]
        fitting = [
            slot
            for slot in (elsewhere if len(elsewhere) >= need.cards else usable)
            if slot.device.id not in closed
            and self._has_place(slot)
            and (need.cards == 1 or (slot.device.joinable and not slot.jobs))
            and (slot.fits(need.bytes) or (expecting and slot.asked and not slot.late and not slot.fresh))
        ]
        fitting.sort(key=lambda slot: (slot.device.id in need.avoid, len(slot.jobs), -(slot.free_bytes() or 0)))
        return [slot.device.id for slot in fitting[: need.cards]] if len(fitting) >= need.cards else None

    def reserved_for(self, need: Need, now: float) -> list[str]:
        """Devices that start nothing else, so that a trial which waits only for our own trials gets its turn.

        Empty if other people's processes are in its way: nobody can say when they end.
        """
        candidates = [
            slot
            for slot in sorted(self.usable(now), key=lambda slot: len(slot.jobs))
            if (need.cards == 1 or slot.device.joinable)
            and (not slot.accounted or (slot.device.total_bytes or 0) - slot.used_by_others >= need.bytes)
        ]
        return [slot.device.id for slot in candidates[: need.cards]] if len(candidates) >= need.cards else []

    def _largest(self) -> int:
        """Bytes of the largest card; 0 if memory is not accounted for."""
        return max((slot.device.total_bytes or 0 for slot in self.slots.values()), default=0)

    # What starts next -------------------------------------------------------------------------------------------------

    def placements(self, queue: JobQueue, now: float) -> Iterator[tuple[Job, list[str], int]]:
        """(job, device ids, bytes to promise on each) for each job that can start now, in order of their turn."""
        closed: list[str] = []
        refused: set[tuple] = set()  # kinds of trials that have no room
        for job in queue.turn(now):
            if all(slot.device.id in closed for slot in self.open(now)):
                return
            kind = (*job.group, job.trial.setting.batch_size, job.memory_factor, job.avoid)
            if kind in refused:
                continue
            need = self.need(job, now, closed)
            placed = self.place(need, now, closed)
            if placed is not None:
                yield job, placed, need.bytes
                continue
            refused.add(kind)
            # The longest trial that can't start now reserves its devices: shorter ones must not fill them up.
            closed = closed or self.reserved_for(need, now)

    def need(self, job: Job, now: float, closed: Sequence[str] = ()) -> Need:
        """What a trial needs: its task's number of cards, or --mrc_cards, if that many are free, else one card.

        A card with an open question may turn out to be free, so it counts: else a trial that follows one on several
        cards would start alone on the first card that answers. One card is always correct: the trial then accumulates
        more micro-batches.
        """
        row, joinable = job.trial.row, sum(slot.device.joinable for slot in self.slots.values())
        if row.cards > 1 and joinable > 1:
            if self._flags.mrc_cards is not None:
                return self.need_on(job, min(self._flags.mrc_cards, joinable))
            if job.accumulation(row.cards) is not None:
                several = self.need_on(job, row.cards)
                if self.place(several, now, closed, expecting=True) is not None:
                    return several
        return self.need_on(job, 1)

    def need_on(self, job: Job, cards: int) -> Need:
        """What a trial needs on this number of cards: at most what the largest has, as estimates may be wrong."""
        needed, largest = self.memory.needed_bytes(job.trial, job.micro_batch(cards) or 1), self._largest()
        size = min(needed, int(largest * 0.97)) if largest else needed
        return Need(cards, size, job.avoid)

    def why_idle(self, queue: JobQueue, now: float) -> str | None:
        """Why no job starts although a device has room; None if no job waits, no device has room, or it is unknown."""
        room, job = self.open(now), queue.shortest()
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
        for device in [slot.device for slot in self.slots.values() if not slot.jobs]:
            total = device.total_bytes
            if total and total < smallest:
                del self.slots[device.id]
                figures = f"it has {total / GIB:.1f} GiB, the smallest trial needs {smallest / GIB:.1f} GiB"
                messages.append(f"{device.label} ({device.name}) is left out: {figures}")
                if not self.slots:
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
        largest = max((slot.device.total_bytes or 0) - slot.used_by_others for slot in self.slots.values())
        if free is not None:
            self.memory.exceeded(job.trial, micro_batch, free)
        for other in others:
            if other.group == job.group:
                while (rows := other.micro_batch() or 1) >= micro_batch and (
                    free is None or self.memory.needed_bytes(other.trial, rows) > largest
                ):
                    if not other.cut_further():
                        break
