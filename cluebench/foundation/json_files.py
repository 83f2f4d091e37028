"""The one reader of JSON: text to values, and files that are read back to the types declared for them.

    @dataclass
    class Point:
        step: Count
        score: Score

    point = read("point.json", Point)

A dataclass declares what its file may hold: types, ranges, required keys. Keys that it does not name are passed over,
so that files of later versions can be read. Numbers are finite, and ``128`` is not ``"128"``.
"""

from __future__ import annotations

import atexit
import gc
import json
import math
import os
import re
import stat
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from cluebench.foundation.errors import BadFile
from cluebench.foundation.notices import notice

T = TypeVar("T")

# What msgspec 0.22 keeps of a dataclass that holds others is freed wrongly when the collector takes these apart as the
# interpreter ends: one process in five died of SIGSEGV, with all its work done. Frozen, they are left alone.
atexit.register(gc.freeze)


def between(least: float, most: float | None = None) -> Meta:
    """The bounds of a number, both included: ``Annotated[int, between(1, 8)]``."""
    return Meta(ge=least, le=most)


def matching(pattern: str) -> Meta:
    """The regular expression that a text holds a match of: ``Annotated[str, matching("^[a-z]+$")]``."""
    return Meta(pattern=pattern)


#: Numbers that several files hold. Whole ones up to where a float can count.
Count = Annotated[int, between(0, 1 << 53)]
Positive = Annotated[int, between(1, 1 << 53)]
Pid = Annotated[int, between(0, 1 << 22)]  # at most what Linux gives out
Seconds = Annotated[float, between(0)]
Percent = Annotated[float, between(0, 100)]
#: Of a file in the same directory.
FileName = Annotated[str, matching("^[A-Za-z0-9_.-]{1,200}$")]
#: Accuracy, or EM and F1.
Score = Annotated[tuple[Percent, ...], Meta(min_length=1, max_length=2)]

#: More than any file that is read back has; the official data files come through `cluebench.data.source`.
MOST_BYTES = 64 << 20
#: Levels of nesting: CMRC2018's files have ten, and Python's own limit is that of its stack.
_DEEPEST = 64
#: Bad entries of a list after which the whole file is called bad.
_MOST_BAD_ENTRIES = 100


