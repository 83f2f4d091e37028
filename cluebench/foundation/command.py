"""The end of every command: one line on stderr, and an exit code that the scheduler understands."""

import errno
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from cluebench.foundation import environment
from cluebench.foundation.errors import ClueError, DiskFull, OutOfMemory, UsageError, one_line

#: Parts of Paddle's messages if a device has too little memory.
_OUT_OF_MEMORY = (
    "ResourceExhaustedError", "Out of memory error", "CUDA_ERROR_OUT_OF_MEMORY", "cudaErrorMemoryAllocation"
)  # fmt: skip
#: A place that can't be read or written, or that something else occupies.
_NO_ACCESS = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP
})  # fmt: skip
INTERRUPTED = 130


def run(main: Callable[[], int | None], name: str = "") -> NoReturn:
    """Runs ``main`` and exits with its code, with a ClueError's code and its line on stderr, or with 130 after Ctrl-C.

    ``name``: the command's, in front of that line. SIGTERM has the effect of Ctrl-C, so that temporary files are
    removed. If the reader of the output ends first (``… | head``), the exit code is 141, as of other programs. Other
    errors keep their traceback.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = main() or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except Exception as error:
        clue_error = as_clue_error(error)
        if isinstance(error, BrokenPipeError) and _has_no_reader(sys.stdout.fileno()):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 128 + signal.SIGPIPE
        elif clue_error is None:
            raise
        else:
            print(one_line(f"{name}: error: {clue_error}" if name else f"error: {clue_error}"), file=sys.stderr)
            code = clue_error.exit_code
    sys.stdout.flush()
    sys.stderr.flush()
    if environment.world_size() > 1:
        # After an error the other ranks may wait for this one in a collective operation for ever, and a rank that
        # closes its communication after another has left is killed (SIGABRT).
        os._exit(code)
    sys.exit(code)


def _has_no_reader(pipe: int) -> bool:
    """Whether the other end of this file descriptor, if it is a pipe, is closed."""
    poll = select.poll()
    poll.register(pipe, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _interrupt(signum: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def as_clue_error(error: BaseException) -> ClueError | None:
    """The error itself, or the ClueError for an error of Paddle or the system; None for any other."""
    if isinstance(error, ClueError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no space left on the disk of {error.filename or 'the output'}: free some and start again")
    if isinstance(error, OSError) and error.errno in _NO_ACCESS and error.filename:
        return UsageError(f"{error.filename}: {error.strerror}")
    if isinstance(error, MemoryError) or any(mark in str(error) for mark in _OUT_OF_MEMORY):
        return OutOfMemory("out of memory: raise --gradient_accumulation_steps, the score stays comparable")
    return None
