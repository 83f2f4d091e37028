"""Finished trials on disk → the best of each task → the best-score table.

A trial is read from its result JSON. A log without a result beside it, as the published tool leaves them, counts when
it ends in ``best_result``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

from cluebench import identity, runlog
from cluebench.grid_file import GridFile, read_grid
from cluebench.notices import notice
from cluebench.published import PublishedModel, averaged_tasks
from cluebench.tasks import TASKS, Setting, Task, rank

_RULE = "=" * 68

#: What differs between the trials of one grid and one task, and what is only another way to the same: trials that
#: differ in anything else are not compared.
_GRID_KEYS = ("learning_rate", "batch_size", "dropout", "seed", "padding")


@dataclass(frozen=True)
class FinishedTrial:
    """A score on dev and the setting that reached it."""

    task: str
    setting: Setting
    seed: int
    score: tuple[float, ...]  # percent, two decimals as published
    result: runlog.Result | None = None  # None when only a log says so
    path: Path | None = None  # of the result
    log: runlog.LogFacts | None = None  # what the log says, where there is no result


@dataclass(frozen=True)
class Best:
    """The best setting of a task: the mean over its seeds and, with more than one, the standard deviation."""

    setting: Setting
    score: tuple[float, ...]
    deviation: tuple[float, ...] | None = None
    seeds: int = 1
    single: tuple[float, ...] | None = None  # the best score of any trial, where only some settings have all seeds

    def text(self, task: Task) -> str:
        """``57.00``, ``65.83/87.30``; over seeds ``57.00±0.21``, ``65.83±0.30/87.30±0.12``.

        Where only some settings were run with all seeds, behind the best single score: ``57.63, 57.00±0.21 (5)``.
        """
        if self.deviation is None:
            return task.format_score(self.score)
        text = "/".join(f"{value:.2f}±{spread:.2f}" for value, spread in zip(self.score, self.deviation, strict=True))
        return text if self.single is None else f"{task.format_score(self.single)}, {text} ({self.seeds})"


def model_name(run: Path, grid: GridFile | None, identity: str | None) -> str:
    """The model of a run as its user knows it: a published name (``hfl/rbt3``); of a directory only its last part.

    identity: what its trials say that it is; None for logs alone, whose folder is named like the model.
    """
    if identity and not identity.startswith("directory:"):
        return identity
    return Path(grid.model).name if grid else run.resolve().name if identity else run.resolve().name.replace("--", "/")


def finished_trials(folder: Path) -> dict[str, list[FinishedTrial]]:
    """Task name → its finished trials under ``folder``, which holds one folder a task, its name in any case.

    Where ``folder`` has a grid.json, results of another configuration than its plan's are left out.
    """
    grid = read_grid(folder)
    protocols = grid.protocols if grid else {}
    trials: dict[str, list[FinishedTrial]] = {}
    for task, task_folder in _task_folders(folder):
        found = _with_results(task, task_folder) + _with_logs_only(task, task_folder)
        trials.setdefault(task.name, []).extend(_of_one_protocol(found, protocols.get(task.name)))
    return trials


def _task_folders(folder: Path) -> list[tuple[Task, Path]]:
    found = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else ()
    return [(TASKS[path.name.lower()], path) for path in found if path.name.lower() in TASKS]


def _with_results(task: Task, folder: Path) -> list[FinishedTrial]:
    found = []
    for path in sorted(folder.glob("*.json")):
        named = runlog.parse_trial_name(path.stem)
        result = runlog.Result.read_finished(path) if named else None
        if named and result and result.best_score:
            if result.task == task.name:
                found.append(_trial(task, named, result.best_score, result, path))
            else:
                notice(f"warning: {path}: a result of {result.task} among those of {task.title}; left out")
    return found


def halving_mark(folder: Path, trials: Mapping[str, Sequence[FinishedTrial]] | None = None) -> str | None:
    """``halving: 61 of 134 trials stopped early``, as every table of a run directory says; None where none was.

    ``trials``: the finished ones, where they are known already. A trial was stopped when the plan says so or, of the
    protocol of those that are finished, its result, and it has not finished since.
    """
    trials = finished_trials(folder) if trials is None else trials
    finished = [trial for of_task in trials.values() for trial in of_task]
    protocols = {trial.task: protocol_hash(trial.result.configuration) for trial in finished if trial.result}
    known, grid = {trial.path for trial in finished}, read_grid(folder)
    done = {(trial.task, runlog.trial_name(*trial.setting, trial.seed)) for trial in finished}
    stopped = {(trial.task, trial.name) for trial in (grid.trials if grid else ()) if trial.state == runlog.STOPPED}
    for task, task_folder in _task_folders(folder):
        for path in (path for path in task_folder.glob("*.json") if path not in known):
            result = runlog.Result.read(path) if runlog.parse_trial_name(path.stem) else None
            if result and result.status == runlog.STOPPED:
                if protocol_hash(result.configuration) == protocols.get(task.name):
                    stopped.add((task.name, path.stem))
    stopped -= done
    return f"halving: {len(stopped)} of {len(stopped) + len(done)} trials stopped early" if stopped else None


def _with_logs_only(task: Task, folder: Path) -> list[FinishedTrial]:
    found = []
    for path, named in runlog.find_logs(folder):
        if path.with_name(f"{path.stem}.json").exists():
            continue
        facts = runlog.read_log(path)
        score = facts.best_score
        if score and len(score) == (2 if task.metric == "em_f1" else 1) and max(score) <= 100:
            found.append(replace(_trial(task, named, score), log=facts))
    return found


def _trial(
    task: Task, named: tuple, score: Sequence[float], result: runlog.Result | None = None, path: Path | None = None
) -> FinishedTrial:
    learning_rate, batch_size, dropout, seed = named
    rounded = tuple(round(float(number), 2) for number in score)
    return FinishedTrial(task.name, Setting(learning_rate, batch_size, dropout), seed, rounded, result, path)


def protocol_hash(configuration: Mapping) -> str:
    """Hash of all settings but the grid's: trials with the same one may be compared."""
    return identity.configuration_hash({key: value for key, value in configuration.items() if key not in _GRID_KEYS})


