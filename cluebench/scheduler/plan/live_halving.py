"""Successive halving of a running grid: which trials pause at a rung, and which are stopped there.

A crash loses nothing: the evaluations in the result files decide, by the same rule as in the replay.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import chain

from cluebench.benchmark.tasks import Setting
from cluebench.records.result import Result
from cluebench.scheduler.plan.jobs import Job, State, by_task
from cluebench.search.halving import Curve, Rule, standings


class HalvingSearch:
    """The contests of a grid, one for each model and task.

    ``jobs``: without further seeds of the best settings, which take part in no contest. ``result_on_disk``: gives the
    result of a job's very trial, done or not.
    """

    def __init__(self, rule: Rule, jobs: Iterable[Job], result_on_disk: Callable[[Job], Result | None]):
        self.rule, self._result_on_disk = rule, result_on_disk
        self._contests = by_task(jobs)
        for job in chain(*self._contests.values()):
            job.curve = Curve((), (), 0, ended=False)
            self._look_at(job)

    def _look_at(self, job: Job) -> None:
        """Reads a job's evaluations. A process that goes on from an older checkpoint has fewer of them for a while."""
        result = job.result or self._result_on_disk(job)
        if result is not None and job.curve is not None and len(result.curve.steps) >= len(job.curve.steps):
            job.curve = result.curve

    def verdicts(self, job: Job) -> list[tuple[Job, State]]:
        """New states of jobs that neither run nor have ended, after an attempt at ``job``.

        A setting with a failed seed is judged by its other seeds.
        """
        if job.curve is None:  # in no contest
            return []
        self._look_at(job)
        return self._changes(self._contests[job.group])

    def all_verdicts(self) -> list[tuple[Job, State]]:
        """New states in all contests, by what is on the disk now."""
        for job in chain(*self._contests.values()):
            self._look_at(job)
        return [change for contest in self._contests.values() for change in self._changes(contest)]

    def _changes(self, contest: Iterable[Job]) -> list[tuple[Job, State]]:
        by_setting: dict[Setting, list[Job]] = defaultdict(list)
        for job in contest:
            if job.state is not State.FAILED:
                by_setting[job.trial.setting].append(job)
        curves = {setting: [job.curve for job in jobs if job.curve] for setting, jobs in by_setting.items()}
        changes = []
        for setting, standing in standings(self.rule, curves).items():
            for job, pause in zip(by_setting[setting], standing.pauses, strict=True):
                state = State.WAITING if pause is None else State.STOPPED if standing.stopped else State.PAUSED
                if job.state is not state and job.state in (State.WAITING, State.PAUSED, State.STOPPED):
                    changes.append((job, state))
        return changes

    def pause_at(self, job: Job) -> Fraction | None:
        """The rung at which the next attempt at a job pauses; None if nothing is left to decide."""
        if job.curve is None or len({rival.trial.setting for rival in self._rivals(job)}) < 2:
            return None
        return next((rung for rung in self.rule.rungs if job.curve.evaluations_at(rung) is None), None)

    def _rivals(self, job: Job) -> list[Job]:
        """The jobs that are still in the job's contest, and itself."""
        contest = self._contests[job.group]
        return [other for other in contest if other.state not in (State.FAILED, State.STOPPED)]

    def tail(self, job: Job, duration: Callable[[Job], float]) -> float:
        """How long it takes from a job's start until its contest is over, if devices are free.

        The job with the longest time starts first: so the longest contests are decided early, and the others fill the
        devices meanwhile.
        """
        steps = job.curve.share if job.curve else 0.0
        rung = self.pause_at(job)
        if rung is None:
            return duration(job) * (1 - steps)
        return duration(job) * (rung - steps) + max(map(duration, self._rivals(job))) * (1 - rung)
