"""Time and peak memory of making the features of a CHID train split of the official size, from synthetic data.

    python benchmarks/chid_memory.py

The official split has 84,709 records with about 577,000 blanks. To the model each candidate of each blank is a row of
64 tokens: what those rows would take as int64 arrays is the measure for what is kept and for what it took to make it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OFFICIAL_RECORDS, BLANKS_PER_RECORD = 84_709, 6.81
VOCABULARY = Path(__file__).parent.parent / "tests" / "golden" / "vocab.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=OFFICIAL_RECORDS, help="records of the train split")
    parser.add_argument("--vocabulary", default=str(VOCABULARY), help="WordPiece vocabulary of an ERNIE tokenizer")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(Path(arguments.measure), arguments.vocabulary)))
        return

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_records(Path(folder), arguments.records)
        size = (Path(folder) / "chid_public" / "train.json").stat().st_size
        print(
            f"made {arguments.records:,} records, {size / 1e6:.0f} MB of JSON, in {time.perf_counter() - start:.0f} s"
        )
        # A process of its own, so that what making the data took is not counted.
        command = [sys.executable, __file__, "--measure", folder, "--vocabulary", arguments.vocabulary]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    report(json.loads(output.splitlines()[-1]))


def write_records(folder: Path, records: int) -> None:
    from cluebench.demo.synthetic import Sizes, write_synthetic

    # Passages of about 120 characters, as in the real data.
    write_synthetic(folder, ["chid"], {"chid": Sizes(records, 10, 10, sentences=5, blanks=BLANKS_PER_RECORD)})


def measure(folder: Path, vocabulary: str) -> dict:
    from cluebench.foundation import environment

    environment.import_paddle()
    from paddlenlp.transformers import ErnieTokenizer

    from cluebench.benchmark.tasks import TASKS
    from cluebench.data.source import DataSource
    from cluebench.features import FeatureCache, FeatureRequest, TextEncoder, load_features

    task, source, cache = TASKS["chid"], DataSource(folder), FeatureCache(folder / "cache")
    encoder = TextEncoder(ErnieTokenizer(vocabulary))
    imported = peak_memory()
    times = []
    for _ in range(2):  # cold, then warm
        start = time.perf_counter()
        features = load_features(FeatureRequest(task, "train", source, encoder), cache)
        times.append(time.perf_counter() - start)
    return {
        "blanks": len(features),
        "cold_seconds": times[0],
        "warm_seconds": times[1],
        "imported_bytes": imported,
        "peak_bytes": peak_memory(),
        "cache_bytes": sum(path.stat().st_size for path in (folder / "cache").glob("chid-*")),
        "plain_bytes": len(features) * task.num_choices * task.max_seq_length * 2 * 8,  # ids and token types
    }


def peak_memory() -> int:
    """Bytes this process has had in memory at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def report(facts: dict) -> None:
    gib = 2**30
    print(f"{facts['blanks']:,} blanks: cold {facts['cold_seconds']:.1f} s, warm {facts['warm_seconds']:.2f} s")
    print(f"peak memory {facts['peak_bytes'] / gib:.2f} GiB, of which imports {facts['imported_bytes'] / gib:.2f} GiB")
    size = facts["plain_bytes"] / gib
    print(f"cache {facts['cache_bytes'] / gib:.3f} GiB; int64 rows padded per option {size:.2f} GiB")
    print(
        f"ratio: peak memory {facts['peak_bytes'] / gib:.2f} GiB, {size / facts['peak_bytes'] * gib:.1f} times smaller"
    )


if __name__ == "__main__":
    main()
