"""The one reader of JSON: text to values, and files that are read back to the types declared for them.

    @dataclass
    class Point:
        step: Count
        score: Score

    point = read("point.json", Point)

A dataclass declares what its file may hold: types, ranges, required keys. Keys that it does not name are ignored, so
that files of later versions can be read. Numbers are finite, and ``128`` is not ``"128"``.
"""

import atexit
import gc
import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET as UNSET
from msgspec import Meta as Meta
from msgspec import Raw as Raw
from msgspec import UnsetType as UnsetType

from cluebench.foundation.errors import BadFile
from cluebench.foundation.notices import notice_once

T = TypeVar("T")

# When the interpreter ends, the garbage collector frees msgspec's description of nested dataclasses wrongly (msgspec
# 0.22): one process in five died of SIGSEGV after its work. The collector leaves frozen objects alone.
atexit.register(gc.freeze)


def between(least: float, most: float | None = None) -> Meta:
    """The bounds of a number, both included: ``Annotated[int, between(1, 8)]``."""
    return Meta(ge=least, le=most)


def list_of(kind: Any) -> Meta:
    """What a `Raw` text holds, for the schema: ``Annotated[Raw, list_of(int)]``."""
    return Meta(extra_json_schema=msgspec.json.schema(list[kind]))


#: Numbers in several files. The largest whole number is the largest that a float counts exactly.
Count = Annotated[int, between(0, 1 << 53)]
Positive = Annotated[int, between(1, 1 << 53)]
Pid = Annotated[int, between(0, 1 << 22)]  # Linux's largest
Seconds = Annotated[float, between(0)]
Percent = Annotated[float, between(0, 100)]
#: A file in the same directory.
FileName = Annotated[str, Meta(pattern="^[A-Za-z0-9_.-]{1,200}$")]
#: Accuracy, or EM and F1.
Score = Annotated[tuple[Percent, ...], Meta(min_length=1, max_length=2)]

#: Larger than any file that is read back. Official data files are read by `cluebench.data.source`.
MOST_BYTES = 64 << 20
#: With this many bad entries in a list the whole file is bad.
_MOST_BAD_ENTRIES = 100


