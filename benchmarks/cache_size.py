"""Bytes of cached features against rows of int64 ids and token types, padded to the task's length, one per option.

    CLUE_DATA_DIR=… python benchmarks/cache_size.py

Train and dev of every task whose files are there; without CLUE_DATA_DIR of the three reading tasks, synthetic.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from pathlib import Path

VOCABULARY = Path(__file__).parent.parent / "tests" / "golden" / "vocab.txt"
BYTES_PER_TOKEN = 2 * 8  # an id and a token type, int64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default=os.environ.get("CLUE_DATA_DIR"), help="official files")
    parser.add_argument("--vocabulary", default=str(VOCABULARY), help="WordPiece vocabulary of an ERNIE tokenizer")
    arguments = parser.parse_args()

    warnings.simplefilter("ignore")
    from paddlenlp.transformers import ErnieTokenizer

    from cluebench.benchmark.tasks import TASKS
    from cluebench.data.source import DataSource
    from cluebench.demo.synthetic import Sizes, write_synthetic
    from cluebench.features import TextEncoder

    encoder = TextEncoder(ErnieTokenizer(arguments.vocabulary))
    with tempfile.TemporaryDirectory() as scratch:
        if not arguments.data_dir:
            sizes = {"c3": Sizes(3000, 500, 10, 3), "cmrc2018": Sizes(3000, 500, 10, 12), "chid": Sizes(500, 50, 10, 5)}
            write_synthetic(scratch, sizes, sizes)
        print(f"data: {arguments.data_dir or 'synthetic (CLUE_DATA_DIR is not set)'}")
        source, total = DataSource(arguments.data_dir or scratch), [0, 0]
        for task in TASKS.values():
            if not all(source.has(task, file) for file in task.train_files + task.dev_files):
                continue
            kept, plain = sizes_of(task, source, encoder, Path(scratch) / "cache" / task.name)
            print(
                f"{task.name}: {kept / 1e6:.2f} MB kept, {plain / 1e6:.0f} MB padded: {plain / kept:.0f} times smaller"
            )
            total = [total[0] + kept, total[1] + plain]
    print(f"ratio: {total[1] / total[0]:.0f} times smaller over all ({total[0] / 1e6:.1f} MB, {total[1] / 1e6:.0f} MB)")


def sizes_of(task, source, encoder, folder: Path) -> tuple[int, int]:
    """(bytes in the cache, bytes of padded rows) of a task's train and dev."""
    from cluebench.features import FeatureCache, load_features

    plain = 0
    for split in ("train", "dev"):
        features = load_features(task, split, source, encoder, FeatureCache(folder), max_seq_length=task.max_seq_length)
        plain += len(features) * (task.num_choices or 1) * task.max_seq_length * BYTES_PER_TOKEN
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()), plain


if __name__ == "__main__":
    main()
