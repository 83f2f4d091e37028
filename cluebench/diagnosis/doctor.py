"""What this machine has, what is wrong with it, and the commands that repair it."""

import io
import os
import re
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import psutil

import cluebench
from cluebench.benchmark.tasks import TASKS, Task
from cluebench.data.download import data_home
from cluebench.data.official import official_file
from cluebench.data.source import DATA_DIR_VARIABLE, DataSource, open_source
from cluebench.diagnosis import probes
from cluebench.foundation import environment
from cluebench.foundation.errors import ClueError, NetworkError
from cluebench.foundation.notices import waiting
from cluebench.foundation.resource_limits import memory_limit, usable_cores
from cluebench.foundation.time_limit import why_no_locks
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model

_PADDLES = ("paddlepaddle", "paddlepaddle-gpu")
_SHOWN = (*_PADDLES, "paddlenlp", "numpy", "tokenizers", "huggingface-hub")
#: Packages that break PaddleNLP most often when their version is another.
_FIRST = ("paddlenlp", *_PADDLES, "numpy", "huggingface-hub")

#: Below this much free space a download or a saved model may fail.
ENOUGH_BYTES = 1 << 30

#: Paddle's ranks exchange gradients through shared memory; containers often have 64 MB of it.
ENOUGH_SHARED_MEMORY = 1 << 30


