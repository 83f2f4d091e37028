"""The jobs of a grid by state, and the waiting ones in order.

Counts and order change as jobs move and are never computed again: 10,000 waiting jobs cost an event as little as ten.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from cluebench.scheduler.plan.jobs import Job, State

T = TypeVar("T")

#: Share of the time for work that takes longer with every job.
_SHARE = 1 / 100


class Sparingly(Generic[T]):
    """A costly value: computed for a hundredth of the time at most, and remembered meanwhile."""

    def __init__(self, find: Callable[[], T], clock: Callable[[], float]):
        self._find, self._clock, self._due = find, clock, float("-inf")

    def __call__(self) -> T:
        begin = self._clock()
        if begin >= self._due:
            self._value = self._find()
            end = self._clock()
            self._due = end + (end - begin) / _SHARE
        return self._value


class JobQueue:
    """Jobs by state. ``length`` gives a job's estimated duration; call `estimates_changed` when it gives new values."""

    def __init__(self, jobs: Iterable[Job], length: Callable[[Job], float], clock: Callable[[], float]):
        self._of: dict[State, dict[str, Job]] = {state: {} for state in State}
        self._length = length
        self._line: list[Job] = []  # waiting, the longest last; jobs that have moved on are skipped later
        self._in_line: set[str] = set()  # their keys
        self._later: dict[str, Job] = {}  # jobs that must not start yet
        self._stale = True
        self._sort = Sparingly(self._sort_now, clock)
        for job in jobs:
            self._of[job.state][job.key] = job
            if job.state is State.WAITING:
                self._line.append(job)
                self._in_line.add(job.key)

    def of(self, state: State) -> list[Job]:
        return list(self._of[state].values())

    def count(self, state: State) -> int:
        return len(self._of[state])

    def move(self, job: Job, state: State) -> None:
        """A job changes its state, or is new."""
        self._of[job.state].pop(job.key, None)
        job.state = state
        self._of[state][job.key] = job
        if state is State.WAITING:
            self._line_up(job)

    def estimates_changed(self) -> None:
        self._stale = True

    def turn(self, now: float) -> Iterator[Job]:
        """The waiting jobs that may start now: longest first, ties in the plan's order. They keep their places."""
        for job in [job for job in self._later.values() if job.not_before <= now]:
            self._line_up(job)
        if self._stale:
            self._sort()
        seen = []
        try:
            while self._line:
                job = self._line.pop()
                seen.append(job)
                if job.state is State.WAITING and job.not_before <= now:
                    yield job
        finally:
            for job in reversed(seen):
                if job.state is State.WAITING and job.not_before <= now:
                    self._line.append(job)
                else:
                    self._in_line.remove(job.key)
                    if job.state is State.WAITING:
                        self._later[job.key] = job

    def next_turn(self, now: float) -> float:
        """When the next pause ends; infinity if one has ended already and waits for its turn."""
        due = min((job.not_before for job in self._waiting_later()), default=now)
        return due if due > now else float("inf")

    def _waiting_later(self) -> list[Job]:
        return [job for job in self._later.values() if job.state is State.WAITING]

    def shortest(self) -> Job | None:
        """The last in the line, if there is one."""
        return next((job for job in self._line if job.state is State.WAITING), None)

    def in_order(self) -> list[Job]:
        """All waiting jobs, longest first."""
        return [job for job in reversed(self._line) if job.state is State.WAITING] + self._waiting_later()

    def _line_up(self, job: Job) -> None:
        self._later.pop(job.key, None)
        if job.state is State.WAITING and job.key not in self._in_line:
            self._in_line.add(job.key)
            insort(self._line, job, key=self._rank)

    def _sort_now(self) -> None:
        self._line.sort(key=self._rank)
        self._stale = False

    def _rank(self, job: Job) -> tuple[float, int]:
        return self._length(job), -job.number
