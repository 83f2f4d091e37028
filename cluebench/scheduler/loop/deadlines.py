"""When a running trial must have logged a line, and when a trial that was asked to end is killed."""

from collections.abc import Callable, Iterable

from cluebench.scheduler.plan.failures import FailureKind
from cluebench.scheduler.plan.jobs import Job
from cluebench.scheduler.processes.engine import GRACE, Engine

#: Seconds that a process may need to die of SIGKILL, before the scheduler gives it up with its card.
_DEATH_DUE = 60.0


class Deadlines:
    """Ends trials without progress, and kills those that do not end. ``timeout``: seconds without a log line."""

    def __init__(self, engine: Engine, clock: Callable[[], float], timeout: float):
        self._engine, self._clock, self._timeout = engine, clock, timeout or float("inf")
        self._resumed = float("-inf")  # when this process went on after it was suspended

    def begin(self, job: Job) -> None:
        """An attempt at a job begins."""
        job.progress_due, job.kill_due, job.killed, job.ended_for = job.began + self._timeout, float("inf"), False, None

    def forget(self, job: Job) -> None:
        """An attempt at a job has ended, or is given up."""
        job.progress_due = job.kill_due = float("inf")

    def end(self, job: Job, why: FailureKind, grace: float | None = None) -> None:
        """Asks a running trial to end; kills it after the grace period. The first reason counts."""
        job.ended_for = job.ended_for or why
        job.progress_due, job.kill_due = float("inf"), self._clock() + (GRACE if grace is None else grace)
        self._engine.stop(job.key)

    def suspended(self) -> None:
        """This process was suspended until now: silence before now does not count."""
        self._resumed = self._clock()

    def act(self, running: Iterable[Job]) -> list[Job]:
        """Ends and kills what is due; returns the jobs whose processes do not die of SIGKILL."""
        now, undying = self._clock(), []
        for job in running:
            if job.kill_due <= now:
                if job.killed:
                    undying.append(job)
                else:
                    job.kill_due, job.killed = now + _DEATH_DUE, True
                    self._engine.stop(job.key, now=True)
            elif job.progress_due <= now:
                silence = min(self._engine.silence(job), now - self._resumed)
                job.progress_due = now + self._timeout - silence
                if silence >= self._timeout:
                    self.end(job, FailureKind.NO_PROGRESS)
        return undying
