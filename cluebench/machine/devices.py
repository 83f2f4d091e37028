"""Which devices ``--devices`` names: cards or slots of CPU cores; and the variables that keep a trial on its own."""

import os
import re
from collections.abc import Mapping, Sequence
from itertools import chain, takewhile

import psutil

from cluebench.foundation.errors import UsageError
from cluebench.foundation.notices import notice
from cluebench.foundation.resource_limits import memory_limit, usable_cores
from cluebench.machine.nvidia import Device, NvidiaDriver

#: Memory that each CPU slot can use when the user gives no number of slots.
_BYTES_PER_CPU_SLOT = 8 << 30

#: The first entry of CUDA_VISIBLE_DEVICES where a user wants no card.
_NO_CARD = ("", "-1", "nodevfiles", "none", "void")

#: Cards without a driver that we can ask → the variables that say which of them a process sees: the one that Paddle's
#: launcher reads, and the one of the card's own runtime. A trial gets all of them. The first that is set here limits
#: the cards that we use.
_OTHER_CARDS = {
    "npu": ("ASCEND_RT_VISIBLE_DEVICES", "NPU_VISIBLE_DEVICES"),
    "xpu": ("XPULINK_VISIBLE_DEVICES", "XPU_VISIBLE_DEVICES"),
}

_SYNTAX = re.compile(rf"auto|gpu(:.+)?|cpu(:[1-9]\d{{0,3}})?|(?:{'|'.join(_OTHER_CARDS)}):\d{{1,4}}(,\d{{1,4}})*")


def find_devices(
    request: str, environ: Mapping[str, str], driver: NvidiaDriver | None, *, many_small: bool = False
) -> list[Device]:
    """The devices behind ``--devices``: ``auto``, ``gpu``, ``gpu:0,1``, ``gpu:GPU-5f3c…``, ``cpu:2`` or ``npu:0``.

    NVIDIA cards: those that both CUDA_VISIBLE_DEVICES, if set, and the request name (by number in the order of the PCI
    bus, by UUID, or as MIG instances). ``auto`` is CPU slots if there is no card, or if the variable hides all.
    ``many_small``: trials need little memory, so each core is a slot. A notice names each card that does not answer.
    Raises UsageError if the request is wrong or leaves no device.
    """
    if not _SYNTAX.fullmatch(request.strip()):
        raise UsageError(f"--devices {request}: choose auto, gpu, gpu:0,1, gpu:UUID, cpu, cpu:2, npu:0,1 or xpu:0,1")
    kind, _, names = request.strip().partition(":")
    if kind == "cpu":
        return cpu_slots(int(names) if names else _usual_slots(many_small))
    if kind in _OTHER_CARDS:
        return _other_cards(request, kind, names, environ)
    cards, listed = driver.cards() if driver else [], environ.get("CUDA_VISIBLE_DEVICES")
    for number, reason in driver.lost.items() if driver else ():
        if listed is None or str(number) in listed.split(","):
            notice(f"gpu {number} does not answer ({reason}) and is left out; try nvidia-smi, or reboot the machine")
    visible = list(chain(*cards))
    if listed is not None:  # as in CUDA, an invalid entry hides all entries after it
        matches = takewhile(bool, (_matching(entry, cards) for entry in listed.split(",")))
        visible = list(dict.fromkeys(chain(*matches)))
    if not visible and kind == "auto":
        _refuse_cpu_instead_of_cards(environ, cards)
        return cpu_slots(_usual_slots(many_small))
    if not visible:
        why = _why_no_card(listed, cards) if driver else "no NVIDIA driver answers on this machine (does nvidia-smi?)"
        raise UsageError(f"--devices {request}: {why}; try --devices cpu:2")
    chosen = _requested(request, names, cards, visible) if names else visible
    for device in chosen:
        if device.takes_one:
            notice(f"{device.label} ({device.name}) does not report its memory size: it gets one trial at a time")
    return chosen


