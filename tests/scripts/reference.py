"""A fine-tuning loop as plain as the published benchmark describes it: the scripts' losses and times are compared with it.

    python tests/scripts/reference.py ocnli MODEL_DIR DATA_DIR --batch_size 32 --epochs 1 --limit 10000

Every row is tokenised by PaddleNLP's slow tokenizer when its batch comes up, in every epoch and every evaluation; of
cluebench only the task table is used.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
import paddle
from paddlenlp.transformers import AutoModelForSequenceClassification, AutoTokenizer, LinearDecayWithWarmup

from cluebench.benchmark.tasks import TASKS


def published_losses(
    task,
    model_dir: str,
    data_dir: str,
    batch_size: int,
    learning_rate: float,
    epochs: int,
    limit: int | None = None,
    evaluate: bool = False,
) -> list[float]:
    """The training loss of every step of a classification task with plain text fields.

    ``evaluate``: also print the dev accuracy every 100 steps and after the last.
    """
    rows = read(task, data_dir, task.train_files[0], limit)
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
    dev = read(task, data_dir, task.dev_files[0], limit) if evaluate else []
    found = []
    for _ in range(epochs):
        for indices in sampler:
            ids, types, labels = encoded(task, tokenizer, [rows[i] for i in indices])
            loss = paddle.nn.CrossEntropyLoss()(model(ids, types), labels)
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.clear_grad()
            found.append(float(loss))
            if evaluate and (len(found) % 100 == 0 or len(found) == steps):
                print(f"step {len(found)}: loss {found[-1]:.4f}, acc {dev_accuracy(task, model, tokenizer, dev):.4f}")
    return found


def read(task, data_dir: str, file: str, limit: int | None) -> list[dict]:
    lines = (Path(data_dir) / f"{task.name}_public" / file).read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["label"] != "-"][:limit]


def encoded(task, tokenizer, rows: list[dict]):
    """(input_ids, token_type_ids, labels) of a batch, padded to its longest row."""
    texts = [
        tokenizer(*[row[field] for field in task.text_fields], max_length=task.max_seq_length, truncation=True)
        for row in rows
    ]
    longest = max(len(text["input_ids"]) for text in texts)
    ids = [text["input_ids"] + [tokenizer.pad_token_id] * (longest - len(text["input_ids"])) for text in texts]
    types = [text["token_type_ids"] + [0] * (longest - len(text["token_type_ids"])) for text in texts]
    return map(paddle.to_tensor, (ids, types, [task.labels.index(str(row["label"])) for row in rows]))


@paddle.no_grad()
def dev_accuracy(task, model, tokenizer, rows: list[dict], batch_size: int = 32) -> float:
    model.eval()
    right = 0
    for first in range(0, len(rows), batch_size):
        ids, types, labels = encoded(task, tokenizer, rows[first : first + batch_size])
        right += int((model(ids, types).argmax(axis=-1) == labels).sum())
    model.train()
    return right / len(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("model_dir")
    parser.add_argument("data_dir")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=3e-5)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--limit", type=int)
    given = vars(parser.parse_args())
    published_losses(TASKS[given.pop("task")], **given, evaluate=True)
