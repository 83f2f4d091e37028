"""The one way by which a warning, or a word on what takes its time, leaves a process."""

from __future__ import annotations

import sys

from cluebench import environment
from cluebench.errors import one_line


def notice(text: str) -> None:
    """One line on stderr, at once. Processes started together on several cards say it once, by rank 0."""
    if environment.rank() == 0:
        print(one_line(text), file=sys.stderr, flush=True)
