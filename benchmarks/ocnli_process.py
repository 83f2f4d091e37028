"""A whole OCNLI process, from its start to its last line, against the plain way of doing the same.

    CLUE_DATA_DIR=… python benchmarks/ocnli_process.py

10,000 rows of train, the whole of dev, one epoch, batch 32, length 128, the 2-layer 128-wide model, on the CPU. The
plain way tokenises every row with PaddleNLP's slow tokenizer whenever its batch comes up, evaluates in the file's
order, and leaves Paddle's threads and MKL as they are. Ours starts with an empty cache. Without CLUE_DATA_DIR,
synthetic rows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROWS = 10_000
SETTINGS = ["--batch_size", "32", "--learning_rate", "5e-4", "--limit", str(ROWS)]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = prepared_data(folder)
        write_model(folder / "model", data)
        ours = timed(
            [
                *(str(ROOT / "classification" / "run_clue_classifier.py"), "--task_name", "OCNLI", "--device", "cpu"),
                *("--model_name_or_path", str(folder / "model"), "--data_dir", str(data), "--num_train_epochs", "1"),
                *("--cache_dir", str(folder / "cache"), "--output_dir", str(folder / "out"), "--do_train", *SETTINGS),
            ],
            folder / "ours.log",
            clean_environment(),
        )
        plain = timed(
            [str(ROOT / "tests" / "scripts" / "reference.py"), "ocnli", str(folder / "model"), str(data), *SETTINGS],
            folder / "plain.log",
            clean_environment(),
        )
    print(f"OCNLI, {ROWS:,} rows, one epoch, whole process: {ours:.1f} s; the plain way: {plain:.1f} s")
    print(f"ratio: {plain / ours:.2f}")


def clean_environment() -> dict[str, str]:
    """This environment without what tunes Paddle: each side sets what it sets by itself."""
    return {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")}


def prepared_data(folder: Path) -> Path:
    """A data directory with OCNLI unpacked, since the plain way reads no zips."""
    from cluebench.data.synthetic import Sizes, write_synthetic

    data = folder / "data"
    real = os.environ.get("CLUE_DATA_DIR")
    if real is None:
        write_synthetic(data, ["ocnli"], {"ocnli": Sizes(ROWS, 3000, 10, sentences=2)})
    elif (Path(real) / "ocnli_public").is_dir():
        return Path(real)
    else:
        with zipfile.ZipFile(Path(real) / "ocnli_public.zip") as archive:
            archive.extractall(data / "ocnli_public")
    return data


def write_model(folder: Path, data: Path) -> None:
    """The 2-layer model with the characters of the data as its vocabulary."""
    from cluebench import environment

    environment.import_paddle()
    from cluebench import models

    seen = Counter((data / "ocnli_public" / "train.50k.json").read_text(encoding="utf-8").lower())
    models.write_demo_model(folder, "".join(sorted(c for c in seen if not c.isascii() and not c.isspace())))


def timed(command: list[str], log: Path, environment: dict[str, str]) -> float:
    """Seconds a Python program takes; its output goes to ``log`` and is shown when it fails."""
    start = time.perf_counter()
    with open(log, "w") as stream:
        code = subprocess.run([sys.executable, *command], stdout=stream, stderr=stream, env=environment).returncode
    seconds = time.perf_counter() - start
    print("\n".join(log.read_text().splitlines()[-20 if code else -2 :]))
    if code:
        sys.exit(f"failed: {' '.join(command)}")
    return seconds


if __name__ == "__main__":
    main()
