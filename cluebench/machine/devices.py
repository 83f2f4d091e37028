"""Which devices ``--devices`` names: NVIDIA cards or slots of CPU cores, and how a trial is kept on its own."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import psutil

from cluebench.foundation.environment import usable_cores
from cluebench.foundation.errors import UsageError
from cluebench.machine.nvidia import Device, DeviceLost, NvidiaDriver

#: Memory one CPU slot should have at least when their number is chosen for the user.
_BYTES_PER_CPU_SLOT = 8 << 30


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
