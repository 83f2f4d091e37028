"""Fine-tunes a model on CHID (idiom cloze), evaluates it, writes submission files.

    python -u mrc/run_chid.py --model_name_or_path ernie-3.0-medium-zh --batch_size 24 --learning_rate 3e-5 \
        --do_train --do_predict --output_dir out

Several cards: python -m paddle.distributed.launch --gpus "0,1,2,3" mrc/run_chid.py --batch_size 6 …
Inputs, schedule and scores follow the published CLUE benchmark runs of PaddleNLP, but for decoding over whole records.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluebench import analysis, command, environment, submission
from cluebench.features import Features
from cluebench.flags import flag, parse
from cluebench.metrics import accuracy, decode_idioms
from cluebench.run import Run, configure
from cluebench.runlog import DevPoint
from cluebench.settings import RunFlags
from cluebench.tasks import TASKS


@dataclass
class ChidFlags(RunFlags):
    __doc__ = __doc__

    batch_size: int = flag(24, "blanks per card and optimizer step", minimum=1)


def main() -> None:
    run = configure(parse(ChidFlags), TASKS["chid"])
    with run.recording():
        run.start()
        model = run.new_model()
        if run.flags.do_train:
            train(run, model)
            if run.keeps_best:
                model = run.best_model()
        if run.flags.do_eval:
            point, _ = evaluate(run, model, run.features("dev"), step=run.result.best_step or 0)
            if not run.flags.do_train:
                run.result.add(point)
        run.log_best()
        if run.flags.do_predict:
            predict(run, model)
        run.finish()


def train(run: Run, model: Any) -> None:
    """Fine-tunes on the train split; every evaluation that improves saves the model into --output_dir."""
    import paddle.nn.functional as F

    from cluebench import models, training
    from cluebench.inference import tensors

    blanks, dev = run.features("train"), run.features("dev")
    fit = run.begin(model, blanks)
    model = training.parallel(model)
    meter = training.LossMeter()

    def loss_of(indices):
        batch = tensors(blanks.batch(indices))
        return F.cross_entropy(
            models.score_options(model, batch["input_ids"], batch["token_type_ids"]), batch["labels"]
        )

    for step in training.optimizer_steps(blanks, fit.micro_batch, fit.plan, fit.done):
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
    """Loss and accuracy over the blanks of the dev split, and what was predicted."""
    from cluebench.inference import mean_cross_entropy

    start = time.perf_counter()
    with run.adding_seconds("eval_seconds"):
        logits = logits_of(run, model, dev)
        loss = mean_cross_entropy(logits, dev.labels)
        predicted = decode_idioms(logits, dev.records)
        share = accuracy(predicted, dev.labels)
    run.log.evaluated(loss, share, time.perf_counter() - start)
    run.scalars.add(step, dev_loss=loss, dev_accuracy=100 * share)
    return DevPoint(step, epoch, (100 * share,), loss), analysis.choices(dev.tags, dev.labels, predicted, logits)


def predict(run: Run, model: Any) -> None:
    """One submission file for each test set, with every tag of its passages."""
    for test in run.task.test_sets:
        blanks = run.features(test.split)
        chosen = decode_idioms(logits_of(run, model, blanks), blanks.records)
        if environment.rank() == 0:
            path = run.output(test.submission)
            submission.write_answers(path, {tag: int(candidate) for tag, candidate in zip(blanks.tags, chosen)})
            run.log.line(f"predictions for {test.file}: {path}")


def logits_of(run: Run, model: Any, blanks: Features) -> np.ndarray:
    """[blanks, candidates]"""
    from cluebench import models
    from cluebench.inference import outputs_of

    def forward(batch):
        return [models.score_options(model, batch["input_ids"], batch["token_type_ids"])]

    return outputs_of(model, blanks, run.flags.eval_batch_size, forward, run.precision)[0]


if __name__ == "__main__":
    command.run(main)