def _of_one_protocol(trials: list[FinishedTrial], planned: str | None) -> list[FinishedTrial]:
    """Without a plan for the task: those comparable with the one that finished last."""
    results = [trial.result for trial in trials if trial.result is not None]
    if planned is None and results:
        planned = protocol_hash(max(results, key=lambda result: result.finished or "").configuration)
    return [trial for trial in trials if trial.result is None or protocol_hash(trial.result.configuration) == planned]


def best_setting(trials: Iterable[FinishedTrial]) -> Best | None:
    """The setting with the highest mean over seeds (EM for spans); None without trials.

    Settings that lack seeds others have are considered only if none is complete. Ties go to the smaller learning rate,
    then the smaller batch, then the smaller dropout.
    """
    by_setting: dict[Setting, dict[int, tuple[float, ...]]] = defaultdict(dict)
    for trial in trials:
        by_setting[trial.setting][trial.seed] = trial.score
    if not by_setting:
        return None
    most_seeds = max(map(len, by_setting.values()))
    candidates = [
        _over_seeds(setting, list(scores.values()))
        for setting, scores in by_setting.items()
        if len(scores) == most_seeds
    ]
    best = max(candidates, key=lambda best: rank(best.score, best.setting))
    if len(candidates) == len(by_setting):
        return best
    every = [(score, setting) for setting, scores in by_setting.items() for score in scores.values()]
    return replace(best, single=max(every, key=lambda pair: rank(*pair))[0])


