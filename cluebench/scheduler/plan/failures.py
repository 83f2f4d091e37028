"""Why an attempt failed (by its exit code, log and result), and what to do about each kind of failure."""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from cluebench.foundation import command, errors


@dataclass(frozen=True)
class Policy:
    """What happens after a failure."""

    retry: bool = True
    pause: float = 0.0  # seconds before the next attempt, doubled each time
    counts: bool = True  # against --max_attempts
    limit: int = 0  # if it does not count: so many times in one trial give it up after all
    holds: bool = False  # stops all starts for a while, as the trial is hardly the cause


class FailureKind(str, Enum):
    """Kinds of failure, in the words of the table of failures."""

    OUT_OF_MEMORY = "out of memory"
    BAD_SETTING = "bad setting"
    DIVERGED = "diverged"
    NETWORK = "network"
    DISK_FULL = "disk full"
    LOST_DEVICE = "lost device"
    KILLED = "killed"
    INTERRUPTED = "interrupted"
    NO_PROGRESS = "no progress"
    NO_RESULT = "no result"
    TOO_LARGE = "does not fit"
    UNKILLABLE = "can't be killed"
    CRASHED = "crashed"


#: Other kinds are tried again at once. Pauses are for causes that pass without us: a network, a disk that others fill.
_POLICIES = {
    FailureKind.OUT_OF_MEMORY: Policy(counts=False),  # its micro-batches are cut, down to one row
    FailureKind.BAD_SETTING: Policy(retry=False),
    FailureKind.DIVERGED: Policy(retry=False),
    FailureKind.NETWORK: Policy(pause=60.0, counts=False, limit=8, holds=True),
    FailureKind.DISK_FULL: Policy(pause=60.0, counts=False, limit=8, holds=True),
    FailureKind.LOST_DEVICE: Policy(counts=False, limit=5),
    # A batch system that ends a job may signal its trials first, and the scheduler a moment later.
    FailureKind.INTERRUPTED: Policy(pause=2.0, counts=False, limit=5),
    FailureKind.TOO_LARGE: Policy(retry=False),
    FailureKind.UNKILLABLE: Policy(retry=False, counts=False),
}

_BY_EXIT_CODE = {
    errors.UsageError.exit_code: FailureKind.BAD_SETTING,
    errors.Diverged.exit_code: FailureKind.DIVERGED,
    errors.OutOfMemory.exit_code: FailureKind.OUT_OF_MEMORY,
    errors.NetworkError.exit_code: FailureKind.NETWORK,
    errors.DiskFull.exit_code: FailureKind.DISK_FULL,
}

#: Words in the log that are more exact than exit code 1, or than a launcher's code.
_BY_LOG = (
    (
        FailureKind.LOST_DEVICE,
        re.compile(
            r"GPU is lost|fallen off the bus|no CUDA-capable device|CUDA driver initialization failed|"
            r"all CUDA-capable devices are busy|device\(s\) is/are busy or unavailable|uncorrectable ECC|"
            r"CUDA error\((?:46|100|101|214|719|999)\)|unspecified launch failure|NVML.*Unknown Error"
        ),
    ),
    (
        FailureKind.OUT_OF_MEMORY,
        re.compile(
            r"ResourceExhaustedError|Out of memory error|out of memory|CUDA_ERROR_OUT_OF_MEMORY|"
            r"CUDNN_STATUS_ALLOC_FAILED|CUBLAS_STATUS_ALLOC_FAILED|\bMemoryError\b|\bstd::bad_alloc\b",
            re.IGNORECASE,
        ),
    ),
    (FailureKind.DISK_FULL, re.compile(r"No space left on device|Disk quota exceeded")),
    (
        FailureKind.NETWORK,
        re.compile(r"Temporary failure in name resolution|ConnectionError|Connection (?:refused|reset|timed out)"),
    ),
)

#: Log lines of healthy trials, and of errors.
_PROGRESS = re.compile(r"global step \d|eval loss: |best_result: |\bstep/s\b|^from step ")
_ERROR = re.compile(r"\b\w*(?:Error|Exception)\b|\berror:|\b[Ff]atal\b|Segmentation fault")

#: How paddle.distributed.launch reports the worker that failed first.
_WORKER_CODE = re.compile(r"Container rank \d+ status failed cmd .* code (-?\d+) log")


@dataclass(frozen=True)
class Failure:
    kind: FailureKind
    detail: str  # one line

    @property
    def policy(self) -> Policy:
        return _POLICIES.get(self.kind, Policy())


def classify(
    exit_code: int | None,
    log_lines: Sequence[str] = (),
    error: str | None = None,
    *,
    no_progress_seconds: float | None = None,
    device_lost: bool = False,
) -> Failure:
    """The failure of an attempt without a finished result.

    ``exit_code`` negative: ended by that signal; None: unknown. ``log_lines``: the last of its log. ``error``: from
    its result JSON. ``no_progress_seconds``: the scheduler ended it after so many without a log line. ``device_lost``:
    its card is gone, by the driver.
    """
    detail = error or _telling_line(log_lines)
    if no_progress_seconds is not None:
        return Failure(FailureKind.NO_PROGRESS, f"no new log line in {no_progress_seconds:.0f} s, ended")
    if device_lost:
        return Failure(FailureKind.LOST_DEVICE, detail or "its card, or its machine, is gone")
    worker_codes = [int(match[1]) for line in log_lines if (match := _WORKER_CODE.search(line))]
    for code in (exit_code, *worker_codes):
        if code in _BY_EXIT_CODE:
            return Failure(_BY_EXIT_CODE[code], detail or f"exit code {code}")
    # With exit code 0 there was no error: such a word in the log means something else.
    text = "" if exit_code == 0 else "\n".join([*log_lines, error or ""])
    for kind, pattern in _BY_LOG:
        if match := pattern.search(text):
            line = next((line.strip()[:300] for line in reversed(log_lines) if match[0] in line), "")
            return Failure(kind, error or line or detail)
    if exit_code in (command.INTERRUPTED, -signal.SIGTERM):
        return Failure(FailureKind.INTERRUPTED, "another process ended it (SIGTERM)")
    if exit_code is not None and exit_code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return Failure(FailureKind.KILLED, f"ended by {names.get(-exit_code, f'signal {-exit_code}')}")
    if exit_code == 0:
        return Failure(FailureKind.NO_RESULT, "ended without a result of this configuration")
    if exit_code is None:
        return Failure(FailureKind.KILLED, "ended while no scheduler was watching")
    return Failure(FailureKind.CRASHED, detail or f"exit code {exit_code}")


def _telling_line(lines: Sequence[str]) -> str:
    """The last line that looks like an error, else the last line that is not about training or evaluation."""
    filled = [line.strip() for line in lines if line.strip() and not _PROGRESS.search(line)]
    wrong = [line for line in filled if _ERROR.search(line)]
    return (wrong or filled or [""])[-1][:300]
