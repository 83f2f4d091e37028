#!/usr/bin/env bash
# No seed changes the order in which DistributedBatchSampler shuffles, and paddle.seed fixes no order.
#
# Expected: runs with different seeds see the training rows in different orders, and paddle.seed makes an order repeatable.
# Happens: paddlepaddle 3.3.1's DistributedBatchSampler, which PaddleNLP's example scripts use also on one device, shuffles
#   by the epoch's number alone: all seeds give the same orders, and it takes no seed. BatchSampler(shuffle=True) does
#   the opposite: it asks numpy, so its order changes although paddle.seed is the same.
# Matters: a spread over five seeds measures no influence of the data's order with one sampler. With the other one
#   paddle.seed alone does not repeat a run. A resumed run that does not call set_epoch repeats the orders of the start.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 "numpy<2" "setuptools<80" 2>/dev/null
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import random

import numpy
import paddle
from paddle.io import BatchSampler, Dataset, DistributedBatchSampler

print("paddle", paddle.__version__)


class Rows(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, row):
        return row


def epochs(sampler):
    return [sum(sampler, []) for _ in range(2)]


orders = []
for seed in (1, 2, 3):
    paddle.seed(seed)
    numpy.random.seed(seed)
    random.seed(seed)
    orders.append(epochs(DistributedBatchSampler(Rows(), 4, shuffle=True, num_replicas=1, rank=0)))
    print(f"DistributedBatchSampler, all seeds {seed}: {orders[-1][0]} {orders[-1][1]}")
assert orders[0] == orders[1] == orders[2] and orders[0][0] != orders[0][1]

orders = []
for seed in (1, 1, 1):
    paddle.seed(seed)
    orders.append(epochs(BatchSampler(Rows(), shuffle=True, batch_size=4)))
    print(f"BatchSampler, paddle.seed({seed}): {orders[-1][0]} {orders[-1][1]}")
assert not orders[0] == orders[1] == orders[2]
numpy.random.seed(1)
first = epochs(BatchSampler(Rows(), shuffle=True, batch_size=4))
numpy.random.seed(1)
assert first == epochs(BatchSampler(Rows(), shuffle=True, batch_size=4))
print("BatchSampler, numpy.random.seed(1): the same orders twice")
PY
