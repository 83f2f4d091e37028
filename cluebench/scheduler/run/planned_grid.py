"""The grid of a command: its trials, the run directory of each model, and what is done already.

Only the result files decide what has to run. grid.json is for people and for --status, and is read back for hints only.
So a crash can't corrupt anything.
"""

import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from cluebench.benchmark.published import published_model
from cluebench.benchmark.tasks import TASKS
from cluebench.data.official import split_files
from cluebench.data.source import open_source
from cluebench.foundation import atomic, json_files, repository, time_limit
from cluebench.foundation.errors import ClueError, UsageError, one_line
from cluebench.foundation.file_facts import version_of
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import CONFIG_FILES, first_of, kept_weights
from cluebench.records import dev_predictions, identity
from cluebench.records.grid_file import GRID_FILE, REPORT_FILE, PlannedTrial, read_grid
from cluebench.records.paths import parse_trial_name
from cluebench.records.result import Result, Settings
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job, State, best_first, by_task, recall_failures
from cluebench.scheduler.plan.live_halving import HalvingSearch
from cluebench.scheduler.plan.trials import build_plan, shared_flags
from cluebench.scheduler.processes import engine
from cluebench.scheduler.processes.engine import GRACE

#: Enough for a file system to notice that it has none to give.
_PROBE_BYTES = 1 << 20


class AlreadyRunning(ClueError):
    """Another process plans the grid of the run directory."""


@dataclass
class SharedSettings:
    """By task, the settings of the trials that processes run in a directory now."""

    tasks: dict[str, Settings]


class RunDirectory:
    """``<run_root>/<model>/``, for one model."""

    def __init__(self, run_root: str | Path, model: Model):
        self.model = model
        self.path = Path(run_root).expanduser().resolve() / model.folder
        self.grid_json, self.grid_log = self.path / GRID_FILE, self.path / "grid.log"
        self.private = self.path / ".scheduler"  # locks and launcher logs: the scheduler's own
        self._lock: int | None = None
        self._members: int | None = None

    def trial_lock(self, trial: Trial) -> Path:
        return self.private / f"{trial.task}--{trial.name}.lock"

    # The lock -----------------------------------------------------------------------------------------------------

    def acquire(self) -> None:
        """From now on this process plans the grid here, reports on it and keeps its models.

        Raises AlreadyRunning, with its name, if another process does, and UsageError if the file system has no locks.
        """
        self._lock = self._opened("lock")
        for pause in (0.1, 0.1, 0.0):  # a process that asks for the holder locks it for an instant
            if engine.try_lock(self._lock):
                break
            if not pause:
                raise AlreadyRunning(f"{self.path} is in use by another grid search: {self.holder()}")
            time.sleep(pause)
        for name in (GRID_FILE, REPORT_FILE):
            atomic.remove_leftovers(self.path, name)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"process {os.getpid()} on {socket.gethostname()}, since {now_utc()}".encode(), 0)

    def join(self, settings: Mapping[str, Settings]) -> bool:
        """From now on this process runs trials here; returns whether it is the only one.

        ``settings``: by task, the settings that all its trials share. Raises UsageError if another process runs a task
        with other settings, or if the file system has no locks.
        """
        if self._members is None:
            self._members = self._opened("workers")
        path = self.private / "settings"
        with open(self._opened(path.name), "r+b") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)  # processes that come at once wait for each other
            alone = engine.try_lock(self._members)
            shared = None if alone else json_files.read_if_sound(path, SharedSettings)
            there = shared.tasks if shared else {}
            for task, ours in settings.items():
                if ours != there.setdefault(task, dict(ours)):
                    what = identity.different_settings(there[task], ours)
                    raise UsageError(
                        f"{self.path}: another process runs {TASKS[task].title} there with other settings ({what}): "
                        "give the same flags, another --run_root, or wait until it has ended"
                    )
            fcntl.flock(self._members, fcntl.LOCK_SH)
            path.write_text(json.dumps({"tasks": there}), encoding="utf-8")
        return alone

    def _opened(self, name: str) -> int:
        """A descriptor of a lock file. Raises UsageError if it can't be written, or its file system has no locks."""
        try:
            self.private.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.private / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UsageError(f"--run_root: {self.private} can't be written: {error.strerror}") from None
        if reason := time_limit.why_no_locks(self.private):
            os.close(descriptor)
            raise UsageError(
                f"{self.path}: its file system has no locks ({reason}), so trials might run twice: "
                "give another --run_root"
            )
        return descriptor

    def forget_failures(self) -> None:
        """Trials that were given up are tried again."""
        for notes in self.private.glob("*.failures"):
            notes.unlink(missing_ok=True)

    def release(self) -> None:
        for descriptor in filter(None, (self._lock, self._members)):
            os.close(descriptor)
        self._lock = self._members = None

    def holder(self) -> str | None:
        """``process 815 on n1, since …``: the scheduler that has the directory's lock; None if the lock is free."""
        content = engine.record_in(self.private / "lock")
        unknown = "a process that has not written down who it is"
        return None if content is None else one_line(content.decode(errors="replace")) or unknown

    def refuse_other_model(self) -> None:
        """Raises UsageError if the directory has runs of another model with the same folder name."""
        grid = read_grid(self.path)
        if grid is None or grid.model == self.model.name:
            return
        if grid.model_identity not in (self.model.identity, self.model.sampled_identity):
            raise UsageError(
                f"{self.path} has runs of {grid.model}, not of {self.model}: "
                "rename one of the two directories, or give another --run_root"
            )

    def adopt_results(self) -> None:
        """Gives finished trials, identified by samples of the model's weights, the identity by all weights.

        Only if the weights are still the same; see `Trial.result_by_samples`. The plan is written again after this.
        Raises OSError.
        """
        earlier, today = self.model.sampled_identity, self.model.identity
        for path in sorted(self.path.glob("*/*.json")) if earlier != today else ():
            result = Result.read_finished(path) if parse_trial_name(path.stem) else None
            if result is None or result.configuration.get("model") != earlier:
                continue
            if not self.model.has_changed_since(path):
                predictions = dev_predictions.of_result(result, path)
                result.know_as({**result.configuration, "model": today})
                if predictions is not None and result.best_step is not None:
                    predictions.write(dev_predictions.beside(path), result.configuration, result.best_step)
                result.write(path)

    def unwritable(self) -> str | None:
        """Why nothing can be written here, by a trial; None if it can."""
        try:
            with open(self.private / "probe", "wb") as stream:
                stream.write(bytes(_PROBE_BYTES))
                stream.flush()
                os.fsync(stream.fileno())
            (self.private / "probe").unlink()
        except OSError as error:
            return f"{self.path} can't be written: {error.strerror or error}"
        return None


