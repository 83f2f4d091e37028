r"""Fine-tunes a model on one of the seven classification tasks of CLUE, evaluates it, writes submission files.

    python -u classification/run_clue_classifier.py --model_name_or_path ernie-3.0-medium-zh --task_name TNEWS \
        --batch_size 32 --learning_rate 3e-5 --do_train --do_predict --output_dir out

Several cards: python -m paddle.distributed.launch --gpus "0,1" --log_dir logs classification/run_clue_classifier.py …
Inputs, schedule and scores follow the published CLUE benchmark runs of PaddleNLP.
"""

from dataclasses import dataclass

from cluebench.benchmark.tasks import TASKS
from cluebench.foundation import command
from cluebench.foundation.flags import flag, parse
from cluebench.records.run_flags import RunFlags, classification_task
from cluebench.training.configure import configure
from cluebench.training.life import carry_out


@dataclass
class ClassifierFlags(RunFlags):
    __doc__ = __doc__

    task_name: str = flag(
        ..., "task, in any case: " + ", ".join(task.title for task in TASKS.values() if task.is_classification)
    )


def main() -> None:
    flags = parse(ClassifierFlags)
    carry_out(configure(flags, classification_task("--task_name", flags.task_name)))


if __name__ == "__main__":
    command.run(main)
