"""The facts about this machine. Whatever is missing or broken is itself a fact.

Paddle and PaddleNLP are tried in processes of their own, as they may be missing, broken, or crash the process.
"""

import ctypes
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

import cluebench
from cluebench.benchmark.tasks import TASKS, Task
from cluebench.data.download import data_home
from cluebench.data.official import official_file
from cluebench.data.source import DATA_DIR_VARIABLE, DataSource, open_source
from cluebench.foundation import environment
from cluebench.foundation.errors import ClueError
from cluebench.foundation.notices import waiting
from cluebench.foundation.resource_limits import memory_limit, usable_cores
from cluebench.foundation.time_limit import answers, why_no_locks
from cluebench.machine.nvidia import Device, DeviceLost, NvidiaDriver
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model

#: Seconds for a process that imports Paddle and PaddleNLP, or loads a model, on a busy machine.
_PATIENCE = 300

#: Seconds for the NVIDIA driver, which can hang for minutes.
_DRIVER_PATIENCE = 15


@dataclass
class Disk:
    """A directory that is written to, or will be."""

    use: str  # what for
    path: Path
    variable: str  # what to set to have it elsewhere
    bytes_used: int = 0
    bytes_free: int = 0
    inodes_free: int | None = None  # None: the file system has no such limit
    writable: bool = True
    lock_error: str | None = None  # why locks don't work


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
    """One model. If it can be loaded, it can do all tasks except those with a reason."""

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
    python_beside: str | None  # of the repository's own environment, if another Python runs
    installed: dict[str, str]  # package → version, of the pinned packages and Paddle
    pinned: dict[str, str]  # package → version it was tested with, for this Python
    required: list[str]  # packages that everything needs
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
    pinned, required = pinned_versions(repository, sys.version_info[:2]), _required()
    memory = psutil.virtual_memory().total
    facts = Facts(
        python=sys.version_info[:3],
        executable=sys.executable,
        repository=repository,
        python_beside=cluebench.python_beside(),
        installed=_installed([*pinned, *required, "paddlepaddle", "paddlepaddle-gpu", "nvidia-cudnn-cu12"]),
        pinned=pinned,
        required=required,
        environ=os.environ,
        cores=usable_cores(),
        is_amd=environment.has_amd_processor(),
        memory_bytes=min(memory, memory_limit() or memory),
        shared_memory_bytes=psutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None,
        libraries={
            "libcuda": _loads("libcuda.so.1"),
            "libcudnn": _loads("libcudnn.so.9") or _loads("libcudnn.so.8"),
        },
        disks=[
            look_at_disk("token ids (cache)", Path(cache_dir or environment.cache_home()).expanduser(), "--cache_dir"),
            look_at_disk("published models", model_files.model_home(), "PPNLP_HOME"),
            look_at_disk("downloaded data", data_home(), "PPNLP_HOME"),
            look_at_disk("runs", Path(run_root).expanduser(), "--run_root"),
            look_at_disk("temporary files", Path(os.environ.get("TMPDIR") or "/tmp"), "TMPDIR"),
        ],
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
        with suppress(OSError):
            for line in (repository / name).read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(InvalidRequirement):  # a comment, another file, an option of pip
                    pin = Requirement(line)
                    exact = [one.version for one in pin.specifier if one.operator == "=="]
                    if exact and (pin.marker is None or pin.marker.evaluate(here)):
                        found[str(canonicalize_name(pin.name))] = exact[0]
    return found


def _installed(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _required() -> list[str]:
    """What the package itself asks for, without extras."""
    with suppress(metadata.PackageNotFoundError):
        lines = metadata.requires("cluebench") or []
        return [str(canonicalize_name(Requirement(line).name)) for line in lines if "extra ==" not in line]
    return []


# Paddle and the driver ------------------------------------------------------------------------------------------------

#: Prints JSON, then imports the modules in its arguments. A card counts if it has computed something.
_PADDLE_PROBE = """
import importlib, json, sys, warnings
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
print(json.dumps(found), flush=True)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def _try_paddle(facts: Facts) -> None:
    found, error = _in_process(_PADDLE_PROBE, *["paddlenlp.transformers"] * ("paddlenlp" in facts.installed))
    facts.paddle = found or {"error": error}
    facts.paddlenlp_error = error if found else None


def _in_process(code: str, *arguments: str) -> tuple[dict[str, Any] | None, str | None]:
    """(the last JSON object that Python code prints; why the process failed), each None if there is none."""
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


def _loads(library: str) -> bool:
    with suppress(OSError):
        ctypes.CDLL(library)
        return True
    return False


def _ask_driver(facts: Facts) -> None:
    """Cards and driver versions through NVML."""

    def ask() -> tuple[tuple[str, str], list[list[Device]], dict[int, str]] | None:
        driver = NvidiaDriver.open()
        return None if driver is None else (driver.versions(), driver.cards(), driver.lost)

    silence = TimeoutError(f"the NVIDIA driver did not answer within {_DRIVER_PATIENCE} s")
    answer = answers({"driver": ask}, _DRIVER_PATIENCE).get("driver", silence)
    if isinstance(answer, DeviceLost):
        facts.driver_error = f"the NVIDIA driver fails: {answer}"
    elif isinstance(answer, Exception):
        facts.driver_error = str(answer)
    elif answer:
        versions, cards, lost = answer
        facts.driver = dict(zip(("version", "cuda"), versions))
        facts.lost_cards = [f"gpu {number} does not answer: {reason}" for number, reason in lost.items()]
        facts.cards = [f"{device.label}: {device.name}, {_memory(device)}" for card in cards for device in card]


def _memory(card: Device) -> str:
    return "memory unknown" if card.total_bytes is None else f"{card.total_bytes / 2**30:.0f} GiB"


# Disks, data, models --------------------------------------------------------------------------------------------------


def look_at_disk(use: str, path: Path, variable: str) -> Disk:
    """The directory, or the existing directory in which it would be made."""
    disk = Disk(use, path, variable)
    nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    disk.writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    disk.bytes_free, status = psutil.disk_usage(str(nearest)).free, os.statvfs(nearest)
    disk.inodes_free = status.f_favail if status.f_files else None
    if path.is_dir() and disk.writable and variable in ("--cache_dir", "--run_root"):
        disk.lock_error = why_no_locks(path)
    for directory, _, names in os.walk(path) if use != "temporary files" else ():
        for name in names:
            with suppress(OSError):
                disk.bytes_used += os.lstat(os.path.join(directory, name)).st_size
    return disk


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
    """Every official file of a task: whether it is here, readable, and the official one."""
    official = [official for file in task.files if (official := official_file(task, file))]
    found = TaskData(task.title, official[0].archive_url if official else "")
    try:
        for file in task.files:
            if source.has(task, file):
                with redirect_stderr(io.StringIO()):  # the findings say it
                    source.read(task, file)
                    if any(known.file == file for known in official) and not source.is_official(task, file):
                        found.other += [] if source.is_synthetic else [file]
            elif not source.lacks(task, file):
                found.missing.append(file)
    except (ClueError, OSError) as error:
        found.error = str(error)
    return found


_MODEL_PROBE = """
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


def _look_at_model(name: str, facts: Facts) -> ModelFacts:
    found = ModelFacts(name)
    try:
        model = Model.of(name, "model")
        found.not_fetched = model.directory is None and model_files.in_home(model) is None
        found.place = str(model.directory or model_files.model_home() / model.name)
        files = model_files.find(model)
    except ClueError as error:
        found.error = str(error)
        return found
    if files and "error" not in facts.paddle and not facts.paddlenlp_error:
        answer, failure = _in_process(_MODEL_PROBE, name)
        answer = answer or {"error": failure}
        found.error, found.reasons = answer.get("error"), answer.get("reasons", {})
    return found
