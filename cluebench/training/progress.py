"""Progress of a training: a bar at a terminal, and a file that other displays read."""

import time
from contextlib import suppress
from pathlib import Path

from cluebench.foundation import environment
from cluebench.foundation.notices import progress
from cluebench.records.paths import STEP_FILE

#: Seconds between two writes of the file.
_EVERY = 2.0


class TrainingProgress:
    """Begins at ``done`` of ``total`` steps. An unwritable file is ignored: no run fails because of it."""

    def __init__(self, title: str, output_dir: Path, done: int, total: int):
        self._bar = progress(title, total, "step", initial=done)
        self._file, self._due = output_dir / STEP_FILE, 0.0

    def took(self, step: int) -> None:
        self._bar.update()
        now = time.monotonic()
        if now >= self._due and environment.rank() == 0:
            self._due = now + _EVERY
            with suppress(OSError):
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._file.write_text(f"{step}/{self._bar.total}", encoding="utf-8")

    def best(self, score: str) -> None:
        self._bar.set_postfix_str(f"best {score}")

    def close(self) -> None:
        self._bar.close()
        if environment.rank() == 0:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)
