"""Finished grids → what a cheaper search would have cost and lost on them, as text and JSON."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cluebench.benchmark.tasks import TASKS, Setting, Task
from cluebench.records.finished_trials import FinishedTrial
from cluebench.report import evidence
from cluebench.report.evidence import Evidence
from cluebench.report.tables import Table
from cluebench.search.halving import Curve
from cluebench.search.replay import (
    RULES,
    SAFE,
    Outcome,
    Recorded,
    RecordedGrid,
    Replay,
    Summary,
    points,
    recommended,
    scores_of,
    summaries,
)

FORMATS = ("text", "json")

_COLUMNS = ["rule", "stopped", "steps saved", "seconds saved", "lost", "rank", "safe"]
_OVER_GRIDS = ["rule", "steps saved (least)", "seconds saved (least)", "lost (most)", "worst rank", "safe in"]
_WORDS = {"task", "rule"}
_BY_TASK = ["task", "rule", "steps saved", "seconds saved", "lost", "worst rank"]


@dataclass(frozen=True)
class Replayed:
    """What each rule would have done to the finished grids of a model."""

    model: str  # as the user typed it
    outcomes: Mapping[str, Sequence[Outcome]]  # task name → one for each of RULES
    errors: Mapping[str, float | None]  # task name → one standard error of its best score, in points
    left_out: Mapping[str, str] = field(default_factory=dict)  # task name → why it can't be replayed


def replayed(model: str, trials: Mapping[str, Sequence[FinishedTrial]]) -> Replayed:
    """``trials``: of each task, as `finished_trials.finished_trials` gives them."""
    outcomes, errors, left_out = {}, {}, {}
    measured, _ = evidence.of_run(trials)
    for name in (name for name in TASKS if trials.get(name)):
        grid, without = grid_of(trials[name])
        if without:
            left_out[name] = (
                f"{without} of {len(trials[name])} finished trials have no evaluations with steps on record"
            )
            continue
        errors[name] = _error(name, measured, trials[name], max(scores_of(grid).values()))
        replay = Replay(grid, errors[name])
        outcomes[name] = [replay.outcome(rule) for rule in RULES]
    return Replayed(model, outcomes, errors, left_out)


def _error(name: str, measured: Mapping[str, Evidence], trials: Sequence[FinishedTrial], best: float) -> float | None:
    """One standard error of a task's best score: over its dev rows, else the binomial one of the official dev split.

    None where the split is not known, or only a part of it was evaluated.
    """
    if name in measured:
        return measured[name].error[0]
    if any(trial.result and trial.result.configuration.get("limit") for trial in trials):
        return None
    known = evidence.published(TASKS[name], (best,))
    return known.error[0] if known else None


def grid_of(trials: Sequence[FinishedTrial]) -> tuple[RecordedGrid, int]:
    """(the settings that the table chooses from with a recording a seed, the number of trials that have none).

    Seeds that at most half of the settings have are further seeds of the best ones, and left out; so are the settings
    that lack a seed of the others'.
    """
    by_setting: dict[Setting, dict[int, FinishedTrial]] = defaultdict(dict)
    for trial in trials:
        by_setting[trial.setting][trial.seed] = trial
    settings = Counter(seed for seeds in by_setting.values() for seed in seeds)
    enough = min(len(by_setting) // 2 + 1, max(settings.values(), default=0))
    common = {seed for seed, number in settings.items() if number >= enough}
    most = max((len(common & seeds.keys()) for seeds in by_setting.values()), default=0)
    recorded = {
        setting: [_recorded(trial) for seed, trial in sorted(seeds.items()) if seed in common]
        for setting, seeds in by_setting.items()
        if len(common & seeds.keys()) == most
    }
    grid = {setting: [one for one in seeds if one is not None] for setting, seeds in recorded.items()}
    return grid, sum(one is None for seeds in recorded.values() for one in seeds)


def _recorded(trial: FinishedTrial) -> Recorded | None:
    """None where nothing says what it scored at which step."""
    source = trial.result or trial.log
    if source is None or not source.dev_curve:
        return None
    steps, total = [point.step for point in source.dev_curve], source.total_steps or 0
    if steps != sorted(steps) or not 0 < steps[-1] <= total:
        return None
    curve = Curve(tuple(steps), tuple(point.score[0] for point in source.dev_curve), total)
    return Recorded(curve, trial.score[0], source.train_seconds, source.eval_seconds)


def recommendations(models: Sequence[Replayed]) -> dict[str, Summary | None]:
    """Task name → the rule that is safe in the grids of all models and saves most; None where there is none."""
    by_task = {name: [one.outcomes[name] for one in models if name in one.outcomes] for name in TASKS}
    return {name: recommended(grids) for name, grids in by_task.items() if grids}


# Text and JSON --------------------------------------------------------------------------------------------------------


def rendered(models: Sequence[Replayed], style: str) -> str:
    """All of them in one of FORMATS."""
    if style == "json":
        return json.dumps(_values(models), ensure_ascii=False, indent=2) + "\n"
    blocks = [block for model in models for block in _model_blocks(model)]
    grids = [outcomes for model in models for outcomes in model.outcomes.values()]
    blocks.append(
        [f"over {len(grids)} grids", *Table(_OVER_GRIDS, [*map(_over_grids, summaries(grids))], _WORDS).text()]
    )
    rows = [_recommendation(TASKS[name], one) for name, one in recommendations(models).items()]
    blocks.append(["recommended", *Table(_BY_TASK, rows, _WORDS).text()])
    blocks.append(
        [f"safe: {SAFE}. Saved: share of the whole grid's. Lost: points; the most of any grid, if recommended."]
    )
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def _values(models: Sequence[Replayed]) -> dict[str, Any]:
    """Every number, unrounded."""
    grids = [outcomes for model in models for outcomes in model.outcomes.values()]
    return {
        "models": [
            {
                "model": model.model,
                "tasks": {
                    name: {"standard_error": model.errors[name], "outcomes": [_named(one) for one in outcomes]}
                    for name, outcomes in model.outcomes.items()
                },
                "left_out": dict(model.left_out),
            }
            for model in models
        ],
        "rules": [_named(one) for one in summaries(grids)],
        "recommended": {name: _named(one) if one else None for name, one in recommendations(models).items()},
        "points": [point._asdict() for point in points(grids)],
        "safe": SAFE,
    }


def _named(one: Outcome | Summary) -> dict[str, Any]:
    """Its fields as JSON values, the rule also by its parts."""
    values = {**asdict(one), "rule": str(one.rule), "keep": one.rule.keep, "rungs": list(map(float, one.rule.rungs))}
    return values | ({"chosen": one.chosen._asdict()} if isinstance(one, Outcome) else {})


def _model_blocks(model: Replayed) -> Iterator[list[str]]:
    for name, outcomes in model.outcomes.items():
        error = model.errors[name]
        known = "its standard error is not known" if error is None else f"±{error:.2f}"
        best = outcomes[0].score + outcomes[0].lost
        title = f"{model.model}, {TASKS[name].title}: {outcomes[0].trials} trials, best {best:.2f} ({known})"
        yield [title, *Table(_COLUMNS, [*map(_row, outcomes)], _WORDS).text()]
    for name, reason in model.left_out.items():
        yield [f"{model.model}, {TASKS[name].title}: left out: {reason}"]


def _row(one: Outcome) -> list[str]:
    saved = [_share(one.steps_saved), _share(one.seconds_saved)]
    return [str(one.rule), str(one.stopped), *saved, f"{one.lost:.2f}", str(one.rank), "yes" if one.safe else "no"]


def _over_grids(one: Summary) -> list[str]:
    steps, least_steps = _share(one.steps_saved), _share(one.least_steps_saved)
    seconds, least_seconds = _share(one.seconds_saved), _share(one.least_seconds_saved)
    lost = f"{one.lost:.2f} ({one.most_lost:.2f})"
    saved = [f"{steps} ({least_steps})", f"{seconds} ({least_seconds})"]
    return [str(one.rule), *saved, lost, str(one.worst_rank), f"{one.safe} of {one.grids}"]


def _recommendation(task: Task, one: Summary | None) -> list[str]:
    if one is None:
        return [task.title, "none", "-", "-", "-", "-"]
    saved = [_share(one.steps_saved), _share(one.seconds_saved)]
    return [task.title, str(one.rule), *saved, f"{one.most_lost:.2f}", str(one.worst_rank)]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
