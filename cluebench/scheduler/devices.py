"""Which devices there are and what memory they have free: NVIDIA cards through NVML, or slots of CPU cores.

The only module that touches NVML (through ``pynvml``). Cards go by UUID, as indices change with drivers and environment
variables. Memory is asked for on a thread a question: a driver in trouble can take minutes to answer about one, and
must hold neither the scheduler's loop nor the other cards meanwhile.
"""

from __future__ import annotations

import os
import queue
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeVar

import psutil

from cluebench.environment import usable_cores
from cluebench.errors import UsageError

#: Memory one CPU slot should have at least when their number is chosen for the user.
_BYTES_PER_CPU_SLOT = 8 << 30
#: Seconds the driver has to say at the start which cards there are.
DISCOVERY_SECONDS = 30.0

T = TypeVar("T")


@dataclass(frozen=True)
class Device:
    """A card, a MIG instance of a card, or a slot of CPU cores."""

    id: str  # a card's or instance's UUID; "cpu:0"
    label: str  # for people: "gpu 0", "gpu 0 mig 1", "cpu 0"
    kind: str  # "gpu" or "cpu"
    name: str = ""  # the card's product name
    total_bytes: int | None = None  # None: not accounted for
    joinable: bool = False  # several of them, of one node, can run one trial
    node: str = ""  # id of its machine in a cluster; "": this one
    cores: int | None = None  # that go with it; None: a share of this machine's

    @property
    def cuda(self) -> str:
        """Its name in CUDA_VISIBLE_DEVICES. In a cluster ids begin with the node, as numbers of cards come again."""
        return self.id.rpartition(" ")[2]

    @property
    def suspects(self) -> tuple[str, ...]:
        """What may be broken where trials crash: the card, the node. Slots of this machine's cores are all the same."""
        card = self.total_bytes is not None or (self.kind == "gpu" and self.node)
        return ((self.id,) if card else ()) + ((self.node,) if self.node else ())


@dataclass(frozen=True)
class Reading:
    """A card's memory at one moment, in bytes, and the energy it has taken since its driver was loaded."""

    total: int
    free: int
    processes: Mapping[int, int]  # pid → bytes, where the driver reports them
    joules: float | None = None  # None: neither card nor driver counts
    taken: float = field(default_factory=time.time)  # seconds since 1970, not after it was taken


class DeviceLost(Exception):
    """The driver says that a card is gone; or, where it is not ``certain``, fails to answer about it."""

    certain = True


