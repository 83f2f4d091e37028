"""A fine-tuning loop as plain as the published benchmark describes it, to compare the scripts' losses with.

Every row is tokenised by PaddleNLP's slow tokenizer when its batch comes up; nothing of cluebench is used but the table.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import paddle
from paddlenlp.transformers import AutoModelForSequenceClassification, AutoTokenizer, LinearDecayWithWarmup


def published_losses(
    task, model_dir: str, data_dir: str, batch_size: int, learning_rate: float, epochs: int
) -> list[float]:
    """The training loss of every step of a classification task with plain text fields."""
    lines = (Path(data_dir) / f"{task.name}_public" / task.train_files[0]).read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["label"] != "-"]
    random.seed(42)
    np.random.seed(42)
    paddle.seed(42)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForSequenceClassification.from_pretrained(model_dir, num_classes=len(task.labels))
    model.train()
    sampler = paddle.io.DistributedBatchSampler(rows, batch_size=batch_size, shuffle=True)
    steps = len(sampler) * epochs
    schedule = LinearDecayWithWarmup(learning_rate, steps, 0.1)
    decayed = [p.name for n, p in model.named_parameters() if not any(word in n for word in ["bias", "norm"])]
    optimizer = paddle.optimizer.AdamW(
        learning_rate=schedule,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-8,
        parameters=model.parameters(),
        weight_decay=0.01,
        apply_decay_param_fun=lambda name: name in decayed,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0),
    )
    found = []
    for _ in range(epochs):
        for indices in sampler:
            encoded = [
                tokenizer(*[rows[i][field] for field in task.text_fields], max_length=128, truncation=True)
                for i in indices
            ]
            longest = max(len(one["input_ids"]) for one in encoded)
            ids = [one["input_ids"] + [tokenizer.pad_token_id] * (longest - len(one["input_ids"])) for one in encoded]
            types = [one["token_type_ids"] + [0] * (longest - len(one["token_type_ids"])) for one in encoded]
            labels = [task.labels.index(str(rows[i]["label"])) for i in indices]
            loss = paddle.nn.CrossEntropyLoss()(
                model(paddle.to_tensor(ids), paddle.to_tensor(types)), paddle.to_tensor(labels)
            )
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.clear_grad()
            found.append(float(loss))
    return found
