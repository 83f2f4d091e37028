"""NVIDIA cards through NVML: which there are, their memory and energy.

The only module that touches NVML (through ``pynvml``). Cards go by UUID, as indices change with drivers and environment
variables. Memory is asked for on a thread a question: a driver in trouble can take minutes to answer about one, and
must hold neither the scheduler's loop nor the other cards meanwhile.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, TypeVar

from cluebench.foundation.errors import UsageError

#: Seconds the driver has to say at the start which cards there are.
DISCOVERY_SECONDS = 30.0

T = TypeVar("T")


@dataclass(frozen=True)
class Device:
    """A card, a MIG instance of a card, or a slot of CPU cores."""

    id: str  # a card's or instance's UUID; "cpu:0", "npu:0"
    label: str  # for people: "gpu 0", "gpu 0 mig 1", "cpu 0"
    kind: str  # "gpu", "cpu", "npu" or "xpu"
    name: str = ""  # the card's product name
    total_bytes: int | None = None  # None: not accounted for
    joinable: bool = False  # several of them can run one trial
    old_name: str = ""  # of an instance, before drivers of 2021: "MIG-GPU-<uuid of the card>/1/0"

    @property
    def takes_one(self) -> bool:
        """Whether it takes one trial at a time, whatever --jobs_per_device: a card of unknown memory."""
        return self.kind != "cpu" and self.total_bytes is None


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


class DriverFails(UsageError):
    """There is an NVIDIA driver, but it can't start, so nobody knows which cards there are."""

    def __init__(self, error: Exception):
        super().__init__(
            f"the NVIDIA driver fails: {error}. Start the container again if it has lost its cards; reboot the machine "
            "if its driver was updated or hangs; or choose --devices cpu"
        )


class NvidiaDriver:
    """NVML, by UUID. Every method but ``close`` raises DeviceLost when the card or the driver fails."""

    def __init__(self, pynvml: ModuleType):
        self._nvml: Any = pynvml
        self._handles: dict[str, Any] = {}
        self._restarting, self._restarts = threading.Lock(), 0
        self.lost: dict[int, str] = {}  # number of a card that did not answer `cards` → the driver's words

    @classmethod
    def open(cls) -> NvidiaDriver | None:
        """None on a machine without a driver. Raises DriverFails where there is one that can't start."""
        try:
            import pynvml
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            if error.value in (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED):
                return None
            raise DriverFails(error) from None
        return cls(pynvml)

    def cards(self) -> list[list[Device]]:
        """One item a card in NVML's order, which is that of the PCI bus: the card alone, or its MIG instances.

        A card that does not answer is an empty list, so that the numbers of the others stay right; see `lost`. Raises
        DriverFails when not even their number is known.
        """
        self.lost.clear()
        try:
            count = self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError as error:
            raise DriverFails(error) from None
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

    def _total_bytes(self, handle: Any) -> int | None:
        """None for a card that shares the machine's memory, such as the GB10: it does not say how much it has."""
        try:
            return int(self._nvml.nvmlDeviceGetMemoryInfo(handle).total)
        except self._nvml.NVMLError as error:
            if error.value == self._nvml.NVML_ERROR_NOT_SUPPORTED:
                return None
            raise

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
            card = _text(nvml.nvmlDeviceGetUUID(handle))
            return [
                replace(self._device(instance, f"gpu {index} mig {number}"), old_name=self._old_name(card, instance))
                for number, instance in instances
            ]
        except nvml.NVMLError as error:
            self.lost[index] = str(error)
            return []

    def _old_name(self, card: str, instance: Any) -> str:
        try:
            numbers = (
                self._nvml.nvmlDeviceGetGpuInstanceId(instance),
                self._nvml.nvmlDeviceGetComputeInstanceId(instance),
            )
        except self._nvml.NVMLError:
            return ""
        return f"MIG-{card}/{numbers[0]}/{numbers[1]}"

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
        return Device(uuid, label, "gpu", _text(nvml.nvmlDeviceGetName(handle)), self._total_bytes(handle), joinable)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


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
