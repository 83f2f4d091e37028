"""What there is on this machine, found out without stumbling over what is missing.

Paddle and PaddleNLP, which may be missing, broken, or bring the process down, are tried in processes of their own.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import InvalidRequirement, Requirement

import cluebench
from cluebench.benchmark.tasks import TASKS, Task
from cluebench.data.download import data_home
from cluebench.data.official import official_files
from cluebench.data.source import DATA_DIR_VARIABLE, SYNTHETIC_MARK, DataSource, open_source
from cluebench.foundation import environment, locks
from cluebench.foundation.errors import ClueError
from cluebench.foundation.notices import waiting
from cluebench.foundation.resource_limits import memory_limit, usable_cores
from cluebench.machine.nvidia import Device, DeviceLost, DriverFails, NvidiaDriver
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model

#: Seconds for a process that imports Paddle and PaddleNLP, or loads a model, on a busy machine.
_PATIENCE = 300

#: Seconds for the NVIDIA driver: one in trouble can hang for minutes.
_DRIVER_PATIENCE = 15


@dataclass
class Disk:
    """A directory that is written to, or will be."""

    use: str  # what for
    path: Path
    variable: str  # what to set to have it elsewhere
    exists: bool = True
    bytes_held: int = 0
    bytes_free: int = 0
    inodes_free: int | None = None  # None: the file system has no such limit
    writable: bool = True
    lock_error: str | None = None  # why none can be had


@dataclass
class TaskData:
    """The official files of one task."""

    title: str
    address: str  # of the official archive
    missing: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)  # not the official ones, by md5
    error: str | None = None  # why they can't be read


@dataclass
class ModelFacts:
    """One model; either it can't be loaded, or it can do all tasks but those with a reason."""

    name: str
    place: str = ""
    error: str | None = None
    reasons: dict[str, str] = field(default_factory=dict)  # task title → why it can't be done
    not_fetched: bool = False


@dataclass
class Facts:
    """Everything `checks.findings` looks at."""

    python: tuple[int, int, int]
    executable: str
    repository: Path
    python_beside: str | None  # of the repository's own environment, where this is another
    installed: dict[str, str]  # package → version, of those that are pinned or Paddle
    pinned: dict[str, str]  # package → version it was tested with, for this Python
    required: list[str]  # packages that nothing works without
    environ: Mapping[str, str]
    cores: int
    is_amd: bool = False
    memory_bytes: int = 0
    shared_memory_bytes: int | None = None  # None: there is no /dev/shm
    paddle: dict[str, Any] = field(default_factory=dict)  # version, cuda, cudnn, cards, error, card_error
    paddlenlp_error: str | None = None
    driver: dict[str, Any] | None = None  # version, cuda; None: no NVIDIA driver answers
    driver_error: str | None = None  # why that is not known
    cards: list[str] = field(default_factory=list)
    lost_cards: list[str] = field(default_factory=list)  # that do not answer, and why
    libraries: dict[str, bool] = field(default_factory=dict)  # libcuda, libcudnn → can be loaded
    disks: list[Disk] = field(default_factory=list)
    data_directory: str = ""
    data_is_given: bool = False  # by flag or CLUE_DATA_DIR; else it is downloaded when needed
    data: list[TaskData] = field(default_factory=list)
    data_error: str | None = None
    models: list[ModelFacts] = field(default_factory=list)


def gather(
    repository: Path, models: Iterable[str], data_dir: str | None, cache_dir: str | None, run_root: str
) -> Facts:
    """Looks at everything; takes as long as importing PaddleNLP and, with models, loading each of them once."""
    pinned = pinned_versions(repository, sys.version_info[:2])
    facts = Facts(
        python=sys.version_info[:3],
        executable=sys.executable,
        repository=repository,
        python_beside=cluebench.python_beside(),
        installed=_installed([*pinned, "paddlepaddle", "paddlepaddle-gpu", "nvidia-cudnn-cu12"]),
        pinned=pinned,
        required=_required(),
        environ=os.environ,
        cores=usable_cores(),
        is_amd=environment.has_amd_processor(),
        memory_bytes=min(psutil.virtual_memory().total, memory_limit() or psutil.virtual_memory().total),
        shared_memory_bytes=psutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None,
        libraries={name: _loads(candidates) for name, candidates in _LIBRARIES.items()},
        disks=_disks(cache_dir, run_root),
    )
    with waiting("importing PaddleNLP"):
        _try_paddle(facts)
    _ask_driver(facts)
    with waiting("looking at the data"):
        _look_at_data(facts, data_dir)
    for name in models:
        with waiting(f"loading {name}"):
            facts.models.append(_look_at_model(name, facts))
    return facts


