"""The doctor's report: the facts about a machine, what is wrong with it, and the commands that repair it."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cluebench import PYTHONS
from cluebench.benchmark.tasks import TASKS
from cluebench.diagnosis.facts import Facts, ModelFacts

_PADDLES = ("paddlepaddle", "paddlepaddle-gpu")
#: Packages that break PaddleNLP most often when their version is another.
_FIRST = ("paddlenlp", *_PADDLES, "numpy", "huggingface-hub")

#: Below this much free space a download or a saved model may fail.
ENOUGH_BYTES = 1 << 30

#: Paddle's ranks exchange gradients through shared memory; containers often have 64 MB of it.
ENOUGH_SHARED_MEMORY = 1 << 30


class Finding(NamedTuple):
    """Something wrong, and what to type or do about it."""

    problem: str
    fix: str


def findings(facts: Facts) -> list[Finding]:
    """Everything wrong, in the order in which it should be repaired."""
    checks = (_python, _packages, _imports, _devices, _threads, _disks, _data, _models)
    return [Finding(*pair) for check in checks for pair in check(facts)]


#: Problem and repair, see `Finding`.
_Pairs = Iterator[tuple[str, str]]


def _install(facts: Facts) -> str:
    """How to get the tested packages: use the environment that exists, or install them with the right Paddle."""
    if facts.python_beside:
        return f"type {facts.python_beside} in place of python, or first: source {facts.repository}/.venv/bin/activate"
    kind = "requirements.txt" if facts.cards or "paddlepaddle-gpu" in facts.installed else "requirements-cpu.txt"
    return f"cd {facts.repository} && {facts.executable} -m pip install -r {kind}"


def _replace_paddle(facts: Facts) -> str:
    remove = f"{facts.executable} -m pip uninstall -y {' '.join(_PADDLES)} && "
    return _install(facts) if facts.python_beside else remove + _install(facts)


# Python and packages --------------------------------------------------------------------------------------------------


def _python(facts: Facts) -> _Pairs:
    if facts.python[:2] not in PYTHONS:
        problem = f"Python {'.'.join(map(str, facts.python))}: the pinned packages are for 3.10, 3.11 and 3.12"
        yield problem, f"cd {facts.repository} && rm -rf .venv && make PYTHON=python3.11 quickstart"


def _packages(facts: Facts) -> _Pairs:
    installed, pinned, install = facts.installed, facts.pinned, _install(facts)
    paddles = [name for name in _PADDLES if name in installed]
    if len(paddles) == 2:
        yield "paddlepaddle and paddlepaddle-gpu overwrite each other's files", _replace_paddle(facts)
    elif not paddles:
        yield "PaddlePaddle is not installed", install
    if missing := [name for name in facts.required if name not in installed]:
        yield f"not installed: {', '.join(missing)}", install
    # Local version labels are builds of a version: 3.3.1.post126 or 3.3.1+cu126 of 3.3.1.
    differ = {
        name: version
        for name, version in installed.items()
        if name in pinned and not re.fullmatch(re.escape(pinned[name]) + r"(\.post\d+|\+.*)?", version)
    }
    if names := sorted(differ, key=lambda name: (name not in _FIRST, name)):
        shown = ", ".join(f"{name} {differ[name]} (tested: {pinned[name]})" for name in names[:5])
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        yield f"other versions than those tested together: {shown}{more}", install


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0


def _imports(facts: Facts) -> _Pairs:
    if any(name in facts.installed for name in _PADDLES):
        if error := facts.paddle.get("error"):
            yield f"PaddlePaddle does not import: {error}", _replace_paddle(facts)
        elif facts.paddlenlp_error:
            yield f"PaddleNLP does not import: {facts.paddlenlp_error}", _install(facts)


# Devices --------------------------------------------------------------------------------------------------------------


def _devices(facts: Facts) -> _Pairs:
    if facts.driver_error:
        yield facts.driver_error, "nvidia-smi; if that hangs or fails too, the driver has to be restarted"
    for lost in facts.lost_cards:
        yield lost, "nvidia-smi; if it fails for that card too, the machine must be rebooted"
    if "error" in facts.paddle:
        return
    cards, cuda = len(facts.cards), facts.paddle.get("cuda")
    if cuda:
        yield from _cuda_build(facts, str(cuda))
    elif cards:
        yield f"{cards} NVIDIA card(s), but this PaddlePaddle was built for CPUs", _replace_paddle(facts)
    if cards > 1 and (facts.shared_memory_bytes or 0) < ENOUGH_SHARED_MEMORY:
        problem = f"/dev/shm holds {size(facts.shared_memory_bytes or 0)}, through which cards exchange gradients"
        yield problem, "mount -o remount,size=8G /dev/shm, or start the container with --shm-size=8g"


def _cuda_build(facts: Facts, cuda: str) -> _Pairs:
    """A GPU build of Paddle: the driver it needs, cuDNN, cards that compute."""
    if facts.driver is None and not facts.driver_error:
        library = "" if facts.libraries.get("libcuda") else " and libcuda.so.1 is not there"
        pip = f"{facts.executable} -m pip"
        yield (
            f"a GPU build of PaddlePaddle, but no NVIDIA driver answers{library}",
            "nvidia-smi shows whether there is a driver; containers need --gpus all. On a machine without cards: "
            f"{pip} uninstall -y paddlepaddle-gpu && cd {facts.repository} && {pip} install -r requirements-cpu.txt",
        )
        return
    if facts.driver and (runs := _major(facts.driver["cuda"])) < _major(cuda):
        # Within a major version any driver runs what was built for a later minor version.
        yield (
            f"driver {facts.driver['version']} runs CUDA {facts.driver['cuda']}, PaddlePaddle was built for {cuda}",
            f"install a newer driver, or take a build for CUDA {runs} by changing cu126 in "
            f"{facts.repository / 'requirements.txt'}, and {_install(facts)}",
        )
    if not facts.libraries.get("libcudnn") and "nvidia-cudnn-cu12" not in facts.installed:
        yield "no libcudnn for this GPU build of PaddlePaddle", _install(facts)
    if error := facts.paddle.get("card_error"):
        yield f"PaddlePaddle can't compute on the first card: {error}", "nvidia-smi; " + _replace_paddle(facts)
    elif facts.cards and not facts.paddle.get("cards"):
        problem, visible = f"the driver shows {len(facts.cards)} card(s), PaddlePaddle none", "CUDA_VISIBLE_DEVICES"
        if visible in facts.environ:
            yield f"{problem}, as {visible} is {facts.environ[visible]!r}", f"unset {visible}"
        else:
            yield problem, _replace_paddle(facts)


def _threads(facts: Facts) -> _Pairs:
    threads, switch = facts.environ.get("OMP_NUM_THREADS"), facts.environ.get("MKL_DEBUG_CPU_TYPE", "5")
    if threads is not None and not (threads.isdigit() and 0 < int(threads) <= facts.cores):
        problem = f"OMP_NUM_THREADS is {threads!r} on {facts.cores} core(s): threads that wait for each other"
        yield problem, "unset OMP_NUM_THREADS; the scripts choose a number"
    if facts.is_amd and switch != "5":
        problem = f"MKL_DEBUG_CPU_TYPE is {switch!r}, with which Paddle's MKL is slow on AMD processors"
        yield problem, "unset MKL_DEBUG_CPU_TYPE; the scripts set it to 5"


# Disks, data, models --------------------------------------------------------------------------------------------------


def _disks(facts: Facts) -> _Pairs:
    for disk in facts.disks:
        elsewhere = f"name another place by {disk.variable}"
        is_cache = disk.bytes_used and disk.use == "token ids (cache)"
        free_some = f"rm -r {disk.path} (it is made again when needed)" if is_cache else "free some space"
        if not disk.writable:
            trouble, fix = "can't be written", f"{elsewhere}, or make this one writable"
        elif disk.lock_error:
            trouble, fix = disk.lock_error, f"{elsewhere}, on another file system"
        elif disk.inodes_free == 0:
            trouble, fix = "no more files can be made on that disk", f"{free_some}, or {elsewhere}"
        elif disk.bytes_free < ENOUGH_BYTES:
            trouble, fix = f"{size(disk.bytes_free)} free", f"{free_some}, or {elsewhere}"
        else:
            continue
        yield f"{disk.use} in {disk.path}: {trouble}", fix


def _data(facts: Facts) -> _Pairs:
    if facts.data_error:
        yield facts.data_error, "export CLUE_DATA_DIR=/path/to/the/official/files, or unset it to download them"
    for task in facts.data:
        put = f"put the official archive {task.address}"
        if task.error:
            yield f"{task.title}: {task.error}", f"{put} there again"
        elif task.missing and (facts.data_is_given or len(task.missing) < len(TASKS[task.title.lower()].files)):
            yield f"{task.title}: {', '.join(task.missing)} missing in {facts.data_directory}", f"{put} there as it is"
        if task.other:
            differ = f"{', '.join(task.other)} differ from the official files, so scores can't be compared"
            yield f"{task.title}: {differ}", f"{put} in their place, unless these are meant"


def _models(facts: Facts) -> _Pairs:
    for model in facts.models:
        if model.error:
            advice = (
                "copy the model here, as the message says"
                if model.not_fetched
                else "repair that directory, or name another"
            )
            yield f"model {model.error}", advice
        for title, reason in model.reasons.items():
            advice = "leave the task out (grid_search.py --tasks), or use another model"
            yield f"{model.name} can't do {title}: {reason}", advice


def size(number: float) -> str:
    """A number of bytes for people."""
    if number < 1024:
        return f"{number:.0f} B"
    power = min(3, (int(number).bit_length() - 1) // 10)
    return f"{number / 1024**power:.1f} {('KiB', 'MiB', 'GiB')[power - 1]}"


# Text -----------------------------------------------------------------------------------------------------------------


def report(facts: Facts, found: Sequence[Finding]) -> str:
    """The facts, line by line, then what is wrong."""
    lines = [f"{name:<18}{value}" for name, value in inventory(facts)]
    problems = [f"{number}. {problem}\n   fix: {fix}" for number, (problem, fix) in enumerate(found, start=1)]
    return "\n".join([*lines, "", *(problems or ["nothing is wrong"])])


def inventory(facts: Facts) -> Iterator[tuple[str, str]]:
    """(name, value) pairs."""
    yield "python", f"{'.'.join(map(str, facts.python))} ({facts.executable})"
    for name in ("paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "numpy", "tokenizers", "huggingface-hub"):
        if name in facts.installed:
            yield name, facts.installed[name]
    if cuda := facts.paddle.get("cuda"):
        yield "CUDA build", f"CUDA {cuda}, cuDNN {facts.paddle['cudnn']}"
    driver = facts.driver_error or "none answers"
    if facts.driver is not None:
        driver = f"{facts.driver['version']} (CUDA {facts.driver['cuda']}), {len(facts.cards)} card(s)"
    yield "NVIDIA driver", driver
    for card in facts.cards:
        yield "", card
    yield "CPU", f"{facts.cores} core(s){', AMD' if facts.is_amd else ''}, {size(facts.memory_bytes)} of memory"
    for name in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE", "CUDA_VISIBLE_DEVICES", "CLUE_DATA_DIR", "PPNLP_HOME"):
        if name in facts.environ:
            yield name, facts.environ[name]
    for disk in facts.disks:
        used = f"{size(disk.bytes_used)} used, " if disk.bytes_used else ""
        yield disk.use, f"{disk.path} ({used}{size(disk.bytes_free)} free)"
    whole = [task.title for task in facts.data if not task.missing and not task.error]
    names = f" ({', '.join(whole)})" if whole else ""
    later = "" if facts.data_is_given else "; missing files are downloaded when they are needed"
    of_tasks = f"{facts.data_directory}: {len(whole)} of {len(facts.data)} tasks whole{names}{later}"
    yield "data", "none" if facts.data_error else of_tasks
    for model in facts.models:
        yield "model", f"{model.name}: {_model(facts, model)}"


def _model(facts: Facts, model: ModelFacts) -> str:
    if model.error:
        return "can't be loaded"
    if model.not_fetched:
        return "not here yet; warmup_dataset_and_model.py fetches it"
    if "error" in facts.paddle or facts.paddlenlp_error:
        return f"in {model.place}, not tried without PaddleNLP"
    cannot = f", except {', '.join(model.reasons)}" if model.reasons else ""
    return f"in {model.place}, can do all tasks{cannot}"
