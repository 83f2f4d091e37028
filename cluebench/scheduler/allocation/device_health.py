"""When to ask the driver about which card, and which cards are not used for now."""

from collections.abc import Callable, Iterable

from cluebench.machine.nvidia import DeviceLost, Reading
from cluebench.scheduler.allocation.ledger import Ledger
from cluebench.scheduler.processes.engine import Engine

#: Seconds between questions to the driver: about cards that trials wait for, and about all cards.
_MEMORY_RECHECK, _HEALTH_CHECK = 2.0, 30.0
#: Seconds that the driver has to answer.
_ANSWER_DUE = 15.0


class DeviceHealth:
    """Questions to the driver that are due or open. The ledger keeps the answers.

    Give the ``engine``'s answers to `record`; ``note`` gets messages for people.
    """

    def __init__(self, ledger: Ledger, engine: Engine, note: Callable[[str], None], clock: Callable[[], float]):
        self._ledger, self._engine, self._note, self._clock = ledger, engine, note, clock
        self._asked: dict[str, float] = {}  # device id → when; infinity: the answer is overdue
        self._outdated: set[str] = set()  # devices whose next answer will be outdated
        self._due: dict[str, float] = {}  # device id → when to ask next

    def is_accounted(self, device_id: str) -> bool:
        """Whether the driver can answer about it: not for a core, nor for a card that was left out."""
        return device_id in self._ledger.slots and self._ledger.slots[device_id].accounted

    @property
    def coming(self) -> list[str]:
        """Devices with an open question that is not overdue."""
        return [device_id for device_id, asked in self._asked.items() if asked < float("inf")]

    def is_silent(self, device_id: str) -> bool:
        """Whether the driver's answer about it is overdue."""
        return self._asked.get(device_id) == float("inf")

    def ask(self, device_id: str) -> None:
        """Asks the driver. If a question is open, its answer will be outdated, and the question is repeated then."""
        self._due.pop(device_id, None)
        if not self.is_accounted(device_id):
            return
        if device_id in self._asked:
            self._outdated.add(device_id)
            return
        self._asked[device_id] = self._clock()
        self._engine.measure(device_id)

    def ask_soon(self, device_ids: Iterable[str]) -> None:
        """About cards that trials wait for."""
        recheck = self._clock() + _MEMORY_RECHECK
        for device_id in device_ids:
            self._due[device_id] = min(recheck, self._due.get(device_id, recheck))

    def record(self, device_id: str, answer: Reading | DeviceLost, allocated: Callable[[str, Reading], int]) -> bool:
        """Writes the driver's answer about a card into the ledger; False if the answer is outdated.

        ``allocated``: bytes of the reading that certainly belong to a trial. A card that fails is set aside.
        """
        now, outdated = self._clock(), device_id in self._outdated
        self._asked.pop(device_id, None)
        self._outdated.discard(device_id)
        slot = self._ledger.slots.get(device_id)
        if slot is None:
            return False
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
            self._due[device_id] = max(now + _HEALTH_CHECK, slot.set_aside_until)
        return True

    def set_aside(self, device_id: str, reason: str) -> None:
        """Does not use a failed card until the driver has been asked again. A core can't fail."""
        now, slot = self._clock(), self._ledger.slots[device_id]
        if not self._ledger.is_card(device_id):
            return
        already, until = slot.set_aside_until > now, self._ledger.set_aside(device_id, now)
        self._due[device_id] = until
        if not already:
            self._note(f"{slot.device.label} is set aside for {until - now:.0f} s: {reason}")

    def next_due(self) -> float:
        """Clock time at which `ask_what_is_due` has something to do."""
        return min(
            [*self._due.values(), *(asked + _ANSWER_DUE for asked in self._asked.values())], default=float("inf")
        )

    def ask_what_is_due(self) -> list[str]:
        """Returns the devices whose answer has become overdue."""
        now = self._clock()
        for device_id in [device_id for device_id, due in self._due.items() if due <= now]:
            self.ask(device_id)
        late = [device_id for device_id, asked in self._asked.items() if asked + _ANSWER_DUE <= now]
        for device_id in late:
            self._asked[device_id] = float("inf")  # an answer may still come
            slot = self._ledger.slots[device_id]
            slot.fresh = False
            self._note(f"{slot.device.label}: the driver does not answer; nothing is started there until it does")
        return late
