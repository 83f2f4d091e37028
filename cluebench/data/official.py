"""What the official files are: names, rows, md5 sums and where PaddleNLP downloads them from.

``cluebench/facts/datasets.csv`` lists the files of the CLUE data sets (Xu et al. 2020, "CLUE: A Chinese Language
Understanding Evaluation Benchmark") as PaddleNLP's data set loaders name them, with the addresses and md5 sums that
those loaders use; row counts were taken from the files. An empty md5 means that none has been published.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FACTS_FILE = Path(__file__).resolve().parent.parent / "facts" / "datasets.csv"


@dataclass(frozen=True)
class OfficialFile:
    """One official file; numbers and sums that are not known are None."""

    task: str  # lower-case name
    file: str
    rows: int | None  # rows, questions or records in the file
    usable_rows: int | None  # those left when unlabelled rows ("-") are dropped
    md5: str | None
    archive_url: str
    archive_md5: str | None


@cache
def official_files() -> dict[tuple[str, str], OfficialFile]:
    """(task name, file name) → what is known of it."""
    with open(FACTS_FILE, encoding="utf-8", newline="") as stream:
        return {(row["task"], row["file"]): _parse(row) for row in csv.DictReader(stream)}


def _parse(row: dict[str, str]) -> OfficialFile:
    return OfficialFile(
        task=row["task"],
        file=row["file"],
        rows=int(row["rows"]) if row["rows"] else None,
        usable_rows=int(row["usable_rows"]) if row["usable_rows"] else None,
        md5=row["md5"] or None,
        archive_url=row["archive_url"],
        archive_md5=row["archive_md5"] or None,
    )
