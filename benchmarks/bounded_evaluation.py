"""Measures the share of dev rows that --evaluation bounded computes on recorded runs; checks that the best is the same.

    python benchmarks/bounded_evaluation.py [MARGINS.npz …]
    python benchmarks/bounded_evaluation.py --record MARGINS.npz classification/run_clue_classifier.py FLAGS …

A recording holds each dev row's margin at each evaluation of a run (the logit of its label minus the best other),
float16 [evaluations, rows]: two options with these logits give the same answers, and are what is replayed, through the
code that a run uses. benchmarks/margins/ has one of a model of 2 layers, 128 wide, that had been fine-tuned on OCNLI
before: its curve wavers, as a pretrained model's does. Beside it stands the least that any order could reach: a new
best needs all rows, any other evaluation as many as the errors that rule it out.
"""

import runpy
import sys
from pathlib import Path

import numpy as np

MARGINS = Path(__file__).parent / "margins"


def main() -> None:
    if sys.argv[1:2] == ["--record"]:
        record(Path(sys.argv[2]), sys.argv[3:])
    else:
        for path in [Path(name) for name in sys.argv[1:]] or sorted(MARGINS.glob("*.npz")):
            replay(path)


def replay(path: Path) -> None:
    from cluebench.records.analysis import Choices
    from cluebench.records.dev_predictions import CutEvaluation
    from cluebench.training.bounded import BoundedEvaluation

    margins = np.load(path)["margins"].astype(np.float32)
    evaluations, rows = margins.shape
    bounded = BoundedEvaluation(Choices(np.zeros(rows, np.int64), ids=range(rows)), np.ones(rows), batch_size=64)
    computed, least, best, bests = 0, 0, -1.0, 0
    for margin in margins:
        logits = np.stack([margin, np.zeros_like(margin)], axis=1)

        def compute(batches, logits=logits):
            nonlocal computed
            computed += sum(map(len, batches))
            return [(rows, logits[rows]) for rows in batches]

        right = int(np.sum(margin >= 0))  # the first of equal logits, as argmax has it
        score, found = 100 * (right / rows), bounded.evaluate(compute, best if best >= 0 else None)
        improves = score > best
        least += rows if improves else rows - round(best * rows / 100)
        assert not (improves and isinstance(found, CutEvaluation)), "a new best was cut"
        best, bests = max(best, score), bests + improves
    print(
        f"ratio: {computed / evaluations / rows:.2f} of the rows computed, no order needs less than "
        f"{least / evaluations / rows:.2f} ({path.stem}: {evaluations} evaluations of {rows:,} rows, {bests} bests, "
        f"best {best:.2f} %)"
    )


def record(path: Path, command: list[str]) -> None:
    """Runs a fine-tuning script in this process; tasks whose rows have a label each."""
    from cluebench.foundation import environment

    environment.import_paddle()
    from cluebench.training import run

    margins, outputs = [], run.Run.outputs

    def kept(self, model, split):
        found = outputs(self, model, split)
        logits, rows = found[0].copy(), np.arange(len(split))
        if split.labels is not None:
            right = logits[rows, split.labels]
            logits[rows, split.labels] = -np.inf
            margins.append((right - logits.max(axis=1)).astype(np.float16))
        return found

    run.Run.outputs, sys.argv = kept, command
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise
    np.savez_compressed(path, margins=np.stack(margins))


if __name__ == "__main__":
    main()
