"""Every benchmark here and now, as the table of README.md; in under 20 minutes on two quiet cores.

    CLUE_DATA_DIR=… python benchmarks [NAME …]

Each benchmark also runs alone, and then takes more options. Its lines that begin with "ratio:" are its result.
"""

import os
import platform
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

#: Benchmark and options → (claim, what limits it now).
ROWS = {
    "process_start.py --rounds 2": ("PaddleNLP's models are imported sooner", "nine tenths are Paddle's own import"),
    "reading_warmup.py": ("Features of the reading tasks are made sooner, and are small", "reading JSON takes half"),
    "chid_memory.py --records 8000": ("Features of CHID fit into memory", "imports take 0.3 GiB"),
    "input_pipeline.py": ("Batches are made sooner", "numpy's copies of tokens"),
    "padding.py --models 2x128 --tasks ocnli iflytek c3": ("Padding is not computed", "Paddle's kernels"),
    "ocnli_process.py --rounds 1 --rows 3000": ("A whole process is quicker", "Paddle's kernels, backward"),
    "bounded_evaluation.py": ("An evaluation that can't win ends early", "as many rows as errors that rule it out"),
    "halving.py tnews": ("Halving needs fewer steps, with the same table", "its rungs: 2,600 of 4,800 steps"),
    "scheduler_makespan.py": ("A grid ends soon after the lower bound", "the longest trials"),
    "dispatch_latency.py": ("A free card gets its next trial at once", "the start of a Python process"),
    "report_page.py": ("A report is small and is shown at once", "plotly.js is 4.8 MB of it"),
    "leaderboard_seconds.py": ("30 models are ranked soon", "reading a result for each trial"),
}


def main() -> int:
    chosen = [row for row in ROWS if not sys.argv[1:] or row.split(".")[0] in sys.argv[1:]]
    lines, failed = [], False
    for row in chosen:
        begin = time.monotonic()
        ended = subprocess.run(
            [sys.executable, FOLDER / row.split()[0], *row.split()[1:]], stdout=subprocess.PIPE, text=True
        )
        print(ended.stdout, f"== {row}: {time.monotonic() - begin:.0f} s", sep="", file=sys.stderr, flush=True)
        ratios = [line.removeprefix("ratio: ") for line in ended.stdout.splitlines() if line.startswith("ratio: ")]
        failed = failed or ended.returncode != 0 or not ratios
        claim, limit = ROWS[row]
        lines.append(
            f"| {claim} | {'; '.join(ratios) or 'failed'} | `{row}` | {date.today()} | {machine()} | {limit} |"
        )
    print("| claim | ratio | command | date | machine | what limits it now |\n|---|---|---|---|---|---|")
    print(*lines, sep="\n")
    return 1 if failed else 0


def machine() -> str:
    """Cores, processor, Python, and the load by this benchmark and by others."""
    names = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return f"{os.cpu_count()} cores {names[0] if names else platform.machine()}, load {os.getloadavg()[0]:.0f}"


if __name__ == "__main__":
    sys.exit(main())
