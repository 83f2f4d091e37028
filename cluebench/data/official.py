"""What the official files are: names, rows, md5 sums and where PaddleNLP downloads them from.

``cluebench/benchmark/facts/datasets.csv`` lists the files of the CLUE data sets (Xu et al. 2020, "CLUE: A Chinese
Language Understanding Evaluation Benchmark") as PaddleNLP's data set loaders name them, with the addresses and md5 sums
that those loaders use; row counts were taken from the files. An empty md5 means that none has been published.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cluebench.foundation.json_files import converted

FACTS_FILE = Path(__file__).resolve().parent.parent / "benchmark" / "facts" / "datasets.csv"


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
        rows = [{key: value or None for key, value in row.items()} for row in csv.DictReader(stream)]
    files = [converted(row, OfficialFile, strict=False) for row in rows]
    return {(file.task, file.file): file for file in files}


def usable_rows(task: str, files: Iterable[str]) -> int | None:
    """Of the official files together, those left when unlabelled rows are dropped; None where one is not known."""
    known = [official_files().get((task, file)) for file in files]
    rows = [file.usable_rows for file in known if file and file.usable_rows]
    return sum(rows) if len(rows) == len(known) else None
