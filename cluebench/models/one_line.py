"""Errors of PaddleNLP as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cluebench.foundation.errors import ClueError, UsageError
from cluebench.pretrained.model import Model


@contextmanager
def in_one_line(model: Model, what: str) -> Iterator[None]:
    """An error of PaddleNLP in the block becomes a UsageError: ``what`` of this model can't be loaded, and why."""
    try:
        yield
    except (ClueError, MemoryError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[-300:]}"
        raise UsageError(f"{model.typed}: the {what} can't be loaded ({reason})") from error
