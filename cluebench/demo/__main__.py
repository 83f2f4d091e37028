"""Writes the embedded model and data; with them the whole tool runs anywhere in minutes.

    python -m cluebench.demo demo

makes demo/model, a randomly initialised 2-layer ERNIE, and demo/data, synthetic data sets in the official formats.
Their scores say nothing about any pretrained model. Complete parts that are there already are kept.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cluebench
from cluebench.demo import synthetic
from cluebench.foundation import atomic, command, environment, json_files
from cluebench.foundation.flags import flag, parse, refuse_unwritable


@dataclass
class DemoFlags:
    __doc__ = __doc__

    folder: str = flag("demo", "directory to write model/ and data/ into", positional=True, writes="directory")


def main() -> None:
    flags = parse(DemoFlags)
    refuse_unwritable(flags)
    model, data = write(Path(flags.folder))
    print(f"model: {model}\ndata: {data}")


def write(folder: Path) -> tuple[Path, Path]:
    """The directories of model and data under ``folder``, written if this version has not written them before."""
    model, data, made = folder / "model", folder / "data", folder / "made.json"
    version = {"cluebench": cluebench.__version__, "made_by": _code_fingerprint()}
    if json_files.read_if_sound(made, dict[str, str], otherwise="the demo is made again") == version:
        return model, data
    synthetic.write_synthetic(data)
    environment.import_paddle()
    from cluebench.demo.embedded_model import write_demo_model  # imports Paddle, which takes seconds

    write_demo_model(model, synthetic.characters())
    atomic.write_json(made, version)
    return model, data


def _code_fingerprint() -> str:
    """Changes with the code that makes the demo, so that no stale demo is ever run."""
    sources = [Path(__file__).with_name(name) for name in ("synthetic.py", "lexicon.json", "embedded_model.py")]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


if __name__ == "__main__":
    command.run(main)
