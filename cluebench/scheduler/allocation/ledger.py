"""Who holds which device: memory is promised to a trial before its process starts.

What a card has free for another trial is what the driver says is free, minus what was promised, by any scheduler of the
machine, to trials that have not allocated it yet. And trials are charged here for the time they have devices, and for
the energy these take meanwhile. Pure bookkeeping: readings and the time are handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from cluebench.machine.nvidia import Device, Reading
from cluebench.records.grid_file import Spent
from cluebench.scheduler.allocation.promises import Promise
from cluebench.scheduler.processes.trial_process import Holding

#: A card that failed is tried again after this many seconds, doubled with each further failure up to the second number.
FIRST_SET_ASIDE, LONGEST_SET_ASIDE = 30.0, 600.0
#: Crashes in a row after which a card is suspected: a bad one, always free again, would else eat up the whole grid.
SUSPICIOUS = 3


@dataclass
class Slot:
    """A device and what runs on it."""

    device: Device
    promised: dict[str, int] = field(default_factory=dict)  # trial key → bytes
    allocated: dict[str, int] = field(default_factory=dict)  # trial key → bytes of these that the last reading shows
    others: list[Promise] = field(default_factory=list)  # of other schedulers on this machine
    reading: Reading | None = None
    fresh: bool = False  # read since the last trial here started or ended
    used_by_others: int = 0  # bytes in use beside what our trials have
    set_aside_until: float = 0.0
    failures: int = 0  # of the card, since a trial last ended well here
    failed_readings: int = 0  # in a row
    failing_since: float = 0.0  # the first of these
    joules: float | None = None  # the card's counter, as it was read last
    uncounted: dict[str, float] = field(default_factory=dict)  # trial key ("": none) → seconds here since then

    @property
    def accounted(self) -> bool:
        return self.device.total_bytes is not None

    def free_bytes(self) -> int | None:
        """For another trial; None where memory is not accounted for, 0 while the last reading is outdated."""
        if not self.accounted:
            return None
        if self.reading is None or not self.fresh:
            return 0
        return max(0, self.reading.free - self._outstanding())

    def fits(self, needed: int) -> bool:
        """Whether a trial of so many bytes has room, as far as that is accounted for."""
        free = self.free_bytes()
        return free is None or (self.fresh and free >= needed)

    def _outstanding(self) -> int:
        """Promised, by us or by other schedulers of this machine, but not allocated yet."""
        ours = sum(max(0, promised - self.allocated.get(key, 0)) for key, promised in self.promised.items())
        return ours + sum(
            promise.bytes
            for promise in self.others
            if self.reading is None or promise.settled is None or promise.settled > self.reading.taken
        )


class Ledger:
    """The devices of a grid. Not thread-safe: it belongs to the loop."""

    def __init__(self, devices: Sequence[Device], jobs_per_device: int = 1):
        self.slots = {device.id: Slot(device, fresh=device.total_bytes is None) for device in devices}
        self.jobs_per_device = jobs_per_device
        self._crashes: dict[str, tuple[int, float]] = {}  # of a card → how many in a row, when the last was
        self.spent: dict[str, Spent] = {}  # trial key → where its cost is added up
        self._avoided: dict[str, set[str]] = {}  # trial key → ids of cards it failed on
        self._settled = 0.0

    def settle(self, now: float) -> None:
        """Charges each trial on a device for its part of the seconds since the last call."""
        seconds, self._settled = now - self._settled, now
        for slot in self.slots.values():
            part = seconds / max(1, len(slot.promised))
            for key in slot.promised or ("",):
                if slot.joules is not None:
                    slot.uncounted[key] = slot.uncounted.get(key, 0.0) + part
                if spent := self.spent.get(key):
                    spent.device_seconds += part
                    spent.held_seconds += seconds
                    if slot.joules is None:
                        spent.energy_joules = None

    def _count_energy(self, slot: Slot, joules: float | None) -> None:
        """Charges those who were on a card since its counter was last read, each by its seconds there.

        A counter that has gone back is one of a driver that was loaded anew: what it has lost nobody knows.
        """
        before, slot.joules = slot.joules, joules
        uncounted, slot.uncounted = slot.uncounted, {}
        taken = -1.0 if before is None or joules is None else joules - before
        for key, seconds in uncounted.items():
            spent = self.spent.get(key)
            if spent and spent.energy_joules is not None:
                part = taken * seconds / sum(uncounted.values())
                spent.energy_joules = spent.energy_joules + part if taken >= 0 else None

    def is_counted(self, key: str) -> bool:
        """Whether all the energy of a trial that has left its cards has been read."""
        return not any(key in slot.uncounted for slot in self.slots.values())

    def stop_counting(self) -> None:
        """What no counter has said by now is unknown, as of a card that has failed."""
        for slot in self.slots.values():
            self._count_energy(slot, None)

    def reserve(self, key: str, device_ids: Collection[str], promised_bytes: int) -> None:
        """Gives devices to a trial, before its process starts."""
        for device_id in device_ids:
            slot = self.slots[device_id]
            slot.promised[key] = promised_bytes

    def is_card(self, device_id: str) -> bool:
        return device_id in self.slots and self.slots[device_id].device.kind != "cpu"

    def holding(self, key: str) -> Holding:
        """What a trial has now; nothing when it does not run."""
        promised = {device_id: slot.promised[key] for device_id, slot in self.slots.items() if key in slot.promised}
        return Holding(tuple(promised), max(promised.values(), default=0))

    def release(self, key: str) -> Holding:
        """Takes a trial off its devices, whose memory has to be read again; returns what it had."""
        held = self.holding(key)
        for device_id in held.devices:
            slot = self.slots[device_id]
            del slot.promised[key]
            slot.allocated.pop(key, None)
            slot.fresh = not slot.accounted
        return held

    def read(self, device_id: str, reading: Reading, allocated: Callable[[str], int]) -> None:
        """Takes in what the driver says; ``allocated`` gives the bytes of it that are surely a trial's."""
        slot = self.slots[device_id]
        slot.reading, slot.fresh, slot.failed_readings = reading, True, 0
        slot.allocated = {key: allocated(key) for key in slot.promised}
        self._count_energy(slot, reading.joules)
        if all(slot.allocated.values()):
            slot.used_by_others = max(0, reading.total - reading.free - sum(slot.allocated.values()))

    def see(self, promises: Sequence[Promise]) -> None:
        """Takes in what other schedulers of this machine have promised."""
        for device_id, slot in self.slots.items():
            slot.others = [promise for promise in promises if device_id in promise.devices]

    def set_aside(self, device_id: str, now: float) -> float:
        """The device failed: not used until it has been tried again; returns when that should be.

        What else fails here until then is the same incident.
        """
        slot = self.slots[device_id]
        slot.fresh = not slot.accounted
        if slot.set_aside_until > now:
            return slot.set_aside_until
        slot.failures += 1
        pause = min(LONGEST_SET_ASIDE, FIRST_SET_ASIDE * 2 ** (slot.failures - 1))
        slot.set_aside_until = now + pause
        return slot.set_aside_until

    def succeeded(self, device_ids: Collection[str]) -> None:
        """A trial ended well on these devices: their failures are forgotten."""
        for device_id in device_ids:
            self.slots[device_id].failures = 0
            self._crashes.pop(device_id, None)

    def suspect(self, device_ids: Collection[str], started_at: float, now: float) -> dict[str, str]:
        """A trial crashed here that began at ``started_at``; the cards that are taken for the reason, and why.

        Those are cards where several crashed in a row; trials that crash together are one incident. When every card is
        suspect, none is: the reason is something that they share.
        """
        found: dict[str, str] = {}
        for name in filter(self.is_card, device_ids):
            crashes, last = self._crashes.get(name, (0, float("-inf")))
            if started_at <= last:
                continue
            self._crashes[name] = crashes + 1, now
            peers = [peer for peer, slot in self.slots.items() if slot.set_aside_until < float("inf")]
            if all(self._crashes.get(peer, (0, 0.0))[0] >= SUSPICIOUS for peer in peers):
                self._crashes.clear()
                for slot in map(self.slots.__getitem__, peers):
                    if not slot.failed_readings:
                        slot.set_aside_until = min(slot.set_aside_until, now)
            elif crashes + 1 >= SUSPICIOUS:
                found[name] = f"the last {SUSPICIOUS} trials on it crashed"
        return found

    def avoid(self, key: str, device_ids: Collection[str]) -> None:
        """A trial failed on these devices."""
        self._avoided[key] = set(filter(self.is_card, device_ids))

    def avoided(self, key: str) -> Collection[str]:
        """Devices on which a trial is not tried again as long as there are others."""
        return self._avoided.get(key, ())

    def usable(self, now: float) -> list[Slot]:
        """Devices that are not set aside."""
        return [slot for slot in self.slots.values() if slot.set_aside_until <= now]

    def open(self, now: float) -> list[Slot]:
        """Those of them that could take another trial, as far as their number goes."""
        return [slot for slot in self.usable(now) if self._has_place(slot)]

    def _has_place(self, slot: Slot) -> bool:
        if slot.device.takes_one:
            return not slot.promised and not slot.others
        return len(slot.promised) < self.jobs_per_device

    def has_room(self, now: float, closed: Collection[str] = ()) -> bool:
        """Whether any device that is not ``closed`` could take another trial, as far as their number goes."""
        return any(slot.device.id not in closed for slot in self.open(now))

    def place(
        self,
        cards: int,
        needed_bytes: int,
        now: float,
        *,
        avoid: Collection[str] = (),
        closed: Collection[str] = (),
        coming: Collection[str] = (),
    ) -> list[str] | None:
        """Devices for a trial of so many cards and bytes on each, or None while there are none.

        Several cards must be whole cards without other trials of ours. The emptiest come first, and ``closed`` ones
        not at all; nor do those to ``avoid`` (where the trial failed before), as long as there are others. Those whose
        first reading since a trial ended is ``coming`` are taken to be empty.
        """
        usable = self.usable(now)
        elsewhere = [slot for slot in usable if slot.device.id not in avoid]
        fitting = [
            slot
            for slot in (elsewhere if len(elsewhere) >= cards else usable)
            if slot.device.id not in closed
            and self._has_place(slot)
            and (cards == 1 or (slot.device.joinable and not slot.promised))
            and (slot.fits(needed_bytes) or (not slot.fresh and slot.device.id in coming))
        ]
        fitting.sort(key=lambda slot: (slot.device.id in avoid, len(slot.promised), -(slot.free_bytes() or 0)))
        return [slot.device.id for slot in fitting[:cards]] if len(fitting) >= cards else None

    def held_back_for(self, cards: int, needed_bytes: int, now: float) -> list[str]:
        """Devices to start nothing else on, so that a trial that only waits for our own trials gets its turn.

        Empty when other people's processes stand in its way, as nobody knows for how long.
        """
        candidates = [
            slot
            for slot in sorted(self.usable(now), key=lambda slot: len(slot.promised))
            if (cards == 1 or slot.device.joinable)
            and (not slot.accounted or (slot.device.total_bytes or 0) - slot.used_by_others >= needed_bytes)
        ]
        return [slot.device.id for slot in candidates[:cards]] if len(candidates) >= cards else []

    def waits_for_memory(self, now: float) -> list[str]:
        """Devices with room for another trial by number, whose memory is worth reading again."""
        return [slot.device.id for slot in self.open(now) if slot.accounted]
