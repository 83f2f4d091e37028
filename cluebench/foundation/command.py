"""How every command ends: one line on stderr, and an exit code that the scheduler understands."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from cluebench.foundation import environment
from cluebench.foundation.errors import ClueError, DiskFull, OutOfMemory, UsageError, one_line

#: What Paddle's exceptions say when a device's memory did not suffice.
_OUT_OF_MEMORY = (
    "ResourceExhaustedError",
    "Out of memory error",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "cudaErrorMemoryAllocation",
)
#: A place that can't be read or written, or where something else stands.
_NO_ACCESS = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP
})  # fmt: skip
INTERRUPTED = 130


def run(main: Callable[[], int | None], name: str = "") -> NoReturn:
    """Runs ``main`` and exits: what it returns, a ClueError's code with its line on stderr, or 130 when interrupted.

    ``name``: of the command, in front of that line. SIGTERM is taken like Ctrl-C, so that files being written are
    cleaned up. Unknown errors keep their traceback.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = main() or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except Exception as error:
        known = as_clue_error(error)
        if known is None:
            raise
        print(one_line(f"{name}: error: {known}" if name else f"error: {known}"), file=sys.stderr)
        code = known.exit_code
    sys.stdout.flush()
    sys.stderr.flush()
    if environment.world_size() > 1:
        # After an error the other ranks may wait for this one in a collective that will never come; and a rank that
        # takes its communication apart while another has left already is brought down by it (SIGABRT).
        os._exit(code)
    sys.exit(code)


def _interrupt(signum: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def as_clue_error(error: BaseException) -> ClueError | None:
    """The error itself, or the ClueError behind what Paddle or the system raised; None for an unknown one."""
    if isinstance(error, ClueError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no space left on the disk of {error.filename or 'the output'}: free some and start again")
    if isinstance(error, OSError) and error.errno in _NO_ACCESS and error.filename:
        return UsageError(f"{error.filename}: {error.strerror}")
    if isinstance(error, MemoryError) or any(mark in str(error) for mark in _OUT_OF_MEMORY):
        return OutOfMemory("out of memory: raise --gradient_accumulation_steps, the score stays comparable")
    return None
