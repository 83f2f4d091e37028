#!/usr/bin/env bash
# On a CPU, Paddle's views make attention slower.
#
# Expected: attention's transposes are as fast with views as without them. A view copies nothing, so it can only save time.
# Happens: paddlepaddle 3.3.1 makes transpose a strided view (FLAGS_use_stride_kernel, on by default). The matrix product
#   that reads the view first copies it with an element-wise kernel ("contiguous"), which is several times as slow as the
#   transpose kernel it replaces. The results are equal to the last bit.
# Matters: a fine-tuning step of a small encoder on a CPU spent about a fifth of its time in this copy.
#   FLAGS_use_stride_kernel=0 removes it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "paddlepaddle==3.3.1" "numpy<2" setuptools
cat > "$folder/measure.py" <<'PYTHON'
import sys
import time

import numpy as np
import paddle

print("paddle", paddle.__version__)
paddle.set_device("cpu")
paddle.seed(0)
rows = paddle.randn([32, 64, 4, 64])  # batch, tokens, heads, width of a head


def scores():
    return paddle.matmul(rows.transpose([0, 2, 1, 3]), rows.transpose([0, 2, 3, 1]))


def seconds(views):
    paddle.set_flags({"FLAGS_use_stride_kernel": views})
    scores()
    begin = time.process_time()
    for _ in range(50):
        found = scores()
    return time.process_time() - begin, found.numpy()


turns = [(seconds(True), seconds(False)) for _ in range(5)]
ratio = float(np.median([with_views[0] / without[0] for with_views, without in turns]))
same = all(np.array_equal(with_views[1], without[1]) for with_views, without in turns)
print(f"with views {ratio:.1f} times the CPU time of without; results equal: {same}")
sys.exit(0 if same and ratio > 1.3 else 1)
PYTHON
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/measure.py"
