r"""Fine-tunes a model on C3 (multiple-choice reading comprehension), evaluates it, writes submission files.

    python -u mrc/run_c3.py --model_name_or_path ernie-3.0-medium-zh --batch_size 24 --learning_rate 2e-5 \
        --do_train --do_predict --output_dir out

Several cards: python -m paddle.distributed.launch --gpus "0,1,2,3" --log_dir logs mrc/run_c3.py --batch_size 6 …
Inputs, schedule and scores follow the published CLUE benchmark runs of PaddleNLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluebench.benchmark.tasks import TASKS
from cluebench.features import ChoiceFeatures
from cluebench.features.metrics import decode_choices
from cluebench.foundation import command
from cluebench.foundation.flags import flag, parse
from cluebench.records.analysis import Choices
from cluebench.records.dev_predictions import CutEvaluation, Evaluation
from cluebench.records.run_flags import RunFlags
from cluebench.training.configure import configure
from cluebench.training.life import carry_out

if TYPE_CHECKING:  # Paddle is imported when the run starts, after its flags are checked
    from paddle.nn import Layer

    from cluebench.training.run import Run


@dataclass
class C3Flags(RunFlags):
    __doc__ = __doc__

    batch_size: int = flag(24, "questions per card and optimizer step", minimum=1)


def main() -> None:
    carry_out(configure(parse(C3Flags), TASKS["c3"]), train, evaluate, predict)


def train(run: Run, model: Layer) -> None:
    """Fine-tunes on the train split; every evaluation that improves saves the model into --output_dir.

    Options that only fill a question up to four take part in the loss, as in the published runs.
    """
    for step in run.steps(model, run.label_loss):
        if step.evaluates:
            run.evaluated(evaluate(run, model), model, step)


def evaluate(run: Run, model: Layer) -> Evaluation | CutEvaluation:
    """Loss and accuracy over the questions of the dev split, and the predictions."""
    dev: ChoiceFeatures = run.features("dev")
    questions = Choices(dev.labels, dev.ids, dev.contexts, option_mask=dev.option_mask)
    return run.evaluation(model, dev, questions)


def predict(run: Run, model: Layer) -> None:
    """One submission file for each test set, with the questions' ids; a question has up to ten options."""
    for test, questions in run.test_sets():
        (scores,) = run.outputs(model, questions)
        run.submit(test, questions.ids, decode_choices(scores, questions.option_mask).tolist())


if __name__ == "__main__":
    command.run(main)
