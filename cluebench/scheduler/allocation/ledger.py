"""Which trial has which device: a trial gets a promise of memory before its process starts.

A card's free memory for another trial is what the driver reports as free, minus what any scheduler of the machine has
promised to trials that have not allocated it yet. The ledger also charges trials for the time that they have devices.
Pure bookkeeping: readings and the time are arguments.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from cluebench.machine.nvidia import Device, Reading
from cluebench.records.grid_file import Spent
from cluebench.scheduler.allocation.promises import Promise

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
    promised: dict[str, int] = field(default_factory=dict)  # trial key → bytes
    allocated: dict[str, int] = field(default_factory=dict)  # trial key → bytes of these that the last reading shows
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

    @property
    def is_coming(self) -> bool:
        """Whether the driver's answer about it is open, and not overdue."""
        return self.asked and not self.late

    def free_bytes(self) -> int | None:
        """For another trial; None if memory is not accounted for, 0 while the last reading is outdated."""
        if not self.accounted:
            return None
        if self.reading is None or not self.fresh:
            return 0
        # Some of what we or other schedulers have promised is not allocated yet.
        ours = sum(max(0, promised - self.allocated.get(key, 0)) for key, promised in self.promised.items())
        unsettled = (promise for promise in self.others if (promise.settled or float("inf")) > self.reading.time)
        return max(0, self.reading.free - ours - sum(promise.bytes for promise in unsettled))

    def fits(self, needed: int) -> bool:
        """Whether a trial of this size has room, if memory is accounted for."""
        free = self.free_bytes()
        return free is None or (self.fresh and free >= needed)


class Ledger:
    """The devices of a grid. Not thread-safe: only the loop uses it."""

    def __init__(self, devices: Sequence[Device], jobs_per_device: int = 1):
        self.slots = {device.id: Slot(device, fresh=device.total_bytes is None) for device in devices}
        self.jobs_per_device = jobs_per_device
        self.spent: dict[str, Spent] = {}  # trial key → the sum of its cost
        self._settled = 0.0

    # Cost -------------------------------------------------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """Charges each trial on a device for its share of the seconds since the last call."""
        seconds, self._settled = now - self._settled, now
        for slot in self.slots.values():
            share = seconds / max(1, len(slot.promised))
            for key in slot.promised:
                if spent := self.spent.get(key):
                    spent.device_seconds += share
                    spent.held_seconds += seconds  # codespell:ignore

    # Memory -----------------------------------------------------------------------------------------------------------

    def reserve(self, key: str, device_ids: Collection[str], promised_bytes: int) -> None:
        """Gives devices to a trial, before its process starts."""
        for device_id in device_ids:
            self.slots[device_id].promised[key] = promised_bytes

    def release(self, key: str) -> None:
        """Frees the devices of a trial. Their memory has to be read again."""
        for slot in self.slots.values():
            if slot.promised.pop(key, None) is not None:
                slot.allocated.pop(key, None)
                slot.fresh = not slot.accounted

    def read(self, device_id: str, reading: Reading, allocated: Callable[[str], int]) -> None:
        """Records the driver's answer; ``allocated`` gives the bytes of it that certainly belong to a trial."""
        slot = self.slots[device_id]
        slot.reading, slot.fresh, slot.failed_readings = reading, True, 0
        slot.allocated = {key: allocated(key) for key in slot.promised}
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
            return not slot.promised and not slot.others
        return len(slot.promised) < self.jobs_per_device

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
            and (need.cards == 1 or (slot.device.joinable and not slot.promised))
            and (slot.fits(need.bytes) or (expecting and not slot.fresh and slot.is_coming))
        ]
        fitting.sort(key=lambda slot: (slot.device.id in need.avoid, len(slot.promised), -(slot.free_bytes() or 0)))
        return [slot.device.id for slot in fitting[: need.cards]] if len(fitting) >= need.cards else None

    def reserved_for(self, need: Need, now: float) -> list[str]:
        """Devices that start nothing else, so that a trial which waits only for our own trials gets its turn.

        Empty if other people's processes are in its way, as nobody knows for how long.
        """
        candidates = [
            slot
            for slot in sorted(self.usable(now), key=lambda slot: len(slot.promised))
            if (need.cards == 1 or slot.device.joinable)
            and (not slot.accounted or (slot.device.total_bytes or 0) - slot.used_by_others >= need.bytes)
        ]
        return [slot.device.id for slot in candidates[: need.cards]] if len(candidates) >= need.cards else []
