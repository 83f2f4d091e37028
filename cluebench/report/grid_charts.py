"""The data of the charts in a grid's report, as JSON values: curves, effects, confusions, errors."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from cluebench.benchmark.tasks import Task
from cluebench.data.rows import label_names as official_names
from cluebench.data.rows import load_rows
from cluebench.data.source import open_source
from cluebench.foundation.errors import ClueError
from cluebench.foundation.text import Phrase
from cluebench.records import finished_trials
from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.finished_trials import FinishedTrial
from cluebench.records.identity import VARIED
from cluebench.records.log import read_losses
from cluebench.records.paths import trial_name
from cluebench.report.examples import Example, examples_of
from cluebench.search.replay import Outcome, points
from cluebench.statistics.grids import expected_best, main_effects

#: Points of a curve that are drawn: a reader can't see more.
_CURVE_POINTS = 80
#: Pairs of labels that are shown, examples of each, characters of each text.
_PAIRS, _EXAMPLES, _CHARACTERS = 8, 3, 240
#: Labels in a picture of confusions: a reader can't read more.
_LABELS = 20


def charts(
    task: Task,
    started: Sequence[tuple[str, FinishedTrial]],
    best: Sequence[DevPredictions],
    outcomes: Sequence[Outcome],
    names: Sequence[str],
) -> dict[str, Any]:
    """The charts of a task's trials, each with its state.

    best: the predictions of the best setting; outcomes: of the halving rules; names: of the labels.
    """
    finished = [trial for state, trial in started if state == "done"]
    whole = finished_trials.of_whole_grid(finished) if finished else []
    settings = [[*trial.setting, trial.seed] for trial in whole]
    varied = [place for place in range(len(VARIED)) if len({setting[place] for setting in settings}) > 1]
    values = [trial.score[0] for trial in whole]
    effects = main_effects([[setting[place] for place in varied] for setting in settings], values) if varied else []
    return {
        "title": task.title,
        "metric": "EM" if task.metric == "em_f1" else "accuracy",
        "varied": [VARIED[place] for place in varied],
        "effects": [{"axis": VARIED[place], **vars(effect)} for place, effect in zip(varied, effects, strict=True)],
        "expected": [round(float(score), 3) for score in expected_best(values)] if values else [],
        "rules": [point._asdict() for point in points([outcomes])] if len(finished) > 2 and outcomes else [],
        "confusion": _confusion(names, best) if task.labels and best else None,
        "trials": [_trial(task, trial, state) for state, trial in started],
    }


def figures(drawn: Mapping[str, Any]) -> set[str]:
    """The names of the charts for which a task has data."""
    trials, finished = drawn["trials"], sum(trial["state"] == "done" for trial in drawn["trials"])
    shown = {
        "curves": any(trial["curve"][0] for trial in trials),
        "losses": any(trial["losses"][0] for trial in trials),
        "effects": drawn["effects"],
        "parallel": finished > 2 and drawn["varied"],
        "expected": len(drawn["expected"]) > 2,
        "rules": drawn["rules"],
        "confusion": drawn["confusion"],
    }
    return {name for name, data in shown.items() if data}


def _trial(task: Task, trial: FinishedTrial, state: str) -> dict[str, Any]:
    """Setting, score and curves of a trial; ``pace``: seconds a step, ``epoch``: epochs a step, None if unknown."""
    source, losses = trial.result or trial.log, []
    if trial.path is not None:
        with suppress(OSError):
            losses = read_losses(trial.path.with_suffix(".log"))
    points = source.dev_curve if source else []
    curve = [(point.step, point.score[0]) for point in points if point.cut_after is None]  # a cut one has no score
    epochs: Any = trial.result.configuration.get("epochs") if trial.result else None
    seconds = source.train_seconds + source.eval_seconds if source else 0.0
    last = max([0, *(point.step for point in points)])
    return {
        **dict(zip(VARIED, [*trial.setting, trial.seed])),
        "id": f"{task.name}/{trial_name(trial.setting, trial.seed)}",
        "state": state,
        "score": trial.score,
        "curve": _thinned(curve, 2),
        "losses": _thinned(losses, 4),
        "pace": float(f"{seconds / last:.4g}") if last and seconds else None,
        "epoch": (epochs or task.epochs) / source.total_steps if source and source.total_steps else None,
    }


def _thinned(curve: Sequence[tuple[int, float]], digits: int) -> list[list[float]]:
    """The steps and the values of the points that are drawn; the highest and the last point are among them."""
    highest = max(range(len(curve)), key=lambda place: curve[place][1], default=0)
    stride = -(-len(curve) // _CURVE_POINTS) or 1
    shown = [point for place, point in enumerate(curve) if place % stride == 0 or place in (highest, len(curve) - 1)]
    return [[step for step, _ in shown], [round(value, digits) for _, value in shown]]


def label_names(task: Task, data_dir: str | None) -> list[str]:
    """The names of a task's labels, in index order; the labels themselves if no file on this machine names them."""
    try:
        names = official_names(open_source(data_dir, offline=True), task)
    except ClueError:
        names = {}
    times = Counter(names.values())
    return [
        label if label not in names else names[label] if times[names[label]] == 1 else f"{names[label]} {label}"
        for label in task.labels
    ]