class Misfit(ValueError):
    """A value that is not what is declared. ``path``: the keys and indices to it; ``what``: in msgspec's words."""

    def __init__(self, error: msgspec.ValidationError):
        self.what, _, at = str(error).replace("`", "").partition(" - at $")
        self.path = [int(index) if index else key for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", at)]
        self.at = at.lstrip(".")
        super().__init__(f"{self.at}: {self.what}" if at else self.what)


class NotJson(ValueError):
    """What is wrong with a JSON text. ``line``: where, counted from 1; None when nobody knows."""

    def __init__(self, reason: str, line: int | None = None):
        super().__init__(reason)
        self.line = line


def parse(content: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises NotJson.

    Refused is also what Python's reader takes, and others don't or take differently: NaN and infinite numbers, a key
    that one object has twice with different values, halves of characters, nesting without end.
    """
    try:
        text = content.decode()
        value = _DECODER.decode(text)
    except _NoNumber as error:
        raise NotJson(f"holds {error}{_place_of_no_number(text)}, which is {error.what}") from None
    except NotJson:
        raise
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NotJson(f"is not UTF-8 text (byte {error.start + 1})", line) from None
    except json.JSONDecodeError as error:
        raise NotJson(f"is broken JSON: {error.msg} at column {error.colno}", error.lineno) from None
    except RecursionError:
        raise NotJson(_TOO_DEEP) from None
    except ValueError as error:  # an integer of thousands of digits
        raise NotJson(f"is broken JSON: {error}") from None
    if text.count("[") + text.count("{") > _DEEPEST:
        _refuse_depth(value)
    if _SURROGATE_ESCAPE.search(text):
        _refuse_lone_surrogates(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        for key, value in pairs:
            if made[key] != value:
                raise NotJson(f'has the key "{key}" twice in one object, with different values')
    return made


class _NoNumber(ValueError):
    """A number that other readers don't take."""

    def __init__(self, text: str, what: str):
        super().__init__(text if len(text) <= 30 else f"{text[:30]}…")
        self.what = what


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _NoNumber(text, "no finite number")
    return number


#: int(1e30): what every tokenizer_config.json of Transformers has as model_max_length where nothing limits it.
_UNLIMITED = "1000000000000000019884624838656"


def _whole(text: str) -> int:
    if text == _UNLIMITED:
        return int(text)
    if len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 63:
        raise _NoNumber(text, "beyond 64 bits")
    return int(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_finite, parse_float=_finite, parse_int=_whole)


def _place_of_no_number(text: str) -> str:
    """``" as dev_curve[3].loss"``: the first number of sound JSON that can't be taken; empty for one on its own."""

    def kept(read: Callable[[str], float]) -> Callable[[str], Any]:
        def number(text: str) -> Any:
            try:
                return read(text)
            except _NoNumber as error:
                return error

        return number

    decoder = json.JSONDecoder(parse_constant=kept(_finite), parse_float=kept(_finite), parse_int=kept(_whole))
    try:
        left: list[tuple[str, Any]] = [("", decoder.decode(text))]
    except (ValueError, RecursionError):  # broken in another place, too
        return ""
    while left:
        path, value = left.pop()
        if isinstance(value, _NoNumber):
            return f" as {path.lstrip('.')}" if path else ""
        if isinstance(value, dict):
            left += reversed([(f"{path}.{key[:60]}", below) for key, below in value.items()])
        elif isinstance(value, list):
            left += reversed([(f"{path}[{index}]", below) for index, below in enumerate(value)])
    return ""


def repeated_key(content: bytes) -> str | None:
    """A key that one object of a JSON text has twice, with whatever values; None without one. Raises NotJson."""
    found: list[str] = []

    def pairs_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        found.extend(key for key in set(keys) if keys.count(key) > 1) if len(set(keys)) < len(keys) else None
        return dict(pairs)

    try:
        json.loads(content, object_pairs_hook=pairs_of)
    except (ValueError, RecursionError) as error:
        raise NotJson(f"is broken JSON: {error}") from None
    return min(found, default=None)


_TOO_DEEP = f"is broken JSON: nested more than {_DEEPEST} levels deep"
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def _refuse_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            below
            for one in level
            for below in (one.values() if isinstance(one, dict) else one)
            if isinstance(below, (dict, list))
        ]
        if not level:
            return
    raise NotJson(_TOO_DEEP)


def _refuse_lone_surrogates(value: Any) -> None:
    """Half of a surrogate pair, as a cut text leaves it, is no character: nothing can print or tokenize it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise NotJson(f"holds half a character ({error.object[error.start]!r}): a text was cut in its middle") from None


# Files ----------------------------------------------------------------------------------------------------------------


def content_of(path: str | os.PathLike, most: int = MOST_BYTES) -> bytes:
    """The bytes of an ordinary file. Raises FileNotFoundError, and BadFile for any other reason not to read it.

    A pipe would be waited for, and a device can go on for ever.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise BadFile(f"{path} is no ordinary file")
        if status.st_size > most:
            raise BadFile(f"{path} has {status.st_size:,} bytes, where {most:,} are more than enough")
        with open(path, "rb") as stream:
            return stream.read(most)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise BadFile(f"{path} can't be read: {error.strerror or error}") from None


def read(path: str | os.PathLike, kind: type[T], lists: Sequence[str] = ()) -> T:
    """The content of a JSON file as ``kind``. Raises FileNotFoundError, and BadFile naming file and key.

    ``lists``: keys of lists of which a bad entry is left out, with a line on stderr.
    """
    content = content_of(path)
    try:
        return declared(parse(content), kind, path, lists)
    except NotJson as error:
        raise BadFile(f"{path}{f', line {error.line}' if error.line else ''}: {error}") from None


def read_if_sound(path: str | os.PathLike, kind: type[T], lists: Sequence[str] = (), otherwise: str = "") -> T | None:
    """As `read`; None when there is no such file, and when it is bad, which is said once in a process.

    ``otherwise``: what follows from a bad file.
    """
    try:
        return read(path, kind, lists)
    except FileNotFoundError:
        return None
    except BadFile as error:
        tell_once(f"warning: {error}" + (f"; {otherwise}" if otherwise else ""))
        return None


def read_object(path: str | os.PathLike, kind: type[T]) -> dict[str, Any]:
    """An object with all its keys, those that ``kind`` does not declare included, for others who know them.

    What ``kind`` does declare has been found right. Raises as `read` does.
    """
    value = read(path, dict[str, Any])
    declared(value, kind, path)
    return value


def declared(value: Any, kind: type[T], path: str | os.PathLike, lists: Sequence[str] = ()) -> T:
    """JSON values as ``kind``; see `read`, whose file they come from."""
    for _ in range(_MOST_BAD_ENTRIES):
        try:
            return converted(value, kind)
        except Misfit as misfit:
            told, at = f"{path}: {misfit}", misfit.path
        if len(at) < 2 or at[0] not in lists:
            raise BadFile(told)
        del value[at[0]][at[1]]
        tell_once(f"warning: {told}; this entry is left out")
    raise BadFile(f"{told}, and {_MOST_BAD_ENTRIES} entries are bad")


def converted(value: Any, kind: type[T], *, strict: bool = True) -> T:
    """JSON values as ``kind``. Raises Misfit. Not ``strict``: texts may stand for numbers, as in CSV files."""
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise Misfit(error) from None


_told: set[str] = set()


def schema_of(kind: type[Any]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what a file may hold. Its patterns are those of JSON Schema, not of Python."""

    def translated(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: translated(below) for key, below in value.items()}
        if isinstance(value, list):
            return [translated(below) for below in value]
        return value.replace("\\Z", "$") if isinstance(value, str) else value

    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **translated(msgspec.json.schema(kind))}


def tell_once(line: str) -> None:
    """A `notice`, unless this process has given it already: files are read again and again."""
    if line not in _told:
        _told.add(line)
        notice(line)
