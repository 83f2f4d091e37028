"""Writes the embedded model and data, with which the whole tool runs anywhere in minutes.

    python -m cluebench.demo demo

makes demo/model, a randomly initialised 2-layer ERNIE, and demo/data, synthetic data sets in the official formats.
Their scores say nothing about any pretrained model. What is there already and whole is kept.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cluebench
from cluebench import atomic, command, environment, json_files
from cluebench.data import synthetic
from cluebench.flags import flag, parse, refuse_unwritable


@dataclass
class DemoFlags:
    __doc__ = __doc__

    folder: str = flag("demo", "directory to write model/ and data/ into", positional=True, writes="directory")


def main() -> None:
    flags = parse(DemoFlags)
    refuse_unwritable(flags)
    model, data = write(flags.folder)
    print(f"model: {model}\ndata: {data}")


def write(folder: str | Path) -> tuple[Path, Path]:
    """The directories of model and data under ``folder``, written if this version has not written them before."""
    folder = Path(folder)
    model, data, made = folder / "model", folder / "data", folder / "made.json"
    version = {"cluebench": cluebench.__version__, "made_by": _code_fingerprint()}
    if json_files.read_if_sound(made, dict[str, str], otherwise="the demo is made again") == version:
        return model, data
    synthetic.write_synthetic(data)
    environment.import_paddle()
    from cluebench import models  # seconds, which a demo that is there already does not cost

    models.write_demo_model(model, synthetic.characters())
    atomic.write_json(made, version)
    return model, data


def _code_fingerprint() -> str:
    """Changes with the code that makes the demo, so that no stale demo is ever run."""
    package = Path(cluebench.__file__).parent
    sources = ("data/synthetic.py", "data/lexicon.py", "models/demo_model.py")
    return hashlib.sha256(b"".join((package / source).read_bytes() for source in sources)).hexdigest()[:16]


if __name__ == "__main__":
    command.run(main)