def now_utc() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def end_strays(directories: Iterable[RunDirectory], planned: Collection[Path], note: Callable[[str], None]) -> None:
    """Ends trials of a dead scheduler on this machine whose locks are not ``planned``: they would use our devices.

    Returns when they are gone, after the grace period at the latest.
    """
    due, marks = time.monotonic() + GRACE, []
    for directory in directories:
        for lock in sorted(directory.private.glob("*--*.lock")):
            orphan = None if lock in planned else engine.orphan_of(lock)
            if orphan is not None and orphan.pid and engine.is_ours(orphan):
                key = f"{directory.path.name}/{lock.stem.replace('--', '/', 1)}"
                note(f"{key}: process {orphan.pid} of an earlier grid runs it, and it is not in this plan: ended")
                engine.signal_group(orphan.pid, signal.SIGTERM)
                marks.append(orphan.mark)
    for mark in marks:
        engine.end_all(mark, grace=max(0.0, due - time.monotonic()))


@dataclass(frozen=True)
class PlannedGrid:
    """What one command is to run."""

    flags: GridFlags
    trials: list[Trial]
    directories: Mapping[Model, RunDirectory]
    _fingerprints: dict[str, str] = field(default_factory=dict, repr=False)  # by task
    _results: dict[Path, tuple[str, Result | None]] = field(default_factory=dict, repr=False)  # by file

    @classmethod
    def of(cls, flags: GridFlags) -> "PlannedGrid":
        """The grid of completed flags. Raises UsageError with the name of a wrong flag."""
        models = [_model(typed) for typed in flags.models]
        trials = build_plan(models, flags)
        run_root = flags.run_root or repository.RUN_ROOT
        return cls(flags, trials, {model: RunDirectory(run_root, model) for model in models})

    def jobs(self, require_data: bool = False) -> list[Job]:
        """A job for each trial, done if its result is on disk; then those of `confirmations`.

        With ``require_data`` missing data raises DataError.
        """
        data, shared = self._data_fingerprints(require_data), shared_flags(self.flags)
        jobs = []
        for number, trial in enumerate(self.trials):
            configuration = trial.configuration(shared, data[trial.task]) if trial.task in data else {}
            jobs.append(self._job(trial, configuration, number))
        if halving := self.halving(jobs):
            for job, state in halving.all_verdicts():
                job.state = state
        jobs += self.confirmations(jobs)
        for group in by_task(jobs).values() if self.flags.save_best_model else ():
            # The best trial of a finished task runs again if its model was not kept, see `Job.needs_model`.
            done = best_first(group)
            if done and all(job.is_settled for job in group) and not kept_weights(done[0].paths.output_dir):
                done[0].state, done[0].result, done[0].needs_model = State.WAITING, None, True
        self._recall_costs(jobs)
        return jobs

    def halving(self, jobs: Iterable[Job]) -> HalvingSearch | None:
        """The search that pauses and stops the grid's own jobs; None if every trial runs to its end."""
        return HalvingSearch(self.flags.rule, self._own(jobs), self.on_disk) if self.flags.rule else None

    def on_disk(self, job: Job) -> Result | None:
        """The result of this very trial, done or not."""
        found = self._read(job.paths.result)
        return found if found and found.configuration_hash == job.configuration_hash else None

    def _read(self, path: Path) -> Result | None:
        """The result in a file; it is read again only if the file has changed."""
        try:
            version = version_of(path)
        except OSError:
            return None
        if self._results.get(path, ("", None))[0] != version:
            self._results[path] = version, Result.read(path)
        return self._results[path][1]

    def _job(self, trial: Trial, configuration: Mapping, number: int) -> Job:
        directory = self.directories[trial.model]
        digest = identity.configuration_hash(dict(configuration)) if configuration else ""
        job = Job(trial, number, trial.paths(directory.path), directory.trial_lock(trial), digest, configuration)
        found = self._read(job.paths.result)
        if digest and found and found.is_finished:
            own = found if found.configuration_hash == digest else None
            job.result = own or trial.result_by_samples(found, job.paths.result, configuration)
            job.writes_over = job.result is None
        recall_failures(job)
        given_up = job.is_given_up(self.flags.max_attempts)
        job.state = State.DONE if job.result else State.FAILED if given_up else State.WAITING
        return job

    def _data_fingerprints(self, require: bool) -> dict[str, str]:
        """Task → fingerprint of its train and dev files, for all tasks or, unless ``require``, those with files."""
        source, found = open_source(self.flags.data_dir, offline=True), self._fingerprints
        for task in (TASKS[name] for name in dict.fromkeys(trial.task for trial in self.trials)):
            files = split_files(task, "train") + split_files(task, "dev")
            if task.name not in found and (require or all(source.has(task, file) for file in files)):
                found[task.name] = source.fingerprint(task)
        return found

    def _recall_costs(self, jobs: Iterable[Job]) -> None:
        """Reads costs and memory factors that earlier starts have left in grid.json.

        A trial without an entry gets the largest factor of those with its batch size.
        """
        entries: dict[str, PlannedTrial] = {}
        factors: dict[tuple, int] = {}
        for model, directory in self.directories.items():
            grid = read_grid(directory.path)
            for entry in grid.trials if grid else ():
                kind = (model, entry.task, entry.batch_size)
                factors[kind] = max(entry.memory_factor, factors.get(kind, 1))
                entries |= {entry.configuration_hash: entry} if entry.configuration_hash else {}
        for job in jobs:
            if (own := entries.get(job.configuration_hash)) is not None:
                job.cut_to(own.memory_factor)
                job.spent = own.spent
            else:
                job.cut_to(factors.get((*job.group, job.trial.setting.batch_size), 1))

    # Confirmation -----------------------------------------------------------------------------------------------------

    def _own(self, jobs: Iterable[Job]) -> list[Job]:
        """Without further seeds of the best settings."""
        own = set(self.trials)
        return [job for job in jobs if job.trial in own]

    def confirmations(self, jobs: Collection[Job]) -> list[Job]:
        """The jobs that --confirm_seeds adds: for each task whose grid is done, its best settings with more seeds."""
        found: list[Job] = []
        if self.flags.confirm_seeds == 1:
            return found
        planned = {job.key for job in jobs}
        for group in by_task(self._own(jobs)).values():
            if all(job.is_settled for job in group):
                for best in best_first(group)[: self.flags.top_k]:
                    for more in range(1, self.flags.confirm_seeds):
                        trial = replace(best.trial, seed=best.trial.seed + more)
                        if trial.key not in planned:
                            configuration = {**best.configuration, "seed": trial.seed} if best.configuration else {}
                            found.append(self._job(trial, configuration, len(jobs) + len(found)))
                            found[-1].memory_factor = best.memory_factor
        return found

    def confirmations_to_come(self, jobs: Collection[Job]) -> int:
        """The most trials that `confirmations` will add once the grids of the other tasks are done."""
        groups = by_task(self._own(jobs)).values()
        unfinished = [group for group in groups if not all(job.is_settled for job in group)]
        return sum(min(self.flags.top_k, len(group)) * (self.flags.confirm_seeds - 1) for group in unfinished)


def _model(typed: str) -> Model:
    """The model of a typed name or path; if no published model has the name, a directory in the repository may.

    Raises UsageError if both have it, as trials run in the repository.
    """
    model, there = Model.of(typed, "model"), repository.ROOT / typed
    if model.directory is not None or not first_of(there, CONFIG_FILES):
        return model
    if published_model(model.name):
        where = f"trials run in {repository.ROOT}, where a model directory has that name"
        raise UsageError(f"model {model}: {where}: rename it, or give {there} if it is meant")
    return Model.of(str(there), "model")
