"""What the charts of a grid's report are drawn from, as JSON values: curves, effects, confusions, errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cluebench.benchmark.tasks import Task
from cluebench.data.rows import label_names as official_names
from cluebench.data.rows import load_rows
from cluebench.data.source import open_source
from cluebench.foundation.errors import ClueError
from cluebench.foundation.phrases import Phrase
from cluebench.records import finished_trials
from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.finished_trials import FinishedTrial
from cluebench.records.log import read_losses
from cluebench.records.paths import trial_name
from cluebench.report.examples import Example, examples_of
from cluebench.search.replay import Outcome, points
from cluebench.statistics.budget import expected_best
from cluebench.statistics.effects import main_effects

#: Points of a curve that are drawn: more can't be told apart.
_CURVE_POINTS = 80
#: Pairs of labels shown, examples of each, and characters of each text.
_PAIRS, _EXAMPLES, _CHARACTERS = 8, 3, 240
AXES = ("learning_rate", "batch_size", "dropout", "seed")
#: Name, title and how to read it, of each chart of a task.
_FIGURES = (
    ("curves", "Dev score", "A click on a line chooses the trial, here and everywhere. Dashed: not finished."),
    ("losses", "Training loss", "From the logs."),
    (
        "effects",
        "What each hyper-parameter does",
        "Mean over all settings with a value, from lowest to highest; in a full grid the share of the variance, too.",
    ),
    (
        "parallel",
        "All settings",
        "A line a trial, from blue to orange as the score rises; a click on a value keeps the lines through it.",
    ),
    ("expected", "What a smaller search finds", "The expected best score of as many random trials of this grid."),
    (
        "rules",
        "What halving would have cost and lost",
        "A point a rule, replayed on these trials; the best are low and left.",
    ),
    ("confusion", "Confusions of the best model", "Rows of dev by their right label and the predicted one."),
)
#: Labels in a picture of confusions: more can't be read.
_LABELS = 20


def charts(
    task: Task,
    trials: Sequence[FinishedTrial],
    best: Sequence[DevPredictions],
    outcomes: Sequence[Outcome],
    names: Sequence[str],
) -> dict[str, Any]:
    """Of a task's finished trials. Without ``trials``, which `trial` draws: running ones are among them.

    best: the predictions of the best setting; outcomes: of the halving rules; names: of the labels.
    """
    whole = finished_trials.of_whole_grid(trials) if trials else []
    settings = [[*trial.setting, trial.seed] for trial in whole]
    varied = [place for place in range(len(AXES)) if len({setting[place] for setting in settings}) > 1]
    values = [trial.score[0] for trial in whole]
    effects = main_effects([[setting[place] for place in varied] for setting in settings], values) if varied else []
    return {
        "title": task.title,
        "metric": "EM" if task.metric == "em_f1" else "accuracy",
        "varied": [AXES[place] for place in varied],
        "effects": [{"axis": AXES[place], **vars(effect)} for place, effect in zip(varied, effects, strict=True)],
        "expected": [round(float(score), 3) for score in expected_best(values)] if values else [],
        "rules": [point._asdict() for point in points([outcomes])] if len(trials) > 2 and outcomes else [],
        "confusion": confusion(names, best) if task.labels and best else None,
    }


def figures(drawn: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The charts that a task has, as `_FIGURES` names them; those without anything to show are left out."""
    finished = [trial for trial in drawn["trials"] if trial["state"] == "done"]
    shown = {
        "curves": any(len(trial["curve"][0]) for trial in drawn["trials"]),
        "losses": any(len(trial["losses"][0]) for trial in drawn["trials"]),
        "effects": drawn["effects"],
        "parallel": len(finished) > 2 and drawn["varied"],
        "expected": len(drawn["expected"]) > 2,
        "rules": drawn["rules"],
        "confusion": drawn["confusion"],
    }
    return [figure for figure in _FIGURES if shown[figure[0]]]


def trial(task: Task, trial: FinishedTrial, state: str) -> dict[str, Any]:
    """Setting, score and curves of a trial; ``pace``: seconds a step, ``epoch``: epochs a step, None where unknown."""
    source, losses = trial.result or trial.log, trial.log.losses if trial.log else []
    if trial.path is not None and trial.log is None:
        try:
            losses = read_losses(trial.path.with_suffix(".log"))
        except OSError:
            pass
    points = source.dev_curve if source else []
    curve = [(point.step, point.score[0]) for point in points if point.cut_after is None]  # else it is no score
    epochs: Any = trial.result.configuration.get("epochs") if trial.result else None
    seconds, last = (
        source.train_seconds + source.eval_seconds if source else 0.0,
        max([0, *(point.step for point in points)]),
    )
    return {
        **dict(zip(AXES, [*trial.setting, trial.seed])),
        "id": f"{task.name}/{trial_name(trial.setting, trial.seed)}",
        "state": state,
        "score": trial.score,
        "curve": _thinned(curve, 2),
        "losses": _thinned(losses, 4),
        "pace": float(f"{seconds / last:.4g}") if last and seconds else None,
        "epoch": (epochs or task.epochs) / source.total_steps if source and source.total_steps else None,
    }


