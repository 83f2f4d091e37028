"""The grid that a command is about: its trials, the run directory of each model, and what is done already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluebench import identity, repository
from cluebench.data.source import open_source, split_files
from cluebench.grid_file import read_grid
from cluebench.model import Model
from cluebench.scheduler.flags import GridFlags
from cluebench.scheduler.jobs import Job, State
from cluebench.scheduler.plan import Trial, build_plan, configurations
from cluebench.scheduler.state import RunDirectory
from cluebench.tasks import TASKS


@dataclass(frozen=True)
class Grid:
    """What one command is to run."""

    flags: GridFlags
    trials: list[Trial]
    directories: Mapping[Model, RunDirectory]

    @classmethod
    def of(cls, flags: GridFlags) -> Grid:
        """The grid behind completed flags. Raises UsageError naming the flag that is wrong."""
        trials = build_plan([Model.of(typed, "model") for typed in flags.models], flags)
        run_root = flags.run_root or repository.RUN_ROOT
        return cls(flags, trials, {trial.model: RunDirectory(run_root, trial.model) for trial in trials})

    def jobs(self, require_data: bool = False) -> list[Job]:
        """A job a trial, done where its result is on disk. With ``require_data`` missing data raises DataError."""
        configured = configurations(self.trials, self.flags, self._data_fingerprints(require_data))
        factors, jobs = self._remembered_factors(), []
        for number, trial in enumerate(self.trials):
            directory, configuration = self.directories[trial.model], configured.get(trial, {})
            digest = identity.configuration_hash(configuration) if configuration else ""
            job = Job(trial, number, directory.paths(trial), directory.trial_lock(trial), digest, configuration)
            job.memory_factor = factors.get(digest, 1)
            if job.accumulation() is None:  # a batch that can't be cut so far: whatever wrote this was no scheduler
                job.memory_factor = 1
            job.result = directory.finished_result(trial, digest or None)
            job.state = State.WAITING if job.result is None else State.DONE
            jobs.append(job)
        return jobs

    def _data_fingerprints(self, require: bool) -> dict[str, str]:
        """Task → fingerprint of its train and dev files, for the tasks whose files are here, or else all."""
        source, found = open_source(self.flags.data_dir, offline=True), {}
        for task in (TASKS[name] for name in dict.fromkeys(trial.task for trial in self.trials)):
            files = split_files(task, "train") + split_files(task, "dev")
            if require or all(source.has(task, file) for file in files):
                found[task.name] = source.fingerprint(task)
        return found

    def _remembered_factors(self) -> dict[str, int]:
        """Configuration hash → how far an earlier start had to cut the trial's micro-batches."""
        return {
            entry.configuration_hash: entry.memory_factor
            for directory in self.directories.values()
            if (grid := read_grid(directory.path))
            for entry in grid.trials
        }
