"""Text as people see it: safe lines, phrases that a page translates, tables, JSON and times."""

import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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


class Phrase(str):
    """A filled template that keeps the template and its values: translations are by template.

    Such as ``{missing} of the {trials} trials missing``. A value may be a `Phrase` itself.
    """

    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, **values: Any) -> "Phrase":
        self = super().__new__(cls, template.format(**values) if values else template)
        self.template, self.values = template, values
        return self

    def __deepcopy__(self, memo: dict) -> "Phrase":  # copy would call __new__ with the filled text as a template
        return self

    def parts(self) -> list[Any]:
        """``[template, {name: value}]``, JSON values; values that are phrases have the same form."""
        values = (
            (name, value.parts() if isinstance(value, Phrase) else str(value)) for name, value in self.values.items()
        )
        return [self.template, dict(values)]


@dataclass(frozen=True)
class Table:
    """Rows of cells, as people read them. ``words``: titles of the columns of words; the others hold numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Collection[str] = ()

    def without_empty(self, keep: Collection[str]) -> "Table":
        """The table without columns in which all cells are ``-``; those to ``keep`` stay."""
        columns = [
            (title, cells)
            for title, *cells in zip(self.columns, *self.rows)
            if title in keep or any(cell != "-" for cell in cells)
        ]
        return Table([title for title, _ in columns], [*zip(*(cells for _, cells in columns))], self.words)

    def lines(self, style: str) -> list[str]:
        """The lines in style "text" or "markdown"."""
        return self.markdown() if style == "markdown" else self.text()

    def text(self, gap: str = "  ") -> list[str]:
        """A line a row; words are aligned left, numbers right."""
        lines = [list(self.columns), *([printable(cell) for cell in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines)]
        aligned = [str.ljust if title in self.words else str.rjust for title in self.columns]
        return [gap.join(map(lambda align, *pair: align(*pair), aligned, line, widths)).rstrip() for line in lines]

    def markdown(self) -> list[str]:
        """A line a row, below the head and a rule."""
        rule = ["---" if title in self.words else "---:" for title in self.columns]
        rows = [[shown(cell, "markdown") for cell in row] for row in self.rows]
        return [f"| {' | '.join(line)} |" for line in (self.columns, rule, *rows)]

    def csv(self) -> str:
        stream, rows = io.StringIO(), [[shown(cell, "csv") for cell in row] for row in self.rows]
        csv.writer(stream, lineterminator="\n").writerows([self.columns, *rows])
        return stream.getvalue()


def as_json(values: Any, indent: int = 2) -> str:
    """A JSON text that ends in a line break."""
    return json.dumps(values, ensure_ascii=False, indent=indent) + "\n"


class Unit(NamedTuple):
    """The unit of the times in a column of a table."""

    key: str  # the name of the column in files
    text: Phrase
    seconds: int
    digits: int

    def shown(self, seconds: float) -> str:
        return f"{seconds / self.seconds:,.{self.digits}f}"


_UNITS = (
    Unit("hours", Phrase("h"), 3600, 1),
    Unit("minutes", Phrase("min"), 60, 1),
    Unit("seconds", Phrase("s"), 1, 0),
)


def unit_of(seconds: Iterable[float]) -> Unit:
    """The unit of a column of times: the largest unit that fits twice into the longest time."""
    longest = max(seconds, default=0.0)
    return next((unit for unit in _UNITS if longest >= 2 * unit.seconds), _UNITS[-1])


def duration(seconds: float | None) -> Phrase:
    """``45 s``, ``12 min``, ``3 h 05 min``, ``2 d 4 h``; ``unknown`` for None."""
    if seconds is None:
        return Phrase("unknown")
    seconds = max(0, round(seconds))
    if seconds < 120:
        return Phrase("{s} s", s=seconds)
    minutes = round(seconds / 60)
    if minutes < 120:
        return Phrase("{min} min", min=minutes)
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return Phrase("{h} h {min} min", h=hours, min=f"{minutes:02d}")
    return Phrase("{d} d {h} h", d=hours // 24, h=hours % 24)
