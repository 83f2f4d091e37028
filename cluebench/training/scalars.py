"""Scalars for VisualDL, PaddlePaddle's viewer of training curves: ``visualdl --logdir DIR``."""

from __future__ import annotations

from cluebench.foundation import environment


class Scalars:
    """Writes named numbers by step into ``directory``; does nothing without one, and on ranks other than 0."""

    def __init__(self, directory: str | None):
        self._writer = None
        if directory and environment.rank() == 0:
            from visualdl import LogWriter  # slow to import, rarely wanted

            self._writer = LogWriter(directory)

    def add(self, step: int, **numbers: float) -> None:
        """``train_loss=0.3`` becomes the curve ``train/loss``: the first underscore separates group and name."""
        if self._writer is None:
            return
        for name, value in numbers.items():
            self._writer.add_scalar(tag=name.replace("_", "/", 1), value=float(value), step=step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