def of_whole_grid(trials: Sequence[FinishedTrial]) -> list[FinishedTrial]:
    """The trials of a task whose seeds most settings were run with: without the further seeds of the best ones."""
    settings = Counter(trial.seed for trial in trials)
    return [trial for trial in trials if settings[trial.seed] == max(settings.values())]


def _over_seeds(setting: Setting, scores: list[tuple[float, ...]]) -> Best:
    columns = list(zip(*scores, strict=True))
    averages = tuple(mean(column) for column in columns)
    deviation = tuple(stdev(column) for column in columns) if len(scores) > 1 else None
    return Best(setting, averages, deviation, len(scores))


def best_settings(trials: Mapping[str, Sequence[FinishedTrial]]) -> dict[str, Best]:
    """Task name → best setting, for the tasks that have a finished trial."""
    bests = {name: best_setting(trials.get(name, ())) for name in TASKS}
    return {name: best for name, best in bests.items() if best is not None}


def best_score_table(bests: Mapping[str, Best]) -> str:
    """The table to the letter: tab-separated, ``-`` for a task without a finished trial. Ends with a line break."""
    tasks = TASKS.values()
    scores = [bests[task.name].text(task) if task.name in bests else "-" for task in tasks]
    lines = ["\t".join(task.title for task in tasks), "\t".join(scores), _RULE, "Best hyper-parameters list:", _RULE]
    lines.append("TASK\tresult\t(lr, batch_size, dropout_p)")
    for task, score in zip(tasks, scores, strict=True):
        lines.append(f"{task.title}\t{score}\t{_setting_text(bests.get(task.name))}")
    return "\n".join(lines) + "\n"


def _setting_text(best: Best | None) -> str:
    if best is None:
        return "-"
    return f"({best.setting.learning_rate},{best.setting.batch_size},{best.setting.dropout})"


def published_comparison(bests: Mapping[str, Best], published: PublishedModel) -> str:
    """Two more lines for the table: the published scores, and the user's minus the published (EM for spans)."""
    shown, differences = [], []
    for task in TASKS.values():
        theirs = published.score(task)
        shown.append(task.format_score(theirs) if theirs else "-")
        if theirs is None or task.name not in bests:
            differences.append("-")
            continue
        pairs = zip(bests[task.name].score, theirs, strict=True)
        differences.append("/".join(f"{round(ours - other, 2) + 0.0:+.2f}" for ours, other in pairs))
    return "\t".join(shown) + "\n" + "\t".join(differences) + "\n"


def average(bests: Mapping[str, Best]) -> float | None:
    """AVG of the published table: the mean of its ten tasks, EM for spans; None unless all are there."""
    if not averaged_tasks() <= bests.keys():
        return None
    return mean(round(bests[name].score[0], 2) for name in averaged_tasks())


def edges(trials: Mapping[str, Sequence[FinishedTrial]], bests: Mapping[str, Best]) -> dict[tuple[str, str], str]:
    """(task, "learning_rate" or "batch_size") → "smallest" or "largest", where the winner has it of three or more."""
    found = {}
    for name, best in bests.items():
        for axis in ("learning_rate", "batch_size"):
            values = sorted({getattr(trial.setting, axis) for trial in trials[name]})
            value = getattr(best.setting, axis)
            if len(values) >= 3 and value in (values[0], values[-1]):
                found[name, axis] = "smallest" if value == values[0] else "largest"
    return found


def edge_notes(trials: Mapping[str, Sequence[FinishedTrial]], bests: Mapping[str, Best]) -> list[str]:
    """One line for each winner at an edge of its grid."""
    notes = []
    for (name, axis), edge in edges(trials, bests).items():
        value, beyond = getattr(bests[name].setting, axis), {"smallest": "smaller", "largest": "larger"}[edge]
        label = axis.replace("_", " ")
        notes.append(
            f"{TASKS[name].title}: the best {label}, {value}, is the {edge} tried; a {beyond} one may do better"
        )
    return notes