def _confusion(names: Sequence[str], best: Sequence[DevPredictions]) -> dict[str, Any]:
    """Labels, and a list for each: how many of its rows were predicted as every label.

    If there are many labels, only those with the most errors, in index order; ``rows``: all rows of each.
    """
    counts = np.zeros((len(names), len(names)), int)
    for predictions in best:
        np.add.at(counts, (np.asarray(predictions.gold), np.asarray(predictions.predicted)), 1)
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    worst = np.sort(np.argsort(-errors, kind="stable")[:_LABELS])
    return {
        "labels": [names[label] for label in worst],
        "labels_in_all": len(names),
        "counts": counts[np.ix_(worst, worst)].tolist(),
        "rows": counts.sum(axis=1)[worst].tolist(),
    }


def errors(
    task: Task, best: DevPredictions, data_dir: str | None, names: Sequence[str], with_texts: bool
) -> list[dict[str, Any]]:
    """The pairs of labels that are confused most often, with rows of each; without labels, some wrong rows.

    with_texts: read the rows' texts from the data, which takes up to a second. If they can't be read, or other rows
    are there now, there are no texts.
    """
    examples = _examples(task, best, data_dir, names) if with_texts else []
    wrong = np.flatnonzero(best.scores[:, 0] < 1)
    if best.gold is None or not task.labels:
        return [{"title": Phrase("answered wrongly"), "times": len(wrong), "share": len(wrong) / len(best.scores),
                 "examples": list(_shown(examples, best, wrong[:_PAIRS]))}]  # fmt: skip
    predicted = np.asarray(best.predicted)
    pairs = Counter(zip(best.gold[wrong].tolist(), predicted[wrong].tolist()))
    found = []
    for (gold, other), times in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:_PAIRS]:
        rows = np.flatnonzero((best.gold == gold) & (predicted == other))[:_EXAMPLES]
        share, texts = times / int((best.gold == gold).sum()), list(_shown(examples, best, rows))
        found.append({"title": f"{names[gold]} → {names[other]}", "times": times, "share": share, "examples": texts})
    return found


def _examples(task: Task, best: DevPredictions, data_dir: str | None, names: Sequence[str]) -> list[Example]:
    limit: Any = best.configuration.get("limit")
    try:
        rows = load_rows(open_source(data_dir, offline=True), task, "dev", limit)
        return examples_of(replace(task, labels=tuple(names)), rows, best)
    except ClueError:
        return []


def _shown(examples: Sequence[Example], best: DevPredictions, rows: np.ndarray) -> Iterator[dict[str, Any]]:
    for row in rows.tolist() if examples else ():
        example = examples[row]
        texts = {name: _cut(text) for name, text in example.texts.items()}
        yield {"texts": texts, "gold": _cut(example.gold), "predicted": _cut(example.name(best.predicted[row]))}


def _cut(text: str) -> str:
    return text if len(text) <= _CHARACTERS else text[:_CHARACTERS] + " …"
