"""A whole grid against successive halving, on real processes: steps, seconds, and the best score of each task.

    python benchmarks/halving.py [task …]

Trains the embedded model on the embedded data: 6 settings each of TNEWS and AFQMC, 800 steps, evaluated every 100 as in
a real grid, two trials at once on the CPU. Then the grid finishes what halving had stopped, from the checkpoints: both
tables must be the same to the letter, and no step done twice.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from spending import run

from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.repository import ROOT
from cluebench.records.result import Result

NAMES = sys.argv[1:] or ("tnews", "afqmc")
SETTINGS = ["--learning_rates", "5e-4,1e-3,2e-3", "--batch_sizes", "16,32", "--dropouts", "0.1", "--max_steps", "800"]
HALVING = ["--search", "halving", "--rungs", "1/4,1/2"]
#: Halving does 2,600 of 4,800 steps a task: 6 settings up to 1/4, 3 up to 1/2, 2 to the end.
CLAIMED = 0.55


def searched(folder: Path, run_root: str, more: list[str]) -> tuple[str, float, float]:
    """(the table, wall seconds, CPU seconds of all processes) of one command."""
    script, runs = ROOT / "grid_search_tools" / "grid_search.py", ["--run_root", str(folder / run_root)]
    command = [sys.executable, str(script), str(folder / "model"), "--data_dir", str(folder / "data"), *runs]
    command += ["--cache_dir", str(folder / "cache"), "--offline", "--devices", "cpu:2", "--tasks", *NAMES, *SETTINGS]
    return run(command + more)


def steps_done(folder: Path, task: str) -> int:
    results = [Result.read(path) for path in (folder / "model" / task).glob("*.json")]
    return sum(result.dev_curve[-1].step for result in results if result)


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run([sys.executable, "-m", "cluebench.demo", str(folder)], check=True, stdout=subprocess.DEVNULL)
        searched(folder, "warm-up", ["--max_steps", "1"])
        steps, tables = {}, {}
        print(f"{'search':<24}{'steps':>7}{'seconds':>9}{'CPU s':>8}  best of {', '.join(NAMES)}")
        for name, more in (("grid", []), ("halving", HALVING), ("then the grid", [])):
            run_root = "grid" if name == "grid" else "halving"
            before = steps.get("halving", 0) if name == "then the grid" else 0
            tables[name], wall, cpu = searched(folder, run_root, more)
            steps[name] = sum(steps_done(folder / run_root, task) for task in NAMES)
            scores = dict(zip(TASKS, tables[name].splitlines()[1].split("\t")))
            best = ", ".join(scores[task] for task in NAMES)
            print(f"{name:<24}{steps[name] - before:>7}{wall:>9.0f}{cpu:>8.0f}  {best}", flush=True)
    share, same = steps["halving"] / steps["grid"], tables["then the grid"] == tables["grid"]
    print(f"ratio: {share:.2f} of the grid's steps, at most {CLAIMED} claimed; table afterwards the same: {same}")
    return 0 if share <= CLAIMED and same else 1


if __name__ == "__main__":
    sys.exit(main())
