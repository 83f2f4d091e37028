"""Seconds that the leaderboard takes for 30 models with a whole grid each, ranks and errors included.

    python benchmarks/leaderboard_seconds.py [models]

Trials are made up, as many as in official runs, with their dev rows and curves. Claim: under 5 seconds on one core.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from cluebench import repository
from cluebench.data.official import official_files
from cluebench.dev_predictions import DevPredictions, beside
from cluebench.runlog import DevPoint, Result, TrialPaths, trial_name
from cluebench.tasks import TASKS, Task

MOST_SECONDS = 5.0

#: Rows that share a passage or a record, and evaluations of a run: about as many as in official runs.
SHARING, EVALUATIONS = 4, 60


def rows_of(task: Task) -> int:
    """Dev rows of the official files; CHID's records have about seven blanks."""
    files = [official_files()[task.name, file] for file in task.dev_files]
    return sum(file.usable_rows or 0 for file in files) * (7 if task.answer_files else 1)


def write_model(folder: Path, seed: int) -> int:
    """The trials of one model; returns how many there are."""
    generator, trials = np.random.default_rng(seed), 0
    for task in TASKS.values():
        rows = rows_of(task)
        hard = np.random.default_rng(0).random(rows)
        clusters = None if task.is_classification else np.arange(rows) // SHARING
        for setting in task.grid.points():
            right = hard + 0.2 * generator.normal(size=rows) < 0.6 + 0.005 * seed
            if task.metric == "em_f1":
                ids = [str(number) for number in range(rows)]
                said = DevPredictions.of_spans(ids, dict.fromkeys(ids, "光荣和他们"), right, right, clusters)
            else:
                said = DevPredictions.of_choices(range(rows), right.astype(int), np.ones(rows, int), clusters)
            paths = TrialPaths(folder / task.name, trial_name(*setting))
            configuration = {"task": task.name, **setting._asdict(), "seed": 42, "data": "0" * 16}
            result = Result(task.name, folder.name, configuration, "0" * 16, status="done", total_steps=6000)
            for number in range(1, EVALUATIONS + 1):
                result.add(DevPoint(100 * number, 0, tuple(share * number / EVALUATIONS for share in said.score), 0.5))
            said.write(beside(paths.result), configuration, result.best_step or 0)
            result.write(paths.result)
            trials += 1
    return trials


def main() -> int:
    models = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as root:
        trials = sum(write_model(Path(root) / f"model-{number}", number) for number in range(models))
        size = sum(path.stat().st_size for path in Path(root).rglob("*.predictions"))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, str(repository.ROOT / "grid_search_tools" / "leaderboard.py"), root, "--published"]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    ranks = len({line.split()[0] for line in ended.stdout.splitlines() if "model-" in line})
    print(f"{models} models, {trials} trials, predictions of a grid {size / models / 1e6:.2f} MB, {ranks} ranks")
    print(f"leaderboard: {seconds:.1f} s of a core (at most {MOST_SECONDS})")
    return 0 if seconds <= MOST_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
