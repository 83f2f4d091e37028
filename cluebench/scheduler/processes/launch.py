"""Becomes one attempt of a trial:  python -I -S launch.py '{"lock": …, "command": […], …}'

The scheduler starts this program, which inherits the trial's lock, writes its id into it, and becomes the trial by
exec. The lock belongs to the process and its children. So a trial never runs twice at once, however a scheduler dies,
and the next scheduler sees by the lock what still runs. Standard library only: it starts in about 20 ms.
"""

import contextlib
import json
import os
import signal
import sys
import time

#: Exit code when the disk is full (cluebench.foundation.errors.DiskFull).
NO_SPACE = 6

#: In the environment of all processes of an attempt, in whatever group or session they are: lock, "#", attempt.
TRIAL_VARIABLE = "CLUEBENCH_TRIAL"


def start_time(pid: int) -> str | None:
    """When a process started: boot id and clock ticks since the boot, a pair that never repeats; None if it is dead."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as stream:
            boot = stream.read().strip()
    except OSError:
        return None
    if fields[0] in ("Z", "X"):  # dead, only not reaped yet
        return None
    return f"{boot}:{fields[19]}"


def keep_earlier_log(log: str) -> None:
    """Renames the log of the attempt before this one to ``….attempt<n>.log``."""
    if not os.path.exists(log):
        return
    stem, number = log.removesuffix(".log"), 1
    while os.path.exists(f"{stem}.attempt{number}.log"):
        number += 1
    os.rename(log, f"{stem}.attempt{number}.log")


def command(specification: dict) -> list:
    """The command line that becomes the attempt described by ``specification``."""
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), json.dumps(specification)]


def end_with_parent() -> None:
    """Has the kernel send SIGTERM to this process, whatever it becomes by exec, when its parent dies."""
    import ctypes

    parent = os.getppid()
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG in linux/prctl.h
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)


def marked(start: str) -> list:
    """The ids of other living processes whose mark starts like this; none for "", as of a trial that was run by hand.

    A process that is dead has no environment.
    """
    found, variable = [], f"{TRIAL_VARIABLE}={start}".encode()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as stream:
                entries = stream.read().split(b"\0")
        except OSError:
            continue  # another user's, or ended
        if start and int(name) != os.getpid() and any(entry.startswith(variable) for entry in entries):
            found.append(int(name))
    return found


def end_leftovers(lock: str) -> None:
    """Kills processes of earlier attempts: workers in sessions of their own that outlived their launcher.

    Only the process with the lock may do that.
    """
    for pid in marked(f"{lock}#"):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def main(specification: dict) -> None:
    if specification.get("end_with_parent"):
        end_with_parent()
    lock = specification["descriptor"]
    end_leftovers(specification["lock"])
    pid = os.getpid()
    about = {"pid": pid, "start_time": start_time(pid), "host": os.uname().nodename, "started": time.time()}
    record = specification["record"] | about
    content = json.dumps(record).encode()
    try:
        os.pwrite(lock, content, 0)
        os.ftruncate(lock, len(content))
        keep_earlier_log(specification["log"])
        log = os.open(specification["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    except OSError as error:
        print(f"{specification['log']}: {error.strerror}", file=sys.stderr)
        sys.exit(NO_SPACE)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.set_inheritable(lock, True)
    try:
        os.execvp(specification["command"][0], specification["command"])
    except OSError as error:
        print(f"{specification['command'][0]}: {error.strerror}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
