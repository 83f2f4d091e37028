r"""Fine-tunes a model on C3 (multiple-choice reading comprehension), evaluates it, writes submission files.

    python -u mrc/run_c3.py --model_name_or_path ernie-3.0-medium-zh --batch_size 24 --learning_rate 2e-5 \
        --do_train --do_predict --output_dir out

Several cards: python -m paddle.distributed.launch --gpus "0,1,2,3" --log_dir logs mrc/run_c3.py --batch_size 6 …
Inputs, schedule and scores follow the published CLUE benchmark runs of PaddleNLP. Options that only fill a question up
to four take part in the loss, as there.
"""

from dataclasses import dataclass

from cluebench.benchmark.tasks import TASKS
from cluebench.foundation import command
from cluebench.foundation.flags import flag, parse
from cluebench.records.run_flags import RunFlags
from cluebench.training.configure import configure
from cluebench.training.life import carry_out


@dataclass
class C3Flags(RunFlags):
    __doc__ = __doc__

    batch_size: int = flag(24, "questions per card and optimizer step", minimum=1)


def main() -> None:
    carry_out(configure(parse(C3Flags), TASKS["c3"]))


if __name__ == "__main__":
    command.run(main)
