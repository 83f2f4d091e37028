"""A whole OCNLI process, from its start to its last line: ours, ours with padding, the plain way, and PyTorch's.

    CLUE_DATA_DIR=… python benchmarks/ocnli_process.py
    CLUE_DATA_DIR=… python benchmarks/ocnli_process.py --peers    # makes peers/.venv first, with PyTorch: 1 GB

The first rows of train, the whole of dev every 100 steps, one epoch, batch 32, length 128, the 2-layer 128-wide model,
on the CPU, one after the other, so many rounds. The plain way tokenises every row with PaddleNLP's slow tokenizer
whenever its batch comes up, evaluates in the file's order, and leaves Paddle's threads and MKL as they are. Ours starts
with an empty cache. PyTorch's is Transformers' Trainer (peers/ocnli_transformers.py). Without CLUE_DATA_DIR, synthetic
rows.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from spending import load, run

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benchmarks" / "peers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peers", action="store_true", help="also Transformers on PyTorch, in an environment of its own"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000, help="of train")
    parser.add_argument("--max_steps", type=int, help="stop sooner, for a try (the plain way can't)")
    arguments = parser.parse_args()
    spent: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = prepared_data(folder, arguments.rows)
        write_model(folder / "model", data)
        sides = commands(folder, data, arguments)
        for number in range(arguments.rounds):
            for side, command in sides.items():
                print(f"round {number + 1}, {side}, {load()}: ", end="", flush=True)
                seconds = run(command, env=clean_environment())[1:]
                spent.setdefault(side, []).append(seconds)
                print(f"{seconds[0]:.1f} s, {seconds[1]:.1f} CPU seconds", flush=True)
                for name in ("cache", "out"):
                    shutil.rmtree(folder / name, ignore_errors=True)
    ours = np.mean(spent["ours"], axis=0)
    for side in set(spent) - {"ours"}:
        wall, cpu = ours / np.mean(spent[side], axis=0)
        print(f"ratio: {wall:.2f} of the seconds, {cpu:.2f} of the CPU seconds of {side}, now {load()}")


def commands(folder: Path, data: Path, arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Side → its command."""
    settings = ["--batch_size", "32", "--learning_rate", "5e-4", "--limit", str(arguments.rows)]
    steps = ["--max_steps", str(arguments.max_steps)] if arguments.max_steps else []
    script = str(ROOT / "classification" / "run_clue_classifier.py")
    ours = [sys.executable, script, "--task_name", "OCNLI", "--device", "cpu", "--num_train_epochs", "1", "--do_train"]
    ours += ["--model_name_or_path", str(folder / "model"), "--data_dir", str(data), *settings, *steps]
    ours += ["--cache_dir", str(folder / "cache"), "--output_dir", str(folder / "out")]
    plain = [sys.executable, str(ROOT / "tests" / "scripts" / "reference.py"), "ocnli"]
    sides = {"ours": ours, "ours with padding": [*ours, "--padding"]}
    if not steps:
        sides["the plain way"] = [*plain, str(folder / "model"), str(data), *settings]
    if arguments.peers:
        program = [str(peers_python()), str(PEERS / "ocnli_transformers.py")]
        sides["Transformers on PyTorch"] = [*program, str(folder / "model"), str(data), *settings, *steps]
    return sides


def peers_python() -> Path:
    """The interpreter of the peers' environment, made now if it isn't there."""
    python = PEERS / ".venv" / "bin" / "python"
    if not python.exists():
        venv.create(PEERS / ".venv", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", PEERS / "requirements.txt"], check=True)
    return python


def clean_environment() -> dict[str, str]:
    """This environment without what tunes Paddle: each side sets what it sets by itself."""
    return {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")}


def prepared_data(folder: Path, rows: int) -> Path:
    """A data directory with OCNLI unpacked, since the plain way reads no zips."""
    from cluebench.demo.synthetic import Sizes, write_synthetic

    data = folder / "data"
    real = os.environ.get("CLUE_DATA_DIR")
    if real is None:
        write_synthetic(data, ["ocnli"], {"ocnli": Sizes(rows, 3000, 10, sentences=2)})
    elif (Path(real) / "ocnli_public").is_dir():
        return Path(real)
    else:
        with zipfile.ZipFile(Path(real) / "ocnli_public.zip") as archive:
            archive.extractall(data / "ocnli_public")
    return data


def write_model(folder: Path, data: Path) -> None:
    """The 2-layer model with the characters of the data as its vocabulary."""
    from cluebench.foundation import environment

    environment.import_paddle()
    from cluebench.demo.embedded_model import write_demo_model

    seen = Counter((data / "ocnli_public" / "train.50k.json").read_text(encoding="utf-8").lower())
    write_demo_model(folder, "".join(sorted(c for c in seen if not c.isascii() and not c.isspace())))


if __name__ == "__main__":
    main()
