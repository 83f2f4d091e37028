r"""Fine-tunes a model on CMRC2018 (span extraction), evaluates it, writes the submission file.

    python -u mrc/run_cmrc2018.py --model_name_or_path ernie-3.0-medium-zh --batch_size 32 --learning_rate 3e-5 \
        --do_train --do_predict --output_dir out

Several cards: python -m paddle.distributed.launch --gpus "0,1" --log_dir logs mrc/run_cmrc2018.py --batch_size 16 …
Inputs, schedule and scores follow the published CLUE benchmark runs of PaddleNLP. The result is PaddleNLP's EM/F1. The
log also has the scores of the CMRC 2018 organisers' metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluebench.benchmark.tasks import TASKS
from cluebench.features import SpanFeatures
from cluebench.features.metrics import decode_spans, mean_cross_entropy
from cluebench.foundation import command
from cluebench.foundation.flags import flag, parse
from cluebench.records import analysis
from cluebench.records.dev_predictions import Evaluation
from cluebench.records.run_flags import RunFlags
from cluebench.training.configure import configure
from cluebench.training.life import carry_out

if TYPE_CHECKING:  # Paddle is imported when the run starts, after its flags are checked
    from paddle import Tensor
    from paddle.nn import Layer

    from cluebench.training.run import Run

TASK = TASKS["cmrc2018"]


@dataclass
class CmrcFlags(RunFlags):
    __doc__ = __doc__

    doc_stride: int = flag(TASK.doc_stride, "tokens between the starts of two windows", minimum=1)
    max_query_length: int | None = flag(None, "tokens of the question that are kept", minimum=1, default_text="all")
    max_answer_length: int = flag(TASK.max_answer_length, "longest answer decoded, in tokens", minimum=1)
    n_best_size: int = flag(TASK.n_best_size, "best starts and ends of a window to combine", minimum=1)
    do_lower_case: bool | None = flag(None, "lower-case the text", default_text="as the model's tokenizer does")

    def feature_settings(self) -> dict[str, Any]:
        return {"doc_stride": self.doc_stride, "max_query_length": self.max_query_length}

    def tokenizer_settings(self) -> dict[str, Any]:
        return {} if self.do_lower_case is None else {"do_lower_case": self.do_lower_case}


def main() -> None:
    carry_out(configure(parse(CmrcFlags), TASK), train, evaluate, predict)


def train(run: Run[CmrcFlags], model: Layer) -> None:
    """Fine-tunes on the train split; every evaluation that improves saves the model into --output_dir."""

    def loss_of(model: Layer, batch: Mapping[str, Any]) -> Tensor:
        starts, ends = run.forward(model, batch)
        of_starts = run.cross_entropy(starts, batch["start_positions"])
        return (of_starts + run.cross_entropy(ends, batch["end_positions"])) / 2

    for step in run.steps(model, loss_of):
        if step.evaluates:
            run.evaluated(evaluate(run, model), model, step)


def evaluate(run: Run[CmrcFlags], model: Layer) -> Evaluation:
    """Loss over the windows, EM and F1 over the questions of the dev split, and the answers."""
    dev: SpanFeatures = run.features("dev")
    starts, ends = run.outputs(model, dev)
    loss = (mean_cross_entropy(starts, dev.start_positions) + mean_cross_entropy(ends, dev.end_positions)) / 2
    answers = decode_spans(starts, ends, dev, run.flags.n_best_size, run.flags.max_answer_length)
    return analysis.evaluated_spans(loss, answers, run.rows("dev"), dev.contexts)


def predict(run: Run[CmrcFlags], model: Layer) -> None:
    """The submission file: every question's answer text."""
    for test, windows in run.test_sets():
        starts, ends = run.outputs(model, windows)
        answers = decode_spans(starts, ends, windows, run.flags.n_best_size, run.flags.max_answer_length)
        run.submit(test, answers.keys(), answers.values())


if __name__ == "__main__":
    command.run(main)
