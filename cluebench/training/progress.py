"""What shows how far a training is: a bar, a file that other displays read, and curves for VisualDL."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluebench.foundation import environment
from cluebench.foundation.notices import notice, progress
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


class Scalars:
    """Numbers by step for VisualDL (``visualdl --logdir DIR``); nothing without a directory, and on ranks other than 0.

    VisualDL shows only the newest file of a directory. So ``run``, the configuration hash, is part of the file name;
    where ``directory`` has files of another run, these files go into a directory below it.
    """

    def __init__(self, directory: str | None, run: str):
        self._folder = Path(directory) if directory and environment.rank() == 0 else None
        self._suffix, self._writer = f".{run[:8]}", None
        self._earlier: list[Path] = []
        if self._folder is None:
            return
        if any(not path.name.endswith(self._suffix) for path in self._folder.glob("*vdlrecords*")):
            self._folder /= run[:8]
            notice(f"--visualdl_dir {directory} has the curves of another run; this run's are in {self._folder}")
        self._earlier = sorted(self._folder.glob("*vdlrecords*"))

    def go_on_from(self, step: int) -> None:
        """Copies the curves of an earlier process of this run up to ``step``."""
        if not self._earlier:
            return
        from visualdl import LogReader  # slow to import, rarely wanted

        try:
            reader = LogReader(file_path=str(self._earlier[-1]))
            points = [(tag, point) for tag in reader.get_tags()["scalar"] for point in reader.get_data("scalar", tag)]
        except Exception as error:  # anything can happen in a file that was cut off
            notice(f"{self._earlier[-1]}: unreadable ({error}); the curves begin at step {step}")
            return
        for tag, point in points:
            if point.id <= step:
                self._open().add_scalar(tag=tag, value=point.value, step=point.id, walltime=point.timestamp)

    def add(self, step: int, **numbers: float) -> None:
        """``train_loss=0.3`` becomes the curve ``train/loss``: the first underscore separates group and name."""
        if self._folder is None:
            return
        writer = self._open()
        for name, value in numbers.items():
            writer.add_scalar(tag=name.replace("_", "/", 1), value=float(value), step=step)
        writer.flush()

    def _open(self) -> Any:
        if self._writer is None:
            from visualdl import LogWriter  # slow to import, rarely wanted

            name = f"vdlrecords.{time.time():.6f}.log{self._suffix}"  # names rise with time
            self._writer = LogWriter(str(self._folder), file_name=name)
        return self._writer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
