"""The place of the repository: its scripts run the trials, and the runs lie in it. Standard library only."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

#: The same for every working directory.
RUN_ROOT = ROOT / "runs"


def commit() -> str | None:
    """The checkout's commit; None if the repository is no checkout."""
    try:
        command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
