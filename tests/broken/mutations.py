"""Ways to break a file, for hypothesis; and what a reader of a broken one may do."""

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluebench.foundation.errors import ClueError
from cluebench.foundation.notices import notice_once

#: Examples of each property: 50, or as many as asked for.
EXAMPLES = settings(
    max_examples=int(os.environ.get("CLUEBENCH_EXAMPLES", "50")),
    deadline=None,
    derandomize="CLUEBENCH_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)

#: JSON texts that are of no type, out of every range, or no JSON at all.
ODD = (
    "null", "true", "-1", "0", "0.5", "101", "1e9", "1e999", "-1e999", "NaN", "Infinity", '""', '"x"', '"128"', "[]",
    "[128]", "[[]]", "{}", '{"odd": [["x"]]}', '"\\ud800"', "9" * 400, "9" * 5000, "[" * 100_000 + "]" * 100_000,
    '{"a": ' * 300 + "1" + "}" * 300, '"' + "x" * 100_000 + '"', '"<script>alert(1)</script>"', '"\\u0000"', '"../../x"',
)  # fmt: skip

#: No declared field may hold this.
NOWHERE = '{"odd": [["x"]]}'


def paths(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """The place of every part of a JSON value."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from paths(part, (*at, key))


def replaced(value: Any, at: tuple, text: str | None) -> str:
    """The JSON text of the value with another text at a place; None: with nothing there."""
    mark = "the place \u0001 of the other text"
    if not at:
        return text or ""
    copy = json.loads(json.dumps(value))
    holder = copy
    for step in at[:-1]:
        holder = holder[step]
    if text is None:
        del holder[at[-1]]
        return json.dumps(copy, ensure_ascii=False)
    holder[at[-1]] = mark
    return json.dumps(copy, ensure_ascii=False).replace(json.dumps(mark, ensure_ascii=False), text)


def _drawn(make: Callable[[Random], bytes]) -> st.SearchStrategy[bytes]:
    """What ``make`` makes of one seed: hypothesis draws the seed alone, since its own draws take longer than the test."""
    return st.integers(0, 2**32 - 1).map(lambda seed: make(Random(seed)))


def broken_json(value: Any) -> st.SearchStrategy[bytes]:
    """A JSON file with a part replaced or left out, a key twice, or its bytes damaged."""
    places, text = list(paths(value)), json.dumps(value, ensure_ascii=False)

    def make(draw: Random) -> bytes:
        at, kind = draw.choice(places), draw.randrange(10)
        if kind < 6:
            return replaced(value, at, draw.choice(ODD)).encode()
        if kind < 7:
            return replaced(value, at, None).encode()
        if kind < 8 and text.startswith("{"):
            return f"{text[:-1]}, {json.dumps(draw.choice(list(value)))}: {draw.choice(ODD)}}}".encode()
        return _damaged(text.encode(), draw)

    return _drawn(make)


def broken_bytes(content: bytes) -> st.SearchStrategy[bytes]:
    """The bytes cut off, with some changed, left out, doubled or put between, or others altogether."""
    return _drawn(lambda draw: _damaged(content, draw))


def _damaged(content: bytes, draw: Random) -> bytes:
    start = draw.randint(0, len(content))
    end = min(len(content), start + draw.choice([0, 1, 1, 2, 8, 100, len(content)]))
    piece = content[start:end]
    other = {
        "cut": b"",
        "changed": bytes(byte ^ draw.choice([1, 4, 128, 255]) for byte in piece[:8]) + piece[8:],
        "doubled": piece + piece,
        "put between": draw.randbytes(draw.randint(0, 8)) + piece,
        "blank": b"\0" * len(piece),
    }[draw.choice(["cut", "changed", "doubled", "put between", "blank"])]
    whole = content[:start] + other + content[end:]
    return draw.choice([whole, whole, whole, content[:start], b"", b"\0\xff\xfe"])


@dataclass
class Outcome:
    """What a reader did: what it returned or the line it refused with, and the notices it printed."""

    value: Any
    refused: str
    printed: str

    @property
    def is_loud(self) -> bool:
        return bool(self.refused or self.printed)


def outcome(read: Callable[[], Any]) -> Outcome:
    """Runs a reader as in a process of its own. A traceback, or an error of several lines, fails the test."""
    notice_once.cache_clear()
    value, refused, stream = None, "", io.StringIO()
    with redirect_stderr(stream), redirect_stdout(io.StringIO()):
        try:
            value = read()
        except ClueError as error:
            refused = str(error)
            assert refused and "\n" not in refused
        except MemoryError:
            raise AssertionError("took all memory") from None
    for line in stream.getvalue().splitlines():
        assert len(line) <= 520, line
    return Outcome(value, refused, stream.getvalue())


def for_all(contents: st.SearchStrategy[bytes], check: Callable[[bytes], Any]) -> None:
    """Checks every example of broken content."""

    @EXAMPLES
    @given(content=contents)
    def check_each(content: bytes) -> None:
        check(content)

    check_each()
