"""Making the features of C3, CMRC2018 and CHID, against tokenizing every option of every question one by one.

    CLUE_DATA_DIR=… python benchmarks/reading_warmup.py [--full]

Ours: train and dev of each task from an empty cache to features on disk, files read and checked included; then again
from the warm cache. Beside it the size of the cache, against rows of int64 ids and token types. The plain way:
PaddleNLP's slow tokenizer in one process, every context once more for each question and option, every passage for each
blank, rows of ids padded to the task's length; reading files is not counted there. Both have the same tokenizer, made
from a WordPiece vocabulary as an ErnieTokenizer. Without --full the plain way takes every n-th row, chosen to last
6 seconds a task, and its time is scaled by the number of rows, as the output says. Seconds are of CPU.
"""

import argparse
import os
import re
import tempfile
import time
import warnings
from pathlib import Path

VOCABULARY = Path(__file__).parent.parent / "tests" / "golden" / "vocab.txt"
TASKS_MEASURED = ("c3", "cmrc2018", "chid")
SPLITS = ("train", "dev")
SAMPLE_SECONDS = 6  # of the plain way, a task
BYTES_PER_TOKEN = 2 * 8  # an id and a token type, int64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default=os.environ.get("CLUE_DATA_DIR"), help="official files of the three tasks")
    parser.add_argument("--tasks", nargs="+", default=TASKS_MEASURED, choices=TASKS_MEASURED)
    parser.add_argument("--full", action="store_true", help="the plain way over every question, nothing scaled")
    parser.add_argument("--vocabulary", default=str(VOCABULARY), help="WordPiece vocabulary of an ERNIE tokenizer")
    arguments = parser.parse_args()

    warnings.simplefilter("ignore")
    from cluebench.data.source import DataSource
    from cluebench.foundation import environment

    environment.import_paddle()
    from paddlenlp.transformers import ErnieTokenizer

    with tempfile.TemporaryDirectory() as scratch:
        source = DataSource(arguments.data_dir or made_up_data(Path(scratch)))
        print(f"data: {source.directory if arguments.data_dir else 'synthetic (CLUE_DATA_DIR is not set)'}")
        ours = measure_ours(arguments.tasks, source, ErnieTokenizer(arguments.vocabulary), Path(scratch) / "cache")
        plain = {}
        for name in arguments.tasks:
            plain[name] = measure_plain(name, source, ErnieTokenizer(arguments.vocabulary), arguments.full)
    for name in arguments.tasks:
        ratio = plain[name] / ours[name]
        print(f"ratio: {name} {ratio:.0f} times faster ({plain[name]:.1f} CPU s, {ours[name]:.2f} CPU s)")


def made_up_data(folder: Path) -> Path:
    from cluebench.demo.synthetic import Sizes, write_synthetic

    sizes = {"c3": Sizes(3000, 500, 10, 3), "cmrc2018": Sizes(3000, 500, 10, 12), "chid": Sizes(500, 50, 10, 5)}
    write_synthetic(folder / "data", sizes, sizes)
    return folder / "data"


def measure_ours(names: list[str], source, tokenizer, cache_folder: Path) -> dict[str, float]:
    """CPU seconds of a cold warm-up by task, as the warm-up script does it; prints the warm ones and the size, too."""
    from cluebench.benchmark.tasks import TASKS
    from cluebench.features import FeatureCache, FeatureRequest, TextEncoder, load_features

    encoder, cold, padded = TextEncoder(tokenizer), {}, 0
    for state in ("cold", "warm"):
        for name in names:
            task = TASKS[name]
            start = time.process_time()
            requests = [FeatureRequest(task, split, source, encoder) for split in SPLITS]
            examples = [len(load_features(request, FeatureCache(cache_folder))) for request in requests]
            seconds = time.process_time() - start
            if state == "cold":
                cold[name] = seconds
                padded += sum(examples) * (task.num_choices or 1) * task.max_seq_length * BYTES_PER_TOKEN
            print(f"ours, {state}: {name} {' + '.join(SPLITS)}, {sum(examples):,} examples in {seconds:.2f} s")
    kept = sum(path.stat().st_size for path in cache_folder.rglob("*") if path.is_file())
    print(f"ratio: {padded / kept:.0f} times smaller than padded rows ({kept / 1e6:.1f} MB, {padded / 1e6:.0f} MB)")
    return cold