class NvidiaDriver:
    """NVML, by UUID. Every method but ``close`` raises DeviceLost when the card or the driver fails."""

    def __init__(self, pynvml: ModuleType):
        self._nvml: Any = pynvml
        self._handles: dict[str, Any] = {}
        self._restarting, self._restarts = threading.Lock(), 0

    @classmethod
    def open(cls) -> NvidiaDriver | None:
        """None on a machine without a driver, or with one that can't start."""
        try:
            import pynvml
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return None
        return cls(pynvml)

    def cards(self) -> list[list[Device]]:
        """One item a card in NVML's order, which is that of the PCI bus: the card alone, or its MIG instances.

        A card that does not answer is an empty list, so that the numbers of the others stay right.
        """
        try:
            count = self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError as error:
            raise DeviceLost(str(error)) from None
        return [self._card(index) for index in range(count)]

    def versions(self) -> tuple[str, str]:
        """Of the driver, and of the newest CUDA it can run: ``("550.54.15", "12.4")``."""
        try:
            driver, cuda = self._nvml.nvmlSystemGetDriverVersion(), self._nvml.nvmlSystemGetCudaDriverVersion()
        except self._nvml.NVMLError as error:
            raise DeviceLost(str(error)) from None
        return _text(driver), f"{cuda // 1000}.{cuda % 1000 // 10}"

    def read(self, device_id: str) -> Reading:
        """The card's memory now. May be called on several threads. A card that failed is looked up anew each time."""
        restarts = self._restarts
        try:
            return self._read(device_id)
        except self._nvml.NVMLError:
            self._restart(restarts)
        try:  # another card's trouble, or a session that ended with a reset, is none of this card's
            return self._read(device_id)
        except self._nvml.NVMLError as error:
            lost = DeviceLost(str(error))
            lost.certain = error.value == self._nvml.NVML_ERROR_GPU_IS_LOST
            raise lost from None

    def _read(self, device_id: str) -> Reading:
        handle, now = self._handle(device_id), time.time()
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        return Reading(int(memory.total), int(memory.free), self._processes(handle), self._joules(handle), now)

    def close(self) -> None:
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:
            pass

    def _restart(self, seen: int) -> None:
        """A new session, as after a reset the old one's handles are worthless; once, if several threads want it."""
        with self._restarting:
            if self._restarts != seen:
                return
            self._restarts += 1
            self._handles.clear()
            self.close()
            try:
                self._nvml.nvmlInit()
            except self._nvml.NVMLError:
                pass  # the next read fails in its turn

    def _handle(self, device_id: str) -> Any:
        handle = self._handles.get(device_id)
        if handle is None:
            handle = self._handles[device_id] = self._nvml.nvmlDeviceGetHandleByUUID(device_id)
        return handle

    def _processes(self, handle: Any) -> dict[int, int]:
        """Empty where the driver does not tell: inside containers, for instances, on old drivers."""
        try:
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except self._nvml.NVMLError:
            return {}
        return {int(process.pid): int(process.usedGpuMemory) for process in running if process.usedGpuMemory}

    def _joules(self, handle: Any) -> float | None:
        try:
            return self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
        except self._nvml.NVMLError:  # cards before Volta, and MIG instances
            return None

    def _card(self, index: int) -> list[Device]:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            instances = self._instances(handle)
            if not instances:
                return [self._device(handle, f"gpu {index}", joinable=True)]
            return [self._device(instance, f"gpu {index} mig {number}") for number, instance in instances]
        except nvml.NVMLError:
            return []

    def _instances(self, card: Any) -> list[tuple[int, Any]]:
        nvml = self._nvml
        try:
            enabled = nvml.nvmlDeviceGetMigMode(card)[0] == nvml.NVML_DEVICE_MIG_ENABLE
        except nvml.NVMLError:
            return []  # a card that knows no instances
        found = []
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(card) if enabled else 0):
            try:
                found.append((number, nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, number)))
            except nvml.NVMLError:
                continue  # numbers have gaps
        return found

    def _device(self, handle: Any, label: str, joinable: bool = False) -> Device:
        nvml = self._nvml
        uuid = _text(nvml.nvmlDeviceGetUUID(handle))
        self._handles[uuid] = handle
        total = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
        return Device(uuid, label, "gpu", _text(nvml.nvmlDeviceGetName(handle)), total, joinable)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def find_devices(
    request: str, environ: Mapping[str, str], driver: NvidiaDriver | None, *, many_small: bool = False
) -> list[Device]:
    """The devices behind ``--devices``: ``auto``, ``gpu``, ``gpu:0,1``, ``gpu:GPU-5f3c…``, ``cpu`` or ``cpu:2``.

    Cards are those of CUDA_VISIBLE_DEVICES, where it is set (numbers in the order of the PCI bus, UUIDs, MIG
    instances), that the request names too. ``auto`` falls back to CPU slots. ``many_small`` says that trials need
    little memory, so that a slot gets one core. Raises UsageError when the request is wrong or leaves nothing.
    """
    kind, _, names = request.strip().partition(":")
    if kind not in ("auto", "gpu", "cpu") or (kind == "auto" and names) or (":" in request and not names):
        raise UsageError(f"--devices {request}: choose auto, gpu, gpu:0,1, gpu:UUID, cpu or cpu:2")
    if kind == "cpu":
        return cpu_slots(_slot_count(request, names) if names else _usual_slots(many_small))
    try:
        cards = driver.cards() if driver else []
    except DeviceLost:
        cards = [[]]
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    visible = [device for card in cards for device in card] if listed is None else _visible(listed, cards)
    if not visible and kind == "auto":
        if not all(cards) and re.match(r"\d|GPU-|MIG-", "0" if listed is None else listed.strip()):
            lost = f"{cards.count([])} NVIDIA card(s) of this machine do not answer (see nvidia-smi)"
            raise UsageError(f"--devices auto: {lost}; mend it, or choose --devices cpu")
        return cpu_slots(_usual_slots(many_small))
    if not visible:
        raise UsageError(f"--devices {request}: {_why_no_card(listed, driver)}")
    return _requested(request, names, cards, visible) if names else visible


def cpu_slots(count: int) -> list[Device]:
    """``count`` slots that share the machine's cores."""
    return [Device(f"cpu:{index}", f"cpu {index}", "cpu") for index in range(count)]


