"""The grid of a command: its trials, the run directory of each model, and what is done already."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluebench.benchmark.published import published_model
from cluebench.benchmark.tasks import TASKS
from cluebench.data.official import split_files
from cluebench.data.source import open_source
from cluebench.foundation import repository
from cluebench.foundation.errors import UsageError
from cluebench.foundation.file_facts import version_of
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import CONFIG_FILES, first_of, kept_weights
from cluebench.records import identity
from cluebench.records.grid_file import PlannedTrial, read_grid
from cluebench.records.result import Result
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job, State, best_first, by_task, recall_failures
from cluebench.scheduler.plan.live_halving import HalvingSearch
from cluebench.scheduler.plan.trials import build_plan, shared_flags
from cluebench.scheduler.run.run_directory import RunDirectory


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
        return cls(flags, trials, {trial.model: RunDirectory(run_root, trial.model) for trial in trials})

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
            for job, state in halving.verdicts():
                job.state = state
        jobs += self.confirmations(jobs)
        for group in by_task(jobs).values() if self.flags.save_best_model else ():
            # The best trial of a finished task runs again if its model was not kept, see `Job.needs_model`.
            done = best_first(group)
            if done and all(job.is_settled for job in group) and not kept_weights(done[0].paths.output_dir):
                done[0].state, done[0].result, done[0].needs_model = State.WAITING, None, True
        self._recall_costs(jobs)
        return jobs

    def shared_settings(self, model: Model, jobs: Iterable[Job]) -> dict[str, dict]:
        """By task with data on this machine, the settings that all trials of a model share."""
        return {
            job.trial.task: {key: value for key, value in job.configuration.items() if key not in identity.VARIED}
            for job in jobs
            if job.trial.model == model and job.configuration
        }

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