class Misfit(ValueError):
    """A value that differs from its declaration. ``path``: keys and indices to it; ``what``: msgspec's message."""

    def __init__(self, error: msgspec.ValidationError):
        self.what, _, at = str(error).replace("`", "").partition(" - at $")
        self.path = [int(index) if index else key for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", at)]
        super().__init__(f"{at.lstrip('.')}: {self.what}" if at else self.what)


class NotJson(ValueError):
    """What is wrong with a JSON text. ``line``: counted from 1; None if unknown."""

    def __init__(self, reason: str, line: int | None = None):
        super().__init__(reason)
        self.line = line


def parse(content: bytes, kind: Any = Any) -> Any:
    """The value of a JSON text in UTF-8, as ``kind``. Raises NotJson and Misfit.

    Python's own reader accepts some texts that other readers refuse or read differently. They are refused here: NaN
    and infinite numbers, whole numbers beyond 64 bits, a key twice in one object with different values, halves of
    characters. ``kind`` may hold `Raw` texts, and no field with a default but UNSET.
    """
    if b"\\u" not in content and b"0" * 19 not in content.translate(_AS_ZEROS):
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            value = counted = msgspec.json.decode(content, type=kind)
            if not content.isascii():  # encoding adds its UTF-8 form to each text in memory: so not of the value itself
                counted = msgspec.json.decode(content, type=kind)
            # msgspec keeps the last of equal keys: then its value has fewer colons than the text.
            if msgspec.json.encode(counted).count(b":") == content.count(b":"):
                return value
    value = _parsed_with_care(content)  # msgspec gives few reasons, and misses what the conditions above ask for
    try:
        return value if kind is Any else msgspec.json.decode(msgspec.json.encode(value), type=kind)
    except msgspec.ValidationError as error:
        raise Misfit(error) from None


_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")

#: int(1e30): Transformers writes it as model_max_length into every tokenizer_config.json without a limit.
_UNLIMITED = "1000000000000000019884624838656"


class _BadNumber(str):
    """The text of a number that other JSON readers refuse or change, in place of its value."""


def _parsed_with_care(content: bytes) -> Any:
    """The value as Python's reader finds it, or NotJson with the reason and its place."""
    try:
        value = json.loads(
            content.decode(), object_pairs_hook=_object,
            parse_constant=_number, parse_float=_number, parse_int=_number,
        )  # fmt: skip
        _refuse_bad_numbers(value)
        if b"\\ud" in content.lower():  # of pairs, and of halves
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NotJson(f"is not UTF-8 text (byte {error.start + 1})", line) from None
    except UnicodeEncodeError as error:  # such a text can't be printed or tokenized
        raise NotJson(f"holds half a character ({error.object[error.start]!r}): a text was cut in its middle") from None
    except json.JSONDecodeError as error:
        raise NotJson(f"is broken JSON: {error.msg} at column {error.colno}", error.lineno) from None
    except RecursionError:
        raise NotJson("is broken JSON: nested too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        for key, value in pairs:
            if values[key] != value:
                raise NotJson(f'has the key "{key}" twice in one object, with different values')
    return values


def _number(text: str) -> int | float | _BadNumber:
    if not text.removeprefix("-").isdigit():
        return number if math.isfinite(number := float(text)) else _BadNumber(text)
    is_whole = text == _UNLIMITED or (len(text) <= 20 and -(1 << 63) <= int(text) < 1 << 63)
    return int(text) if is_whole else _BadNumber(text)


def _refuse_bad_numbers(value: Any, path: str = "") -> None:
    """Raises NotJson with the path of the first, such as ``dev_curve[3].loss``."""
    if isinstance(value, _BadNumber):
        shown = value if len(value) <= 30 else f"{value[:30]}…"
        what = "beyond 64 bits" if value.removeprefix("-").isdigit() else "no finite number"
        raise NotJson(f"holds {shown}{f' as {path}' if path else ''}, which is {what}")
    if isinstance(value, list):
        for index, part in enumerate(value):
            _refuse_bad_numbers(part, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, part in value.items():
            _refuse_bad_numbers(part, f"{path}.{key[:60]}".lstrip("."))


def repeated_keys(content: bytes) -> list[str]:
    """The keys that one object of a sound JSON text has twice, with equal values or not."""
    repeated: list[str] = []

    def keys_of(pairs: list[tuple[str, Any]]) -> None:
        repeated.extend(key for key, number in Counter(key for key, _ in pairs).items() if number > 1)

    json.loads(content, object_pairs_hook=keys_of)
    return repeated


# Files ----------------------------------------------------------------------------------------------------------------


def content_of(path: str | os.PathLike, most: int = MOST_BYTES) -> bytes:
    """The bytes of an ordinary file. Raises FileNotFoundError, and BadFile for any other reason not to read it.

    Pipes and devices are refused: reading them may wait, or go on, for ever.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise BadFile(f"{path} is no ordinary file")
        if status.st_size > most:
            raise BadFile(f"{path} has {status.st_size:,} bytes, where {most:,} are more than enough")
        with open(path, "rb") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise BadFile(f"{path} can't be read: {error.strerror or error}") from None


def read(path: str | os.PathLike, kind: type[T], lists: Sequence[str] = ()) -> T:
    """The content of a JSON file as ``kind``. Raises FileNotFoundError, and BadFile naming file and key.

    ``lists``: keys of lists whose bad entries are left out, each with a line on stderr.
    """
    try:
        return declared(parse(content_of(path)), kind, path, lists)
    except NotJson as error:
        raise BadFile(f"{path}{f', line {error.line}' if error.line else ''}: {error}") from None


def read_if_sound(path: str | os.PathLike, kind: type[T], lists: Sequence[str] = (), otherwise: str = "") -> T | None:
    """As `read`; None without a file, and for a bad one, which is reported once in a process.

    ``otherwise``: what follows from a bad file.
    """
    try:
        return read(path, kind, lists)
    except FileNotFoundError:
        return None
    except BadFile as error:
        notice_once(f"warning: {error}" + (f"; {otherwise}" if otherwise else ""))
        return None


def read_object(path: str | os.PathLike, kind: type[T]) -> dict[str, Any]:
    """The whole object of a file, with keys that ``kind`` does not declare; those that it declares are checked.

    Raises as `read` does.
    """
    value = read(path, dict[str, Any])
    declared(value, kind, path)
    return value


def declared(value: Any, kind: type[T], path: str | os.PathLike, lists: Sequence[str] = ()) -> T:
    """JSON values from the file at ``path`` as ``kind``; ``lists`` and errors as in `read`."""
    for _ in range(_MOST_BAD_ENTRIES):
        try:
            return converted(value, kind)
        except Misfit as misfit:
            problem, at = f"{path}: {misfit}", misfit.path
        if len(at) < 2 or at[0] not in lists:
            raise BadFile(problem)
        del value[at[0]][at[1]]
        notice_once(f"warning: {problem}; this entry is left out")
    raise BadFile(f"{problem}, and {_MOST_BAD_ENTRIES} entries are bad")


def converted(value: Any, kind: type[T], *, strict: bool = True) -> T:
    """JSON values as ``kind``. Raises Misfit. Not ``strict``: texts may stand for numbers, as in CSV files."""
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise Misfit(error) from None
