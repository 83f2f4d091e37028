"""CPU and wall seconds until PaddleNLP's models can be used: imported by us, and with all that it imports by itself.

    python benchmarks/process_start.py

Both in processes of their own, in turn, so many times after one of each that warms the disk's cache.
"""

import argparse
import statistics
import sys

from spending import run

SIDES = {
    "ours": "from cluebench.foundation import environment; environment.import_paddle(); import paddlenlp.transformers",
    "plain": "import paddlenlp.transformers",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    spent: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    for _ in range(1 + arguments.rounds):
        for side, program in SIDES.items():
            spent[side].append(run([sys.executable, "-c", program])[1:])
    wall, cpu = ([statistics.median(found[part] for found in spent[side][1:]) for side in SIDES] for part in (0, 1))
    print(f"import: {wall[0]:.1f} s, {cpu[0]:.1f} CPU seconds; plain {wall[1]:.1f} s, {cpu[1]:.1f} CPU seconds")
    print(f"ratio: {cpu[0] / cpu[1]:.2f} of the CPU time, {wall[0] / wall[1]:.2f} of the wall time")


if __name__ == "__main__":
    main()
