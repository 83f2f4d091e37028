"""Records dev curves of real runs, the fixture of tests/search: 12 settings of each classification task.

    python benchmarks/curves/record.py tests/search/curves.json

Trains the embedded model on the first rows of the embedded data, by the fine-tuning script itself, all runs in this
process. Evaluated every other step, so that the shortest trial has eight evaluations. Not run by ``make bench``.
"""

import json
import runpy
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

from cluebench.benchmark.tasks import TASKS, Setting, Task
from cluebench.foundation.repository import ROOT
from cluebench.records.paths import trial_name
from cluebench.records.result import Result

LEARNING_RATES, BATCH_SIZES, DROPOUT = (3e-4, 1e-3, 2e-3, 4e-3), (16, 32, 64), 0.1
ROWS, EPOCHS, EVALUATED_EVERY = 192, 8, 2


def recorded(task: Task, learning_rate: float, batch_size: int, folder: Path) -> dict:
    """A trial's score after every other step, in percent, and the seconds it took."""
    result = folder / "result.json"
    sys.argv = [task.script, "--do_train", "--offline", "--device", "cpu", "--save_best_model", "False"]
    flags = {
        "task_name": task.title, "model_name_or_path": folder / "model", "data_dir": folder / "data",
        "cache_dir": folder / "cache", "output_dir": folder / "out", "result_json": result, "batch_size": batch_size,
        "learning_rate": learning_rate, "dropout": DROPOUT, "limit": ROWS, "num_train_epochs": EPOCHS,
        "save_steps": EVALUATED_EVERY, "checkpoint_steps": 0,
    }  # fmt: skip
    sys.argv += [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    try:
        runpy.run_path(str(ROOT / task.script), run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise
    found = Result.read_finished(result)
    assert found is not None, result
    return {
        "total_steps": found.total_steps,
        "train_seconds": round(found.train_seconds, 2),
        "eval_seconds": round(found.eval_seconds, 2),
        "scores": [round(point.score[0], 4) for point in found.dev_curve],
    }


def main() -> None:
    output, curves = Path(sys.argv[1]), {}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "cluebench.demo", folder], check=True)
        for task in (task for task in TASKS.values() if task.is_classification):
            curves[task.name] = {
                trial_name(Setting(rate, batch, DROPOUT)): recorded(task, rate, batch, Path(folder))
                for rate, batch in product(LEARNING_RATES, BATCH_SIZES)
            }
    lines = [
        f'"{task}": {{\n' + ",\n".join(f'  "{name}": {json.dumps(trial)}' for name, trial in trials.items()) + "\n}"
        for task, trials in curves.items()
    ]
    output.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
