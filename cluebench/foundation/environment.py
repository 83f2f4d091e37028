"""What must be set before Paddle is imported, and what the launcher says about this process."""

import gc
import io
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from cluebench.foundation.errors import UsageError
from cluebench.foundation.resource_limits import usable_cores


def prepare() -> None:
    """Sets CPU threads and the AMD switch of Paddle's MKL, unless the user has set them.

    Paddle runs on one thread without OMP_NUM_THREADS, and its MKL takes a slow path on AMD processors without
    MKL_DEBUG_CPU_TYPE=5. Both are read when Paddle is imported, so this must be called before.
    Raises RuntimeError when it comes too late.
    """
    if "paddle" in sys.modules and "OMP_NUM_THREADS" not in os.environ:
        raise RuntimeError("environment.prepare() must run before paddle is imported")
    on_this_machine = int(os.environ.get("PADDLE_LOCAL_SIZE") or world_size())
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // on_this_machine)))
    if has_amd_processor():
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")
    # glog's INFO lines of the C++ core would stand between the log lines users parse.
    os.environ.setdefault("GLOG_minloglevel", "2")


def import_paddle() -> None:
    """`prepare`, then the first import of Paddle and PaddleNLP, without the advice they print into every log.

    Raises UsageError where they are missing or broken.
    """
    prepare()
    if "paddlenlp" in sys.modules:
        return
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            with uncollected(), only_what_is_used():
                import paddlenlp  # noqa: F401

                gc.freeze()  # 300,000 objects that live as long as the process: the collector never examines them
        except ImportError as error:
            advice = "python grid_search_tools/doctor.py says what to do"
            raise UsageError(f"{sys.executable} can't import Paddle ({error}): {advice}") from error


@contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's collector of cycles: it would examine everything that is read many times, and free nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def rank() -> int:
    """Number of this process among those started by paddle.distributed.launch; 0 alone."""
    return int(os.environ.get("PADDLE_TRAINER_ID", "0"))


def world_size() -> int:
    """Processes started together by paddle.distributed.launch; 1 alone."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))


def cache_home() -> Path:
    """Where features are kept between runs: CLUEBENCH_CACHE, else the XDG cache directory."""
    if chosen := os.environ.get("CLUEBENCH_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cluebench"


def has_amd_processor() -> bool:
    """Whether Paddle's MKL needs its switch for AMD."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(errors="replace")[:4096]
    except OSError:
        return "AMD" in platform.processor()


# PaddleNLP without what no score needs -------------------------------------------------------------------------------

#: Packages of PaddleNLP that no score needs.
_LATER = frozenset(
    f"paddlenlp.{name}"
    for name in (
        "dataaug", "datasets", "embeddings", "experimental", "layers", "losses", "mergekit", "metrics", "ops", "peft",
        "prompt", "seq2vec", "trainer", "trl",
    )
)  # fmt: skip

#: Other modules import only functions from these; each function imports its module when it is called. jieba and
#: cpp_extension import setuptools, httpx._main imports rich.
_WHEN_CALLED = (
    "httpx._main",
    "jieba",
    "paddle.utils.cpp_extension.cpp_extension",
    "paddlenlp.server",
    "paddlenlp.taskflow",
    "scipy.linalg",
)


@contextmanager
def only_what_is_used() -> Iterator[None]:
    """For the first import of PaddleNLP, which then takes less than half the time.

    Its top level imports everything it has: pipelines, data sets, metrics and a web server, and with them pandas,
    scikit-learn and FastAPI. The packages that patch Paddle are imported as ever, the others when something first asks
    for what they hold. Some of these import one another in a circle that can be entered at `paddlenlp.prompt` only:
    import that before `paddlenlp.trainer`.
    """
    finder, stand_ins = _Later(), {name: _WhenCalled(name) for name in _WHEN_CALLED if name not in sys.modules}
    sys.meta_path.insert(0, finder)
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in stand_ins:
            del sys.modules[name]


class _WhenCalled(ModuleType):
    """Stands for a module; every name is a function that imports the module and calls what has the name there."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *values, **named: getattr(import_module(self.__name__), name)(*values, **named)


class _Later(MetaPathFinder):
    """Finds the packages of `_LATER` as modules that are executed at the first look into them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname in _LATER else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec
