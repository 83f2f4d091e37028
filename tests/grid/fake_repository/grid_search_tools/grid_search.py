"""The real command, whose repository is this one: what a worker on a Ray cluster is started with."""

import runpy
from pathlib import Path

import cluebench
from cluebench.foundation import repository

repository.ROOT = Path(__file__).resolve().parent.parent
runpy.run_path(
    str(Path(cluebench.__file__).parent.parent / "grid_search_tools" / "grid_search.py"), run_name="__main__"
)
