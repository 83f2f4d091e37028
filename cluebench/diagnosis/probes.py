"""What the doctor finds out about packages, the NVIDIA driver, libraries and folders.

Paddle and PaddleNLP are tried in processes of their own, as they may be missing, broken, or crash the process.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from cluebench.foundation.time_limit import answers
from cluebench.machine.nvidia import Device, DeviceLost, NvidiaDriver

#: Seconds for a process that imports Paddle and PaddleNLP, or loads a model, on a busy machine.
_PATIENCE = 300

#: Seconds for the NVIDIA driver, which can hang for minutes.
_DRIVER_PATIENCE = 15


class Driver(NamedTuple):
    """What the NVIDIA driver answers."""

    version: str = ""  # empty: no driver answers
    cuda: str = ""  # the newest that it can run
    cards: Sequence[str] = ()
    lost: Sequence[str] = ()  # cards that do not answer, and why
    error: str = ""


def pinned_versions(repository: Path, python: tuple[int, int]) -> dict[str, str]:
    """Package → version in constraints.txt and the requirements files, for one version of Python."""
    found, version = {}, "{}.{}".format(*python)
    here = {"python_version": version, "python_full_version": f"{version}.0"}
    for name in ("constraints.txt", "requirements-cpu.txt", "requirements.txt"):
        with suppress(OSError):
            for line in (repository / name).read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(InvalidRequirement):  # a comment, another file, an option of pip
                    pin = Requirement(line)
                    exact = [part.version for part in pin.specifier if part.operator == "=="]
                    if exact and (pin.marker is None or pin.marker.evaluate(here)):
                        found[str(canonicalize_name(pin.name))] = exact[0]
    return found


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Package → version, for installed packages."""
    found = {}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def required_packages() -> list[str]:
    """What the package itself asks for, without extras."""
    with suppress(metadata.PackageNotFoundError):
        lines = metadata.requires("cluebench") or []
        return [str(canonicalize_name(Requirement(line).name)) for line in lines if "extra ==" not in line]
    return []


#: Prints JSON, then imports the modules in its arguments. A card counts if it has computed something.
PADDLE = """
import importlib, json, sys, warnings
warnings.simplefilter("ignore")
import paddle
found = {"cuda": None, "cudnn": None, "cards": 0, "card_error": None}
if paddle.is_compiled_with_cuda():
    found.update(cuda=str(paddle.version.cuda()), cudnn=str(paddle.version.cudnn()))
    try:
        found["cards"] = paddle.device.cuda.device_count()
        if found["cards"]:
            paddle.set_device("gpu:0")
            float(paddle.matmul(paddle.ones([64, 64]), paddle.ones([64, 64])).sum())
    except Exception as error:
        found["card_error"] = str(error).strip().splitlines()[-1][:300]
print(json.dumps(found), flush=True)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""

#: Prints JSON: why the model in its argument can't be loaded, or the tasks that it can't do.
MODEL = """
import json, sys
from cluebench.foundation import environment
environment.import_paddle()
from cluebench import models
from cluebench.foundation.errors import ClueError
from cluebench.pretrained.model import Model
from cluebench.benchmark.tasks import TASKS
try:
    import paddle
    paddle.set_device("cpu")
    found = models.preflight(Model.of(sys.argv[1]), TASKS.values(), offline=True)
    print(json.dumps({"reasons": {TASKS[name].title: reason for name, reason in found.items() if reason}}))
except ClueError as error:
    print(json.dumps({"error": str(error)}))
"""


def run_python(code: str, *arguments: str) -> tuple[dict[str, Any] | None, str | None]:
    """(the last JSON object that Python code prints; why its process failed), each None if there is none."""
    command, quiet = [sys.executable, "-c", code, *arguments], {**os.environ, "GLOG_minloglevel": "3"}
    try:
        ended = subprocess.run(command, capture_output=True, timeout=_PATIENCE, env=quiet)
        printed, errors, failure = ended.stdout, ended.stderr.decode(errors="replace").strip().splitlines(), None
        if ended.returncode:
            failure = errors[-1].strip()[:300] if errors else f"the process ended with exit code {ended.returncode}"
    except subprocess.TimeoutExpired as late:
        printed, failure = late.stdout or b"", f"no answer within {_PATIENCE} s"
    found = [json.loads(line) for line in printed.splitlines() if line.startswith(b'{"')]
    return found[-1] if found else None, failure


def ask_driver() -> Driver:
    """Cards and versions through NVML."""

    def ask() -> Driver:
        driver = NvidiaDriver.open()
        if driver is None:
            return Driver()
        versions, cards = driver.versions(), [_describe(device) for card in driver.cards() for device in card]
        lost = [f"gpu {number} does not answer: {reason}" for number, reason in driver.lost.items()]
        return Driver(*versions, cards, lost)

    silence = TimeoutError(f"the NVIDIA driver did not answer within {_DRIVER_PATIENCE} s")
    answer = answers({"driver": ask}, _DRIVER_PATIENCE).get("driver", silence)
    if isinstance(answer, Driver):
        return answer
    return Driver(error=f"the NVIDIA driver fails: {answer}" if isinstance(answer, DeviceLost) else str(answer))


def _describe(card: Device) -> str:
    memory = "memory unknown" if card.total_bytes is None else f"{card.total_bytes / 2**30:.0f} GiB"
    return f"{card.label}: {card.name}, {memory}"


def loads(*libraries: str) -> bool:
    """Whether the system's loader finds one of these shared libraries."""
    for library in libraries:
        with suppress(OSError):
            ctypes.CDLL(library)
            return True
    return False


def shared_memory() -> int:
    """The size of /dev/shm in bytes; 0 if there is none."""
    return shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else 0


def bytes_in(folder: Path) -> int:
    """The size of all files below a folder; 0 if there is no folder."""
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(directory, name)).st_size
    return total
