"""The finished trials of a run directory.

A trial is read from its result JSON. A log without a result beside it, as the published tool leaves them, counts when
it ends in ``best_result``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cluebench.benchmark.tasks import TASKS, Setting, Task
from cluebench.foundation.file_facts import visible
from cluebench.foundation.notices import notice_once
from cluebench.foundation.phrases import Phrase
from cluebench.records import dev_predictions, identity
from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.grid_file import GridFile, read_grid
from cluebench.records.log import LogFacts, read_log
from cluebench.records.paths import find_logs, parse_trial_name, trial_name
from cluebench.records.result import STOPPED, Result


@dataclass(frozen=True)
class FinishedTrial:
    """A score on dev and the setting that reached it."""

    task: str
    setting: Setting
    seed: int
    score: tuple[float, ...]  # percent, two decimals as published
    result: Result | None = None  # None when only a log says so
    path: Path | None = None  # of the result
    log: LogFacts | None = None  # what the log says, where there is no result

    @property
    def name(self) -> str:
        """As its files are called."""
        return trial_name(self.setting, self.seed)

    @cached_property
    def predictions(self) -> DevPredictions | None:
        """What its best model said of dev; None where it kept nothing that fits its result."""
        return dev_predictions.of_result(self.result, self.path) if self.result and self.path else None

    @classmethod
    def of(cls, result: Result, path: Path, task: Task) -> FinishedTrial | None:
        """The trial of a result in a task's folder, finished or stopped, by what the result says.

        Of what it leaves open, such as the dropout of a model's own configuration, its name tells. None where the two
        contradict each other, which one line says.
        """
        assert (named := parse_trial_name(path.stem)) is not None, f"{path} is no trial's"
        setting, seed = named
        by_name = {"task": task.name, **setting._asdict(), "seed": seed}
        stated = {"task": result.task, **{key: result.configuration.get(key) for key in identity.VARIED}}
        differing = {key: value for key, value in stated.items() if value is not None and value != by_name[key]}
        if differing:
            said = ", ".join(f"{key} {value}" for key, value in differing.items())
            notice_once(f"warning: {path}: its result says {said}, its place says otherwise; left out")
            return None
        return cls(task.name, setting, seed, _rounded(result.best_score or ()), result, path)


@dataclass(frozen=True, eq=False)
class OpenedRun:
    """A run directory: a folder a task, its name in any case. Each file is read once, when it is first wanted."""

    folder: Path
    _read: dict[Path, Result | None] = field(default_factory=dict, init=False)

    def result(self, path: Path) -> Result | None:
        """What a trial has left there, finished or not."""
        if path not in self._read:
            self._read[path] = Result.read(path)
        return self._read[path]

    @cached_property
    def grid(self) -> GridFile | None:
        return read_grid(self.folder)

    @cached_property
    def trials(self) -> dict[str, list[FinishedTrial]]:
        """Task name → its finished trials; where there is a grid.json, without those of another protocol than its."""
        protocols = self.grid.protocols if self.grid else {}
        trials: dict[str, list[FinishedTrial]] = {}
        for task, folder in _task_folders(self.folder):
            found = self._with_results(task, folder) + _with_logs_only(task, folder)
            trials.setdefault(task.name, []).extend(_of_one_protocol(found, protocols.get(task.name)))
        return trials

    def _with_results(self, task: Task, folder: Path) -> list[FinishedTrial]:
        named = ((path, self.result(path)) for path in visible(folder, "*.json") if parse_trial_name(path.stem))
        done = (FinishedTrial.of(result, path, task) for path, result in named if result and result.is_finished)
        return [trial for trial in done if trial]

    @property
    def results(self) -> list[Result]:
        return [trial.result for of_task in self.trials.values() for trial in of_task if trial.result]

    @property
    def identity(self) -> str | None:
        """Of the model, as its trials have it; None for logs alone."""
        named = (result.configuration.get("model") for result in self.results)
        return next((str(model) for model in named if model), None)

    @property
    def name(self) -> str:
        """The model as its user knows it: a published name (``hfl/rbt3``); of a directory only its last part."""
        if self.identity and not self.identity.startswith("directory:"):
            return self.identity
        own = self.folder.resolve().name  # of logs alone the folder is named like the model
        return Path(self.grid.model).name if self.grid else own if self.identity else own.replace("--", "/")

    @cached_property
    def halving_mark(self) -> Phrase | None:
        """``halving: 61 of 134 trials stopped early``, as every table of a run directory says; None where none was.

        A trial was stopped when the plan says so or, of the protocol of those that are finished, its result, and it has
        not finished since.
        """
        finished = [trial for of_task in self.trials.values() for trial in of_task]
        protocols = {trial.task: protocol_hash(trial.result.configuration) for trial in finished if trial.result}
        done = {(trial.task, trial.name) for trial in finished}
        planned = self.grid.trials if self.grid else ()
        stopped = {(trial.task, trial.name) for trial in planned if trial.state == STOPPED}
        for task, folder in _task_folders(self.folder):
            for path in (path for path in visible(folder, "*.json") if parse_trial_name(path.stem)):
                result = self.result(path)
                if result and result.status == STOPPED:
                    if protocol_hash(result.configuration) == protocols.get(task.name):
                        stopped.add((task.name, path.stem))
        stopped -= done
        if not stopped:
            return None
        template = "halving: {stopped} of {trials} trials stopped early"
        return Phrase(template, stopped=len(stopped), trials=len(stopped) + len(done))


def finished_trials(folder: Path) -> dict[str, list[FinishedTrial]]:
    """The `trials` of a run directory of which nothing else is wanted."""
    return OpenedRun(folder).trials


def _task_folders(folder: Path) -> list[tuple[Task, Path]]:
    found = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else ()
    return [(TASKS[path.name.lower()], path) for path in found if path.name.lower() in TASKS]


def _with_logs_only(task: Task, folder: Path) -> list[FinishedTrial]:
    found = []
    for path, (setting, seed) in find_logs(folder):
        if path.with_name(f"{path.stem}.json").exists():
            continue
        facts = read_log(path)
        score = facts.best_score
        if score and len(score) == (2 if task.metric == "em_f1" else 1) and max(score) <= 100:
            found.append(FinishedTrial(task.name, setting, seed, _rounded(score), log=facts))
    return found


def _rounded(score: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(float(number), 2) for number in score)


def protocol_hash(configuration: Mapping) -> str:
    """Hash of all settings that make a protocol: trials of a grid with the same one may be compared."""
    return identity.configuration_hash(
        {key: value for key, value in configuration.items() if key not in identity.WITHIN_A_GRID}
    )


def _of_one_protocol(trials: list[FinishedTrial], planned: str | None) -> list[FinishedTrial]:
    """Without a plan for the task: those comparable with the one that finished last."""
    results = [trial.result for trial in trials if trial.result is not None]
    if planned is None and results:
        planned = protocol_hash(max(results, key=lambda result: result.finished or "").configuration)
    return [trial for trial in trials if trial.result is None or protocol_hash(trial.result.configuration) == planned]


def of_whole_grid(trials: Sequence[FinishedTrial]) -> list[FinishedTrial]:
    """The trials of a task whose seeds most settings were run with: without the further seeds of the best ones."""
    settings = Counter(trial.seed for trial in trials)
    return [trial for trial in trials if settings[trial.seed] == max(settings.values())]
