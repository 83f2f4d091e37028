"""Lines, warnings and progress bars: the one place that prints them.

Bars are for people at a terminal, on stderr: logs get lines only. If processes run together on several cards, only
rank 0 prints.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TextIO

from tqdm import tqdm

from cluebench.foundation import environment
from cluebench.foundation.errors import one_line


def notice(text: str) -> None:
    """One line on stderr, at once."""
    if environment.rank() == 0:
        say(one_line(text), sys.stderr)


@cache
def notice_once(text: str) -> None:
    """A `notice`, unless this process has printed the same text before: files are read again and again."""
    notice(text)


def say(text: str, stream: TextIO) -> None:
    """One line at once, above the bars of a terminal."""
    with tqdm.external_write_mode(stream):
        print(text, file=stream, flush=True)


def progress(what: str, total: int | None, unit: str = "it", **settings: Any) -> tqdm:
    """A bar with the time left; ``update(n)`` moves it, and closing removes it. ``settings``: tqdm's."""
    hidden = None if environment.rank() == 0 else True  # None: hidden unless stderr is a terminal
    settings = {"desc": what, "total": total, "unit": unit, "leave": False, "dynamic_ncols": True, **settings}
    return tqdm(file=sys.stderr, disable=hidden, **settings)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Shows the seconds since the start of work whose end is unknown."""
    with progress(what, None, bar_format="{desc} {elapsed}") as bar:
        done = threading.Event()

        def tick() -> None:
            while not done.wait(1):
                bar.refresh()

        if not bar.disable:
            threading.Thread(target=tick, name="waiting", daemon=True).start()
        try:
            yield
        finally:
            done.set()
