"""Cores and memory that control groups of both versions, an affinity mask and a Slurm job leave to a process."""

import os

import pytest

from cluebench.foundation import resource_limits
from cluebench.foundation.resource_limits import memory_limit, usable_cores

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine("0::/a/b", {"a/cpu.max": "200000 100000"}, cores=8, SLURM_…="…"): what a process of it sees."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)

    def see(membership="", files=None, cores=8, **variables):
        (tmp_path / "membership").write_text(membership)
        for name, text in (files or {}).items():
            (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "cgroup" / name).write_text(text + "\n")
        monkeypatch.setattr(resource_limits, "_MEMBERSHIP", tmp_path / "membership")
        monkeypatch.setattr(resource_limits, "_MOUNT", tmp_path / "cgroup")
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return usable_cores(), memory_limit()

    return see


def test_without_limits_it_is_the_affinity_mask(machine):
    assert machine() == (8, None)
    assert machine("0::/x", {"x/cpu.max": "max 100000", "x/memory.max": "max"}, cores=3) == (3, None)


def test_version_2_of_the_group_and_of_those_around_it(machine):
    files = {"a/b/cpu.max": "500000 100000", "a/cpu.max": "250000 100000", "a/b/memory.max": str(6 * GIB)}
    assert machine("0::/a/b", files | {"a/memory.max": str(9 * GIB)}) == (3, 6 * GIB)


def test_version_1_and_a_container_that_sees_its_group_at_the_top(machine):
    files = {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "50000", "memory/memory.limit_in_bytes": "7"}
    membership = "4:cpu,cpuacct:/docker/f00\n3:memory:/docker/f00\n0::/\nodd line"
    assert machine(membership, files) == (3, 7)
    assert machine(membership, files | {"cpu/cpu.cfs_quota_us": "-1"}) == (8, 7)


@pytest.mark.parametrize(
    "variables, cores, memory",
    [({"SLURM_CPUS_ON_NODE": "4"}, 4, None), ({"SLURM_CPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "2"}, 2, None),
     ({"SLURM_CPUS_ON_NODE": "64"}, 8, None), ({"SLURM_CPUS_ON_NODE": "some"}, 8, None),
     ({"SLURM_MEM_PER_NODE": "2048"}, 8, 2 * GIB), ({"SLURM_MEM_PER_NODE": "0"}, 8, None),
     ({"SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_ON_NODE": "3"}, 3, 3 * GIB)],
)  # fmt: skip
def test_a_slurm_job_has_what_slurm_gave_it(machine, variables, cores, memory):
    assert machine(**variables) == (cores, memory)