def measure_plain(name: str, source, tokenizer, full: bool) -> float:
    """CPU seconds the plain way takes for train and dev, or would take by the sample it says it measured."""
    from cluebench.benchmark.tasks import TASKS
    from cluebench.data.rows import load_rows

    task = TASKS[name]
    rows = [row for split in SPLITS for row in load_rows(source, task, split)]
    step = 1 if full else sampling_step(task, rows, tokenizer)
    sample = rows[::step]
    start = time.process_time()
    for row in sample:
        PLAIN[task.kind](task, row, tokenizer)
    seconds = time.process_time() - start
    if step == 1:
        print(f"plain: {name}, all {len(rows):,} rows in {seconds:.1f} s")
        return seconds
    scaled = seconds * len(rows) / len(sample)
    print(f"plain: {name}, {len(sample):,} of {len(rows):,} rows in {seconds:.1f} s, scaled to {scaled:.1f} s")
    return scaled


def sampling_step(task, rows: list, tokenizer) -> int:
    start = time.process_time()
    probe = rows[:: max(1, len(rows) // 20)]
    for row in probe:
        PLAIN[task.kind](task, row, tokenizer)
    each = (time.process_time() - start) / len(probe)
    return max(1, round(len(rows) * each / SAMPLE_SECONDS))


def plain_question(task, row, tokenizer) -> list[list[int]]:
    """C3: context, question and option tokenized for every option."""
    options = [*row.options, *["无效答案"] * (task.num_choices - len(row.options))]
    padded = []
    for option in options:
        parts = [tokenizer.tokenize(text.lower()) for text in (row.context, row.question, option)]
        while sum(map(len, parts)) > task.max_seq_length - 4:
            max(parts, key=len).pop()
        tokens = ["[CLS]", *parts[0], "[SEP]", *parts[1], "[SEP]", *parts[2], "[SEP]"]
        padded.append(padded_ids(tokenizer, tokens, task.max_seq_length))
    return padded


def plain_windows(task, row, tokenizer) -> list[list[int]]:
    """CMRC2018: question and context tokenized for every question, with PaddleNLP's own windows and offsets."""
    encoded = tokenizer([row.question], [row.context], stride=task.doc_stride, max_length=task.max_seq_length)
    return [ids + [tokenizer.pad_token_id] * (task.max_seq_length - len(ids)) for ids in encoded["input_ids"]]


def plain_blanks(task, record, tokenizer) -> list[list[int]]:
    """CHID: the passage tokenized round its blanks for every blank, the idiom for every blank and candidate."""
    padded = []
    for passage in record.passages:
        for tag in re.findall(r"#idiom\d+#", passage):
            tokens = []
            for piece in re.split(r"(#idiom\d+#)", passage):
                tokens += [piece] if piece.startswith("#idiom") else tokenizer.tokenize(piece)
            place = tokens.index(tag)
            window = [*tokens[max(0, place - 28) : place], "[unused1]", *tokens[place + 1 : place + 29]]
            window = ["[MASK]" if token.startswith("#idiom") else token for token in window]
            for candidate in record.candidates:
                tokens = ["[CLS]", *tokenizer.tokenize(candidate), "[SEP]", *window, "[SEP]"]
                padded.append(padded_ids(tokenizer, tokens, task.max_seq_length))
    return padded


def padded_ids(tokenizer, tokens: list[str], length: int) -> list[int]:
    ids = tokenizer.convert_tokens_to_ids(tokens)
    return ids + [tokenizer.pad_token_id] * (length - len(ids))


PLAIN = {"choice": plain_question, "span": plain_windows, "idiom": plain_blanks}


if __name__ == "__main__":
    main()
