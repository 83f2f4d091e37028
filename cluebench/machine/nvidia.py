"""NVIDIA cards through NVML: which there are, their memory.

Only this module uses NVML (through ``pynvml``). It identifies cards by UUID, as numbers change with drivers and
environment variables. A driver in trouble can take minutes to answer about one card: ask it on a thread.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, TypeVar

from cluebench.foundation.errors import UsageError
from cluebench.foundation.time_limit import answers

#: Seconds that the driver has at the start to report its cards.
DISCOVERY_SECONDS = 30.0

T = TypeVar("T")


@dataclass(frozen=True)
class Device:
    """A card, a MIG instance of a card, or a slot of CPU cores."""

    id: str  # a card's or instance's UUID; "cpu:0", "npu:0"
    label: str  # for people: "gpu 0", "gpu 0 mig 1", "cpu 0"
    kind: str  # "gpu", "cpu", "npu" or "xpu"
    name: str = ""  # the card's product name
    total_bytes: int | None = None  # None: its memory is not accounted for
    joinable: bool = False  # several of them can run one trial
    old_name: str = ""  # of an instance, before drivers of 2021: "MIG-GPU-<uuid of the card>/1/0"

    @property
    def takes_one(self) -> bool:
        """Whether it runs one trial at a time, whatever --jobs_per_device: a card of unknown memory."""
        return self.kind != "cpu" and self.total_bytes is None


@dataclass(frozen=True)
class Reading:
    """A card's memory at one moment, in bytes."""

    total: int
    free: int
    processes: Mapping[int, int]  # pid → bytes, if the driver reports them
    time: float = field(default_factory=time.time)  # seconds since 1970; not later than the memory was read


class DeviceLost(Exception):
    """The driver reports that a card is gone; if not ``certain``, it fails to answer about the card."""

    certain = True


class DriverFails(UsageError):
    """There is an NVIDIA driver, but it can't start, so the cards are unknown."""

    def __init__(self, error: Exception):
        super().__init__(
            f"the NVIDIA driver fails: {error}. Start the container again if it has lost its cards; reboot the machine "
            "if its driver was updated or hangs; or choose --devices cpu"
        )


class NvidiaDriver:
    """NVML, by UUID. Every method but ``close`` raises DeviceLost if the card or the driver fails."""

    def __init__(self, pynvml: ModuleType):
        self._nvml: Any = pynvml
        self._restarting, self._restarts = threading.Lock(), 0
        self.lost: dict[int, str] = {}  # number of a card that did not answer `cards` → the driver's error

    @classmethod
    def open(cls) -> "NvidiaDriver | None":
        """None on a machine without a driver. Raises DriverFails if the driver can't start."""
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

    def close(self) -> None:
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def versions(self) -> tuple[str, str]:
        """The driver's version, and the newest CUDA that it can run: ``("550.54.15", "12.4")``."""
        try:
            driver, cuda = self._nvml.nvmlSystemGetDriverVersion(), self._nvml.nvmlSystemGetCudaDriverVersion()
        except self._nvml.NVMLError as error:
            raise DeviceLost(str(error)) from None
        return driver, f"{cuda // 1000}.{cuda % 1000 // 10}"

    def cards(self) -> list[list[Device]]:
        """One list for each card, in the order of the PCI bus: the card alone, or its MIG instances.

        A card that does not answer is an empty list, so the numbers of the others stay right; see `lost`. Raises
        DriverFails if even the number of cards is unknown.
        """
        self.lost.clear()
        try:
            count = self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError as error:
            raise DriverFails(error) from None
        return [self._card(index) for index in range(count)]

    def _card(self, index: int) -> list[Device]:
        nvml, label = self._nvml, f"gpu {index}"
        try:
            handle, instances = nvml.nvmlDeviceGetHandleByIndex(index), []
            most = self._or_none(nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0  # 0 if the card is not split
            for number in range(most):  # numbers have gaps
                if (instance := self._or_none(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)) is not None:
                    gpu = self._or_none(nvml.nvmlDeviceGetGpuInstanceId, instance)
                    compute = self._or_none(nvml.nvmlDeviceGetComputeInstanceId, instance)
                    old_name = f"MIG-{nvml.nvmlDeviceGetUUID(handle)}/{gpu}/{compute}"
                    instances.append(replace(self._device(instance, f"{label} mig {number}"), old_name=old_name))
            return instances or [replace(self._device(handle, label), joinable=True)]
        except nvml.NVMLError as error:
            self.lost[index] = str(error)
            return []

    def _or_none(self, ask: Callable[..., Any], *values: Any) -> Any:
        """The driver's answer; None if it has none for this card."""
        with suppress(self._nvml.NVMLError):
            return ask(*values)

    def _device(self, handle: Any, label: str) -> Device:
        nvml, total = self._nvml, None
        try:
            total = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_NOT_SUPPORTED:  # as for the GB10, which shares the machine's memory
                raise
        return Device(nvml.nvmlDeviceGetUUID(handle), label, "gpu", nvml.nvmlDeviceGetName(handle), total)

    def read(self, device_id: str) -> Reading:
        """The card's memory now. Several threads may call it."""
        restarts = self._restarts
        try:
            return self._read(device_id)
        except self._nvml.NVMLError:
            self._restart(restarts)
        try:  # the reason may have been another card's trouble, or a session that ended with a reset
            return self._read(device_id)
        except self._nvml.NVMLError as error:
            lost = DeviceLost(str(error))
            lost.certain = error.value == self._nvml.NVML_ERROR_GPU_IS_LOST
            raise lost from None

    def _read(self, device_id: str) -> Reading:
        nvml, now = self._nvml, time.time()
        handle = nvml.nvmlDeviceGetHandleByUUID(device_id)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        # None inside containers, for instances, on old drivers
        processes = self._or_none(nvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()
        used = {int(process.pid): int(process.usedGpuMemory) for process in processes if process.usedGpuMemory}
        return Reading(int(memory.total), int(memory.free), used, now)

    def _restart(self, seen: int) -> None:
        """Opens a new session, once for all threads that saw the old one fail: a reset card needs it."""
        with self._restarting:
            if self._restarts == seen:
                self._restarts += 1
                self.close()
                with suppress(self._nvml.NVMLError):  # then the next read fails
                    self._nvml.nvmlInit()


def answered(ask: Callable[[], T]) -> T:
    """What ``ask`` returns or raises. It runs on a thread, as the driver may hang for ever: so Ctrl-C still works.

    Raises UsageError after DISCOVERY_SECONDS.
    """
    answer = answers({"driver": ask}, DISCOVERY_SECONDS).get("driver", TimeoutError())
    if isinstance(answer, TimeoutError):
        wait = f"the NVIDIA driver has not answered in {DISCOVERY_SECONDS:.0f} s (does nvidia-smi?)"
        raise UsageError(f"{wait}: repair it, or choose --devices cpu")
    if isinstance(answer, Exception):
        raise answer
    return answer