def _refuse_cpu_instead_of_cards(environ: Mapping[str, str], cards: Sequence[Sequence[Device]]) -> None:
    """Raises UsageError if ``auto`` would use the CPU although the user, or Slurm, gave this process a card."""
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    if cards and (listed is None or listed.split(",")[0].strip().lower() not in _NO_CARD):
        raise UsageError(f"--devices auto: {_why_no_card(listed, cards)}; repair it, or choose --devices cpu")
    if given := environ.get("SLURM_JOB_GPUS"):
        node = f"Slurm has given this job GPU {given} of {environ.get('SLURMD_NODENAME', 'this node')}"
        raise UsageError(f"--devices auto: {node}, but no card answers there (see nvidia-smi); or --devices cpu")


def _other_cards(request: str, kind: str, names: str, environ: Mapping[str, str]) -> list[Device]:
    """Cards by number; nothing else is known of them."""
    listed = next((environ[variable] for variable in _OTHER_CARDS[kind] if variable in environ), "all")
    allowed = [entry.strip() for entry in listed.split(",")]
    chosen = [number for number in dict.fromkeys(names.split(",")) if listed == "all" or number in allowed]
    if not chosen:
        raise UsageError(f"--devices {request}: {' and '.join(_OTHER_CARDS[kind])} allow none of these cards")
    return [Device(f"{kind}:{number}", f"{kind} {number}", kind) for number in chosen]


def cpu_slots(count: int) -> list[Device]:
    """``count`` slots that share the machine's cores."""
    return [Device(f"cpu:{index}", f"cpu {index}", "cpu") for index in range(count)]


def _usual_slots(many_small: bool) -> int:
    if many_small:
        return min(8, usable_cores())
    # Two cores keep one trial busy; on large machines memory is the limit.
    available = psutil.virtual_memory().available
    return max(1, min(usable_cores() // 2, min(available, memory_limit() or available) // _BYTES_PER_CPU_SLOT))


def _matching(entry: str, cards: Sequence[Sequence[Device]]) -> list[Device]:
    """The devices behind a card's number, or behind the start of exactly one UUID."""
    entry = entry.strip()
    if re.fullmatch(r"\d+", entry):
        return list(cards[int(entry)]) if int(entry) < len(cards) else []
    if not entry.startswith(("GPU-", "MIG-")):
        return []
    matches = [device for device in chain(*cards) if device.id.startswith(entry) or device.old_name == entry]
    return matches if len(matches) == 1 else []


def _requested(request: str, names: str, cards: Sequence[Sequence[Device]], visible: Sequence[Device]) -> list[Device]:
    matches = {entry.strip(): _matching(entry, cards) for entry in names.split(",")}
    if missing := [entry for entry, devices in matches.items() if not devices]:
        raise UsageError(f"--devices {request}: there is no card {missing[0]!r} (this machine has {len(cards)})")
    chosen = [device for device in dict.fromkeys(chain(*matches.values())) if device in visible]
    if not chosen:
        raise UsageError(f"--devices {request}: CUDA_VISIBLE_DEVICES allows none of these cards")
    return chosen


def _why_no_card(listed: str | None, cards: Sequence[Sequence[Device]]) -> str:
    lost = cards.count([])
    if lost and (listed is None or re.match(r"\d|GPU-|MIG-", listed.strip())):
        return f"{lost} NVIDIA card(s) of this machine do not answer (see nvidia-smi)"
    if listed is not None:
        return f"CUDA_VISIBLE_DEVICES={listed} names no card of this machine, which has {len(cards)}"
    return "the NVIDIA driver shows no card"


def child_environment(devices: Sequence[Device], slots: int, jobs_per_device: int = 1) -> dict[str, str]:
    """Environment variables that keep a trial on its ``devices``.

    ``slots`` devices, each with ``jobs_per_device`` trials, share this machine's cores.
    """
    threads = max(1, usable_cores() // max(1, slots) // jobs_per_device)
    variables = {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
    if devices[0].kind == "gpu":
        variables["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(device.id for device in devices)
    elif devices[0].kind == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = ""
    for variable in _OTHER_CARDS.get(devices[0].kind, ()):
        variables[variable] = ",".join(device.id.partition(":")[2] for device in devices)
    return variables
