"""Fine-tunes a model on C3 (multiple-choice reading comprehension), evaluates it, writes submission files.

    python -u mrc/run_c3.py --model_name_or_path ernie-3.0-medium-zh --batch_size 24 --learning_rate 2e-5 \
        --do_train --do_predict --output_dir out

Several cards: python -m paddle.distributed.launch --gpus "0,1,2,3" mrc/run_c3.py --batch_size 6 …
Inputs, schedule and scores follow the published CLUE benchmark runs of PaddleNLP.
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
from cluebench.metrics import accuracy, decode_choices
from cluebench.run import Run, configure
from cluebench.runlog import DevPoint
from cluebench.settings import RunFlags
from cluebench.tasks import TASKS


@dataclass
class C3Flags(RunFlags):
    __doc__ = __doc__

    batch_size: int = flag(24, "questions per card and optimizer step", minimum=1)
    learning_rate: float = flag(2e-5, "peak learning rate", minimum=0)


def main() -> None:
    run = configure(parse(C3Flags), TASKS["c3"])
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

    questions, dev = run.features("train"), run.features("dev")
    fit = run.begin(model, questions)
    model = training.parallel(model)
    meter = training.LossMeter()

    def loss_of(indices):
        batch = tensors(questions.batch(indices))
        # Options that only fill a question up to four take part in the loss, as in the published runs.
        return F.cross_entropy(
            models.score_options(model, batch["input_ids"], batch["token_type_ids"]), batch["labels"]
        )

    for step in training.optimizer_steps(questions, fit.micro_batch, fit.plan, fit.done):
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
        predicted = decode_choices(logits, dev.option_mask)
        share = accuracy(predicted, dev.labels)
    run.log.evaluated(loss, share, time.perf_counter() - start)
    run.scalars.add(step, dev_loss=loss, dev_accuracy=100 * share)
    return DevPoint(step, epoch, (100 * share,), loss), analysis.choices(range(len(dev)), dev.labels, predicted, logits)


def predict(run: Run, model: Any) -> None:
    """One submission file for each test set; its ids are the questions' own."""
    for test in run.task.test_sets:
        questions = run.features(test.split)
        chosen = decode_choices(logits_of(run, model, questions), questions.option_mask)
        if environment.rank() == 0:
            path = run.output(test.submission)
            submission.write_labels(path, questions.ids, [int(option) for option in chosen])
            run.log.line(f"predictions for {test.file}: {path}")


def logits_of(run: Run, model: Any, questions: Features) -> np.ndarray:
    """[questions, options]; a test set's questions may have more options than the four of training."""
    from cluebench import models
    from cluebench.inference import outputs_of

    def forward(batch):
        return [models.score_options(model, batch["input_ids"], batch["token_type_ids"])]

    return outputs_of(model, questions, run.flags.eval_batch_size, forward, run.precision)[0]


if __name__ == "__main__":
    command.run(main)
