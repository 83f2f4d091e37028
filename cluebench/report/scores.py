"""Finished trials → the best of each task → the best-score table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

from cluebench.benchmark.published import PublishedModel, averaged_tasks
from cluebench.benchmark.tasks import TASKS, Setting, Task, rank
from cluebench.records.finished_trials import FinishedTrial

_RULE = "=" * 68


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


def best_setting(trials: Iterable[FinishedTrial]) -> Best | None:
    """The setting with the highest mean over seeds (EM for spans); None without trials.

    Settings that lack seeds others have are considered only if none is complete. Ties go to the smaller learning rate,
    then the smaller batch, then the smaller dropout.
    """
    by_setting = _by_setting(trials)
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


def _by_setting(trials: Iterable[FinishedTrial]) -> dict[Setting, dict[int, tuple[float, ...]]]:
    """Setting → seed → score."""
    found: dict[Setting, dict[int, tuple[float, ...]]] = defaultdict(dict)
    for trial in trials:
        found[trial.setting][trial.seed] = trial.score
    return found


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


def missing_from_average(bests: Mapping[str, Best]) -> list[str]:
    """Titles of the tasks that AVG lacks."""
    return [task.title for name, task in TASKS.items() if name in averaged_tasks() and name not in bests]


def average(bests: Mapping[str, Best]) -> float | None:
    """AVG of the published table: the mean of its ten tasks, EM for spans; None unless all are there."""
    if not averaged_tasks() <= bests.keys():
        return None
    return mean(round(bests[name].score[0], 2) for name in averaged_tasks())


def edges(
    trials: Mapping[str, Sequence[FinishedTrial]], bests: Mapping[str, Best], errors: Mapping[str, float] | None = None
) -> dict[tuple[str, str], str]:
    """(task, "learning_rate" or "batch_size") → "smallest" or "largest", where the best setting has it, of three or
    more.

    None where a setting with a value in between scores as high, or less by at most one standard error of the best
    score. ``errors``: task → that standard error, in points; 0 where it is not known.
    """
    found = {}
    for name, best in bests.items():
        least = best.score[0] - (errors or {}).get(name, 0.0)
        settings = _by_setting(trials[name])
        for axis in ("learning_rate", "batch_size"):
            values = sorted({getattr(setting, axis) for setting in settings})
            value = getattr(best.setting, axis)
            inner = [mean(score[0] for score in of.values()) for one, of in settings.items()
                     if values[0] < getattr(one, axis) < values[-1]]  # fmt: skip
            if len(values) >= 3 and value in (values[0], values[-1]) and round(max(inner), 2) < round(least, 2):
                found[name, axis] = "smallest" if value == values[0] else "largest"
    return found


def edge_notes(
    trials: Mapping[str, Sequence[FinishedTrial]], bests: Mapping[str, Best], errors: Mapping[str, float] | None = None
) -> list[str]:
    """One line for each of the `edges`."""
    notes = []
    for (name, axis), edge in edges(trials, bests, errors).items():
        value, beyond = getattr(bests[name].setting, axis), {"smallest": "smaller", "largest": "larger"}[edge]
        label = axis.replace("_", " ")
        notes.append(
            f"{TASKS[name].title}: the best {label}, {value}, is the {edge} tried; a {beyond} one may do better"
        )
    return notes
