"""HTML from templates. Whatever is filled into one is escaped, unless a template made it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


class Markup(str):
    """A piece of a page, which needs no escaping: a constant of the program, or what `fill` made."""

    __slots__ = ()

    def __add__(self, other: str) -> Markup:
        return joined([self, other])


def fill(template: str, *values: object) -> Markup:
    """``fill("<td>{}</td>", "a < b")`` → ``<td>a &lt; b</td>``. Values that are lists are laid end to end."""
    return Markup(template.format(*map(_escaped, values)))


def joined(pieces: Iterable[object]) -> Markup:
    """The pieces end to end."""
    return Markup("".join(map(_escaped, pieces)))


def _escaped(value: object) -> str:
    if isinstance(value, list):
        return joined(value)
    return value if isinstance(value, Markup) else escape(str(value))
