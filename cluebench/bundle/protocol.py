"""Whether a trial's result can come from a run of the published protocol: arithmetic, without data or a model.

Every function returns what does not fit, one reason a line.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from cluebench.benchmark.tasks import Setting, Task
from cluebench.records import identity
from cluebench.records.log import PUBLISHED_LINE, shown_score
from cluebench.records.paths import parse_trial_name
from cluebench.records.result import DevPoint, Result
from cluebench.report.comparability import unlike_published

_WRONG_KIND = (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, IndexError)


def misfits(task: Task, name: str, result: Result, examples: int | None) -> list[str]:
    """For the result of the trial ``name``. examples: the training examples of an epoch; None if unknown."""
    try:
        return list(_identity(task, name, result)) or list(_steps(task, result, examples)) or list(_curve(task, result))
    except _WRONG_KIND as error:
        return [f"it holds a value of the wrong kind ({error})"]


def _identity(task: Task, name: str, result: Result) -> Iterator[str]:
    settings: dict[str, Any] = result.configuration
    if (result.task, settings["task"], result.metric, result.status) != (task.name, task.name, task.metric, "done"):
        yield f"it is not a finished trial of {task.title}"
    if identity.configuration_hash(settings) != result.configuration_hash:
        yield "its hash is not the hash of its configuration"
    setting = Setting(settings["learning_rate"], settings["batch_size"], settings["dropout"])
    if (setting, settings["seed"]) != parse_trial_name(name):
        yield f"its settings are {(*setting, settings['seed'])}; its name says otherwise"
    for key, (value, published) in unlike_published(task, settings).items():
        yield f"another protocol: {key} is {value!r}, as published {published!r}"


def _steps(task: Task, result: Result, examples: int | None) -> Iterator[str]:
    settings: dict[str, Any] = result.configuration
    batch, cards, pieces, steps = settings["batch_size"], result.cards, result.accumulation_steps, result.total_steps
    if batch < 1 or batch % (cards * pieces):
        yield f"a batch of {batch} can't be cut into {pieces} micro-batches on each of {cards} cards"
    elif steps < 1 or steps % task.epochs:
        yield f"{steps} steps are not {task.epochs} epochs"
    elif examples is not None and steps != (expected := task.epochs * math.ceil(examples / batch)):
        yield f"{steps} steps; {task.epochs} epochs of {examples:,} examples by {batch} are {expected}"


def possible_examples(task: Task, result: Result) -> tuple[int, int]:
    """The fewest and most examples of an epoch that give a result's steps, for any cards and micro-batches."""
    settings: dict[str, Any] = result.configuration
    batch, steps = settings["batch_size"], result.total_steps // task.epochs
    return batch * (steps - 1) + 1, batch * steps


def _curve(task: Task, result: Result) -> Iterator[str]:
    """One point after every evaluation's step. The first highest score is the best; a cut point can't be higher."""
    an_epoch, curve = result.total_steps // task.epochs, result.dev_curve
    every = task.eval_every_steps or an_epoch
    if [point.step for point in curve] != [*range(every, result.total_steps, every), result.total_steps]:
        yield f"its curve has {len(curve)} points instead of one after every {every} of {result.total_steps} steps"
        return
    best = curve[0]
    for point in curve:
        if point.epoch != (point.step - 1) // an_epoch:
            yield f"step {point.step} of its curve is not of epoch {point.epoch}"
        if point.cut_after is None:
            best = max(best, point, key=lambda other: other.score[0])
        elif point is curve[0] or point.score[0] > best.score[0]:
            yield f"step {point.step} of its curve was cut at {point.score[0]} %, though nothing before was as good"
    if (result.best_step, result.best_score) != (best.step, best.score):
        yield f"its best score is {result.best_score} at {result.best_step}, of its curve {best.score} at {best.step}"


def impossible_points(curve: Sequence[DevPoint], rows: int) -> list[str]:
    """Points of a curve whose accuracy or EM is no whole number of the rows."""
    counts = [(point, point.score[0] * rows / 100) for point in curve]
    return [
        f"step {point.step} of its curve: {point.score[0]} % is not a whole number of {rows} rows"
        for point, count in counts
        if abs(count - round(count)) > 1e-6
    ]


def log_misfits(task: Task, result: Result, text: str) -> list[str]:
    """For a log of published lines, which may begin at a checkpoint: its evaluations, its end, its learning rates."""
    lines = [match for line in text.splitlines() if (match := PUBLISHED_LINE.fullmatch(line))]
    points = {(f"{point.loss:f}", shown_score(point.score)) for point in result.dev_curve if point.loss is not None}
    evaluations = [(line["loss"], line["score"]) for line in lines if line["loss"]]
    reasons = [f"its log has {score}, loss {loss}, which is not in its curve"
               for loss, score in evaluations if (loss, score) not in points]  # fmt: skip
    ends = [line["best"] for line in lines if line["best"]]
    if not evaluations or ends[-1:] != [task.format_score(result.best_score or ())]:
        reasons.append("its log does not end in its score")
    for line in (line for line in lines if line["step"]):
        rate = learning_rate(result, int(line["step"]))
        if int(line["total"]) != result.total_steps or abs(float(line["lr"]) - rate) > 1e-10:
            return [
                *reasons,
                f"its log has the learning rate {line['lr']} after step {line['step']}/{line['total']}; "
                f"it is {rate:.10f} there with a warm-up of {result.configuration['warmup']}",
            ]
    return reasons


def learning_rate(result: Result, step: int) -> float:
    """After ``step`` optimizer steps: linear warm-up over a share of them, then linear decay to 0, as published."""
    settings: dict[str, Any] = result.configuration  # numbers, as `misfits` has checked
    total, warmup = result.total_steps, math.floor(settings["warmup"] * result.total_steps)
    share = step / max(1, warmup) if step < warmup else max(0.0, (total - step) / max(1, total - warmup))
    return settings["learning_rate"] * share
