r"""Fine-tunes a model on CHID (idiom cloze), evaluates it, writes submission files.

    python -u mrc/run_chid.py --model_name_or_path ernie-3.0-medium-zh --batch_size 24 --learning_rate 3e-5 \
        --do_train --do_predict --output_dir out

Several cards: python -m paddle.distributed.launch --gpus "0,1,2,3" --log_dir logs mrc/run_chid.py --batch_size 6 …
Inputs, schedule and scores follow the published CLUE benchmark runs of PaddleNLP, but decoding is over whole records.
"""

from dataclasses import dataclass

from cluebench.benchmark.tasks import TASKS
from cluebench.foundation import command
from cluebench.foundation.flags import flag, parse
from cluebench.records.run_flags import RunFlags
from cluebench.training.configure import configure
from cluebench.training.life import carry_out


@dataclass
class ChidFlags(RunFlags):
    __doc__ = __doc__

    batch_size: int = flag(24, "blanks per card and optimizer step", minimum=1)


def main() -> None:
    carry_out(configure(parse(ChidFlags), TASKS["chid"]))


if __name__ == "__main__":
    command.run(main)
