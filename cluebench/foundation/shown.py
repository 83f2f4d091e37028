"""Text from files as people see it: without commands for a terminal, a spreadsheet or a page."""

import re

_NUMBER = re.compile(r"[-+]?[\d./]*(e[-+]?\d+)?")
_MARKDOWN = re.compile(r"([\\`*\[\]<>|~])")


def printable(text: str) -> str:
    """The text with "?" for every character that can't be printed, such as the start of a terminal's command."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def shown(text: object, style: str = "text") -> str:
    """``text`` as one line for a terminal; ``style`` "markdown" or "csv": for a page, or a cell of a spreadsheet.

    White space becomes single spaces. HTML pages are escaped in `cluebench.report.page`.
    """
    line = printable(" ".join(str(text).split()))
    if style == "markdown":
        return _MARKDOWN.sub(r"\\\1", line)
    is_formula = style == "csv" and line.startswith(("=", "+", "-", "@")) and not _NUMBER.fullmatch(line)
    return f"'{line}" if is_formula else line
