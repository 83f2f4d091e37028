"""What a cheaper search would have cost and lost on finished grids, as text and JSON."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluebench.benchmark.tasks import TASKS, Setting
from cluebench.foundation.text import Table, as_json
from cluebench.records.finished_trials import FinishedTrial
from cluebench.report import evidence
from cluebench.report.evidence import Evidence
from cluebench.search import replay
from cluebench.search.halving import Curve
from cluebench.search.replay import SAFE, Outcome, Recorded, RecordedGrid, Summary

FORMATS = ("text", "json")

_WORDS = {"task", "rule"}


@dataclass(frozen=True)
class Replayed:
    """What each rule would have done to the finished grids of a model."""

    model: str  # as the user typed it
    outcomes: dict[str, Sequence[Outcome]]  # task name → an outcome for each rule
    errors: dict[str, float | None]  # task name → one standard error of its best score, in points
    left_out: dict[str, str]  # task name → why it can't be replayed


def replayed(model: str, trials: Mapping[str, Sequence[FinishedTrial]], measured: Mapping[str, Evidence]) -> Replayed:
    """By task name its finished trials, and the evidence of its best score."""
    found = Replayed(model, {}, {}, {})
    for name in (name for name in TASKS if trials.get(name)):
        grid, missing = grid_of(trials[name])
        if missing:
            reason = f"{missing} of {len(trials[name])} finished trials have no evaluations with steps on record"
            found.left_out[name] = reason
            continue
        error = _error(name, measured, trials[name], max(replay.scores_of(grid).values()))
        found.errors[name], found.outcomes[name] = error, replay.replay(grid, error)
    return found


def _error(name: str, measured: Mapping[str, Evidence], trials: Sequence[FinishedTrial], best: float) -> float | None:
    """One standard error of a task's best score: over its dev rows, else the binomial error of the official dev split.

    None if the split is unknown, or only a part of it was evaluated.
    """
    if name in measured:
        return measured[name].error[0]
    if any(trial.result and trial.result.configuration.get("limit") for trial in trials):
        return None
    binomial = evidence.published(TASKS[name], (best,))
    return binomial.error[0] if binomial else None


def grid_of(trials: Sequence[FinishedTrial]) -> tuple[RecordedGrid, int]:
    """(the settings that the table chooses from, with a recording a seed; the number of trials without a recording).

    A seed of at most half of the settings is a further seed of the best ones, and is left out. So are settings that
    lack a seed of the others.
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
    grid = {setting: [trial for trial in seeds if trial is not None] for setting, seeds in recorded.items()}
    return grid, sum(trial is None for seeds in recorded.values() for trial in seeds)


def _recorded(trial: FinishedTrial) -> Recorded | None:
    """None if no file says at which steps it was evaluated."""
    source = trial.result or trial.log
    if source is None or not source.dev_curve:
        return None
    steps, total = [point.step for point in source.dev_curve], source.total_steps or 0
    if steps != sorted(steps) or not 0 < steps[-1] <= total:
        return None
    curve = Curve(tuple(steps), tuple(point.score[0] for point in source.dev_curve), total)
    return Recorded(curve, trial.score[0], source.train_seconds, source.eval_seconds)


def recommendations(models: Sequence[Replayed]) -> dict[str, Summary | None]:
    """Task name → the rule that is safe in the grids of all models and saves most; None without a safe rule."""
    by_task = {name: [model.outcomes[name] for model in models if name in model.outcomes] for name in TASKS}
    return {name: replay.recommended(grids) for name, grids in by_task.items() if grids}


# Text and JSON --------------------------------------------------------------------------------------------------------


def rendered(models: Sequence[Replayed], style: str) -> str:
    """All models in one of FORMATS."""
    grids = [outcomes for model in models for outcomes in model.outcomes.values()]
    if style == "json":
        return as_json({
            "models": [_values(model) for model in models],
            "rules": [_named(summary) for summary in replay.summaries(grids)],
            "recommended": {name: best and _named(best) for name, best in recommendations(models).items()},
            "points": [point._asdict() for point in replay.points(grids)],
            "safe": SAFE,
        })  # fmt: skip
    by_task = [
        [TASKS[name].title, *(_recommendation(best) if best else ["none", "-", "-", "-", "-"])]
        for name, best in recommendations(models).items()
    ]
    overall = ["rule", "steps saved (least)", "seconds saved (least)", "lost (most)", "worst rank", "safe in"]
    columns = ["task", "rule", "steps saved", "seconds saved", "lost", "worst rank"]
    blocks = [
        *(block for model in models for block in _model_blocks(model)),
        [f"over {len(grids)} grids", *Table(overall, [*map(_over_grids, replay.summaries(grids))], _WORDS).text()],
        ["recommended", *Table(columns, by_task, _WORDS).text()],
        [f"safe: {SAFE}. Saved: share of the whole grid. Lost: points; the worst grid, if recommended."],
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks) + "\n"


def _values(model: Replayed) -> dict[str, Any]:
    """Every number, unrounded."""
    tasks = {
        name: {"standard_error": model.errors[name], "outcomes": [_named(outcome) for outcome in outcomes]}
        for name, outcomes in model.outcomes.items()
    }
    return {"model": model.model, "tasks": tasks, "left_out": dict(model.left_out)}


def _named(found: Outcome | Summary) -> dict[str, Any]:
    """Its fields as JSON values, with the parts of the rule."""
    rule = found.rule
    values = {**asdict(found), "rule": str(rule), "keep": rule.keep, "rungs": list(map(float, rule.rungs))}
    return values | ({"chosen": found.chosen._asdict()} if isinstance(found, Outcome) else {})


def _model_blocks(model: Replayed) -> Iterator[list[str]]:
    columns = ["rule", "stopped", "steps saved", "seconds saved", "lost", "rank", "safe"]
    for name, outcomes in model.outcomes.items():
        error, first = model.errors[name], outcomes[0]
        spread = "its standard error is not known" if error is None else f"±{error:.2f}"
        best = f"best {first.score + first.lost:.2f} ({spread})"
        title = f"{model.model}, {TASKS[name].title}: {first.trials} trials, {best}"
        yield [title, *Table(columns, [*map(_row, outcomes)], _WORDS).text()]
    for name, reason in model.left_out.items():
        yield [f"{model.model}, {TASKS[name].title}: left out: {reason}"]


def _row(outcome: Outcome) -> list[str]:
    saved = [_share(outcome.steps_saved), _share(outcome.seconds_saved)]
    lost = [f"{outcome.lost:.2f}", str(outcome.rank), "yes" if outcome.safe else "no"]
    return [str(outcome.rule), str(outcome.stopped), *saved, *lost]


def _over_grids(summary: Summary) -> list[str]:
    steps = f"{_share(summary.steps_saved)} ({_share(summary.least_steps_saved)})"
    seconds = f"{_share(summary.seconds_saved)} ({_share(summary.least_seconds_saved)})"
    lost = f"{summary.lost:.2f} ({summary.most_lost:.2f})"
    return [str(summary.rule), steps, seconds, lost, str(summary.worst_rank), f"{summary.safe} of {summary.grids}"]


def _recommendation(best: Summary) -> list[str]:
    saved = [_share(best.steps_saved), _share(best.seconds_saved)]
    return [str(best.rule), *saved, f"{best.most_lost:.2f}", str(best.worst_rank)]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
