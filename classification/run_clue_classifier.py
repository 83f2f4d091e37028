"""Fine-tunes a model on one of the seven classification tasks of CLUE, evaluates it, writes submission files.

    python -u classification/run_clue_classifier.py --model_name_or_path ernie-3.0-medium-zh --task_name TNEWS \
        --batch_size 32 --learning_rate 3e-5 --do_train --do_predict --output_dir out

Several cards: python -m paddle.distributed.launch --gpus "0,1" classification/run_clue_classifier.py …
Inputs, schedule and scores follow the published CLUE benchmark runs of PaddleNLP.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluebench import analysis, command, environment, submission
from cluebench.errors import UsageError
from cluebench.features import Features
from cluebench.flags import flag, parse
from cluebench.metrics import accuracy
from cluebench.run import Run, configure
from cluebench.runlog import DevPoint
from cluebench.settings import RunFlags
from cluebench.tasks import TASKS, Task, task_named


@dataclass
class ClassifierFlags(RunFlags):
    __doc__ = __doc__

    task_name: str = flag(
        ..., "task, in any case: " + ", ".join(task.title for task in TASKS.values() if task.is_classification)
    )


def main() -> None:
    flags = parse(ClassifierFlags)
    run = configure(flags, classification_task(flags.task_name))
    with run.recording():
        run.start()
        model = run.new_model()
        if flags.do_train:
            train(run, model)
            if run.keeps_best:
                model = run.best_model()
        if flags.do_eval:
            point, _ = evaluate(run, model, run.features("dev"), step=run.result.best_step or 0)
            if not flags.do_train:
                run.result.add(point)
        run.log_best()
        if flags.do_predict:
            predict(run, model)
        run.finish()


def classification_task(name: str) -> Task:
    """The row behind --task_name. Raises UsageError."""
    try:
        task = task_named(name)
    except ValueError as error:
        raise UsageError(f"--task_name: {error}") from None
    if not task.is_classification:
        raise UsageError(f"--task_name {name}: run {task.script} for this task")
    return task


def train(run: Run, model: Any) -> None:
    """Fine-tunes on the train split; every evaluation that improves saves the model into --output_dir."""
    import paddle.nn.functional as F

    from cluebench import training
    from cluebench.inference import tensors

    rows, dev = run.features("train"), run.features("dev")
    fit = run.begin(model, rows)
    model = training.parallel(model)
    meter = training.LossMeter()

    def loss_of(indices):
        batch = tensors(rows.batch(indices))
        return F.cross_entropy(model(batch["input_ids"], batch["token_type_ids"]), batch["labels"])

    for step in training.optimizer_steps(rows, fit.micro_batch, fit.plan, fit.done):
        with run.adding_seconds("train_seconds"):
            meter.add(training.accumulate(model, step, loss_of, run.precision))
            fit.update()
        if step.number % run.flags.logging_steps == 0:
            run.log_training(step, fit.plan.total_steps, meter, fit.learning_rate)
        if fit.plan.evaluates_after(step):
            meter.check(step)
            run.evaluated(*evaluate(run, model, dev, step.number, step.epoch), model)
        if fit.plan.checkpoints_after(step):
            meter.check(step)
            training.save_checkpoint(fit, model, step, run.result)
    training.remove_checkpoint(fit)


def evaluate(run: Run, model: Any, dev: Features, step: int, epoch: int = 0) -> tuple[DevPoint, Iterable[dict]]:
    """Loss and accuracy on the dev split, and what was predicted."""
    from cluebench.inference import mean_cross_entropy

    start = time.perf_counter()
    with run.adding_seconds("eval_seconds"):
        logits = logits_of(run, model, dev)
        loss = mean_cross_entropy(logits, dev.labels)
        predicted = logits.argmax(axis=1)
        share = accuracy(predicted, dev.labels)
    run.log.evaluated(loss, share, time.perf_counter() - start)
    run.scalars.add(step, dev_loss=loss, dev_accuracy=100 * share)
    return DevPoint(step, epoch, (100 * share,), loss), analysis.choices(
        range(len(dev)), dev.labels, predicted, logits, run.task.labels
    )


def predict(run: Run, model: Any) -> None:
    """One submission file for each test set of the task."""
    for test in run.task.test_sets:
        predicted = logits_of(run, model, run.features(test.split)).argmax(axis=1)
        if environment.rank() == 0:
            path = run.output(test.submission)
            submission.write_labels(path, range(len(predicted)), [run.task.labels[index] for index in predicted])
            run.log.line(f"predictions for {test.file}: {path}")


def logits_of(run: Run, model: Any, rows: Features) -> np.ndarray:
    """[rows, labels]"""
    from cluebench.inference import outputs_of

    def forward(batch):
        return [model(batch["input_ids"], batch["token_type_ids"])]

    return outputs_of(model, rows, run.flags.eval_batch_size, forward, run.precision)[0]


if __name__ == "__main__":
    command.run(main)
