"""The loop on simulated devices and time."""

from pathlib import Path

from cluebench.machine.nvidia import Device, Reading
from cluebench.pretrained.model import Model
from cluebench.records.paths import TrialPaths
from cluebench.scheduler.loop import loop
from cluebench.scheduler.loop.grid_state import GridState
from cluebench.scheduler.plan.estimates import GIB
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job
from cluebench.scheduler.plan.trials import build_plan
from tests.simulated import Outcome, SimulatedEngine, SimulatedTime, SimulatedTrials


class Witness:
    def __init__(self):
        self.notes, self.lines = [], []  # about the whole grid, about a job

    def hear(self, text, job):
        (self.lines if job else self.notes).append(text)

    def tick(self, now):
        return float("inf")


def job_of(trial, number=0):
    return Job(
        trial, number, TrialPaths(Path("/nonexistent"), trial.name), Path("/nonexistent/lock"), f"hash-{trial.key}"
    )


def gpu(number, gigabytes=24, joinable=True):
    return Device(f"GPU-{number}", f"gpu {number}", "gpu", "Test Card", gigabytes * GIB, joinable)


def empty(device_id, gigabytes=24):
    return Reading(gigabytes * GIB, gigabytes * GIB, {})


class Run:
    """A scheduler on simulated time."""

    def __init__(self, trials, devices, outcome=None, memory=None, orphans=(), jobs_per_device=1,
                 unwritable=lambda: None, **flags):  # fmt: skip
        self.time, self.witness = SimulatedTime(), Witness()
        self.jobs = [job_of(trial, number) for number, trial in enumerate(trials)]
        by_key = {job.key: job for job in self.jobs}
        self.engine = SimulatedEngine(
            self.time, devices, by_key, outcome or (lambda job, ids: Outcome()), memory,
            dict(orphans),
        )  # fmt: skip
        self.grid = GridState(
            SimulatedTrials(self.jobs, self.engine.result_of, unwritable=unwritable), self.engine, [self.witness],
            self.time, GridFlags(jobs_per_device=jobs_per_device, **flags),
        )  # fmt: skip
        self.ledger, self.memory_model = self.grid.ledger, self.grid.fit.memory

    def run(self):
        loop.run(self.grid)
        return self

    def states(self):
        return [job.state for job in self.jobs]


def trials(*tasks, model="ernie-3.0-base-zh", **selection):
    chosen = {"learning_rates": [3e-5], "batch_sizes": [24], "dropouts": [0.1]} | selection
    return build_plan([Model.of(model)], GridFlags(tasks=tasks, **chosen))
