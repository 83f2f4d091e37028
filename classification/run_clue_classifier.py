r"""Fine-tunes a model on one of the seven classification tasks of CLUE, evaluates it, writes submission files.

    python -u classification/run_clue_classifier.py --model_name_or_path ernie-3.0-medium-zh --task_name TNEWS \
        --batch_size 32 --learning_rate 3e-5 --do_train --do_predict --output_dir out

Several cards: python -m paddle.distributed.launch --gpus "0,1" --log_dir logs classification/run_clue_classifier.py …
Inputs, schedule and scores follow the published CLUE benchmark runs of PaddleNLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluebench.benchmark.tasks import TASKS
from cluebench.features import PairFeatures
from cluebench.foundation import command
from cluebench.foundation.flags import flag, parse
from cluebench.records.analysis import Choices
from cluebench.records.dev_predictions import CutEvaluation, Evaluation
from cluebench.records.run_flags import RunFlags, classification_task
from cluebench.training.configure import configure
from cluebench.training.life import carry_out

if TYPE_CHECKING:  # Paddle is imported when the run starts, after its flags are checked
    from paddle.nn import Layer

    from cluebench.training.run import Run


@dataclass
class ClassifierFlags(RunFlags):
    __doc__ = __doc__

    task_name: str = flag(
        ..., "task, in any case: " + ", ".join(task.title for task in TASKS.values() if task.is_classification)
    )


def main() -> None:
    flags = parse(ClassifierFlags)
    carry_out(configure(flags, classification_task("--task_name", flags.task_name)), train, evaluate, predict)


def train(run: Run, model: Layer) -> None:
    """Fine-tunes on the train split; every evaluation that improves saves the model into --output_dir."""
    for step in run.steps(model, run.label_loss):
        if step.evaluates:
            run.evaluated(evaluate(run, model), model, step)


def evaluate(run: Run, model: Layer) -> Evaluation | CutEvaluation:
    """Loss and accuracy on the dev split, and the predictions."""
    dev: PairFeatures = run.features("dev")
    return run.evaluation(model, dev, Choices(dev.labels, dev.ids, dev.groups))


def predict(run: Run, model: Layer) -> None:
    """One submission file for each test set of the task."""
    for test, rows in run.test_sets():
        (logits,) = run.outputs(model, rows)
        run.submit(test, range(len(rows)), [run.task.labels[index] for index in logits.argmax(axis=1)])


if __name__ == "__main__":
    command.run(main)
