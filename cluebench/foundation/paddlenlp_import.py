"""PaddleNLP imported without what no score needs, which is half of the time that its import takes.

Its top level imports everything it has: pipelines, data sets, metrics and a web server, and with them pandas,
scikit-learn and FastAPI. What patches Paddle itself stands in `paddlenlp.transformers` and `paddlenlp.utils`, which are
imported as ever; the packages named here are imported when something first asks for what they hold. Some of them import
one another in a circle that can be entered at `paddlenlp.prompt` only: import that before `paddlenlp.trainer`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

_LATER = frozenset(
    f"paddlenlp.{name}"
    for name in (
        "dataaug", "datasets", "embeddings", "experimental", "layers", "losses", "mergekit", "metrics", "ops", "peft",
        "prompt", "seq2vec", "trainer", "trl",
    )
)  # fmt: skip

#: Package → the one name that paddlenlp takes from it, so that it can't be put off.
_LEFT_OUT = {"paddlenlp.server": "SimpleServer", "paddlenlp.taskflow": "Taskflow"}


@contextmanager
def only_what_is_used() -> Iterator[None]:
    """For the first import of PaddleNLP. After it paddlenlp.Taskflow is None; `paddlenlp.taskflow` can be imported."""
    finder = _Later()
    sys.meta_path.insert(0, finder)
    for package, name in _LEFT_OUT.items():
        sys.modules[package] = ModuleType(package)
        setattr(sys.modules[package], name, None)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for package in _LEFT_OUT:
            del sys.modules[package]


class _Later(MetaPathFinder):
    """Finds the packages of `_LATER` as modules that are executed at the first look into them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname in _LATER else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec
