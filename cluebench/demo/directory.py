"""The demo's directory: model/, data/ and made.json, which says by which code they were made."""

import hashlib
from pathlib import Path

import cluebench
from cluebench.demo import synthetic
from cluebench.foundation import atomic, environment, json_files


def write(folder: str | Path) -> tuple[Path, Path]:
    """The directories of model and data under ``folder``, written if this version has not written them before."""
    folder = Path(folder)
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
    package = Path(cluebench.__file__).parent
    sources = ("demo/synthetic.py", "demo/lexicon.py", "demo/embedded_model.py")
    return hashlib.sha256(b"".join((package / source).read_bytes() for source in sources)).hexdigest()[:16]
