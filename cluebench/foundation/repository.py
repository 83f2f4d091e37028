"""Where the repository is: the scripts that trials are processes of, and the runs. Standard library only."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

#: Runs lie in the repository, from whichever folder a command is typed.
RUN_ROOT = ROOT / "runs"


def commit() -> str | None:
    """Of the checkout; None where it is none."""
    try:
        command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
