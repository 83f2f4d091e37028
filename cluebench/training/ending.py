"""SIGTERM during training: the run ends at the next place where it can write a checkpoint."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluebench.foundation import environment
from cluebench.foundation.notices import notice
from cluebench.training.device import gathered

#: With several ranks, which must end after the same step: steps between their exchanges.
_TOGETHER_EVERY = 10


class Ending:
    """Turns SIGTERM into a KeyboardInterrupt at the places where the run calls it, after writing the checkpoint."""

    def __init__(self) -> None:
        self._asked = False
        self._save: Callable[[], int] | None = None

    @contextmanager
    def handled(self, save: Callable[[], int]) -> Iterator[None]:
        """During training. ``save``: writes the checkpoint, on all ranks, and returns its step."""
        self._save = save
        before = signal.signal(signal.SIGTERM, self._ask)
        try:
            yield
        finally:
            self._save = None
            signal.signal(signal.SIGTERM, signal.SIG_IGN if self._asked else before)  # the process is ending already

    def _ask(self, number: int, frame: object) -> None:
        self._asked = True

    def after(self, step: int, evaluates: bool) -> None:
        """All ranks call it after the same steps; several ranks exchange now and then whether one got SIGTERM."""
        if environment.world_size() == 1:
            self.between_batches()
        elif self._save and (evaluates or step % _TOGETHER_EVERY == 0):
            self._asked = any(gathered(self._asked))
            self._end()

    def between_batches(self) -> None:
        """Of an evaluation; the next process repeats it."""
        if environment.world_size() == 1:
            self._end()

    def _end(self) -> None:
        if self._asked and self._save:
            step = self._save()
            if environment.rank() == 0:
                notice(f"asked to end: the checkpoint after step {step} is written, and --resume goes on from it")
            raise KeyboardInterrupt
