"""A real Slurm of this machine alone: munge, slurmctld and two slurmd on loopback, in a temporary folder.

Needs root and Debian's slurm-wlm and munge; without them the tests are skipped. A node is a slurmd under a name of its
own (``slurmd -N``) with two cores and two cards that exist for Slurm only. Everything is ended by its process id.
"""

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.grid.conftest import fake_driver, grid, until  # noqa: F401 (fixtures)
from tests.scripts.conftest import demo  # noqa: F401

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES, CORES, CARDS = ("n1", "n2"), 2, 2

#: What a site decides and jobs feel: how Slurm tracks processes, and how it keeps them on their cores.
CONFIGURATIONS = {
    "cgroup": ("proctrack/cgroup", "task/cgroup,task/affinity"),
    "linuxproc": ("proctrack/linuxproc", "task/none"),
    "affinity": ("proctrack/linuxproc", "task/affinity"),
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Slurm:
    """A cluster of two nodes, and its commands."""

    def __init__(self, folder, tracking, tasks):
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self.environment.pop("OMP_NUM_THREADS", None)
        self.processes = []
        for name in ("state", *NODES):
            (folder / name).mkdir()
        for node in NODES:
            for card in range(CARDS):
                os.mknod(folder / f"card-{node}-{card}", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        self._write(tracking, tasks)

    def _write(self, tracking, tasks):
        folder, host = self.folder, socket.gethostname()
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs={CORES} Boards=1 "
            f"SocketsPerBoard=1 CoresPerSocket={CORES} ThreadsPerCore=1 RealMemory=4000 Gres=gpu:{CARDS}"
            for node in NODES
        )
        (folder / "slurm.conf").write_text(f"""\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={free_port()}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=8
CredType=cred/munge
MpiDefault=none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType={tracking}
TaskPlugin={tasks}
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
KillWait=20
InactiveLimit=0
ReturnToService=2
SlurmdTimeout=10
JobRequeue=1
{nodes}
PartitionName=all Nodes={",".join(NODES)} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
""")
        (folder / "gres.conf").write_text(
            "".join(f"NodeName={node} Name=gpu File={folder}/card-{node}-[0-{CARDS - 1}]\n" for node in NODES)
        )
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\nConstrainCores=yes\n")

    def start_all(self):
        folder = self.folder
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o600)
        files = [f"--{what}-file={folder}/munge.{what}" for what in ("key", "log", "pid", "seed")]
        self.start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files)
        until((folder / "munge.socket").exists, what="munged")
        self.start("slurmctld", "-D", "-c")
        for node in NODES:
            self.start_node(node)
        until(lambda: self.run("sinfo", "-h", "-o", "%T %D").stdout == f"idle {len(NODES)}\n", 20, "the nodes")

    def start(self, *command):
        with open(self.folder / "daemons.log", "a") as log:
            process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)
        return process

    def start_node(self, node):
        return self.start("slurmd", "-D", "-N", node)

    def run(self, *command, **environment):
        environment = {**self.environment, **environment, "SLURM_CONF": self.environment["SLURM_CONF"]}
        return subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=60)

    def close(self):
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def job(self, number):
        """What Slurm says of a job, or of one task of an array: {"JobState": "RUNNING", …}."""
        words = self.run("scontrol", "show", "job", "-o", number).stdout.split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def tasks(self, number):
        """The states of all tasks of an array."""
        result = self.run("scontrol", "show", "job", "-o", number).stdout
        return [word.removeprefix("JobState=") for word in result.split() if word.startswith("JobState=")]

    def wait_for(self, number, state, timeout=90):
        until(lambda: set(self.tasks(number)) == {state}, timeout, f"job {number}: {state}")

    def wait_for_restart(self, number):
        """Until a task that was queued again has started; Slurm lets it wait for as long as a credential lasts."""

        def restarted():
            job = self.job(number)
            return job["Restarts"] != "0" and job["JobState"] in ("RUNNING", "COMPLETED")

        try:
            until(restarted, 120)
        except AssertionError as error:
            commands = (("scontrol", "show", "job"), ("scontrol", "show", "node"), ("sinfo", "-R"))
            shown = [self.run(*command).stdout for command in commands]
            log = (self.folder / "slurmctld.log").read_text()
            raise AssertionError("\n".join([f"job {number}: {error}", *shown, log])) from error


@pytest.fixture(scope="module", params=["cgroup", "linuxproc"])  # jobs end under affinity as under linuxproc
def cluster(request, tmp_path_factory):
    if os.getuid() or not all(map(shutil.which, PROGRAMS)):
        pytest.skip("no root, or no slurm-wlm")
    folder = tmp_path_factory.mktemp("slurm")
    made = Slurm(folder, *CONFIGURATIONS[request.param])
    made.name = request.param
    try:
        made.start_all()
    except AssertionError as error:
        made.close()
        if request.param == "cgroup":
            pytest.skip(f"no control groups of Slurm's own here: {error}")
        raise
    yield made
    made.close()


@pytest.fixture
def slurm(cluster, grid, fake_driver, tmp_path):  # noqa: F811
    """The cluster, with ``submit``: slurm.sbatch of a repository of stand-in scripts, on cards of a stand-in driver."""
    (grid.repository / ".venv").symlink_to(Path(sys.executable).parent.parent)
    shutil.copy(ROOT / "grid_search_tools" / "slurm.sbatch", grid.repository / "grid_search_tools")
    cards = tmp_path / "cards.txt"
    cards.write_text("".join(f"card GPU-{name * 4} Test-80G 81920 81000 ok\n" for name in "ab"))
    environment = {**grid.environment, "LD_LIBRARY_PATH": str(fake_driver), "FAKE_NVML": str(cards)}
    environment.pop("OMP_NUM_THREADS", None)

    def submit(*flags, options=(), script=("grid_search_tools", "slurm.sbatch")):
        sbatch_options = ["--parsable", "--cpus-per-task=1", f"--chdir={tmp_path}", *options]
        command = ["some-model", "--data_dir", grid.data, "--run_root", grid.runs, *flags]
        result = cluster.run("sbatch", *sbatch_options, grid.repository.joinpath(*script), *command, **environment)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    cluster.submit = submit
    cluster.logs = lambda number: [path.read_text() for path in sorted(tmp_path.glob(f"clue-grid-{number}_*.out"))]
    yield cluster
    cluster.run("scancel", "--full", "--user=root")
    until(lambda: not cluster.run("squeue", "-h").stdout, 60, "the end of all jobs")
