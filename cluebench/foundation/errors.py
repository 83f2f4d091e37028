"""Errors that a user can act on. The scheduler distinguishes them by their exit codes."""

from cluebench.foundation.text import shown

#: Characters of a line about an error: a name or a value in it may have any length.
_LONGEST_LINE = 500


def one_line(message: object) -> str:
    """A message as one line of at most 500 characters; a longer one is cut in its middle."""
    text = shown(message)
    kept = _LONGEST_LINE // 2 - 2
    return text if len(text) <= _LONGEST_LINE else f"{text[:kept]} … {text[-kept:]}"


class ClueError(Exception):
    """A failure. Its message is one line that names the task, file, row or flag and what to do."""

    exit_code = 1


class UsageError(ClueError):
    """A wrong flag or setting: it fails again."""

    exit_code = 2


class DataError(UsageError):
    """A data file that is missing, broken or not as its task needs it."""


class BadFile(UsageError):
    """A file that is read back and differs from its declaration; the message names file and key."""


class Diverged(ClueError):
    """The loss became NaN or infinite: the same seed diverges again."""

    exit_code = 3


class OutOfMemory(ClueError):
    """The device has too little memory: smaller micro-batches may fit."""

    exit_code = 4


class NetworkError(ClueError):
    """A download failed on every mirror: it may work later."""

    exit_code = 5


class DiskFull(ClueError):
    """The disk has no space for a file."""

    exit_code = 6


class LeftToOthers(ClueError):
    """Several trials in a row have crashed in this process: its machine may be broken, so others run the rest."""

    exit_code = 7


class Paused(Exception):
    """No error: a run has paused at --pause_at, with a checkpoint, and its process ends."""
