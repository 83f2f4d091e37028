"""Fine-tunes a model on CMRC2018 (span extraction), evaluates it, writes the submission file.

    python -u mrc/run_cmrc2018.py --model_name_or_path ernie-3.0-medium-zh --batch_size 32 --learning_rate 3e-5 \
        --do_train --do_predict --output_dir out

Several cards: python -m paddle.distributed.launch --gpus "0,1" mrc/run_cmrc2018.py --batch_size 16 …
Inputs, schedule and scores follow the published CLUE benchmark runs of PaddleNLP. The result is PaddleNLP's EM/F1; the
CMRC 2018 organisers' own is logged beside it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluebench import analysis, command, environment, submission
from cluebench.data.rows import load_rows
from cluebench.features import Features
from cluebench.flags import flag, parse
from cluebench.metrics import decode_spans, organisers_span_scores, span_scores
from cluebench.run import Run, configure
from cluebench.runlog import DevPoint
from cluebench.settings import RunFlags
from cluebench.tasks import TASKS

TASK = TASKS["cmrc2018"]


@dataclass
class CmrcFlags(RunFlags):
    __doc__ = __doc__

    doc_stride: int = flag(TASK.doc_stride, "tokens by which a window of the context moves on (a step)", minimum=1)
    max_query_length: int | None = flag(None, "tokens of the question that are kept", minimum=1, default_text="all")
    max_answer_length: int = flag(TASK.max_answer_length, "longest answer decoded, in tokens", minimum=1)
    n_best_size: int = flag(TASK.n_best_size, "best starts and ends of a window that are combined", minimum=1)
    do_lower_case: bool | None = flag(None, "lower-case the text", default_text="as the model's tokenizer does")


def main() -> None:
    flags = parse(CmrcFlags)
    run = configure(
        flags,
        TASK,
        doc_stride=flags.doc_stride,
        max_query_length=flags.max_query_length,
        max_answer_length=flags.max_answer_length,
        n_best_size=flags.n_best_size,
        do_lower_case=flags.do_lower_case,
    )
    run.feature_settings = dict(doc_stride=flags.doc_stride, max_query_length=flags.max_query_length)
    run.tokenizer_settings = {} if flags.do_lower_case is None else dict(do_lower_case=flags.do_lower_case)
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

    from cluebench import training
    from cluebench.inference import tensors

    windows, dev = run.features("train"), run.features("dev")
    fit = run.begin(model, windows)
    model = training.parallel(model)
    meter = training.LossMeter()

    def loss_of(indices):
        batch = tensors(windows.batch(indices))
        starts, ends = model(batch["input_ids"], batch["token_type_ids"])
        return (F.cross_entropy(starts, batch["start_positions"]) + F.cross_entropy(ends, batch["end_positions"])) / 2

    for step in training.optimizer_steps(windows, fit.micro_batch, fit.plan, fit.done):
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
    """Loss over the windows, EM and F1 over the questions of the dev split, and what was answered."""
    from cluebench.inference import mean_cross_entropy

    start = time.perf_counter()
    with run.adding_seconds("eval_seconds"):
        starts, ends = logits_of(run, model, dev)
        loss = (mean_cross_entropy(starts, dev.start_positions) + mean_cross_entropy(ends, dev.end_positions)) / 2
        answers = answers_of(run, starts, ends, dev)
        rows = load_rows(run.source, run.task, "dev", run.flags.limit)
        score, organisers = span_scores(answers, rows), organisers_span_scores(answers, rows)
    run.log.evaluated_span(loss, *score, time.perf_counter() - start, organisers)
    run.scalars.add(step, dev_loss=loss, dev_em=score[0], dev_f1=score[1])
    return DevPoint(step, epoch, score, loss, organisers), analysis.spans(rows, answers)


def predict(run: Run, model: Any) -> None:
    """The submission file: every question's answer text."""
    for test in run.task.test_sets:
        windows = run.features(test.split)
        answers = answers_of(run, *logits_of(run, model, windows), windows)
        if environment.rank() == 0:
            path = run.output(test.submission)
            submission.write_answers(path, answers)
            run.log.line(f"predictions for {test.file}: {path}")


def answers_of(run: Run, starts: np.ndarray, ends: np.ndarray, windows: Features) -> dict[str, str]:
    """Question id → answer text, from the logits [windows, tokens] of starts and ends."""
    return decode_spans(starts, ends, windows, run.flags.n_best_size, run.flags.max_answer_length)


def logits_of(run: Run, model: Any, windows: Features) -> list[np.ndarray]:
    """Logits of starts and of ends, each [windows, tokens]; -inf behind a window's end of batch."""
    from cluebench.inference import outputs_of

    def forward(batch):
        return model(batch["input_ids"], batch["token_type_ids"])

    return outputs_of(model, windows, run.flags.eval_batch_size, forward, run.precision)


if __name__ == "__main__":
    command.run(main)
