#!/usr/bin/env bash
# With label_smoothing, Paddle's cross_entropy counts the rows that ignore_index excludes, and divides by the classes.
#
# Expected: a row whose label is ignore_index has no part in the loss, with or without label_smoothing. The mean covers the
#   other rows, as in torch.
# Happens: paddlepaddle 3.3.1 first makes smoothed distributions of all labels. Then it compares ignore_index with the
#   distributions: ignored rows are counted, and the mean divides by rows x classes. -100, the value that PaddleNLP pads
#   labels with, is refused as an index below 0.
# Matters: label smoothing for token classification, with padding at label 0, trains on padding, with a loss and
#   gradients that are smaller by about the number of classes. No message says so.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 "numpy<2" "setuptools<80" 2>/dev/null
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import paddle
from paddle.nn.functional import cross_entropy

print("paddle", paddle.__version__)
logits = paddle.to_tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
labels = paddle.to_tensor([1, 2, 0])
losses = {}
for smoothing in (0.0, 0.1):
    rows = cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none").flatten()
    losses[smoothing] = found = float(cross_entropy(logits, labels, ignore_index=0, label_smoothing=smoothing))
    right, wrong = float(rows[:2].mean()), float(rows.sum() / 9)
    print(f"label_smoothing {smoothing}, the third row ignored: {found:.4f}; mean of two rows {right:.4f}, sum of three / 9 {wrong:.4f}")
    assert abs(found - (wrong if smoothing else right)) < 1e-5
try:
    cross_entropy(logits, paddle.to_tensor([1, 2, -100]), label_smoothing=0.1)
except ValueError as error:
    message = next(line for line in str(error).splitlines() if "Illegal index" in line)
    print("label -100, the default ignore_index:", message)
else:
    raise SystemExit("-100 was accepted")
PY