def _slot_count(request: str, text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise UsageError(f"--devices {request}: {text!r} is not a number of CPU slots")
    return int(text)


def _usual_slots(many_small: bool) -> int:
    if many_small:
        return min(8, usable_cores())
    # Two cores a slot keep one trial busy; memory limits large machines.
    return max(1, min(usable_cores() // 2, psutil.virtual_memory().available // _BYTES_PER_CPU_SLOT))


def _visible(listed: str, cards: Sequence[Sequence[Device]]) -> list[Device]:
    """The devices that CUDA_VISIBLE_DEVICES leaves, in its order."""
    visible: list[Device] = []
    for entry in listed.split(","):
        matches = _matching(entry, cards)
        if not matches:
            break  # as CUDA does: what stands behind an invalid entry is not visible
        visible += [device for device in matches if device not in visible]
    return visible


def _matching(entry: str, cards: Sequence[Sequence[Device]]) -> list[Device]:
    """The devices behind a card's number, or the beginning of exactly one card's or instance's UUID."""
    entry = entry.strip()
    if re.fullmatch(r"\d+", entry):
        index = int(entry)
        return list(cards[index]) if index < len(cards) else []
    if not entry.startswith(("GPU-", "MIG-")):
        return []
    matches = [device for card in cards for device in card if device.id.startswith(entry)]
    return matches if len(matches) == 1 else []


def _requested(request: str, names: str, cards: Sequence[Sequence[Device]], visible: Sequence[Device]) -> list[Device]:
    chosen: list[Device] = []
    for entry in names.split(","):
        matches = _matching(entry, cards)
        if not matches:
            raise UsageError(f"--devices {request}: there is no card {entry.strip()!r} (this machine has {len(cards)})")
        chosen += [device for device in matches if device in visible and device not in chosen]
    if not chosen:
        raise UsageError(f"--devices {request}: CUDA_VISIBLE_DEVICES allows none of these cards")
    return chosen


def _why_no_card(listed: str | None, driver: NvidiaDriver | None) -> str:
    if driver is None:
        return "no NVIDIA driver answers on this machine (nvidia-smi shows whether there is one); try --devices cpu:2"
    if listed is not None:
        return f"CUDA_VISIBLE_DEVICES={listed} leaves no card of this machine"
    return "the NVIDIA driver shows no card that answers"


def answered(ask: Callable[[], T]) -> T:
    """What ``ask`` finds out from the driver, which may hang for ever: on a thread, so that Ctrl-C is heard meanwhile.

    Raises what ``ask`` raises, and UsageError after DISCOVERY_SECONDS.
    """
    answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((True, ask()))
        except Exception as error:
            answers.put((False, error))

    threading.Thread(target=run, name="discovery", daemon=True).start()
    try:
        good, answer = answers.get(timeout=DISCOVERY_SECONDS)
    except queue.Empty:
        wait = f"the NVIDIA driver has not answered in {DISCOVERY_SECONDS:.0f} s (does nvidia-smi?)"
        raise UsageError(f"{wait}: mend it, or choose --devices cpu") from None
    if not good:
        raise answer
    return answer


def ask(read: Callable[[str], Reading], device_id: str, post: Callable[[str, Reading | DeviceLost], None]) -> None:
    """Returns at once; on a thread, ``post`` is told what ``read`` says of a card, or the DeviceLost that it raises."""

    def run() -> None:
        try:
            answer: Reading | DeviceLost = read(device_id)
        except DeviceLost as error:
            answer = error
        post(device_id, answer)

    threading.Thread(target=run, name=f"ask-{device_id}", daemon=True).start()


def most_together(devices: Iterable[Device]) -> int:
    """How many cards a trial can have at most: those of one node that can work together."""
    return max(Counter(device.node for device in devices if device.joinable).values(), default=0)


def child_environment(devices: Sequence[Device], slots: int, jobs_per_device: int = 1) -> dict[str, str]:
    """Environment variables that keep a trial on its devices.

    ``slots`` devices, each with ``jobs_per_device`` trials, share this machine's cores; those of a cluster have theirs.
    """
    cores = devices[0].cores or usable_cores() // max(1, slots)
    threads = max(1, cores // jobs_per_device)
    variables = {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    if devices[0].kind == "gpu":
        variables["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(device.cuda for device in devices)
    else:
        variables["CUDA_VISIBLE_DEVICES"] = ""
    return variables
