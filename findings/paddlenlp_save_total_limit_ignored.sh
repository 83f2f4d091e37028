#!/usr/bin/env bash
# On one device PaddleNLP's Trainer keeps all checkpoints, whatever --save_total_limit says.
#
# Expected: --save_total_limit 1 keeps the newest checkpoint and deletes the older ones, as the flag's help says.
# Happens: PaddleNLP 3.0.0b4 deletes old checkpoints on the process with local_rank 0. A run on one card or on a CPU that was not
#   started by paddle.distributed.launch has local_rank -1, so nothing is deleted. No message says so.
# Matters: a checkpoint of a base model with AdamW takes more than 1 GB. A grid with a limit of 1 fills the disk, and the
#   same flags on two cards do not.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 paddlenlp==3.0.0b4 aistudio-sdk==0.2.6 \
  huggingface-hub==0.36.2 datasets==3.6.0 pyarrow==19.0.1 pandas==2.2.3 "numpy<2" "setuptools<80" 2>/dev/null
"$folder/venv/bin/python" - "$folder" 2>/dev/null <<'PY' | grep -E "^(paddle |local_rank)"
import os, sys
from importlib.metadata import version

import numpy
import paddle
import paddlenlp.prompt  # before paddlenlp.trainer, which can't be imported first
from paddlenlp.trainer import Trainer, TrainingArguments

print("paddle", paddle.__version__, "paddlenlp", version("paddlenlp"))


class Rows(paddle.io.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, row):
        return {"input": numpy.ones([2], "float32"), "labels": numpy.zeros([2], "float32")}


class Plain(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False):
        return (model(inputs["input"]) - inputs["labels"]).square().mean()


arguments = TrainingArguments(
    output_dir=sys.argv[1] + "/out", num_train_epochs=1, per_device_train_batch_size=1, save_strategy="steps", save_steps=1,
    save_total_limit=1, device="cpu", disable_tqdm=True, report_to="none")
Plain(model=paddle.nn.Linear(2, 2), args=arguments, train_dataset=Rows()).train()
kept = sorted(name for name in os.listdir(arguments.output_dir) if name.startswith("checkpoint"))
print(f"local_rank {arguments.local_rank}, save_total_limit {arguments.save_total_limit}: kept {kept}")
assert arguments.local_rank == -1 and kept == [f"checkpoint-{step}" for step in (1, 2, 3, 4)]
PY