# Packages -------------------------------------------------------------------------------------------------------------


def pinned_versions(repository: Path, python: tuple[int, int]) -> dict[str, str]:
    """Package → version in constraints.txt and the requirements files, for one version of Python."""
    found, version = {}, "{}.{}".format(*python)
    here = {"python_version": version, "python_full_version": f"{version}.0"}
    for name in ("constraints.txt", "requirements-cpu.txt", "requirements.txt"):
        for line in _read_text(repository / name).splitlines():
            try:
                pin = Requirement(line)
            except InvalidRequirement:  # a comment, another file, an option of pip
                continue
            exact = [one.version for one in pin.specifier if one.operator == "=="]
            if exact and (pin.marker is None or pin.marker.evaluate(here)):
                found[_normalised(pin.name)] = exact[0]
    return found


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _required() -> list[str]:
    """What the package itself asks for, extras apart."""
    try:
        lines = metadata.requires("cluebench") or []
    except metadata.PackageNotFoundError:
        return []
    return [_normalised(re.split(r"[^A-Za-z0-9_.\-]", line, maxsplit=1)[0]) for line in lines if "extra ==" not in line]


# Paddle and the driver ------------------------------------------------------------------------------------------------

#: Printed as JSON, last, by a process of its own. A card is only trusted once it has computed something.
_PADDLE_PROBE = """
import json, warnings
warnings.simplefilter("ignore")
import paddle
found = {"version": paddle.__version__, "cuda": None, "cudnn": None, "cards": 0, "card_error": None}
if paddle.is_compiled_with_cuda():
    found.update(cuda=str(paddle.version.cuda()), cudnn=str(paddle.version.cudnn()))
    try:
        found["cards"] = paddle.device.cuda.device_count()
        if found["cards"]:
            paddle.set_device("gpu:0")
            float(paddle.matmul(paddle.ones([64, 64]), paddle.ones([64, 64])).sum())
    except Exception as error:
        found["card_error"] = str(error).strip().splitlines()[-1][:300]
print(json.dumps(found))
"""

_LIBRARIES = {"libcuda": ("libcuda.so.1",), "libcudnn": ("libcudnn.so.9", "libcudnn.so.8")}


def _try_paddle(facts: Facts) -> None:
    answer, error = _in_process(_PADDLE_PROBE)
    facts.paddle = answer if answer is not None else {"error": error}
    if answer is not None and "paddlenlp" in facts.installed:
        imported, error = _in_process("import json, paddlenlp.transformers; print(json.dumps({}))")
        facts.paddlenlp_error = None if imported is not None else error


def _in_process(code: str, *arguments: str) -> tuple[dict[str, Any] | None, str]:
    """The JSON object that Python code prints last, or why there is none."""
    environment = {**os.environ, "GLOG_minloglevel": "3"}
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=_PATIENCE, env=environment
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {_PATIENCE} s"
    lines = ended.stdout.strip().splitlines()
    if ended.returncode == 0 and lines:
        return json.loads(lines[-1]), ""
    said = [line.strip() for line in ended.stderr.strip().splitlines() if line.strip()]
    return None, said[-1][:300] if said else f"the process ended with exit code {ended.returncode}"


def _loads(candidates: Iterable[str]) -> bool:
    for name in candidates:
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False


