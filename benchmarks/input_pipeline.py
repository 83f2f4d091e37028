"""Examples a second of the input pipeline alone: shuffled training batches from cached features, no model.

    CLUE_DATA_DIR=… python benchmarks/input_pipeline.py

Against the plain way: each drawn row tokenized with PaddleNLP's slow tokenizer, as a loader without a cache does it in
every epoch. Both make padded micro-batches of the same size in one process; the plain way for two seconds a task, ours
for one whole epoch.
"""

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

VOCABULARY = Path(__file__).parent.parent / "tests" / "golden" / "vocab.txt"
BATCH_SIZES = {"tnews": 32, "ocnli": 32, "c3": 2, "cmrc2018": 6, "chid": 3}  # micro-batches of the published runs
PLAIN_SECONDS = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default=os.environ.get("CLUE_DATA_DIR"), help="official files")
    parser.add_argument("--vocabulary", default=str(VOCABULARY), help="WordPiece vocabulary of an ERNIE tokenizer")
    arguments = parser.parse_args()

    warnings.simplefilter("ignore")
    from paddlenlp.transformers import ErnieTokenizer

    from cluebench.benchmark.tasks import TASKS
    from cluebench.data.source import DataSource
    from cluebench.demo.synthetic import write_synthetic

    tokenizer, ratios = ErnieTokenizer(arguments.vocabulary), []
    with tempfile.TemporaryDirectory() as scratch:
        if not arguments.data_dir:
            write_synthetic(scratch, BATCH_SIZES)
        print(f"data: {arguments.data_dir or 'synthetic (CLUE_DATA_DIR is not set)'}")
        source = DataSource(arguments.data_dir or scratch)
        for name, batch_size in BATCH_SIZES.items():
            task = TASKS[name]
            if not all(source.has(task, file) for file in task.train_files):
                continue
            ours = examples_per_second(task, source, tokenizer, Path(scratch) / "cache", batch_size)
            plain = plain_examples_per_second(task, source, tokenizer, batch_size)
            ratios.append(ours / plain)
            print(
                f"{name}, batches of {batch_size}: {ours:,.0f} examples/s, plain {plain:,.0f}: {ours / plain:.0f} times"
            )
    print(f"ratio: {np.exp(np.mean(np.log(ratios))):.0f} times faster, geometric mean of {len(ratios)} tasks")


def examples_per_second(task, source, tokenizer, cache_folder: Path, batch_size: int) -> float:
    from cluebench.features import FeatureCache, FeatureRequest, TextEncoder, load_features

    cache, encoder = FeatureCache(cache_folder), TextEncoder(tokenizer)
    features = load_features(FeatureRequest(task, "train", source, encoder), cache)
    order = np.random.default_rng(0).permutation(len(features))
    start = time.perf_counter()
    for place in range(0, len(order), batch_size):
        features.batch(order[place : place + batch_size])
    return len(order) / (time.perf_counter() - start)


def plain_examples_per_second(task, source, tokenizer, batch_size: int) -> float:
    """Examples are what a sampler draws: rows, questions, windows or blanks."""
    from cluebench.data.rows import load_rows

    rows = load_rows(source, task, "train")
    order = np.random.default_rng(0).permutation(len(rows))
    made, batch, start = 0, [], time.perf_counter()
    for index in order:
        for example in EXAMPLES[task.kind](task, rows[index], tokenizer):
            batch.append(example)
            if len(batch) == batch_size:
                padded(batch, tokenizer.pad_token_id)
                made, batch = made + batch_size, []
        if time.perf_counter() - start > PLAIN_SECONDS:
            break
    return made / (time.perf_counter() - start)


def padded(batch: list[list[list[int]]], pad_id: int) -> np.ndarray:
    """int64 [B, options, longest]"""
    width = max(len(ids) for options in batch for ids in options)
    return np.array([[ids + [pad_id] * (width - len(ids)) for ids in options] for options in batch])


def text_examples(task, row, tokenizer) -> list[list[list[int]]]:
    pair = {"text_pair": row.texts[1]} if len(row.texts) == 2 else {}
    return [[tokenizer(row.texts[0], max_length=task.max_seq_length, truncation=True, **pair)["input_ids"]]]


def plain_ones(name: str):
    """The plain way of benchmarks/reading_warmup.py, whose rows of an option's ids are regrouped into examples."""

    def examples(task, row, tokenizer) -> list[list[list[int]]]:
        import reading_warmup

        rows = getattr(reading_warmup, name)(task, row, tokenizer)
        size = task.num_choices or 1
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    return examples


EXAMPLES = {
    "single": text_examples,
    "pair": text_examples,
    "choice": plain_ones("plain_question"),
    "span": plain_ones("plain_windows"),
    "idiom": plain_ones("plain_blanks"),
}


if __name__ == "__main__":
    main()
