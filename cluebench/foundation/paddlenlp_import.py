"""PaddleNLP imported without what no score needs, which is more than half of the time that its import takes.

Its top level imports everything it has: pipelines, data sets, metrics and a web server, and with them pandas,
scikit-learn and FastAPI. What patches Paddle itself stands in `paddlenlp.transformers` and `paddlenlp.utils`, which are
imported as ever; the packages named here are imported when something first asks for what they hold. Some of them import
one another in a circle that can be entered at `paddlenlp.prompt` only: import that before `paddlenlp.trainer`.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any

_LATER = frozenset(
    f"paddlenlp.{name}"
    for name in (
        "dataaug", "datasets", "embeddings", "experimental", "layers", "losses", "mergekit", "metrics", "ops", "peft",
        "prompt", "seq2vec", "trainer", "trl",
    )
)  # fmt: skip

#: Modules of which others take only functions: each function imports its module when it is called. jieba and
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
    """For the first import of PaddleNLP."""
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
