"""The jobs of a grid by state, and the waiting ones in order.

Counts and order change as jobs move and are never computed again: 10,000 waiting jobs cost an event as little as ten.
"""

from bisect import bisect_left, insort
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
        self._line: list[tuple[float, int, Job]] = []  # the waiting jobs: (minus its length, its number, job), sorted
        self._places: dict[str, tuple[float, int, Job]] = {}  # by trial key
        self._later: dict[str, Job] = {}  # jobs that `turn` has skipped because they must not start yet
        self._stale = True
        self._sort = Sparingly(self._sort_now, clock)
        for job in jobs:
            self._of[job.state][job.key] = job
        self._sort_now()

    def of(self, state: State) -> list[Job]:
        return list(self._of[state].values())

    def count(self, state: State) -> int:
        return len(self._of[state])

    def move(self, job: Job, state: State) -> None:
        """A job changes its state, or is new."""
        self._of[job.state].pop(job.key, None)
        if (place := self._places.pop(job.key, None)) is not None:
            del self._line[bisect_left(self._line, place)]
        job.state = state
        self._of[state][job.key] = job
        if state is State.WAITING:
            self._places[job.key] = self._place(job)
            insort(self._line, self._places[job.key])

    def estimates_changed(self) -> None:
        self._stale = True

    def turn(self, now: float) -> Iterator[Job]:
        """The waiting jobs that may start now: longest first, ties in the plan's order."""
        if self._stale:
            self._sort()
        for _, _, job in list(self._line):
            if job.state is State.WAITING and job.not_before <= now:
                yield job
            else:
                self._later[job.key] = job

    def next_turn(self, now: float) -> float:
        """When the next pause ends that `turn` has seen; infinity if there is none."""
        self._later = {
            key: job for key, job in self._later.items() if job.state is State.WAITING and job.not_before > now
        }
        return min((job.not_before for job in self._later.values()), default=float("inf"))

    def shortest(self) -> Job | None:
        """The last in the line, if there is one."""
        return self._line[-1][2] if self._line else None

    def in_order(self) -> list[Job]:
        """All waiting jobs, longest first."""
        return [job for _, _, job in self._line]

    def _sort_now(self) -> None:
        self._places = {job.key: self._place(job) for job in self._of[State.WAITING].values()}
        self._line = sorted(self._places.values())
        self._stale = False

    def _place(self, job: Job) -> tuple[float, int, Job]:
        return -self._length(job), job.number, job
