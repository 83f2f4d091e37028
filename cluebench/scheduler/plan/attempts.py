"""One start of a trial's process: the record that the scheduler keeps, and that lies in the trial's lock meanwhile."""

import os
import socket
import time
from dataclasses import dataclass, field

from cluebench.foundation.json_files import Count, Pid, Positive, Seconds


@dataclass(frozen=True)
class Starter:
    """The process that started a trial."""

    pid: Pid = 0  # 0: unknown
    start_time: str | None = None
    is_worker: bool = False  # its trials end with it


@dataclass
class Attempt:
    """One start of a trial's process. Every field has a default, as a lock may be of another version or cut short."""

    pid: Pid = 0  # 0: no process yet, or unknown
    start_time: str = ""  # of the process, as launch.start_time gives it
    host: str = field(default_factory=socket.gethostname)
    mark: str = ""  # in the environment of all its processes
    configuration_hash: str = ""
    devices: list[str] = field(default_factory=list)  # ids
    labels: list[str] = field(default_factory=list)  # of the devices
    cards: Positive = 1
    accumulation: Positive = 1  # micro-batches for each optimizer step on a card
    promised_bytes: Count = 0  # on each device
    started: Seconds = field(default_factory=time.time)  # since 1970
    starter: Starter = field(default_factory=Starter)
    batch_job: str = ""  # "job 4711_2", if a batch system started the starter
    number: Positive = 1  # first, second … attempt at the trial
    finished: Seconds | None = None
    outcome: str | None = None  # "done", "paused", "interrupted" or a kind of failure
    detail: str = ""

    @property
    def who(self) -> str:
        """``job 4711_2 on n2`` or ``process 815 on n1``; empty while the process has not written its record."""
        return f"{self.batch_job or f'process {self.pid}'} on {self.host}" if self.pid else ""

    @property
    def seconds(self) -> float:
        """From its start to its end, or to now."""
        return (self.finished or time.time()) - self.started


def batch_job() -> str:
    """``job 4711_2``, Slurm's name for the job of this process; empty outside Slurm."""
    array, number, job = (os.environ.get(f"SLURM_{name}") for name in ("ARRAY_JOB_ID", "ARRAY_TASK_ID", "JOB_ID"))
    return f"job {array}_{number}" if array and number else f"job {job}" if job else ""
