"""What a program costs: run by the benchmarks that compare processes."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence


def run(command: Sequence[object], **options) -> tuple[str, float, float]:
    """(its standard output, seconds, CPU seconds with those of its children); ends this program when it fails."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{(ended.stdout + ended.stderr)[-3000:]}")
    return ended.stdout, seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def load() -> str:
    """The machine's load average, before a turn that is measured: "quiet" below 0.5 of a core."""
    average = os.getloadavg()[0]
    return "quiet" if average < 0.5 else f"at a load of {average:.1f}"
