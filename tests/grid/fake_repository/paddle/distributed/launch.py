"""A stand-in for paddle.distributed.launch: one worker a card, each in a session of its own, as the real one does."""

import os
import subprocess
import sys


def main():
    assert sys.argv[1] == "--gpus" and sys.argv[3] == "--log_dir"
    cards, command = sys.argv[2].split(","), sys.argv[5:]
    assert cards == os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    os.makedirs(sys.argv[4], exist_ok=True)
    workers = [
        subprocess.Popen(
            [sys.executable, "-u", *command],
            env={**os.environ, "PADDLE_TRAINER_ID": str(rank), "PADDLE_TRAINERS_NUM": str(len(cards))},
            start_new_session=True,
        )
        for rank in range(len(cards))
    ]
    sys.exit(max(worker.wait() for worker in workers))


main()
