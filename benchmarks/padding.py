"""CPU time of a training step without padding against one with it, on the lengths of all ten tasks.

    python benchmarks/padding.py                       # all tasks, four sizes of model
    python benchmarks/padding.py --tasks ocnli c3 --models 2x768
    CLUE_DATA_DIR=… python benchmarks/padding.py --measure    # writes lengths.json again

A step is forward, backward and update on one micro-batch of the published runs; both sides compute the same in turn,
and each side is first equally often. Rows are drawn from lengths.json: quantiles of the train splits' lengths in
tokens, no text. We did not have AFQMC, CMNLI and CSL: the first two have the lengths of OCNLI, CSL has lengths evenly
between 128 and 256. The time is CPU time of the process with one thread, so other work on the machine does not count.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

LENGTHS = Path(__file__).parent / "lengths.json"
VOCABULARY = Path(__file__).parent.parent / "tests" / "golden" / "vocab.txt"
#: layers x width → attention heads; of the first, nearly all is the cost of calling Paddle
MODELS = {"1x16": 2, "2x128": 2, "4x312": 12, "2x768": 12}
#: Rows, or questions, of a micro-batch of the published runs on one card.
MICRO_BATCHES = {"csl": 16, "cmrc2018": 6, "chid": 3, "c3": 2}
ASSUMED = {"afqmc": "ocnli", "cmnli": "ocnli"}
TOKENS = 12_000  # of the vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", help="default: all")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="layers x width")
    parser.add_argument("--batches", type=int, default=4, help="pairs of steps of each task and model")
    parser.add_argument("--measure", action="store_true", help="write lengths.json from the files in CLUE_DATA_DIR")
    arguments = parser.parse_args()

    os.environ["OMP_NUM_THREADS"] = "1"
    from cluebench.foundation import environment

    environment.import_paddle()
    from cluebench.benchmark.tasks import SPAN, TASKS

    if arguments.measure:
        LENGTHS.write_text(json.dumps(measured(os.environ["CLUE_DATA_DIR"]), indent=None) + "\n")
        return
    lengths = json.loads(LENGTHS.read_text())
    for size in arguments.models:
        for name in arguments.tasks or TASKS:
            if TASKS[name].kind == SPAN:
                print(f"{size} {name}: its head reads every place, so padding stays", flush=True)
                continue
            ratio, seconds, computed = compared(TASKS[name], size, lengths, arguments.batches)
            detail = f"{1000 * seconds:.0f} ms with padding, {computed:.2f} tokens computed for one that counts"
            print(f"ratio: {ratio:.2f} of a step's CPU time, {size} {name} ({detail})", flush=True)


# Lengths --------------------------------------------------------------------------------------------------------------


def measured(data_dir: str) -> dict[str, dict[str, list[int]]]:
    """Task → 101 quantiles of its rows' lengths, of a question's longest; of choices, how much shorter options are."""
    from paddlenlp.transformers import ErnieTokenizer

    from cluebench.benchmark.tasks import TASKS
    from cluebench.data.source import DataSource
    from cluebench.features import FeatureRequest, TextEncoder, load_features

    encoder, source, found = TextEncoder(ErnieTokenizer(str(VOCABULARY))), DataSource(data_dir), {}
    for task in TASKS.values():
        split = "dev" if task.name == "iflytek" else "train"  # its train split was not whole
        if not all(source.has(task, file) for file in getattr(task, f"{split}_files")):
            continue
        features = load_features(FeatureRequest(task, split, source, encoder), None)
        found[task.name] = {"longest": quantiles(features.lengths), "split": split}
        if task.num_choices:
            shorter = []
            for start in range(0, min(len(features), 4000), 50):
                rows = np.arange(start, min(start + 50, len(features)))
                counts = (features.batch(rows)["input_ids"] != encoder.pad_id).sum(axis=-1)
                shorter.append((counts.max(axis=1, keepdims=True) - counts).reshape(-1))
            found[task.name]["shorter"] = quantiles(np.concatenate(shorter))
    return found


def quantiles(values: np.ndarray) -> list[int]:
    return [int(value) for value in np.percentile(values, np.arange(101), method="nearest")]


def drawn(task, lengths: dict, random: np.random.Generator) -> dict[str, np.ndarray]:
    """A micro-batch of random tokens, as features make it."""
    rows = MICRO_BATCHES.get(task.name, 32)
    if task.name == "csl":
        longest = random.integers(128, 257, rows)
    else:
        longest = random.choice(lengths[ASSUMED.get(task.name, task.name)]["longest"], rows)
    if task.num_choices:
        shorter = random.choice(lengths[task.name]["shorter"], (rows, task.num_choices))
        shorter[:, 0] = 0
        longest = np.maximum(longest[:, None] - shorter, 4)
    inside = np.arange(longest.max()) < longest[..., None]
    ids = np.where(inside, random.integers(5, TOKENS, inside.shape), 0)
    labels = random.integers(0, task.num_choices or len(task.labels), rows)
    return {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "labels": labels}


# Steps ----------------------------------------------------------------------------------------------------------------


def compared(task, size: str, lengths: dict, batches: int) -> tuple[float, float, float]:
    """(CPU time without padding over that with it, seconds of the latter, tokens computed for each that counts)"""
    import paddle
    from paddlenlp.transformers import ErnieConfig, ErnieForMultipleChoice, ErnieForSequenceClassification

    layers, width = map(int, size.split("x"))
    paddle.seed(0)
    head = ErnieForMultipleChoice if task.num_choices else ErnieForSequenceClassification
    model = head(
        ErnieConfig(
            vocab_size=TOKENS,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=MODELS[size],
            intermediate_size=4 * width,
            num_labels=len(task.labels) or 2,
            num_choices=task.num_choices or 2,
        )
    )
    optimizer = paddle.optimizer.AdamW(1e-5, parameters=model.parameters(), weight_decay=0.01)
    random, spent, places, tokens = np.random.default_rng(0), {True: 0.0, False: 0.0}, 0, 0
    for number in range(-1, batches):  # the first is warm-up
        batch = drawn(task, lengths, random)
        for unpadded in (True, False) if number % 2 else (False, True):
            start = time.process_time()
            step(model, optimizer, batch, unpadded)
            if number >= 0:
                spent[unpadded] += time.process_time() - start
        places, tokens = places + batch["input_ids"].size, tokens + np.count_nonzero(batch["input_ids"])
    return spent[True] / spent[False], spent[False] / batches, places / tokens


def step(model, optimizer, batch: dict[str, np.ndarray], unpadded: bool) -> None:
    import paddle

    from cluebench.models import on_device
    from cluebench.models.forward_pass import forward

    tensors = on_device(batch, 0 if unpadded else None)
    (logits,) = forward(model, tensors)
    paddle.nn.functional.cross_entropy(logits, tensors["labels"]).backward()
    optimizer.step()
    optimizer.clear_grad()


if __name__ == "__main__":
    main()
