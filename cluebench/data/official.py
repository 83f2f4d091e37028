"""What the official files are: names, rows, md5 sums and where PaddleNLP downloads them from.

``cluebench/benchmark/facts/datasets.csv`` lists the files of the CLUE data sets (Xu et al. 2020, "CLUE: A Chinese
Language Understanding Evaluation Benchmark") as PaddleNLP's data set loaders name them, with the addresses and md5 sums
that those loaders use; row counts are of these files. An empty md5 means that none has been published.
``row_hash`` is of the files with that md5 (see `cluebench.data.rows.row_hash`), where this project had them.
"""

import csv
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cluebench.benchmark.tasks import Task
from cluebench.foundation.json_files import converted

FACTS_FILE = Path(__file__).resolve().parent.parent / "benchmark" / "facts" / "datasets.csv"


@dataclass(frozen=True)
class OfficialFile:
    """One official file; unknown numbers and sums are None."""

    task: str  # lower-case name
    file: str
    rows: int | None  # rows, questions or records in the file
    usable_rows: int | None  # those left when unlabelled rows ("-") are dropped
    md5: str | None
    archive_url: str
    archive_md5: str | None
    row_hash: str | None = None  # of what a model or a score sees of its rows


@cache
def official_files() -> dict[tuple[str, str], OfficialFile]:
    """(task name, file name) → the file."""
    with open(FACTS_FILE, encoding="utf-8", newline="") as stream:
        rows = [{key: value or None for key, value in row.items()} for row in csv.DictReader(stream)]
    files = [converted(row, OfficialFile, strict=False) for row in rows]
    return {(file.task, file.file): file for file in files}


def official_file(task: Task, file: str) -> OfficialFile | None:
    """The row of a file; None for a file that the table lacks."""
    return official_files().get((task.name, file))


def usable_rows(task: Task, files: Iterable[str]) -> int | None:
    """The rows of these files without unlabelled rows; None if the number of one file is unknown."""
    rows = [official.usable_rows if (official := official_file(task, file)) else None for file in files]
    return sum(number for number in rows if number) if all(rows) else None


def split_files(task: Task, split: str) -> tuple[str, ...]:
    """The official files behind a split, answers included: "train", "dev", or "test" and a version ("test1.1").

    Raises ValueError listing the task's splits.
    """
    files = {"train": task.train_files, "dev": task.dev_files}
    files.update({f"test{test.version}": (test.file,) for test in task.test_sets})
    if split not in files:
        raise ValueError(f"{task.title} has no split {split!r}; its splits are {', '.join(files)}")
    names = files[split]
    return names + tuple(task.answer_files[name] for name in names if name in task.answer_files)


def fingerprint_of(task: Task, md5s: Mapping[str, str]) -> str:
    """The `cluebench.data.source.DataSource.fingerprint` of files with these md5 sums; ``md5s``: by file name."""
    lines = [f"{file} {md5s[file]}\n" for file in sorted(md5s)]
    return hashlib.sha256("".join([f"{task.name}\n", *lines]).encode()).hexdigest()[:16]


def official_md5s(task: Task) -> dict[str, str] | None:
    """The sums of train's and dev's files by name; None if one has not been published."""
    files = [official_file(task, name) for name in split_files(task, "train") + split_files(task, "dev")]
    sums = {official.file: official.md5 for official in files if official and official.md5}
    return sums if len(sums) == len(files) else None
