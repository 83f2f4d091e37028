#!/usr/bin/env bash
# PaddleNLP's CosineDecayWithWarmup ends training at the highest learning rate.
#
# Expected: cosine decay falls from the peak to 0 over the training steps, as "cosine" of PaddleNLP's Trainer and
#   get_cosine_schedule_with_warmup of transformers do.
# Happens: in PaddleNLP 3.0.0b4 the class's default is one whole wave: 0 in the middle of training, then back to the peak.
#   With with_hard_restarts=True the default is half a cycle: it falls to half of the peak and ends there. The two
#   defaults, 1 and 0.5, are exchanged; num_cycles=0.5 is refused, because the class wants a whole number.
# Matters: the last steps run at the highest rate, so the final model is worse than the one in the middle, and a loss
#   that rises at the end looks like a fault of the data or of the model.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q paddlepaddle==3.3.1 paddlenlp==3.0.0b4 aistudio-sdk==0.2.6 \
  huggingface-hub==0.36.2 datasets==3.6.0 pyarrow==19.0.1 pandas==2.2.3 "numpy<2" "setuptools<80" 2>/dev/null
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import paddle
from importlib.metadata import version

from paddlenlp.trainer.trainer_utils import get_scheduler
from paddlenlp.transformers import CosineDecayWithWarmup

print("paddle", paddle.__version__, "paddlenlp", version("paddlenlp"))
steps, warmup = 12, 2
schedulers = {
    "CosineDecayWithWarmup": CosineDecayWithWarmup(1.0, steps, warmup),
    "CosineDecayWithWarmup(with_hard_restarts=True)": CosineDecayWithWarmup(1.0, steps, warmup, with_hard_restarts=True),
    "Trainer's cosine": get_scheduler("cosine", 1.0, num_warmup_steps=warmup, num_training_steps=steps),
}
ends = {}
for name, scheduler in schedulers.items():
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_lr())
        scheduler.step()
    ends[name] = rates[-1]
    print(f"{name}: " + " ".join(f"{rate:.2f}" for rate in rates))
try:
    CosineDecayWithWarmup(1.0, steps, warmup, num_cycles=0.5)
except AssertionError as error:
    print("num_cycles=0.5:", error)
else:
    raise SystemExit("num_cycles=0.5 was accepted")
whole, restarts, trainer = ends.values()
assert whole > 0.9 and 0.5 < restarts < 0.6 and trainer < 0.05
PY
