"""The grid of a command: its trials, the run directory of each model, and what is done already."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluebench.benchmark.published import published_model
from cluebench.benchmark.tasks import TASKS
from cluebench.data.official import split_files
from cluebench.data.source import open_source
from cluebench.foundation import repository
from cluebench.foundation.errors import UsageError
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import CONFIG_FILES, first_of, kept_weights
from cluebench.records import identity
from cluebench.records.grid_file import Spent, read_grid
from cluebench.records.result import Result
from cluebench.records.trial import Trial
from cluebench.report.scores import rank
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job, State, recall_failures
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
    _results: dict[Path, tuple[tuple, Result | None]] = field(default_factory=dict, repr=False)  # by file

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
        factors, spent = self._remembered()
        configured = [
            trial.configuration(shared, data[trial.task]) if trial.task in data else {} for trial in self.trials
        ]
        jobs = [self._job(*pair, number) for number, pair in enumerate(zip(self.trials, configured, strict=True))]
        if halving := self.halving(jobs):
            for job, state in halving.verdicts():
                job.state = state
        jobs += self.confirmations(jobs)
        if self.flags.save_best_model:
            self._plan_lost_models(jobs)
        for job in jobs:
            kind = (job.trial.model.folder, job.trial.task, job.trial.setting.batch_size)
            job.cut_to(factors.get(job.configuration_hash, factors.get(kind, 1)))
            job.spent = spent.get(job.configuration_hash) or job.spent
        return jobs

    def shared_settings(self, model: Model, jobs: Iterable[Job]) -> dict[str, dict]:
        """By task with data on this machine, the settings that all trials of a model share."""
        return {
            job.trial.task: {key: value for key, value in job.configuration.items() if key not in identity.VARIED}
            for job in jobs
            if job.trial.model == model and job.configuration
        }

    def _plan_lost_models(self, jobs: Iterable[Job]) -> None:
        """Plans the best trial of each finished task again if its model was not kept; see `Job.needs_model`."""
        tasks: dict[tuple[Model, str], list[Job]] = defaultdict(list)
        for job in jobs:
            tasks[job.trial.model, job.trial.task].append(job)
        for group in tasks.values():
            done = [job for job in group if job.state is State.DONE]
            if done and all(job.is_settled for job in group):
                best = max(done, key=lambda job: rank(job.score, job.trial.setting))
                if not kept_weights(best.paths.output_dir):
                    best.state, best.result, best.needs_model = State.WAITING, None, True

    def halving(self, jobs: Iterable[Job]) -> HalvingSearch | None:
        """The search that pauses and stops the grid's own jobs; None if every trial runs to its end."""
        own, rule = set(self.trials), self.flags.rule
        return HalvingSearch(rule, [job for job in jobs if job.trial in own], self.on_disk) if rule else None

    def on_disk(self, job: Job) -> Result | None:
        """The result of this very trial, done or not."""
        found = self._read(job.paths.result)
        return found if found and found.configuration_hash == job.configuration_hash else None

    def _read(self, path: Path) -> Result | None:
        """The result in a file; it is read again only if the file has changed."""
        try:
            status = os.stat(path)
        except OSError:
            return None
        facts = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._results.get(path, ((), None))[0] != facts:
            self._results[path] = facts, Result.read(path)
        return self._results[path][1]

    def _job(self, trial: Trial, configuration: Mapping, number: int) -> Job:
        directory, digest = self.directories[trial.model], ""
        if configuration:
            digest = identity.configuration_hash(dict(configuration))
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
        return dict(found)

    def _remembered(self) -> tuple[dict[str | tuple, int], dict[str, Spent]]:
        """What earlier starts have left in grid.json: memory factors and costs.

        Factors by configuration hash and by (folder, task, batch size), costs by configuration hash.
        """
        factors: dict[str | tuple, int] = {}
        spent: dict[str, Spent] = {}
        for directory in self.directories.values():
            grid = read_grid(directory.path)
            for entry in grid.trials if grid else ():
                kind = (directory.path.name, entry.task, entry.batch_size)
                factors[entry.configuration_hash] = entry.memory_factor
                factors[kind] = max(entry.memory_factor, factors.get(kind, 1))
                spent |= {entry.configuration_hash: entry.spent} if entry.configuration_hash else {}
        return factors, spent

    # Confirmation -----------------------------------------------------------------------------------------------------

    def confirmations(self, jobs: Collection[Job]) -> list[Job]:
        """The jobs that --confirm_seeds adds: for each task whose grid is done, its best settings with more seeds."""
        found: list[Job] = []
        known = {job.key for job in jobs}
        for group in self._by_task(jobs):
            if all(job.is_settled for job in group):
                done = [job for job in group if job.state is State.DONE]
                done.sort(key=lambda job: rank(job.score, job.trial.setting), reverse=True)
                for best in done[: self.flags.top_k]:
                    for more in range(1, self.flags.confirm_seeds):
                        trial = replace(best.trial, seed=best.trial.seed + more)
                        if trial.key not in known:
                            found.append(self._like(best, trial, len(jobs) + len(found)))
        return found

    def confirmations_to_come(self, jobs: Collection[Job]) -> int:
        """The most trials that `confirmations` will add once the grids of the other tasks are done."""
        groups = [group for group in self._by_task(jobs) if not all(job.is_settled for job in group)]
        return sum(min(self.flags.top_k, len(group)) * (self.flags.confirm_seeds - 1) for group in groups)

    def _by_task(self, jobs: Iterable[Job]) -> list[list[Job]]:
        """The grid's own jobs, by model and task."""
        groups: dict[tuple[Model, str], list[Job]] = defaultdict(list)
        own = set(self.trials)
        for job in jobs:
            if job.trial in own:
                groups[job.trial.model, job.trial.task].append(job)
        return list(groups.values())

    def _like(self, best: Job, trial: Trial, number: int) -> Job:
        """A job of ``trial``, which differs from the trial of ``best`` in its seed only."""
        job = self._job(trial, {**best.configuration, "seed": trial.seed} if best.configuration else {}, number)
        job.memory_factor = best.memory_factor
        return job


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
