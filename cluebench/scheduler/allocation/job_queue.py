"""The jobs of a grid by state, and the waiting ones in the order of their turn.

Counted and ordered as they move, never anew: ten thousand jobs that wait cost an event as little as ten.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from cluebench.scheduler.plan.jobs import Job, State

T = TypeVar("T")

#: What takes longer with every job may take this share of the time.
_SHARE = 1 / 20


class Sparingly(Generic[T]):
    """What is costly to find out, found out anew for a twentieth of the time at most, and remembered meanwhile."""

    def __init__(self, find: Callable[[], T], clock: Callable[[], float]):
        self._find, self._clock, self._due = find, clock, float("-inf")

    def __call__(self) -> T:
        begin = self._clock()
        if begin >= self._due:
            self._known = self._find()
            end = self._clock()
            self._due = end + (end - begin) / _SHARE
        return self._known


class JobQueue:
    """Jobs by state. ``longest`` gives a job's estimated duration; `estimates_changed` says when it gives others."""

    def __init__(self, jobs: Iterable[Job], longest: Callable[[Job], float], clock: Callable[[], float]):
        self._of: dict[State, dict[str, Job]] = {state: {} for state in State}
        self._length = longest
        self._line: list[Job] = []  # waiting, the longest last; whoever has moved on meanwhile is passed over
        self._paused: list[tuple[float, int, Job]] = []  # those whose time has not come
        self._queued: dict[str, bool] = {}  # trial key → whether it is in the line (or among the paused)
        self._stale = True
        self._sort = Sparingly(self._sort_now, clock)
        for job in jobs:
            self._of[job.state][job.key] = job
            if job.state is State.WAITING:
                self._line.append(job)
                self._queued[job.key] = True

    def of(self, state: State) -> list[Job]:
        return list(self._of[state].values())

    def count(self, state: State) -> int:
        return len(self._of[state])

    def move(self, job: Job, state: State) -> None:
        """A job changes its state, or is a new one."""
        self._of[job.state].pop(job.key, None)
        job.state = state
        self._of[state][job.key] = job
        if state is State.WAITING:
            self._line_up(job)

    def estimates_changed(self) -> None:
        self._stale = True

    def turn(self, now: float) -> Iterator[Job]:
        """The waiting jobs whose pause is over: longest first, ties in the plan's order. They keep their places."""
        while self._paused and self._paused[0][0] <= now:
            self._line_up(heapq.heappop(self._paused)[2])
        if self._stale:
            self._sort()
        passed = []
        try:
            while self._line:
                job = self._line.pop()
                if job.state is not State.WAITING:
                    self._queued.pop(job.key, None)
                elif job.not_before > now:
                    self._queued[job.key] = False
                    heapq.heappush(self._paused, (job.not_before, job.number, job))
                else:
                    passed.append(job)
                    yield job
        finally:
            for job in reversed(passed):
                if job.state is State.WAITING and job.not_before > now:  # it is to be looked at again then
                    self._queued[job.key] = False
                    heapq.heappush(self._paused, (job.not_before, job.number, job))
                elif job.state is State.WAITING:
                    self._line.append(job)
                else:
                    self._queued.pop(job.key, None)

    def next_turn(self, now: float) -> float:
        """When the next pause is over; infinity while one is over already, and only waits to be taken."""
        return self._paused[0][0] if self._paused and self._paused[0][0] > now else float("inf")

    def shortest(self) -> Job | None:
        """The last in the line, if there is one."""
        return next((job for job in self._line if job.state is State.WAITING), None)

    def in_order(self) -> list[Job]:
        """All that wait, longest first."""
        later = [job for _, _, job in self._paused if not self._queued.get(job.key)]
        return [job for job in [*reversed(self._line), *later] if job.state is State.WAITING]

    def _line_up(self, job: Job) -> None:
        if not self._queued.get(job.key):
            self._queued[job.key] = True
            insort(self._line, job, key=self._rank)

    def _sort_now(self) -> None:
        self._line.sort(key=self._rank)
        self._stale = False

    def _rank(self, job: Job) -> tuple[float, int]:
        return self._length(job), -job.number
