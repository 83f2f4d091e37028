"""Text that comes from files, as people see it: it steers no terminal, spreadsheet or page."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[-+]?[\d./]*(e[-+]?\d+)?")
_MARKDOWN = re.compile(r"([\\`*\[\]<>|~])")


def printable(text: str) -> str:
    """What can't be printed, such as the beginning of a terminal's command, becomes "?"."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def shown(text: object, style: str = "text") -> str:
    """One line of ``text`` for a terminal; ``style`` "markdown" or "csv": for a page, or a cell of a spreadsheet.

    White space becomes single spaces. Pages of HTML have an escaping of their own, see `cluebench.report.page`.
    """
    line = printable(" ".join(str(text).split()))
    if style == "markdown":
        return _MARKDOWN.sub(r"\\\1", line)
    is_formula = style == "csv" and line.startswith(("=", "+", "-", "@")) and not _NUMBER.fullmatch(line)
    return f"'{line}" if is_formula else line
