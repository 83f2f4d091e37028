"""The finished trials of a run directory.

A trial is read from its result JSON. A log without a result, as the published tool leaves it, counts if it ends in
``best_result``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cluebench.benchmark.tasks import TASKS, Setting, Task
from cluebench.foundation.file_facts import visible
from cluebench.foundation.notices import notice_once
from cluebench.foundation.text import Phrase
from cluebench.records import dev_predictions, identity
from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.grid_file import GridFile, read_grid
from cluebench.records.log import LogFacts, read_log
from cluebench.records.paths import parse_trial_name, trial_name
from cluebench.records.result import STOPPED, Result


@dataclass(frozen=True)
class FinishedTrial:
    """A score on dev and the setting that reached it."""

    task: str
    setting: Setting
    seed: int
    score: tuple[float, ...]  # percent, two decimals as published
    result: Result | None = None  # None if there is only a log
    path: Path | None = None  # of the result, else of the log
    log: LogFacts | None = None  # if there is no result

    @property
    def name(self) -> str:
        """The name of its files, without suffix."""
        return trial_name(self.setting, self.seed)

    @cached_property
    def predictions(self) -> DevPredictions | None:
        """The dev predictions of its best model; None without any that fit its result."""
        return dev_predictions.of_result(self.result, self.path) if self.result and self.path else None

    @cached_property
    def protocol(self) -> str | None:
        """See `protocol_hash`; None if there is only a log."""
        return protocol_hash(self.result.configuration) if self.result else None

    @classmethod
    def of(cls, result: Result, path: Path, task: Task) -> "FinishedTrial | None":
        """The trial of a result in a task's folder, finished or stopped, as the result states it.

        Settings that the result leaves open, such as a dropout by the model's configuration, are in its file name. None
        if name and result contradict each other, which one line reports.
        """
        assert (named := parse_trial_name(path.stem)) is not None, f"{path} is no trial's"
        setting, seed = named
        by_name = {"task": task.name, **setting._asdict(), "seed": seed}
        stated = {"task": result.task, **{key: result.configuration.get(key) for key in identity.VARIED}}
        differing = [f"{key} {value}" for key, value in stated.items() if value is not None and value != by_name[key]]
        if differing:
            stated_text = ", ".join(differing)
            notice_once(f"warning: {path}: its result says {stated_text}, its place says otherwise; left out")
            return None
        return cls(task.name, setting, seed, _rounded(result.best_score or ()), result, path)


@dataclass(frozen=True, eq=False)
class OpenedRun:
    """A run directory: one folder for each task, its name in any case. Each file is read once, when it is needed."""

    folder: Path

    @cached_property
    def files(self) -> dict[str, dict[Path, Result | None]]:
        """Task name → the results of its trials by path, finished or not; None for a broken one and a log alone."""
        found: dict[str, dict[Path, Result | None]] = {}
        for folder in visible(self.folder) if self.folder.is_dir() else ():
            if folder.name.lower() in TASKS and folder.is_dir():
                results = {path: Result.read(path) for path in visible(folder, "*.json") if parse_trial_name(path.stem)}
                logs = [path for path in visible(folder, "*.log") if parse_trial_name(path.stem)]
                alone = [path for path in logs if path.with_suffix(".json") not in results]
                found.setdefault(folder.name.lower(), {}).update(results | dict.fromkeys(alone))
        return found

    @cached_property
    def grid(self) -> GridFile | None:
        return read_grid(self.folder)

    @cached_property
    def trials(self) -> dict[str, list[FinishedTrial]]:
        """Task name → its finished trials; if there is a grid.json, only those of its protocol.

        Without a plan for the task: those of the protocol of the last finished one.
        """
        protocols = self.grid.protocols if self.grid else {}
        trials = {}
        for name, files in self.files.items():
            found = [trial for path, result in files.items() if (trial := _finished(path, result, TASKS[name]))]
            results = [trial.result for trial in found if trial.result]
            protocol = protocols.get(name)
            if protocol is None and results:
                protocol = protocol_hash(max(results, key=lambda result: result.finished or "").configuration)
            trials[name] = [trial for trial in found if not trial.result or trial.protocol == protocol]
        return trials

    @property
    def results(self) -> list[Result]:
        return [trial.result for of_task in self.trials.values() for trial in of_task if trial.result]

    @property
    def identity(self) -> str | None:
        """The model's, as its trials state it; None for logs alone."""
        models = (result.configuration.get("model") for result in self.results)
        return next((str(model) for model in models if model), None)

    @property
    def name(self) -> str:
        """The model as its user knows it: a published name (``hfl/rbt3``), or the last part of a directory."""
        if self.identity and not self.identity.startswith("directory:"):
            return self.identity
        own = self.folder.resolve().name  # the folder of logs alone is named like the model
        return Path(self.grid.model).name if self.grid else own if self.identity else own.replace("--", "/")

    @cached_property
    def halving_mark(self) -> Phrase | None:
        """``halving: 61 of 134 trials stopped early``, for every table of a run directory; None if none was stopped.

        A trial was stopped if the plan says so, or its result does and is of the finished trials' protocol. It does not
        count if it has finished since.
        """
        done = {(trial.task, trial.name) for of_task in self.trials.values() for trial in of_task}
        planned = self.grid.trials if self.grid else ()
        stopped = {(trial.task, trial.name) for trial in planned if trial.state == STOPPED}
        for task, files in self.files.items():
            protocols = {trial.protocol for trial in self.trials[task] if trial.result}
            results = [(path.stem, result) for path, result in files.items() if result and result.status == STOPPED]
            stopped |= {(task, name) for name, result in results if protocol_hash(result.configuration) in protocols}
        number = len(stopped - done)
        template = "halving: {stopped} of {trials} trials stopped early"
        return Phrase(template, stopped=number, trials=number + len(done)) if number else None


def finished_trials(folder: Path) -> dict[str, list[FinishedTrial]]:
    """The `trials` of a run directory, if nothing else of it is needed."""
    return OpenedRun(folder).trials


def _finished(path: Path, result: Result | None, task: Task) -> FinishedTrial | None:
    """The trial of a result, or of a log if ``path`` is one; None if it is not finished."""
    if result and result.is_finished:
        return FinishedTrial.of(result, path, task)
    facts, named = read_log(path) if path.suffix == ".log" else LogFacts(), parse_trial_name(path.stem)
    score = facts.best_score
    if not named or not score or len(score) != (2 if task.metric == "em_f1" else 1) or max(score) > 100:
        return None
    return FinishedTrial(task.name, *named, _rounded(score), None, path, facts)


def _rounded(score: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(float(number), 2) for number in score)


def protocol_hash(configuration: Mapping) -> str:
    """Hash of the settings that make a protocol: trials of a grid with the same hash may be compared."""
    return identity.configuration_hash(
        {key: value for key, value in configuration.items() if key not in identity.WITHIN_A_GRID}
    )


def of_whole_grid(trials: Sequence[FinishedTrial]) -> list[FinishedTrial]:
    """The trials of a task with the seeds that most settings have; without further seeds of the best settings."""
    settings = Counter(trial.seed for trial in trials)
    return [trial for trial in trials if settings[trial.seed] == max(settings.values())]
