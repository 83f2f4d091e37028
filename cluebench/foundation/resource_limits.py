"""How much of this machine is this process's: what its affinity, its control groups and its Slurm job leave to it.

Under Slurm's default (``task/none``) nothing keeps a job on its own cores, and a container sees all of its host's: who
starts a thread for each core of the machine takes what is given to others.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MOUNT, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores, the least that any of them allows; at least one.

    Slurm's is what each task of the job has, else what the job has on this node. Part of a core counts as one.
    """
    mask = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    job = _number(os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE"))
    return max(1, math.ceil(min([mask, *_core_limits(), *([job] if job else [])])))


def memory_limit() -> int | None:
    """Bytes, the least that any of them allows; None where nothing limits it but the machine."""
    job = _number(os.environ.get("SLURM_MEM_PER_NODE"))  # MiB; 0: all of the node's
    if not job:
        per_core = _number(os.environ.get("SLURM_MEM_PER_CPU")) or 0
        job = per_core * (_number(os.environ.get("SLURM_CPUS_ON_NODE")) or 0)
    limits = [_number(text) for group in _groups("memory") for text in _texts(group, "memory.max", _V1_MEMORY)]
    return min([limit for limit in (*limits, job << 20) if limit], default=None)


_V1_MEMORY = "memory.limit_in_bytes"


def _core_limits() -> Iterator[float]:
    """Of the control groups: version 2 writes ``200000 100000`` or ``max 100000``, version 1 two files and -1."""
    for group in _groups("cpu"):
        for text in _texts(group, "cpu.max", "cpu.cfs_quota_us"):
            quota, _, period = text.partition(" ")
            period = period or next(_texts(group, "cpu.cfs_period_us"), "")
            if (microseconds := _number(quota)) and (of := _number(period)):
                yield microseconds / of


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's control group and those around it, in version 2 and in the controller's version 1.

    A container may see its own group as the mount's top while its membership names the host's: what isn't there is
    passed over by who reads it.
    """
    try:
        lines = _MEMBERSHIP.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" or controller in controllers.split(","):
            mount, group = _MOUNT / ("" if number == "0" else controller), PurePosixPath(path)
            yield from (mount / str(one).lstrip("/") for one in (group, *group.parents))


def _texts(group: Path, *names: str) -> Iterator[str]:
    for name in names:
        try:
            yield (group / name).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            continue


def _number(text: str | None) -> int | None:
    """None for ``max``, -1 and whatever else is no number."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None
