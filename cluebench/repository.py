"""Where the repository is: the scripts that trials are processes of, and the runs. Standard library only."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Runs lie in the repository, from whichever folder a command is typed.
RUN_ROOT = ROOT / "runs"
