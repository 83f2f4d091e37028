"""From a run directory or prediction files to the zip to upload. Nothing invalid is ever packed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluebench import submission
from cluebench.benchmark.tasks import DIAGNOSTICS, TASKS, Task, TestSet, tasks_named
from cluebench.data.rows import load_rows
from cluebench.data.source import DataSource
from cluebench.foundation import atomic
from cluebench.foundation.errors import BadFile, ClueError, UsageError, one_line
from cluebench.foundation.file_facts import visible
from cluebench.foundation.json_files import content_of
from cluebench.report.table import holds_tasks
from cluebench.submission.checks import one_label, problems_in

#: Problems of one file that are printed; the rest is counted.
_SHOWN_PROBLEMS = 5


@dataclass
class Entry:
    """One file of the zip: where it is, or why it isn't there, and what is wrong with it."""

    task: Task
    test: TestSet
    path: Path | None = None
    note: str = ""
    problems: list[str] = field(default_factory=list)
    content: bytes = b""
    is_official: bool = False  # the test set, as far as anyone knows

    @property
    def state(self) -> str:
        if self.problems:
            return "wrong"
        return "missing" if self.path is None else "ok"


def wanted_entries(tasks: Sequence[str], version: str) -> list[Entry]:
    """The files of an upload for a leaderboard version, of the named tasks or all. Raises UsageError."""
    chosen = [task for task in TASKS.values() if task in tasks_named(tasks)]
    return [Entry(task, test) for task in chosen for test in submission.in_version(task, version)]


def run_directory(folder: Path) -> Path | None:
    """The run directory of one model behind ``folder``; None for a directory of prediction files.

    Raises UsageError when it is neither, or holds the runs of several models.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such directory; give a run directory or a directory of prediction files")
    if any(path.name in submission.FILES for path in visible(folder)):
        return None
    if holds_tasks(folder):
        return folder
    models = [path for path in visible(folder) if holds_tasks(path)]
    if len(models) > 1:
        names = ", ".join(path.name for path in models)
        raise UsageError(f"{folder} holds runs of several models ({names}): name one, such as {models[0]}")
    if models:
        return models[0]
    if any(submission.is_like_a_submission(path.name) for path in visible(folder)):
        return None
    raise UsageError(
        f"{folder} holds neither runs of a model nor prediction files such as {next(iter(submission.FILES))}"
    )


def take_predictions(folder: Path, wanted: Iterable[Entry]) -> list[str]:
    """Finds the entries' files; returns what is wrong with the names of others."""
    for entry in wanted:
        path = folder / entry.test.submission
        if path.exists():
            entry.path = path
        else:
            entry.note = f"no {entry.test.submission} in {folder}"
    misnamed = []
    for path in visible(folder):
        known = {*submission.FILES, *(test.submission for test in DIAGNOSTICS.test_sets)}
        if submission.is_like_a_submission(path.name) and path.name not in known:
            try:
                submission.owner_of(path.name)
            except UsageError as error:
                misnamed.append(str(error))
    others = {path.name for path in visible(folder)} & set(submission.FILES)
    for name in sorted(others - {entry.test.submission for entry in wanted}):
        print(f"{name} is not packed: --tasks or --version leaves it out")
    return misnamed


def check(entry: Entry, source: DataSource) -> None:
    """Reads an entry's file and compares it with its test set."""
    if entry.path is None or entry.problems:
        return
    try:
        entry.content = content_of(entry.path)
    except (BadFile, FileNotFoundError) as error:
        entry.problems.append(str(error))
        return
    try:
        rows = load_rows(source, entry.task, entry.test.split)
        entry.is_official = source.is_official(entry.task, entry.test.file)
    except ClueError as error:
        entry.problems.append(f"{entry.test.submission} can't be checked: {error}")
        return
    entry.problems += map(str, problems_in(entry.content, entry.task, entry.test, rows))
    entry.note = entry.note or f"{entry.path}"
    if not entry.problems and (same := one_label(entry.content, entry.task)):
        entry.note += f"; warning: {same}"


def report(entries: Iterable[Entry], misnamed: Iterable[str]) -> None:
    """One line a file; more for one that is wrong."""
    for line in _report_lines(entries):
        print(line)
    for text in misnamed:
        print(f"{'':<13}wrong    {one_line(text)}")
    sys.stdout.flush()


def _report_lines(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        start = f"{entry.task.title:<13}{entry.state:<9}"
        if not entry.problems:
            yield f"{start}{entry.test.submission}: {entry.note}"
        for problem in entry.problems[:_SHOWN_PROBLEMS]:
            yield f"{start}{one_line(problem)}"
        if (more := len(entry.problems) - _SHOWN_PROBLEMS) > 0:
            yield f"{start}{entry.test.submission}: {more} more problems"


def _use(entries: Iterable[Entry]) -> str:
    """What a zip of these files is good for."""
    others = dict.fromkeys(entry.task.title for entry in entries if not entry.is_official)
    if not others:
        return "and ready to upload"
    return f"but not to be uploaded: the test sets of {', '.join(others)} are not the official ones"


def pack(entries: Sequence[Entry], misnamed: Sequence[str], output: Path) -> None:
    """Writes the zip. Raises ClueError when a file is wrong or there is none."""
    wrong = [entry.test.submission for entry in entries if entry.state == "wrong"]
    wrong += [text.split(":")[0] for text in misnamed]
    if wrong:
        left = "; the one there is an earlier one" if output.exists() else ""
        raise ClueError(f"{output} was not written, because of {', '.join(wrong)}{left}")
    good = [entry for entry in entries if entry.state == "ok"]
    if not good:
        raise ClueError(f"{output} was not written: there is nothing to pack")
    atomic.write_archive(output, {entry.test.submission: entry.content for entry in good})
    print(f"{output}: {len(good)} file(s), checked {_use(good)}")
    left_out = [entry.task.title for entry in entries if entry.state == "missing"]
    if left_out:
        print(f"left out: {', '.join(dict.fromkeys(left_out))}; the leaderboard has no score for them")
