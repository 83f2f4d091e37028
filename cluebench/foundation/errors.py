"""Errors a user can act on, each with the exit code by which the scheduler tells them apart."""

from __future__ import annotations

from cluebench.foundation.shown import shown

#: Characters of a line about an error: a name or a value in it may be of any length.
_LONGEST_LINE = 500


def one_line(said: object) -> str:
    """An error's words as one line of at most 500 characters; what is too long is cut in its middle."""
    text = shown(said)
    kept = _LONGEST_LINE // 2 - 2
    return text if len(text) <= _LONGEST_LINE else f"{text[:kept]} … {text[-kept:]}"


class ClueError(Exception):
    """A failure whose message is one line that names the task, file, row or flag and says what to do."""

    exit_code = 1


class UsageError(ClueError):
    """A wrong flag or setting: trying again can't help."""

    exit_code = 2


class DataError(UsageError):
    """A data file that is missing, broken or not what its task needs."""


class BadFile(UsageError):
    """A file that is read back and is not what it was declared to be: its name, and the key that is wrong."""


class Diverged(ClueError):
    """The loss became NaN or infinite: the same seed would diverge again."""

    exit_code = 3


class OutOfMemory(ClueError):
    """The device's memory did not suffice: smaller micro-batches may."""

    exit_code = 4


class NetworkError(ClueError):
    """A download failed on every mirror: may work later."""

    exit_code = 5


class DiskFull(ClueError):
    """A file could not be written for want of space."""

    exit_code = 6


class LeftToOthers(ClueError):
    """One trial after the other has crashed in this process: its machine may be broken, and others may do better."""

    exit_code = 7


class Paused(Exception):
    """No error: a run stands still where it was told to, with a checkpoint, and its process ends."""
