"""The state of a running grid: its jobs, devices, estimates and timers, and the observers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cluebench.records.result import PAUSED, Result
from cluebench.scheduler.allocation.job_queue import JobQueue, Sparingly
from cluebench.scheduler.allocation.ledger import Ledger
from cluebench.scheduler.allocation.promises import Promises
from cluebench.scheduler.plan.estimates import DurationModel, time_left
from cluebench.scheduler.plan.failures import Failure
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job, LogReader, State
from cluebench.scheduler.plan.live_halving import HalvingSearch
from cluebench.scheduler.processes.engine import Engine, Events, StartOrder


class Trials(Protocol):
    """The trials to run, and their files."""

    jobs: list[Job]  # grows by `more`
    halving: HalvingSearch | None

    def order(self, job: Job) -> StartOrder: ...  # of its last attempt
    def finished(self, job: Job) -> Result | None: ...  # None: it is not done
    def recall(self, job: Job) -> None: ...  # reads the failures that others have noted
    def note_failures(self, job: Job) -> None: ...  # for others
    def written(self, job: Job) -> Result | None: ...  # its result on disk, done or not
    def unwritable(self) -> str | None: ...  # why trials can't write; None: they can
    def charged(self, job: Job) -> None: ...  # the cost of its last attempt is known now
    def more(self) -> Sequence[Job]: ...  # jobs to add after an attempt


class Observer(Protocol):
    """Hears what happens, after freed devices have new trials."""

    def hear(self, text: str, job: Job | None) -> None: ...  # of a job, or of the whole grid
    def tick(self, now: float) -> float: ...  # clock time of the next call


class Timers:
    """What to do at which clock time: one action a name."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._due: dict[tuple[str, str], tuple[float, Callable[..., None], tuple]] = {}

    def set(self, name: tuple[str, str], at: float, action: Callable[..., None], *arguments: object) -> None:
        self._due[name] = at, action, arguments

    def hasten(self, name: tuple[str, str], at: float) -> None:
        """Brings an action forward, if there is one of this name."""
        if name in self._due:
            due, action, arguments = self._due[name]
            self._due[name] = min(due, at), action, arguments

    def drop(self, name: tuple[str, str]) -> None:
        self._due.pop(name, None)

    def next(self) -> float:
        """Clock time of the next action."""
        return min((at for at, *_ in self._due.values()), default=float("inf"))

    def act(self) -> None:
        """Does what is due."""
        now = self._clock()
        while self.next() <= now:
            name = min(self._due, key=lambda name: self._due[name][0])
            _, action, arguments = self._due.pop(name)
            action(*arguments)


@dataclass
class Case:
    """A failure that waits for its cards' answers: the trial counts as running, though its processes are gone."""

    job: Job
    failure: Failure
    ask: set[str]  # ids of devices that have not answered
    free: int | None = None  # bytes on the fullest device that has answered


class GridState:
    """The parts of a running grid."""

    def __init__(
        self,
        trials: Trials,
        engine: Engine,
        observers: Sequence[Observer],
        events: Events,
        flags: GridFlags,
    ):
        self.jobs, self.halving, self.trials = trials.jobs, trials.halving, trials
        self.engine, self.observers, self.events, self.flags = engine, list(observers), events, flags
        self.clock = events.clock
        self.promises: Promises | None = None  # None for devices without memory
        self.durations, self.logs = DurationModel(flags), LogReader()
        self.queue = JobQueue(self.jobs, self._length, self.clock)
        self.ledger = Ledger(engine.devices, flags)
        self.timers = Timers(self.clock)
        self.hold: str | None = None  # why nothing starts, though no trial is to blame
        self.resumed = float("-inf")  # clock time at which this process went on after it was suspended
        self.cases: dict[str, Case] = {}  # by trial key
        self.seconds_left = Sparingly(self._seconds_left, self.clock)
        self.elsewhere = Sparingly(self._elsewhere, self.clock)
        self.interrupted: str | None = None
        self.give_up_at = float("inf")  # clock time, after an interruption
        self.broken: str | None = None  # why a worker leaves trials to others
        self.crashed: set[str] = set()  # keys of a worker's trials, since one ended well
        self.stuck: set[str] = set()  # keys of trials whose processes can't be killed
        self.uncharged: dict[str, Job] = {}  # trial key → job whose attempt has ended
        self._news: list[tuple[str, Job | None]] = []  # what observers will hear
        for job in self.queue.of(State.DONE):
            if job.result is not None:
                self.learn(job, job.result)

    def _length(self, job: Job) -> float:
        """How long a job, or the contest that waits for it, takes: the longest starts first."""
        durations = self.durations
        if self.halving is None:
            return durations.relative(job.trial)
        return self.halving.tail(job, lambda one: durations.relative(one.trial))

    def waiting(self) -> list[Job]:
        return self.queue.of(State.WAITING)

    def running(self) -> list[Job]:
        return self.queue.of(State.RUNNING)

    def learn(self, job: Job, result: Result) -> None:
        """Improves the estimates by the duration and peak memory of a trial that is done or paused."""
        share = result.curve.share if result.status == PAUSED else 1.0
        if result.cost > 0 and share > 0:
            self.durations.observe(job.trial, result.cost / share)
            self.queue.estimates_changed()
        self.ledger.learn(job, result)

    def apply(self, verdicts: Sequence[tuple[Job, State]]) -> None:
        """Moves the jobs that a search pauses, stops or lets go on."""
        for other, state in verdicts:
            self.queue.move(other, state)
            self.queue.estimates_changed()
            self.note(other.standing(), other)

    # What observers hear and ask --------------------------------------------------------------------------------------

    def tell(self) -> None:
        while self.uncharged:
            self.trials.charged(self.uncharged.popitem()[1])
        while self._news:
            self._each("hear", *self._news.pop(0))

    def _each(self, what: str, *about: object) -> list[Any]:
        """Calls a method of each observer. One that fails is removed, and the others get a note."""
        answers = []
        for observer in list(self.observers):
            try:
                answers.append(getattr(observer, what)(*about))
            except Exception as error:
                self.observers.remove(observer)
                self.note(f"{type(observer).__name__} falls silent ({error}); the grid goes on")
        return answers

    def note(self, text: str, job: Job | None = None) -> None:
        """Observers will hear this, of ``job`` or of the whole grid."""
        self._news.append((text, job))

    def tick(self) -> float:
        """Clock time at which an observer has something to do next."""
        return min(self._each("tick", self.clock()), default=float("inf"))

    def _seconds_left(self) -> float | None:
        """Estimated time until the grid is done if no more trials are stopped; None while durations are unknown."""
        runs = [(job, job.attempt) for job in self.running()]
        runs += [(job, job.elsewhere) for job in self.waiting() if job.elsewhere]
        running = [self.logs.underway(job, attempt) for job, attempt in runs]
        waiting = [job.trial for job in (*self.queue.in_order(), *self.queue.of(State.PAUSED)) if not job.elsewhere]
        devices = len(self.ledger.usable(self.clock())) + sum(attempt.cards for job, attempt in runs if job.elsewhere)
        return time_left(self.durations, running, waiting, max(1, devices))

    def _elsewhere(self) -> int:
        """How many trials other processes run, as far as we know."""
        return sum(job.elsewhere is not None for job in self.waiting())

    def why_idle(self) -> str | None:
        """Why nothing more starts although jobs wait and a device has room; None if there is no reason."""
        if self.hold and self.queue.count(State.WAITING) and self.ledger.open(self.clock()):
            return f"nothing is started: {self.hold}"
        return self.ledger.why_idle(self.queue, self.clock())
