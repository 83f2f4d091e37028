#!/usr/bin/env bash
# PaddleNLP's Trainer adds the gradients of an epoch's last rows to the first step of the next epoch.
#
# Expected: with --gradient_accumulation_steps 2 an optimizer step uses two batches. If an epoch has an odd number of batches, the
#   last one makes a step of its own (as in transformers), or is dropped.
# Happens: PaddleNLP 3.0.0b4 computes the gradient of the last batch and neither steps nor clears it. The next epoch's
#   first step has the gradients of three batches. The last batch of the last epoch is never used.
# Matters: from the second epoch on, the first step is up to twice as large as the others. Clipping hides it; a run
#   without clipping differs from the same script with a larger batch.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 paddlenlp==3.0.0b4 aistudio-sdk==0.2.6 \
  huggingface-hub==0.36.2 datasets==3.6.0 pyarrow==19.0.1 pandas==2.2.3 "numpy<2" "setuptools<80" 2>/dev/null
"$folder/venv/bin/python" - "$folder" 2>/dev/null <<'PY' | grep -E "^(paddle |batches|step)"
import sys
from importlib.metadata import version

import numpy
import paddle
import paddlenlp.prompt  # before paddlenlp.trainer, which can't be imported first
from paddlenlp.trainer import Trainer, TrainingArguments

print("paddle", paddle.__version__, "paddlenlp", version("paddlenlp"))


class Rows(paddle.io.Dataset):
    """The gradient of row n is 10^n, so a sum of gradients shows which rows it has."""

    def __len__(self):
        return 5

    def __getitem__(self, row):
        return {"x": numpy.float32(10.0**row)}


class Model(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.weight = self.create_parameter([1])

    def forward(self, x):
        return (self.weight * x).sum()


class Recorded(paddle.optimizer.SGD):
    def step(self):
        gradients.append(round(2 * float(self._parameter_list[0].grad)))  # the Trainer divides each loss by 2
        super().step()


class InOrder(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False):
        return model(inputs["x"])

    def get_train_dataloader(self):
        return paddle.io.DataLoader(self.train_dataset, batch_size=1, shuffle=False)


gradients, model = [], Model()
schedule = paddle.optimizer.lr.LambdaDecay(0.1, lambda step: 1.0)
arguments = TrainingArguments(
    output_dir=sys.argv[1] + "/out", num_train_epochs=2, per_device_train_batch_size=1, gradient_accumulation_steps=2,
    max_grad_norm=0, device="cpu", disable_tqdm=True, report_to="none", save_strategy="no")
optimizer = Recorded(schedule, parameters=model.parameters())
InOrder(model=model, args=arguments, train_dataset=Rows(), optimizers=(optimizer, schedule)).train()
print("batches of an epoch have the gradients 1, 10, 100, 1000, 10000; 2 epochs, 2 batches a step:")
print("steps have the sums", *gradients)
assert gradients == [11, 1100, 10011, 1100]
PY
