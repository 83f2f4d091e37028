"""Finished trials → the best setting of each task, and AVG."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

from cluebench.benchmark.published import averaged_tasks
from cluebench.benchmark.tasks import TASKS, Setting, Task, rank
from cluebench.records.finished_trials import FinishedTrial


@dataclass(frozen=True)
class Best:
    """The best setting of a task: the mean over its seeds and, with more than one, the standard deviation."""

    setting: Setting
    score: tuple[float, ...]
    deviation: tuple[float, ...] | None = None
    seeds: int = 1
    single: tuple[float, ...] | None = None  # the best score of any trial, if only some settings have all seeds

    @classmethod
    def over_seeds(cls, setting: Setting, by_seed: Sequence[tuple[float, ...]]) -> "Best":
        if len(by_seed) == 1:
            return cls(setting, by_seed[0])
        columns = list(zip(*by_seed, strict=True))
        return cls(setting, tuple(map(mean, columns)), tuple(map(stdev, columns)), len(by_seed))

    def text(self, task: Task) -> str:
        """``57.00``, ``65.83/87.30``; over seeds ``57.00±0.21``, ``65.83±0.30/87.30±0.12``.

        If only some settings were run with all seeds, the best single score comes first: ``57.63, 57.00±0.21 (5)``.
        """
        if self.deviation is None:
            return task.format_score(self.score)
        text = "/".join(f"{value:.2f}±{spread:.2f}" for value, spread in zip(self.score, self.deviation, strict=True))
        return text if self.single is None else f"{task.format_score(self.single)}, {text} ({self.seeds})"


def best_setting(trials: Iterable[FinishedTrial]) -> Best | None:
    """The setting with the highest mean over seeds (EM for spans); None without trials.

    A setting that lacks seeds of others can only be the best if every setting lacks some. If settings tie, the smaller
    learning rate is the best, then the smaller batch, then the smaller dropout.
    """
    by_setting = _by_setting(trials)
    if not by_setting:
        return None
    most_seeds = max(map(len, by_setting.values()))
    candidates = [
        Best.over_seeds(setting, [*by_seed.values()])
        for setting, by_seed in by_setting.items()
        if len(by_seed) == most_seeds
    ]
    best = max(candidates, key=lambda best: rank(best.score, best.setting))
    if len(candidates) == len(by_setting):
        return best
    every = [(score, setting) for setting, by_seed in by_setting.items() for score in by_seed.values()]
    return replace(best, single=max(every, key=lambda pair: rank(*pair))[0])


def _by_setting(trials: Iterable[FinishedTrial]) -> dict[Setting, dict[int, tuple[float, ...]]]:
    """Setting → seed → score."""
    found: dict[Setting, dict[int, tuple[float, ...]]] = defaultdict(dict)
    for trial in trials:
        found[trial.setting][trial.seed] = trial.score
    return found


def best_settings(trials: Mapping[str, Sequence[FinishedTrial]]) -> dict[str, Best]:
    """Task name → best setting, for the tasks that have a finished trial."""
    bests = {name: best_setting(trials.get(name, ())) for name in TASKS}
    return {name: best for name, best in bests.items() if best is not None}


def missing_from_average(finished: Collection[str]) -> list[str]:
    """Titles of the tasks that AVG lacks."""
    return [task.title for name, task in TASKS.items() if name in averaged_tasks() and name not in finished]


def average(bests: Mapping[str, Best]) -> float | None:
    """AVG of the published table: the mean of its ten tasks, EM for spans; None unless all ten are finished."""
    if not averaged_tasks() <= bests.keys():
        return None
    return mean(round(bests[name].score[0], 2) for name in averaged_tasks())


def edges(
    trials: Mapping[str, Sequence[FinishedTrial]], bests: Mapping[str, Best], errors: Mapping[str, float] | None = None
) -> dict[tuple[str, str], str]:
    """(task, "learning_rate" or "batch_size") → "smallest" or "largest", if the best setting has that value.

    An edge counts if three or more values were tried and every setting with a value between the edges scores lower by
    more than one standard error of the best score. ``errors``: task → that standard error, in points; 0 if unknown.
    """
    found = {}
    for name, best in bests.items():
        least = best.score[0] - (errors or {}).get(name, 0.0)
        settings = _by_setting(trials[name])
        for axis in ("learning_rate", "batch_size"):
            values = sorted({getattr(setting, axis) for setting in settings})
            value = getattr(best.setting, axis)
            inner = [mean(score[0] for score in by_seed.values()) for setting, by_seed in settings.items()
                     if values[0] < getattr(setting, axis) < values[-1]]  # fmt: skip
            if len(values) >= 3 and value in (values[0], values[-1]) and round(max(inner), 2) < round(least, 2):
                found[name, axis] = "smallest" if value == values[0] else "largest"
    return found