def _ask_driver(facts: Facts) -> None:
    """Cards and driver versions through NVML, on a thread that is left behind when the driver hangs."""
    answers: queue.SimpleQueue[tuple | DeviceLost | DriverFails] = queue.SimpleQueue()

    def ask() -> None:
        try:
            driver = NvidiaDriver.open()
            answers.put((None, [], {}) if driver is None else (driver.versions(), driver.cards(), driver.lost))
        except (DeviceLost, DriverFails) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=_DRIVER_PATIENCE)
    except queue.Empty:
        facts.driver_error = f"the NVIDIA driver did not answer within {_DRIVER_PATIENCE} s"
        return
    if isinstance(answer, DeviceLost):
        facts.driver_error = f"the NVIDIA driver fails: {answer}"
        return
    if isinstance(answer, DriverFails):
        facts.driver_error = str(answer)
        return
    versions, cards, lost = answer
    facts.driver = versions and dict(zip(("version", "cuda"), versions))
    facts.lost_cards = [f"gpu {number} does not answer: {said}" for number, said in lost.items()]
    facts.cards = [f"{d.label}: {d.name}, {_memory(d)}" for card in cards for d in card]


def _memory(card: Device) -> str:
    total = card.total_bytes
    return "memory unknown" if total is None else f"{total / 2**30:.0f} GiB"


# Disks ----------------------------------------------------------------------------------------------------------------


def _disks(cache_dir: str | None, run_root: str) -> list[Disk]:
    return [
        look_at_disk(use, path, variable)
        for use, path, variable in (
            ("token ids (cache)", Path(cache_dir or environment.cache_home()).expanduser(), "--cache_dir"),
            ("published models", model_files.model_home(), "PPNLP_HOME"),
            ("downloaded data", data_home(), "PPNLP_HOME"),
            ("runs", Path(run_root).expanduser(), "--run_root"),
            ("temporary files", Path(os.environ.get("TMPDIR") or "/tmp"), "TMPDIR"),
        )
    ]


def look_at_disk(use: str, path: Path, variable: str) -> Disk:
    """The directory, or what it would be made in."""
    disk = Disk(use, path, variable, exists=path.is_dir())
    nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    disk.writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    disk.bytes_free, status = psutil.disk_usage(str(nearest)).free, os.statvfs(nearest)
    disk.inodes_free = status.f_favail if status.f_files else None
    if disk.exists and disk.writable and variable in ("--cache_dir", "--run_root"):
        disk.lock_error = locks.why_none(path)
    if disk.exists and use != "temporary files":
        disk.bytes_held = _bytes_held(path)
    return disk


def _bytes_held(folder: Path) -> int:
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(directory, name)).st_size
    return total


def _read_text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# Data and models ------------------------------------------------------------------------------------------------------


def _look_at_data(facts: Facts, data_dir: str | None) -> None:
    facts.data_is_given = bool(data_dir or os.environ.get(DATA_DIR_VARIABLE))
    try:
        source = open_source(data_dir, offline=True)
    except ClueError as error:
        facts.data_error = str(error)
        return
    facts.data_directory = str(source.directory)
    facts.data = [look_at_task(source, task) for task in TASKS.values()]


def look_at_task(source: DataSource, task: Task) -> TaskData:
    """Every official file of a task: there, readable, and the official one."""
    official = {file: official_files().get((task.name, file)) for file in task.files}
    address = next((known.archive_url for known in official.values() if known), "")
    found = TaskData(task.title, address)
    made_up = (source.directory / SYNTHETIC_MARK).is_file()
    for file, known in official.items():
        try:
            if not source.has(task, file):
                found.missing += [] if source.lacks(task, file) else [file]
                continue
            with contextlib.redirect_stderr(io.StringIO()):  # what it would say is said below
                md5 = source.md5(task, file)
        except (ClueError, OSError) as error:
            found.error = str(error)
            break
        if known and known.md5 not in (None, md5) and not made_up:
            found.other.append(file)
    return found


_MODEL_PROBE = """
import json, sys
from cluebench.foundation import environment, locks
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


def _look_at_model(name: str, facts: Facts) -> ModelFacts:
    found = ModelFacts(name)
    try:
        model = Model.of(name, "model")
        found.not_fetched = model.directory is None and model_files.held_by_paddlenlp(model) is None
        found.place = str(model.directory or model_files.model_home() / model.name)
        files = model_files.find(model)
    except ClueError as error:
        found.error = str(error)
        return found
    if files is None or "error" in facts.paddle or facts.paddlenlp_error:
        return found
    answer, failure = _in_process(_MODEL_PROBE, name)
    answer = {"error": failure} if answer is None else answer
    found.error, found.reasons = answer.get("error"), answer.get("reasons", {})
    return found
