"""What is wrong with a machine, by the facts about it, and the command that mends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cluebench import PYTHONS
from cluebench.benchmark.tasks import TASKS
from cluebench.diagnosis.facts import Disk, Facts

#: Of other versions of these it is known what goes wrong.
_KNOWN_TROUBLE = {
    "numpy": (2, "PaddleNLP 3.0.0b4 uses names that numpy 2 has not"),
    "huggingface-hub": (1, "PaddleNLP 3.0.0b4 imports names that huggingface_hub 1 has not"),
}
_PADDLES = ("paddlepaddle", "paddlepaddle-gpu")

#: Below this much free space a download or a saved model may fail.
ENOUGH_BYTES = 1 << 30

#: Paddle's ranks exchange gradients through shared memory; containers often have 64 MB of it.
ENOUGH_SHARED_MEMORY = 1 << 30


@dataclass(frozen=True)
class Finding:
    """Something wrong, and what to type or do about it."""

    problem: str
    mend: str


def findings(facts: Facts) -> list[Finding]:
    """Everything wrong, what stands in the way of everything else first."""
    checks = (_python, _packages, _imports, _devices, _threads, _disks, _data, _models)
    return [finding for check in checks for finding in check(facts)]


def _install(facts: Facts) -> str:
    """What brings the tested set: the environment there is, or a command, with the Paddle that belongs here."""
    if facts.python_beside:
        return f"type {facts.python_beside} in place of python, or first: source {facts.repository}/.venv/bin/activate"
    kind = "requirements.txt" if facts.cards or "paddlepaddle-gpu" in facts.installed else "requirements-cpu.txt"
    return f"cd {facts.repository} && {facts.executable} -m pip install -r {kind}"


def _replace_paddle(facts: Facts) -> str:
    remove = f"{facts.executable} -m pip uninstall -y {' '.join(_PADDLES)} && "
    return _install(facts) if facts.python_beside else remove + _install(facts)


# Python and packages --------------------------------------------------------------------------------------------------


def _python(facts: Facts) -> Iterator[Finding]:
    if facts.python[:2] not in PYTHONS:
        yield Finding(
            f"Python {'.'.join(map(str, facts.python))}: the pinned packages are for 3.10, 3.11 and 3.12",
            f"cd {facts.repository} && rm -rf .venv && make PYTHON=python3.11 quickstart",
        )


def _packages(facts: Facts) -> Iterator[Finding]:
    installed = facts.installed
    paddles = [name for name in _PADDLES if name in installed]
    if len(paddles) == 2:
        yield Finding("paddlepaddle and paddlepaddle-gpu overwrite each other's files", _replace_paddle(facts))
    elif not paddles:
        yield Finding("PaddlePaddle is not installed", _install(facts))
    missing = [name for name in facts.required if name not in installed]
    if missing:
        yield Finding(f"not installed: {', '.join(missing)}", _install(facts))
    differ = {
        name: version
        for name, version in installed.items()
        if facts.pinned.get(name) not in (None, version) and not _is_build_of(version, facts.pinned[name])
    }
    for name, (major, trouble) in _KNOWN_TROUBLE.items():
        if name in differ and _major(differ[name]) >= major:
            yield Finding(f"{name} {differ.pop(name)} instead of {facts.pinned[name]}: {trouble}", _install(facts))
    first = ("paddlenlp", *_PADDLES)
    named = sorted(differ, key=lambda name: (name not in first, name))
    if named:
        shown = ", ".join(f"{name} {differ[name]} (tested: {facts.pinned[name]})" for name in named[:5])
        more = f" and {len(named) - 5} more" if len(named) > 5 else ""
        yield Finding(f"other versions than those tested together: {shown}{more}", _install(facts))


def _is_build_of(version: str, pinned: str) -> bool:
    """Local version labels name builds: 3.3.1.post126 or 3.3.1+cu126 of 3.3.1."""
    return re.fullmatch(re.escape(pinned) + r"(\.post\d+|\+.*)", version) is not None


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0


def _imports(facts: Facts) -> Iterator[Finding]:
    if not any(name in facts.installed for name in _PADDLES):
        return
    if error := facts.paddle.get("error"):
        yield Finding(f"PaddlePaddle does not import: {error}", _replace_paddle(facts))
    elif facts.paddlenlp_error:
        yield Finding(f"PaddleNLP does not import: {facts.paddlenlp_error}", _install(facts))


# Devices --------------------------------------------------------------------------------------------------------------


def _devices(facts: Facts) -> Iterator[Finding]:
    if facts.driver_error:
        yield Finding(facts.driver_error, "nvidia-smi; if that hangs or fails too, the driver has to be restarted")
    for lost in facts.lost_cards:
        yield Finding(lost, "nvidia-smi; if it fails for that card too, the machine must be rebooted")
    paddle, cuda = facts.paddle, facts.paddle.get("cuda")
    if "error" in paddle:
        return
    if facts.cards and not cuda:
        yield Finding(
            f"{len(facts.cards)} NVIDIA card(s), but this PaddlePaddle was built for CPUs", _replace_paddle(facts)
        )
    if cuda:
        yield from _cuda_build(facts, str(cuda))
    if len(facts.cards) > 1 and (facts.shared_memory_bytes or 0) < ENOUGH_SHARED_MEMORY:
        yield Finding(
            f"/dev/shm holds {size(facts.shared_memory_bytes or 0)}, through which cards exchange gradients",
            "mount -o remount,size=8G /dev/shm, or start the container with --shm-size=8g",
        )


def _cuda_build(facts: Facts, cuda: str) -> Iterator[Finding]:
    """A GPU build of Paddle: the driver it needs, cuDNN, cards that compute."""
    if facts.driver is None and not facts.driver_error:
        yield Finding(
            "a GPU build of PaddlePaddle, but no NVIDIA driver answers"
            + ("" if facts.libraries.get("libcuda") else " and libcuda.so.1 is not there"),
            "nvidia-smi shows whether there is a driver; containers need --gpus all. On a machine without cards: "
            f"{facts.executable} -m pip uninstall -y paddlepaddle-gpu && "
            f"cd {facts.repository} && {facts.executable} -m pip install -r requirements-cpu.txt",
        )
        return
    if facts.driver and _major(facts.driver["cuda"]) < _major(cuda):
        # Within a major version any driver runs what was built for a later minor one.
        yield Finding(
            f"driver {facts.driver['version']} runs CUDA {facts.driver['cuda']}, PaddlePaddle was built for {cuda}",
            f"install a newer driver, or take a build for CUDA {_major(facts.driver['cuda'])} by changing cu126 in "
            f"{facts.repository / 'requirements.txt'}, and {_install(facts)}",
        )
    if not facts.libraries.get("libcudnn") and "nvidia-cudnn-cu12" not in facts.installed:
        yield Finding("no libcudnn for this GPU build of PaddlePaddle", _install(facts))
    if error := facts.paddle.get("card_error"):
        yield Finding(f"PaddlePaddle can't compute on the first card: {error}", "nvidia-smi; " + _replace_paddle(facts))
    elif facts.cards and not facts.paddle.get("cards"):
        visible = facts.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = visible is not None
        yield Finding(
            f"the driver shows {len(facts.cards)} card(s), PaddlePaddle none"
            + (f", as CUDA_VISIBLE_DEVICES is {visible!r}" if hidden else ""),
            "unset CUDA_VISIBLE_DEVICES" if hidden else _replace_paddle(facts),
        )


def _threads(facts: Facts) -> Iterator[Finding]:
    threads = facts.environ.get("OMP_NUM_THREADS")
    if threads is not None and not (threads.isdigit() and 0 < int(threads) <= facts.cores):
        yield Finding(
            f"OMP_NUM_THREADS is {threads!r} on {facts.cores} core(s): threads that wait for each other",
            "unset OMP_NUM_THREADS; the scripts choose a number",
        )
    if facts.is_amd and facts.environ.get("MKL_DEBUG_CPU_TYPE", "5") != "5":
        yield Finding(
            f"MKL_DEBUG_CPU_TYPE is {facts.environ['MKL_DEBUG_CPU_TYPE']!r}: Paddle's MKL is slow on AMD processors so",
            "unset MKL_DEBUG_CPU_TYPE; the scripts set it to 5",
        )


# Disks, data, models --------------------------------------------------------------------------------------------------


def _disks(facts: Facts) -> Iterator[Finding]:
    for disk in facts.disks:
        if trouble := _trouble_of(disk):
            elsewhere = f"name another place by {disk.variable}"
            mend = f"free some space, or {elsewhere}"
            if disk.lock_error:
                mend = f"{elsewhere}, on another file system"
            elif not disk.writable:
                mend = f"{elsewhere}, or make this one writable"
            elif disk.bytes_held and disk.use == "token ids (cache)":
                mend = f"rm -r {disk.path} (it is made again when needed), or {elsewhere}"
            yield Finding(f"{disk.use} in {disk.path}: {trouble}", mend)


def _trouble_of(disk: Disk) -> str | None:
    if not disk.writable:
        return "can't be written"
    if disk.lock_error:
        return disk.lock_error
    if disk.inodes_free == 0:
        return "no more files can be made on that disk"
    return None if disk.bytes_free >= ENOUGH_BYTES else f"{size(disk.bytes_free)} free"


def _data(facts: Facts) -> Iterator[Finding]:
    if facts.data_error:
        yield Finding(
            facts.data_error, "export CLUE_DATA_DIR=/path/to/the/official/files, or unset it to download them"
        )
    for task in facts.data:
        if task.error:
            yield Finding(f"{task.title}: {task.error}", f"put the official archive {task.address} there again")
        elif task.missing and (facts.data_is_given or len(task.missing) < len(TASKS[task.title.lower()].files)):
            yield Finding(
                f"{task.title}: {', '.join(task.missing)} missing in {facts.data_directory}",
                f"put the official archive {task.address} there as it is",
            )
        if task.other:
            yield Finding(
                f"{task.title}: {', '.join(task.other)} differ from the official files, so scores can't be compared",
                f"put the official archive {task.address} in their place, unless these are meant",
            )


def _models(facts: Facts) -> Iterator[Finding]:
    for model in facts.models:
        if model.error:
            advice = "copy the model here, as said" if model.not_fetched else "repair that directory, or name another"
            yield Finding(f"model {model.error}", advice)
        for title, reason in model.reasons.items():
            advice = "leave the task out (grid_search.py --tasks), or take another model"
            yield Finding(f"{model.name} can't do {title}: {reason}", advice)


def size(number: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError("GiB is the last unit")
