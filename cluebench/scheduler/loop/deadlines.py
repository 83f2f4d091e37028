"""When a running trial must have logged a line, and when a trial that was asked to end is killed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cluebench.scheduler.plan.failures import FailureKind
from cluebench.scheduler.plan.jobs import Job
from cluebench.scheduler.processes.engine import GRACE, Engine

#: Seconds that a process may need to die of SIGKILL, before the scheduler gives it up with its card.
_DEATH_DUE = 60.0


@dataclass
class _Deadline:
    """Clock times of one running trial."""

    progress: float = float("inf")  # its log must have grown
    kill: float = float("inf")  # it is killed, and later given up
    killed: bool = False


class Deadlines:
    """Ends trials without progress, and kills those that do not end. ``timeout``: seconds without a log line."""

    def __init__(self, engine: Engine, clock: Callable[[], float], timeout: float):
        self._engine, self._clock, self._timeout = engine, clock, timeout or float("inf")
        self._of: dict[str, _Deadline] = {}  # by trial key
        self._resumed = float("-inf")  # when this process went on after it was suspended

    def begin(self, job: Job) -> None:
        """An attempt at a job begins."""
        job.ended_for = None
        self._of[job.key] = _Deadline(job.began + self._timeout)

    def forget(self, job: Job) -> None:
        """An attempt at a job has ended, or is given up."""
        self._of.pop(job.key, None)

    def end(self, job: Job, why: FailureKind, grace: float | None = None) -> None:
        """Asks a running trial to end; kills it after the grace period. The first reason counts."""
        job.ended_for = job.ended_for or why
        self._of[job.key] = _Deadline(kill=self._clock() + (GRACE if grace is None else grace))
        self._engine.stop(job.key)

    def suspended(self) -> None:
        """This process was suspended until now: silence before now does not count."""
        self._resumed = self._clock()

    def next_due(self) -> float:
        """Clock time at which `act` has something to do."""
        return min((min(due.progress, due.kill) for due in self._of.values()), default=float("inf"))

    def act(self, running: Iterable[Job]) -> list[Job]:
        """Ends and kills what is due; returns the jobs whose processes do not die of SIGKILL."""
        now, undying = self._clock(), []
        for job in running:
            due = self._of.get(job.key)
            if due is not None and due.kill <= now:
                if due.killed:
                    undying.append(job)
                else:
                    due.kill, due.killed = now + _DEATH_DUE, True
                    self._engine.stop(job.key, now=True)
            elif due is not None and due.progress <= now:
                silence = min(self._engine.silence(job), now - self._resumed)
                due.progress = now + self._timeout - silence
                if silence >= self._timeout:
                    self.end(job, FailureKind.NO_PROGRESS)
        return undying
