r"""Fine-tunes a model on CHID (idiom cloze), evaluates it, writes submission files.

    python -u mrc/run_chid.py --model_name_or_path ernie-3.0-medium-zh --batch_size 24 --learning_rate 3e-5 \
        --do_train --do_predict --output_dir out

Several cards: python -m paddle.distributed.launch --gpus "0,1,2,3" --log_dir logs mrc/run_chid.py --batch_size 6 …
Inputs, schedule and scores follow the published CLUE benchmark runs of PaddleNLP, but decoding is over whole records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluebench.benchmark.tasks import TASKS
from cluebench.features import IdiomFeatures
from cluebench.features.metrics import decode_idioms
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
class ChidFlags(RunFlags):
    __doc__ = __doc__

    batch_size: int = flag(24, "blanks per card and optimizer step", minimum=1)


def main() -> None:
    carry_out(configure(parse(ChidFlags), TASKS["chid"]), train, evaluate, predict)


def train(run: Run, model: Layer) -> None:
    """Fine-tunes on the train split; every evaluation that improves saves the model into --output_dir."""
    for step in run.steps(model, run.label_loss):
        if step.evaluates:
            run.evaluated(evaluate(run, model), model, step)


def evaluate(run: Run, model: Layer) -> Evaluation | CutEvaluation:
    """Loss and accuracy over the blanks of the dev split, decoded record by record, and the predictions."""
    dev: IdiomFeatures = run.features("dev")
    blanks = Choices(dev.labels, dev.tags, dev.records, records=dev.records)
    return run.evaluation(model, dev, blanks)


def predict(run: Run, model: Layer) -> None:
    """One submission file for each test set, with every tag of its passages."""
    for test, blanks in run.test_sets():
        (scores,) = run.outputs(model, blanks)
        chosen = decode_idioms(scores, blanks.records)
        run.submit(test, blanks.tags, chosen.tolist())


if __name__ == "__main__":
    command.run(main)
