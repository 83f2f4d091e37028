"""A model's run directory: its lock, its plan and state in grid.json, and which trials are done.

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
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cluebench.benchmark.tasks import TASKS
from cluebench.foundation import atomic, json_files, time_limit
from cluebench.foundation.errors import ClueError, UsageError, one_line
from cluebench.pretrained.model import Model
from cluebench.records import dev_predictions, identity
from cluebench.records.grid_file import GRID_FILE, read_grid
from cluebench.records.paths import parse_trial_name
from cluebench.records.result import Result, Settings
from cluebench.records.trial import Trial
from cluebench.report.grid_page import REPORT_FILE
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
                f"{self.path}: its file system has no locks ({reason}), without which trials might run twice: "
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
