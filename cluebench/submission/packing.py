"""From a run directory or prediction files to the zip to upload. Nothing invalid is ever packed."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluebench import submission
from cluebench.benchmark.tasks import TASKS, Task, TestSet, tasks_named
from cluebench.data.rows import load_rows
from cluebench.data.source import DataSource
from cluebench.foundation import atomic
from cluebench.foundation.errors import BadFile, ClueError, UsageError, one_line
from cluebench.foundation.file_facts import visible
from cluebench.foundation.json_files import content_of
from cluebench.report.run import holds_tasks
from cluebench.submission.checks import one_label, problems_in

#: Problems of one file that are printed; the rest is counted.
_SHOWN_PROBLEMS = 5


@dataclass
class Entry:
    """One file of the zip: where it is, or why it is missing, and what is wrong with it."""

    task: Task
    test: TestSet
    path: Path | None = None
    note: str = ""
    problems: list[str] = field(default_factory=list)
    content: bytes = b""
    is_official: bool = False  # the test set, as far as it can be known

    @property
    def state(self) -> str:
        if self.problems:
            return "wrong"
        return "missing" if self.path is None else "ok"


def wanted_entries(tasks: Sequence[str], version: str) -> list[Entry]:
    """The files of an upload for a leaderboard version, for the named tasks or all. Raises UsageError."""
    chosen = [task for task in TASKS.values() if task in tasks_named(tasks)]
    return [Entry(task, test) for task in chosen for test in submission.in_version(task, version)]


def run_directory(folder: Path) -> Path | None:
    """The run directory of one model in ``folder``; None for a directory of prediction files.

    Raises UsageError if it is neither, or holds the runs of several models.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such directory")
    names = [path.name for path in visible(folder)]
    if any(name in submission.NAMES for name in names):
        return None
    models = [folder] if holds_tasks(folder) else [path for path in visible(folder) if holds_tasks(path)]
    if len(models) > 1:
        found = ", ".join(path.name for path in models)
        raise UsageError(f"{folder} holds runs of several models ({found}): name one, such as {models[0]}")
    if models:
        return models[0]
    if any(map(submission.wrong_name, names)):
        return None
    example = next(iter(submission.FILES))
    raise UsageError(f"{folder} holds neither runs of a model nor prediction files such as {example}")


def take_predictions(folder: Path, wanted: Iterable[Entry]) -> list[str]:
    """Finds the entries' files; returns what is wrong with the names of others."""
    entries = {entry.test.submission: entry for entry in wanted}
    for file, entry in entries.items():
        if (folder / file).exists():
            entry.path = folder / file
        else:
            entry.note = f"no {file} in {folder}"
    names = [path.name for path in visible(folder)]
    for name in names:
        if name in submission.FILES and name not in entries:
            print(f"{name} is not packed: --tasks or --version leaves it out")
    return [reason for name in names if (reason := submission.wrong_name(name))]


def check(entry: Entry, source: DataSource) -> None:
    """Reads an entry's file and compares it with its test set."""
    if entry.path is None or entry.problems:
        return
    try:
        entry.content = content_of(entry.path)
        rows = load_rows(source, entry.task, entry.test.split)
        entry.is_official = source.is_official(entry.task, entry.test.file)
    except (BadFile, FileNotFoundError) as error:
        entry.problems.append(str(error))
        return
    except ClueError as error:
        entry.problems.append(f"{entry.test.submission} can't be checked: {error}")
        return
    entry.problems += problems_in(entry.content, entry.task, entry.test, rows)
    entry.note = entry.note or f"{entry.path}"
    if not entry.problems and (same := one_label(entry.content, entry.task)):
        entry.note += f"; warning: {same}"


def report(entries: Iterable[Entry], misnamed: Iterable[str]) -> None:
    """One line a file; more for one that is wrong."""
    for entry in entries:
        lines = list(map(one_line, entry.problems[:_SHOWN_PROBLEMS])) or [f"{entry.test.submission}: {entry.note}"]
        if (more := len(entry.problems) - _SHOWN_PROBLEMS) > 0:
            lines.append(f"{entry.test.submission}: {more} more problems")
        for line in lines:
            print(f"{entry.task.title:<13}{entry.state:<9}{line}")
    for text in misnamed:
        print(f"{'':<13}wrong    {one_line(text)}")
    sys.stdout.flush()


def pack(entries: Sequence[Entry], misnamed: Sequence[str], output: Path) -> None:
    """Writes the zip. Raises ClueError if a file is wrong or there is none."""
    wrong = [entry.test.submission for entry in entries if entry.state == "wrong"]
    wrong += [text.split(":")[0] for text in misnamed]
    if wrong:
        left = "; the one there is an earlier one" if output.exists() else ""
        raise ClueError(f"{output} was not written, because of {', '.join(wrong)}{left}")
    good = [entry for entry in entries if entry.state == "ok"]
    if not good:
        raise ClueError(f"{output} was not written: there is nothing to pack")
    atomic.write_archive(output, {entry.test.submission: entry.content for entry in good})
    others = ", ".join(dict.fromkeys(entry.task.title for entry in good if not entry.is_official))
    use = f"but not for upload: the test sets of {others} are not the official ones"
    print(f"{output}: {len(good)} file(s), checked {use if others else 'and ready to upload'}")
    if left_out := ", ".join(dict.fromkeys(entry.task.title for entry in entries if entry.state == "missing")):
        print(f"left out: {left_out}; the leaderboard has no score for them")