class Doctor:
    """Looks at one thing after another: adds a line on what is there, and problems with what to do about them."""

    def __init__(self, repository: Path):
        self.lines: list[tuple[str, str]] = []
        self.problems: list[tuple[str, str]] = []
        self._repository = repository
        self._driver = probes.ask_driver()
        self._pinned = probes.pinned_versions(repository, sys.version_info[:2])
        self._required = probes.required_packages()
        self._installed = probes.installed_versions([*self._pinned, *self._required, *_PADDLES, "nvidia-cudnn-cu12"])
        self._paddle: dict[str, Any] | None = None  # what the probe printed; None: Paddle does not import
        self._loads_models = False  # PaddleNLP imports

    def examine(self, models: Iterable[str], data_dir: str | None, cache_dir: str | None, run_root: str) -> None:
        """Looks at everything; takes as long as importing PaddleNLP and, with models, loading each of them once."""
        self.look_at_software()
        self.look_at_disk("token ids (cache)", Path(cache_dir or environment.cache_home()).expanduser(), "--cache_dir")
        self.look_at_disk("published models", model_files.model_home(), "PPNLP_HOME")
        self.look_at_disk("downloaded data", data_home(), "PPNLP_HOME")
        self.look_at_disk("runs", Path(run_root).expanduser(), "--run_root")
        self.look_at_disk("temporary files", Path(os.environ.get("TMPDIR") or "/tmp"), "TMPDIR")
        with waiting("looking at the data"):
            self.look_at_data(data_dir)
        for name in models:
            with waiting(f"loading {name}"):
                self.look_at_model(name)

    def report(self) -> str:
        """The lines, then the problems; repair the first one first."""
        lines = [f"{name:<17} {value}" for name, value in self.lines]
        problems = [f"{n}. {problem}\n   fix: {fix}" for n, (problem, fix) in enumerate(self.problems, start=1)]
        return "\n".join([*lines, "", *(problems or ["nothing is wrong"])])

    def _line(self, name: str, value: str) -> None:
        self.lines.append((name, value))

    def _problem(self, problem: str, fix: str) -> None:
        self.problems.append((problem, fix))

    @property
    def _install(self) -> str:
        """How to get the tested packages: use the environment that exists, or install them with the right Paddle."""
        if python := cluebench.python_beside():
            return f"type {python} in place of python, or first: source {self._repository}/.venv/bin/activate"
        has_cards = self._driver.cards or "paddlepaddle-gpu" in self._installed
        kind = "requirements.txt" if has_cards else "requirements-cpu.txt"
        return f"cd {self._repository} && {sys.executable} -m pip install -r {kind}"

    @property
    def _reinstall(self) -> str:
        remove = f"{sys.executable} -m pip uninstall -y {' '.join(_PADDLES)} && "
        return self._install if cluebench.python_beside() else remove + self._install

    # Packages, Paddle, cards and processor ----------------------------------------------------------------------------

    def look_at_software(self) -> None:
        """What a trial runs on. Finds out whether models can be loaded."""
        self._line("python", f"{'.'.join(map(str, sys.version_info[:3]))} ({sys.executable})")
        self._packages()
        with waiting("importing PaddleNLP"):
            self._import_paddle()
        self._cards()
        self._processor()

    def _packages(self) -> None:
        installed, pinned = self._installed, self._pinned
        self.lines += [(name, installed[name]) for name in _SHOWN if name in installed]
        paddles = [name for name in _PADDLES if name in installed]
        if len(paddles) == 2:
            self._problem("paddlepaddle and paddlepaddle-gpu overwrite each other's files", self._reinstall)
        elif not paddles:
            self._problem("PaddlePaddle is not installed", self._install)
        if missing := [name for name in self._required if name not in installed]:
            self._problem(f"not installed: {', '.join(missing)}", self._install)
        # Local version labels are builds of a version: 3.3.1.post126 or 3.3.1+cu126 of 3.3.1.
        differ = [
            f"{name} {installed[name]} (tested: {version})"
            for name, version in sorted(pinned.items(), key=lambda item: (item[0] not in _FIRST, item[0]))
            if not re.fullmatch(re.escape(version) + r"(\.post\d+|\+.*)?", installed.get(name, version))
        ]
        if differ:
            more = f" and {len(differ) - 5} more" if len(differ) > 5 else ""
            self._problem(f"other versions than those tested together: {', '.join(differ[:5])}{more}", self._install)

    def _import_paddle(self) -> None:
        modules = ["paddlenlp.transformers"] if "paddlenlp" in self._installed else []
        self._paddle, error = probes.run_python(probes.PADDLE, *modules)
        self._loads_models = error is None
        if error and self._paddle:
            self._problem(f"PaddleNLP does not import: {error}", self._install)
        elif error and any(name in self._installed for name in _PADDLES):
            self._problem(f"PaddlePaddle does not import: {error}", self._reinstall)
        if self._paddle and self._paddle["cuda"]:
            self._line("CUDA build", f"CUDA {self._paddle['cuda']}, cuDNN {self._paddle['cudnn']}")

    def _cards(self) -> None:
        driver, number = self._driver, len(self._driver.cards)
        answer = f"{driver.version} (CUDA {driver.cuda}), {number} card(s)" if driver.version else "none answers"
        self._line("NVIDIA driver", driver.error or answer)
        self.lines += [("", card) for card in driver.cards]
        if driver.error:
            self._problem(driver.error, "nvidia-smi; if that hangs or fails too, the driver has to be restarted")
        for lost in driver.lost:
            self._problem(lost, "nvidia-smi; if it fails for that card too, the machine must be rebooted")
        if not self._paddle:
            return
        if self._paddle["cuda"]:
            self._cuda_build(self._paddle)
        elif number:
            self._problem(f"{number} NVIDIA card(s), but this PaddlePaddle was built for CPUs", self._reinstall)
        shared = probes.shared_memory()
        if number > 1 and shared < ENOUGH_SHARED_MEMORY:
            self._problem(
                f"/dev/shm holds only {size(shared)}; cards exchange gradients through it",
                "mount -o remount,size=8G /dev/shm, or start the container with --shm-size=8g",
            )

    def _cuda_build(self, paddle: dict[str, Any]) -> None:
        """A GPU build of Paddle: the driver it needs, cuDNN, cards that compute."""
        driver = self._driver
        if not driver.version and not driver.error:
            library = "" if probes.loads("libcuda.so.1") else " and libcuda.so.1 is not there"
            pip = f"{sys.executable} -m pip"
            cpu = (
                f"{pip} uninstall -y paddlepaddle-gpu && cd {self._repository} && {pip} install -r requirements-cpu.txt"
            )
            return self._problem(
                f"a GPU build of PaddlePaddle, but no NVIDIA driver answers{library}",
                "nvidia-smi shows whether there is a driver; containers need --gpus all. On a machine without cards: "
                + cpu,
            )
        runs, built = _major(driver.cuda), _major(paddle["cuda"])
        if driver.version and runs < built:  # within a major version any driver runs what is built for later versions
            self._problem(
                f"driver {driver.version} runs CUDA {driver.cuda}, PaddlePaddle was built for {paddle['cuda']}",
                f"install a newer driver, or take a build for CUDA {runs} by changing cu126 in "
                f"{self._repository / 'requirements.txt'}, and {self._install}",
            )
        if "nvidia-cudnn-cu12" not in self._installed and not probes.loads("libcudnn.so.9", "libcudnn.so.8"):
            self._problem("no libcudnn for this GPU build of PaddlePaddle", self._install)
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        if error := paddle["card_error"]:
            fix = f"nvidia-smi; {self._reinstall}"
            self._problem(f"PaddlePaddle can't compute on the first card: {error}", fix)
        elif driver.cards and not paddle["cards"]:
            hidden = "" if seen is None else f", as CUDA_VISIBLE_DEVICES is {seen!r}"
            fix = self._reinstall if seen is None else "unset CUDA_VISIBLE_DEVICES"
            self._problem(f"the driver shows {len(driver.cards)} card(s), PaddlePaddle none{hidden}", fix)

    def _processor(self) -> None:
        cores, is_amd, memory = usable_cores(), environment.has_amd_processor(), psutil.virtual_memory().total
        memory = min(memory, memory_limit() or memory)
        self._line("CPU", f"{cores} core(s){', AMD' if is_amd else ''}, {size(memory)} of memory")
        for name in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE", "CUDA_VISIBLE_DEVICES", "CLUE_DATA_DIR", "PPNLP_HOME"):
            if name in os.environ:
                self._line(name, os.environ[name])
        threads, switch = os.environ.get("OMP_NUM_THREADS"), os.environ.get("MKL_DEBUG_CPU_TYPE", "5")
        if threads is not None and not (threads.isdigit() and 0 < int(threads) <= cores):
            problem = f"OMP_NUM_THREADS is {threads!r} on {cores} core(s): threads that wait for each other"
            self._problem(problem, "unset OMP_NUM_THREADS; the scripts choose a number")
        if is_amd and switch != "5":
            problem = f"MKL_DEBUG_CPU_TYPE is {switch!r}: Paddle's MKL is slow with it on AMD processors"
            self._problem(problem, "unset MKL_DEBUG_CPU_TYPE; the scripts set it to 5")

    # Disks, data, models ----------------------------------------------------------------------------------------------

    def look_at_disk(self, use: str, path: Path, variable: str) -> None:
        """A directory that is written to, or its nearest existing parent."""
        nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        is_writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
        status, used = os.statvfs(nearest), 0 if use == "temporary files" else probes.bytes_in(path)
        free = status.f_bavail * status.f_frsize
        self._line(use, f"{path} ({f'{size(used)} used, ' if used else ''}{size(free)} free)")

        elsewhere = f"name another place by {variable}"
        is_cache = used and variable == "--cache_dir"
        free_some = f"rm -r {path} (it is made again when needed)" if is_cache else "free some space"
        needs_locks = is_writable and path.is_dir() and variable in ("--cache_dir", "--run_root")
        if not is_writable:
            trouble, fix = "can't be written", f"{elsewhere}, or make this one writable"
        elif needs_locks and (lock_error := why_no_locks(path)):
            trouble, fix = lock_error, f"{elsewhere}, on another file system"
        elif status.f_files and not status.f_favail:
            trouble, fix = "no more files can be made on that disk", f"{free_some}, or {elsewhere}"
        elif free < ENOUGH_BYTES:
            trouble, fix = f"{size(free)} free", f"{free_some}, or {elsewhere}"
        else:
            return
        self._problem(f"{use} in {path}: {trouble}", fix)

    def look_at_data(self, data_dir: str | None) -> None:
        """Every official file of every task. It is downloaded when needed unless the place is given."""
        is_given = bool(data_dir or os.environ.get(DATA_DIR_VARIABLE))
        try:
            source = open_source(data_dir, offline=True)
        except ClueError as error:
            self._line("data", "none")
            fix = "export CLUE_DATA_DIR=/path/to/the/official/files, or unset it to download them"
            return self._problem(str(error), fix)
        whole = [task.title for task in TASKS.values() if self._is_whole(source, task, is_given)]
        names = f" ({', '.join(whole)})" if whole else ""
        later = "" if is_given else "; missing files are downloaded when they are needed"
        self._line("data", f"{source.directory}: {len(whole)} of {len(TASKS)} tasks whole{names}{later}")

    def _is_whole(self, source: DataSource, task: Task, is_given: bool) -> bool:
        """Whether every file of a task is here and readable; a problem if not, or if one is not the official one."""
        official = [facts for file in task.files if (facts := official_file(task, file))]
        put = f"put the official archive {official[0].archive_url if official else ''}"
        missing, other, is_readable = [], [], True
        try:
            for file in task.files:
                if source.has(task, file):
                    with redirect_stderr(io.StringIO()):  # the problems say it
                        source.read(task, file)
                        is_published = not source.is_synthetic and official_file(task, file)
                        if is_published and not source.is_official(task, file):
                            other.append(file)
                elif not source.lacks(task, file):
                    missing.append(file)
        except (ClueError, OSError) as error:
            is_readable = False
            self._problem(f"{task.title}: {error}", f"{put} there again")
        if missing and is_readable and (is_given or len(missing) < len(task.files)):
            fix = f"{put} there as it is"
            self._problem(f"{task.title}: {', '.join(missing)} missing in {source.directory}", fix)
        if other:
            differ = f"{', '.join(other)} differ from the official files, so scores can't be compared"
            self._problem(f"{task.title}: {differ}", f"{put} in their place, unless these are meant")
        return is_readable and not missing

    def look_at_model(self, name: str) -> None:
        """A published name or a directory: whether the model is here, and which tasks it can do."""
        try:
            files = model_files.find(Model.of(name, "model"))
        except ClueError as error:
            return self._no_model(name, str(error), isinstance(error, NetworkError))
        if files is None:
            self._line("model", f"{name}: not here yet; warmup_dataset_and_model.py fetches it")
        elif not self._loads_models:
            self._line("model", f"{name}: in {files.folder}, not tried without PaddleNLP")
        else:
            answer, failure = probes.run_python(probes.MODEL, name)
            answer = answer or {"error": failure}
            if "error" in answer:
                return self._no_model(name, answer["error"])
            reasons = answer["reasons"]
            cannot = f", except {', '.join(reasons)}" if reasons else ""
            self._line("model", f"{name}: in {files.folder}, can do all tasks{cannot}")
            for title, reason in reasons.items():
                fix = "leave the task out (grid_search.py --tasks), or use another model"
                self._problem(f"{name} can't do {title}: {reason}", fix)

    def _no_model(self, name: str, error: str, must_be_fetched: bool = False) -> None:
        self._line("model", f"{name}: can't be loaded")
        copy, repair = "copy the model here, as the message says", "repair that directory, or name another"
        self._problem(f"model {error}", copy if must_be_fetched else repair)


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found[0]) if found else 0


def size(number: float) -> str:
    """A number of bytes for people."""
    if number < 1024:
        return f"{number:.0f} B"
    power = min(3, (int(number).bit_length() - 1) // 10)
    return f"{number / 1024**power:.1f} {('KiB', 'MiB', 'GiB')[power - 1]}"
