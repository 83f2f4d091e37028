"""The part of this machine that this process may use, by its affinity, control groups and Slurm job.

Slurm's default (``task/none``) does not bind a job to its cores, and a container sees all cores of its host. A thread
for each core of the machine would slow down other jobs.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MOUNT, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores: the smallest limit, at least one. Part of a core counts as one.

    Slurm's limit is the cores of each task of the job, else the job's cores on this node.
    """
    limits: list[float] = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    for group in _groups("cpu"):
        # version 2 writes "200000 100000" or "max 100000"; version 1 two files, and -1 without a limit
        for text in _texts(group, "cpu.max", "cpu.cfs_quota_us"):
            quota, _, period = text.partition(" ")
            period = period or next(_texts(group, "cpu.cfs_period_us"), "")
            if (used := _number(quota)) and (of := _number(period)):
                limits.append(used / of)
    if job := _slurm("SLURM_CPUS_PER_TASK") or _slurm("SLURM_CPUS_ON_NODE"):
        limits.append(job)
    return max(1, math.ceil(min(limits)))


def memory_limit() -> int | None:
    """Bytes: the smallest limit; None without any."""
    # MiB; 0: all memory of the node
    job = _slurm("SLURM_MEM_PER_NODE") or _slurm("SLURM_MEM_PER_CPU") * _slurm("SLURM_CPUS_ON_NODE")
    names = ("memory.max", "memory.limit_in_bytes")  # versions 2 and 1
    limits = [_number(text) for group in _groups("memory") for text in _texts(group, *names)]
    return min([limit for limit in (*limits, job << 20) if limit], default=None)


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's control group and its parents, in version 2 and in the controller's version 1.

    Some may not exist: a container may see its own group as the mount's top while its membership has the host's path.
    """
    try:
        lines = _MEMBERSHIP.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" or controller in controllers.split(","):
            mount, group = _MOUNT / ("" if number == "0" else controller), PurePosixPath(path)
            yield from (mount / str(folder).lstrip("/") for folder in (group, *group.parents))


def _texts(group: Path, *names: str) -> Iterator[str]:
    for name in names:
        try:
            yield (group / name).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            continue


def _slurm(name: str) -> int:
    """A number in the environment; 0 without it."""
    return _number(os.environ.get(name)) or 0


def _number(text: str | None) -> int | None:
    """A whole number; None for ``max``, -1 and other texts."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None
