"""Positions of values in a JSON text, which `json` itself does not give."""

import json
import re
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

_BETWEEN = re.compile(r"[\s,:]*")


class Member(NamedTuple):
    """A member of an object or a list."""

    key: Any  # the index in a list
    value: Any
    start: int  # position of the key in the text; in a list, of the value
    value_start: int


def members(text: str, start: int) -> Iterator[Member]:
    """The members of the object or list that begins at ``start`` of sound JSON, repeated keys included."""
    decode = json.JSONDecoder().raw_decode
    is_object, position = text[start] == "{", start + 1
    for index in count():
        begin = value_start = _after_space(text, position)
        if text[begin] in "]}":
            return
        key: Any = index
        if is_object:
            key, position = decode(text, begin)
            value_start = _after_space(text, position)
        value, position = decode(text, value_start)
        yield Member(key, value, begin, value_start)


def _after_space(text: str, position: int) -> int:
    """The position behind white space and the separator of members."""
    found = _BETWEEN.match(text, position)
    return found.end() if found else position