def _thinned(curve: Sequence[tuple[int, float]], digits: int) -> list[list[float]]:
    """Its steps and its values, as many as are drawn, the highest and the last among them."""
    highest = max(range(len(curve)), key=lambda place: curve[place][1], default=0)
    stride = -(-len(curve) // _CURVE_POINTS) or 1
    shown = [point for place, point in enumerate(curve) if place % stride == 0 or place in (highest, len(curve) - 1)]
    return [[step for step, _ in shown], [round(value, digits) for _, value in shown]]


def label_names(task: Task, data_dir: str | None) -> list[str]:
    """What a task's labels stand for, in index order; the labels themselves where no list on this machine says so."""
    try:
        known = official_names(open_source(data_dir, offline=True), task)
    except ClueError:
        known = {}
    times = Counter(known.values())
    return [
        label if label not in known else known[label] if times[known[label]] == 1 else f"{known[label]} {label}"
        for label in task.labels
    ]


def confusion(names: Sequence[str], best: Sequence[DevPredictions]) -> dict[str, Any]:
    """Labels, and how often a row of each (a list each) was predicted to be every one of them.

    Of many labels only those with the most errors, in index order; ``rows``: all rows of each, ``labels_in_all``.
    """
    counts = np.zeros((len(names), len(names)), int)
    for one in best:
        np.add.at(counts, (np.asarray(one.gold), np.asarray(one.predicted)), 1)
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    worst = np.sort(np.argsort(-errors, kind="stable")[:_LABELS])
    return {
        "labels": [names[label] for label in worst],
        "labels_in_all": len(names),
        "counts": counts[np.ix_(worst, worst)].tolist(),
        "rows": counts.sum(axis=1)[worst].tolist(),
    }


def errors(
    task: Task, said: DevPredictions, data_dir: str | None, names: Sequence[str], with_texts: bool
) -> list[dict[str, Any]]:
    """The pairs of labels mixed up most often, with rows of each; of tasks without labels, some rows answered wrongly.

    with_texts: whether the rows' texts are read from the data, which takes up to a second. Where they can't be read,
    or others lie there by now, there are none.
    """
    examples = _examples(task, said, data_dir, names) if with_texts else []
    wrong = np.flatnonzero(said.scores[:, 0] < 1)
    if said.gold is None or not task.labels:
        return [{"title": Phrase("answered wrongly"), "times": len(wrong), "share": len(wrong) / len(said.scores),
                 "examples": list(_shown(examples, said, wrong[:_PAIRS]))}]  # fmt: skip
    predicted = np.asarray(said.predicted)
    pairs = Counter(zip(said.gold[wrong].tolist(), predicted[wrong].tolist()))
    return [
        {
            "title": f"{names[gold]} → {names[other]}",
            "times": times,
            "share": times / int((said.gold == gold).sum()),
            "examples": list(
                _shown(examples, said, np.flatnonzero((said.gold == gold) & (predicted == other))[:_EXAMPLES])
            ),
        }
        for (gold, other), times in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:_PAIRS]
    ]


def _examples(task: Task, said: DevPredictions, data_dir: str | None, names: Sequence[str]) -> list[Example]:
    limit: Any = said.configuration.get("limit")
    try:
        rows = load_rows(open_source(data_dir, offline=True), task, "dev", limit)
        return examples_of(replace(task, labels=tuple(names)), rows, said)
    except ClueError:
        return []


def _shown(examples: Sequence[Example], said: DevPredictions, rows: np.ndarray) -> Iterator[dict[str, Any]]:
    for row in rows.tolist() if examples else ():
        example = examples[row]
        texts = {name: _cut(text) for name, text in example.texts.items()}
        yield {"texts": texts, "gold": _cut(example.gold), "predicted": _cut(example.name(said.predicted[row]))}


def _cut(text: str) -> str:
    return text if len(text) <= _CHARACTERS else text[:_CHARACTERS] + " …"
