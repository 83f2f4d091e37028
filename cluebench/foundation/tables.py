"""The one table type: as lines for terminals, as markdown and as CSV; and values as JSON."""

import csv
import io
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from cluebench.foundation.shown import printable, shown


@dataclass(frozen=True)
class Table:
    """Rows of cells, as people read them. ``words``: titles of the columns of words; the others hold numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Collection[str] = ()

    def without_empty(self, empty: str = "-", keep: Collection[str] = ()) -> "Table":
        """Without the columns in which all cells are ``empty``, but for those to ``keep``."""
        columns = [
            (title, cells)
            for title, *cells in zip(self.columns, *self.rows)
            if title in keep or any(cell != empty for cell in cells)
        ]
        return Table([title for title, _ in columns], [*zip(*(cells for _, cells in columns))], self.words)

    def lines(self, style: str) -> list[str]:
        """In style text or markdown."""
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
