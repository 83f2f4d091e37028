"""Fine-tunes on OCNLI with Transformers' Trainer on PyTorch, like its own examples, for a comparison.

    python benchmarks/peers/ocnli_transformers.py MODEL_DIR DATA_DIR --limit 10000

MODEL_DIR is the demo model. Only its vocabulary and sizes are used; the weights are random, as only time is compared.
Runs in a separate environment (requirements.txt) and imports nothing of this project. Every 100 steps dev is
evaluated; the best model is kept.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

LABELS = ("entailment", "contradiction", "neutral")


class Rows(torch.utils.data.Dataset):
    """A split, tokenised at once."""

    def __init__(self, file: Path, tokenizer: BertTokenizerFast, limit: int | None):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        rows = [row for row in rows if row["label"] != "-"][:limit]
        sentences = [row["sentence1"] for row in rows], [row["sentence2"] for row in rows]
        self.encoded = tokenizer(*sentences, truncation=True, max_length=128)
        self.labels = [LABELS.index(row["label"]) for row in rows]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        return {**{name: values[index] for name, values in self.encoded.items()}, "labels": self.labels[index]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=3e-5)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--max_steps", type=int, default=-1)
    given = parser.parse_args()

    set_seed(42)
    sizes = json.loads((given.model / "config.json").read_text())
    names = (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "max_position_embeddings", "type_vocab_size",
    )  # fmt: skip
    model = BertForSequenceClassification(BertConfig(**{name: sizes[name] for name in names}, num_labels=len(LABELS)))
    tokenizer = BertTokenizerFast(vocab_file=str(given.model / "vocab.txt"), do_lower_case=True)
    folder = given.data_dir / "ocnli_public"
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(
            model,
            TrainingArguments(
                out,
                per_device_train_batch_size=given.batch_size,
                per_device_eval_batch_size=64,
                learning_rate=given.learning_rate,
                num_train_epochs=1,
                max_steps=given.max_steps,
                warmup_ratio=0.1,
                weight_decay=0.01,
                eval_strategy="steps",
                eval_steps=100,
                save_strategy="steps",
                save_steps=100,
                save_total_limit=1,
                load_best_model_at_end=True,
                metric_for_best_model="accuracy",
                logging_steps=100,
                use_cpu=True,
                report_to="none",
                disable_tqdm=True,
            ),
            data_collator=DataCollatorWithPadding(tokenizer),
            train_dataset=Rows(folder / "train.50k.json", tokenizer, given.limit),
            eval_dataset=Rows(folder / "dev.json", tokenizer, None),
            compute_metrics=lambda found: {"accuracy": float(np.mean(found.predictions.argmax(-1) == found.label_ids))},
        )
        trainer.train()
        print(f"best accuracy: {trainer.state.best_metric}")


if __name__ == "__main__":
    main()
