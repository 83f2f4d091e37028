"""When to ask the driver about which card, and which cards are not used for now."""

from collections.abc import Callable, Iterable

from cluebench.machine.nvidia import DeviceLost, Reading
from cluebench.scheduler.allocation.ledger import Ledger, Slot
from cluebench.scheduler.processes.engine import Engine

#: Seconds between questions to the driver: about cards that trials wait for, and about all cards.
_MEMORY_RECHECK, _HEALTH_CHECK = 2.0, 30.0
#: Seconds that the driver has to answer.
_ANSWER_DUE = 15.0


class DeviceHealth:
    """Questions to the driver that are due or open. The ledger keeps them and their answers.

    Give the ``engine``'s answers to `record`; ``note`` gets messages for people.
    """

    def __init__(self, ledger: Ledger, engine: Engine, note: Callable[[str], None], clock: Callable[[], float]):
        self._slots, self._ledger, self._engine, self._note, self._clock = ledger.slots, ledger, engine, note, clock

    def is_accounted(self, device_id: str) -> bool:
        """Whether the driver can answer about it: not for a core, nor for a card that was left out."""
        return device_id in self._slots and self._slots[device_id].accounted

    def ask(self, device_id: str) -> None:
        """Asks the driver. If a question is open, its answer will be outdated, and the question is repeated then."""
        if self.is_accounted(device_id):
            slot = self._slots[device_id]
            slot.ask_at, slot.outdated = float("inf"), slot.asked is not None
            if slot.asked is None:
                slot.asked = self._clock()
                self._engine.measure(device_id)

    def ask_soon(self, slots: Iterable[Slot]) -> None:
        """About cards that trials wait for."""
        for slot in slots:
            slot.ask_at = min(slot.ask_at, self._clock() + _MEMORY_RECHECK)

    def record(self, device_id: str, answer: Reading | DeviceLost, allocated: Callable[[str, Reading], int]) -> bool:
        """Writes the driver's answer about a card into the ledger; False if the answer is outdated.

        ``allocated``: bytes of the reading that certainly belong to a trial. A card that fails is set aside.
        """
        now, slot = self._clock(), self._slots.get(device_id)
        if slot is None:
            return False
        outdated, slot.asked, slot.outdated = slot.outdated, None, False
        if isinstance(answer, DeviceLost):
            slot.failed_readings += 1
            if slot.failed_readings == 1:
                slot.failing_since = now
            self.set_aside(device_id, str(answer))
        elif outdated:
            self.ask(device_id)
            return False
        else:
            if slot.failed_readings and slot.set_aside_until <= now:
                self._note(f"{slot.device.label} answers again")
            self._ledger.read(device_id, answer, lambda key: allocated(key, answer))
            slot.ask_at = max(now + _HEALTH_CHECK, slot.set_aside_until)
        return True

    def set_aside(self, device_id: str, reason: str) -> None:
        """Does not use a failed card until the driver has been asked again. A core can't fail."""
        now, slot = self._clock(), self._slots[device_id]
        if not self._ledger.is_card(device_id):
            return
        already, slot.ask_at = slot.set_aside_until > now, self._ledger.set_aside(device_id, now)
        if not already:
            self._note(f"{slot.device.label} is set aside for {slot.ask_at - now:.0f} s: {reason}")

    def next_due(self) -> float:
        """Clock time at which `ask_what_is_due` has something to do."""
        return min((min(slot.ask_at, _overdue(slot)) for slot in self._slots.values()), default=float("inf"))

    def ask_what_is_due(self) -> list[str]:
        """Returns the devices whose answer has become overdue."""
        now, late = self._clock(), []
        for device_id, slot in self._slots.items():
            if slot.ask_at <= now:
                self.ask(device_id)
            if _overdue(slot) <= now:
                slot.asked, slot.fresh = float("inf"), False  # an answer may still come
                self._note(f"{slot.device.label}: the driver does not answer; nothing is started there until it does")
                late.append(device_id)
        return late


def _overdue(slot: Slot) -> float:
    """Clock time at which the driver's answer is overdue; infinity if nothing was asked, or it is noted already."""
    return float("inf") if slot.asked is None else slot.asked + _ANSWER_DUE
