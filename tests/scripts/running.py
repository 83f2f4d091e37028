"""Flags that runs share, and what their logs say."""

from __future__ import annotations

import json
import re

LOSS = re.compile(
    r"global step (\d+)/(\d+), epoch: (\d+), batch: (\d+), rank_id: 0, loss: (\S+), lr: (\S+), speed: \S+ step/s"
)


def losses(lines):
    return [float(match[5]) for match in map(LOSS.match, lines) if match]


def common(demo, out, *more):
    model, data = demo
    return ["--model_name_or_path", model, "--data_dir", data, "--output_dir", out, "--device", "cpu", *more]


def without_dropout(model: str, folder) -> str:
    """A copy of the model whose attention dropout, which --dropout leaves alone, is off too."""
    import shutil

    copy = folder / "without_dropout"
    shutil.copytree(model, copy)
    config = json.loads((copy / "config.json").read_text())
    config.update(attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    (copy / "config.json").write_text(json.dumps(config))
    return str(copy)
