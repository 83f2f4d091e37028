"""What the loop knows of a grid: its jobs, devices and estimates, and who hears of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from cluebench.records.result import PAUSED, Result
from cluebench.scheduler.allocation.device_health import DeviceHealth
from cluebench.scheduler.allocation.job_queue import JobQueue, Sparingly
from cluebench.scheduler.allocation.ledger import Ledger
from cluebench.scheduler.allocation.memory_fit import MemoryFit
from cluebench.scheduler.allocation.promises import Promises
from cluebench.scheduler.loop.deadlines import Deadlines
from cluebench.scheduler.loop.fault_attribution import Hold, OpenCases
from cluebench.scheduler.plan.estimates import DurationModel, time_left
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

    def started(self, job: Job) -> None: ...
    def ended(self, job: Job) -> None: ...
    def judged(self, job: Job) -> None: ...
    def note(self, text: str) -> None: ...
    def tick(self, now: float) -> float: ...  # clock time of the next call


class GridState:
    """The parts of a running grid. ``promises``: None for devices without memory."""

    def __init__(
        self,
        trials: Trials,
        engine: Engine,
        observer: Observer,
        events: Events,
        flags: GridFlags,
        promises: Promises | None = None,
    ):
        self.jobs, self.halving, self.trials = trials.jobs, trials.halving, trials
        self.engine, self.observer, self.events, self.flags = engine, observer, events, flags
        self.clock, self.promises = events.clock, promises
        self.durations, self.logs = DurationModel(flags), LogReader()
        self.queue = JobQueue(self.jobs, self._length, self.clock)
        self.ledger = Ledger(engine.devices, flags.jobs_per_device)
        self.health = DeviceHealth(self.ledger, engine, self.note, self.clock)
        self.fit = MemoryFit(self.ledger, self.health, flags)
        self.deadlines = Deadlines(engine, self.clock, flags.trial_timeout)
        self.hold, self.cases = Hold(trials.unwritable, self.note, self.clock), OpenCases()
        self.seconds_left = Sparingly(self._seconds_left, self.clock)
        self.elsewhere = Sparingly(self._elsewhere, self.clock)
        self.interrupted: str | None = None
        self.broken: str | None = None  # why a worker leaves trials to others
        self.by_key = {job.key: job for job in self.jobs}
        self.crashed: set[str] = set()  # keys of a worker's trials, since one ended well
        self.stuck: set[str] = set()  # keys of trials whose processes can't be killed
        self.uncharged: dict[str, Job] = {}  # trial key → job whose attempt has ended
        self._news: list[Callable[[], None]] = []  # calls of the observer that are still to come
        for job in self.queue.of(State.DONE):
            if job.result is not None:
                self.learn(job, job.result)

    def _length(self, job: Job) -> float:
        """How long a job, or the contest that waits for it, takes: the longest starts first."""
        durations = self.durations
        if self.halving is None:
            return durations.relative(job.trial)
        return self.halving.tail(job, lambda one: durations.relative(one.trial))

    @property
    def is_on_hold(self) -> bool:
        """Whether nothing starts: the grid ends, or a trial could not write."""
        return self.interrupted is not None or self.broken is not None or self.hold.cause is not None

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
        self.fit.learn(job, result)

    def apply(self, verdicts: Sequence[tuple[Job, State]]) -> None:
        """Moves the jobs that a search pauses, stops or lets go on."""
        for other, state in verdicts:
            self.queue.move(other, state)
            self.queue.estimates_changed()
            self.will_tell(self.observer.judged, other)

    # What observers hear and ask --------------------------------------------------------------------------------------

    def tell(self) -> None:
        for job in [job for job in self.uncharged.values() if self.ledger.is_counted(job.key)]:
            job.charge_energy()
            self.trials.charged(self.uncharged.pop(job.key))
        news, self._news = self._news, []
        for tell in news:
            tell()

    def will_tell(self, what: Callable[[Job], None], job: Job) -> None:
        """Observers will hear of a job as it is now: by then it may be on its next attempt."""
        now = replace(job, attempts=[replace(attempt) for attempt in job.attempts], failures=list(job.failures))
        self._news.append(partial(what, now))

    def note(self, text: str) -> None:
        self._news.append(lambda: self.observer.note(text))

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
        """Why nothing more starts although a device has room; None if no job waits, or no device has room."""
        now = self.clock()
        if not self.queue.count(State.WAITING) or not self.ledger.open(now):
            return None
        return f"nothing is started: {self.hold.cause}" if self.hold.cause else self.fit.why_idle(self.queue, now)
