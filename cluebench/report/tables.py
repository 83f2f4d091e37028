"""A table in every form but a page: for terminals, markdown and spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cluebench.foundation.shown import printable, shown


@dataclass(frozen=True)
class Table:
    """Cells as people read them, a row each. ``words``: titles of the columns that hold no numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Collection[str] = ()

    def without_empty(self, empty: str = "-", keep: Collection[str] = ()) -> Table:
        """Without the columns in which no row says anything."""
        kept = [
            place
            for place, title in enumerate(self.columns)
            if title in keep or any(row[place] != empty for row in self.rows)
        ]
        rows = [[row[place] for place in kept] for row in self.rows]
        return Table([self.columns[place] for place in kept], rows, self.words)

    def text(self, gap: str = "  ") -> list[str]:
        """A line a row, words to the left and numbers to the right."""
        lines = [list(self.columns), *([printable(cell) for cell in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines)]
        aligned = [str.ljust if title in self.words else str.rjust for title in self.columns]
        return [gap.join(map(lambda align, *pair: align(*pair), aligned, line, widths)).rstrip() for line in lines]

    def markdown(self) -> list[str]:
        """A line a row, under a head and its rule."""
        rule = ["---" if title in self.words else "---:" for title in self.columns]
        rows = [[shown(cell, "markdown") for cell in row] for row in self.rows]
        return [f"| {' | '.join(line)} |" for line in (self.columns, rule, *rows)]

    def csv(self) -> str:
        stream, rows = io.StringIO(), [[shown(cell, "csv") for cell in row] for row in self.rows]
        csv.writer(stream, lineterminator="\n").writerows([self.columns, *rows])
        return stream.getvalue()
