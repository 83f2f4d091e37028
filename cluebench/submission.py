"""Submission files for the CLUE leaderboard: one writer and one check per file shape, and the archive they go into.

Shapes: a JSON object a line (classification, C3), or one JSON object (CHID: tag → candidate, CMRC2018: id → answer).
Names stand in the task table (`cluebench.tasks.TestSet.submission`). A check knows a file's content and the rows of its
test set, nothing else; whatever a leaderboard would count as wrong, refuse or misread is a `Problem`.
"""

from __future__ import annotations

import difflib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluebench import atomic
from cluebench.data.rows import IDIOM_TAG
from cluebench.errors import UsageError
from cluebench.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, TASKS, Task, TestSet

# Writing --------------------------------------------------------------------------------------------------------------


def write_labels(path: str | os.PathLike, ids: Sequence[int], labels: Sequence[str | int]) -> None:
    """One ``{"id": 0, "label": "102"}`` a line, in the given order. Whole or not at all."""
    if len(ids) != len(labels):
        raise ValueError(f"{len(ids)} ids for {len(labels)} labels")
    lines = (json.dumps({"id": number, "label": label}, ensure_ascii=False) for number, label in zip(ids, labels))
    atomic.write_text(path, "".join(line + "\n" for line in lines))


def write_answers(path: str | os.PathLike, answers: Mapping[str, str | int]) -> None:
    """One JSON object, tag → candidate index or question id → answer text. Whole or not at all."""
    atomic.write_text(path, json.dumps(answers, ensure_ascii=False, indent=0) + "\n")


def write_archive(path: str | os.PathLike, files: Mapping[str, bytes]) -> None:
    """The zip to upload: the files at its root, in order of name. The same files give the same bytes.

    Whole or not at all; whatever stood at ``path`` is replaced.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # Unix, so that the permissions count
            member.external_attr = 0o644 << 16
            archive.writestr(member, files[name])
    with atomic.replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())


# Names ----------------------------------------------------------------------------------------------------------------

#: Name of a submission file → whose predictions it holds.
FILES: dict[str, tuple[Task, TestSet]] = {
    test.submission: (task, test) for task in TASKS.values() for test in task.test_sets
}

#: How people call prediction files of test sets: such a name that is not in FILES means nothing to the leaderboard.
_LIKE_A_SUBMISSION = re.compile(
    rf"^(?!dev|train).*_predict(ions?|ed)?\.(json|jsonl|txt)$|^({'|'.join(TASKS)})[\d_.-]*\.jsonl?$", re.IGNORECASE
)


def owner_of(name: str) -> tuple[Task, TestSet]:
    """The task and test set a submission file is for, by its name. Raises UsageError with the name that was meant."""
    if name in FILES:
        return FILES[name]
    own = [task for task in TASKS.values() if name.lower().startswith(task.name)]
    if own:
        near = [test.submission for test in own[0].test_sets]
    else:
        near = difflib.get_close_matches(name.lower(), FILES, n=1) or list(FILES)
    raise UsageError(f"{name}: no submission file is called so; rename it to {' or '.join(near)}")


def is_like_a_submission(name: str) -> bool:
    """Whether a file's name says that it holds predictions, rightly spelt or not."""
    return name in FILES or _LIKE_A_SUBMISSION.search(name) is not None


def in_version(task: Task, version: str) -> list[TestSet]:
    """The task's test sets in an upload for leaderboard "1.0" or "1.1", or in "all"; a task's only one is in both."""
    if version == "all" or len(task.test_sets) == 1:
        return list(task.test_sets)
    return [test for test in task.test_sets if test.version == version]


# Checking -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """What is wrong with a submission file, and where."""

    file: str
    place: str  # a line, a key or both
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, {self.place}: {self.reason}"


def problems_in(content: bytes, task: Task, test: TestSet, rows: Sequence[Any]) -> list[Problem]:
    """Everything that is wrong with a submission file; empty when it can be uploaded.

    ``content``: the file's bytes; ``rows``: all rows of the test set, as `cluebench.data.rows.load_rows` gives them.
    Checked are UTF-8 without byte order mark, JSON of the task's shape, every id, tag or question of the test set once
    (in the test file's order where the file has an order), no other, and answers that the task knows: label strings,
    the index of an option the question has, of one of ten candidates, a text. A missing line break at the end is fine,
    and so is an idiom used twice in a record.
    """
    check = _CHECKS[task.kind]
    try:
        found = list(check(_decoded(content), task, rows))
    except _Unreadable as error:
        found = [(error.place, error.reason)]
    return [Problem(test.submission, place, reason) for place, reason in found]


#: (place, reason)
_Found = tuple[str, str]


class _Unreadable(Exception):
    """Behind this defect nothing can be read."""

    def __init__(self, place: str, reason: str):
        super().__init__(reason)
        self.place, self.reason = place, reason


def _decoded(content: bytes) -> str:
    if not content.strip():
        raise _Unreadable("line 1", "the file is empty")
    if content.startswith(b"\xef\xbb\xbf"):
        raise _Unreadable("line 1", "begins with a byte order mark: save the file as UTF-8 without it")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _Unreadable(f"line {line}", f"is not UTF-8 text (byte {error.start + 1} of the file)") from None


# Files of one object a line -------------------------------------------------------------------------------------------


def _class_problem(label: Any, task: Task, row: Any) -> str | None:
    """Why a label is none of the task's; None when it is."""
    if isinstance(label, str) and label in task.labels:
        return None
    text = label if isinstance(label, str) else json.dumps(label, default=str)
    if not isinstance(label, str) and text in task.labels:
        return f'label is {text} without quotation marks: labels are strings, write "{text}"'
    few = task.labels if len(task.labels) <= 20 else (*task.labels[:3], "…", task.labels[-1])
    return f"label is {_shown(label)}, none of the task's: {' '.join(few)}"


def _option_problem(label: Any, task: Task, row: Any) -> str | None:
    """Why a label is no option's index of the question ``row``; None when it is."""
    if type(label) is not int:
        return f"label is {_shown(label)}, not the number of an option, such as 0"
    if not 0 <= label < len(row.options):
        return f"label is {label}, but question {row.id} has {len(row.options)} options: 0 to {len(row.options) - 1}"
    return None


def _class_lines(text: str, task: Task, rows: Sequence[Any]) -> Iterator[_Found]:
    return _labelled_lines(text, task, list(range(len(rows))), rows, _class_problem)


def _option_lines(text: str, task: Task, rows: Sequence[Any]) -> Iterator[_Found]:
    return _labelled_lines(text, task, [row.id for row in rows], rows, _option_problem)


def _labelled_lines(
    text: str,
    task: Task,
    ids: Sequence[int | str],
    rows: Sequence[Any],
    label_problem: Callable[[Any, Task, Any], str | None],
) -> Iterator[_Found]:
    """``ids``: of the rows, in order. After the first id out of place, those behind it are not compared."""
    lines = text.removesuffix("\n").split("\n")
    if len(lines) < len(ids):
        due = f"the next id is {_shown(ids[len(lines)])}"
        yield f"line {len(lines)}", f"the file ends after {len(lines)} of {len(ids)} lines of the test set ({due})"
    elif len(lines) > len(ids):
        yield f"line {len(ids) + 1}", f"the file goes on for {len(lines)} lines; the test set has {len(ids)}"
    row_of = dict(zip(ids, rows))
    line_of: dict[int | str, int] = {}
    in_order = True
    for number, (line, due) in enumerate(zip(lines, ids), start=1):
        place = f"line {number}"
        try:
            values = _labelled_object(line)
        except _Unreadable as error:
            yield place, error.reason
            continue
        if "id" in values and in_order and (reason := _id_problem(values["id"], due, row_of, line_of)):
            yield place, reason
            in_order = False
        named = values.get("id")
        row = row_of.get(named) if type(named) in (int, str) else None
        if "label" in values and row is not None and (reason := label_problem(values["label"], task, row)):
            yield place, reason
        if type(named) in (int, str):
            line_of.setdefault(named, number)


def _labelled_object(line: str) -> dict[str, Any]:
    """The values of a line. Raises _Unreadable unless its keys are id and label, each once."""
    if not line.strip():
        raise _Unreadable("", "is blank, where a JSON object belongs")
    values: dict[str, Any] = {}
    for key, value, _ in _entries(line, '{"id": …, "label": …}'):
        if key in values:
            raise _Unreadable("", f'has the key "{key}" twice')
        values[key] = value
    for key in ("id", "label"):
        if key not in values:
            raise _Unreadable("", f'has no key "{key}"')
    for key in values:
        if key not in ("id", "label"):
            raise _Unreadable("", f'has the key "{key}": only "id" and "label" belong here')
    return values


def _id_problem(found: Any, due: int | str, known: Mapping, line_of: Mapping) -> str | None:
    if type(found) is type(due) and found == due:
        return None
    if type(found) not in (int, str) or type(found) is not type(due):
        kind = "a whole number" if isinstance(due, int) else "a string"
        return f"id is {_shown(found)}, not {kind}; {_shown(due)} is due here"
    if found in line_of:
        return f"id {_shown(found)} is here for the second time (first in line {line_of[found]}); {_shown(due)} is due"
    if found not in known:
        return f"id {_shown(found)} is not in the test set; {_shown(due)} is due"
    return f"id is {_shown(found)}, where {_shown(due)} is due: keep the order of the test file"


# Files of one object --------------------------------------------------------------------------------------------------


def _candidate_object(text: str, task: Task, rows: Sequence[Any]) -> Iterator[_Found]:
    """CHID: each blank's tag, and the index of its candidate."""
    tags = (tag for record in rows for passage in record.passages for tag in IDIOM_TAG.findall(passage))

    def problem(value: Any) -> str | None:
        if type(value) is int and 0 <= value < task.num_choices:
            return None
        return f"is {_shown(value)}, not a candidate's number from 0 to {task.num_choices - 1}"

    return _answered_keys(text, dict.fromkeys(tags), "blank", problem)


def _answer_object(text: str, task: Task, rows: Sequence[Any]) -> Iterator[_Found]:
    """CMRC2018: each question's id, and the text of its answer."""

    def problem(value: Any) -> str | None:
        if not isinstance(value, str):
            return f"is {_shown(value)}, not a string"
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"is {_shown(value)}, which holds half a character: the text was cut in its middle"
        return None

    return _answered_keys(text, dict.fromkeys(row.id for row in rows), "question", problem)


def _answered_keys(
    text: str, due: Mapping[str, None], what: str, problem: Callable[[Any], str | None]
) -> Iterator[_Found]:
    """Every key of ``due`` once, none beside it, and no value that ``problem`` has something to say about."""
    line_of: dict[str, int] = {}
    for key, value, line in _entries(text, "{…}"):
        place = f"line {line}, key {_shown(key)}"
        if key in line_of:
            yield place, f"is here for the second time (first in line {line_of[key]})"
        elif key not in due:
            yield place, f"no {what} of the test set is called so"
        elif reason := problem(value):
            yield place, reason
        line_of.setdefault(key, line)
    missing = [key for key in due if key not in line_of]
    if missing:
        more = f", and so are {len(missing) - 1} more" if len(missing) > 1 else ""
        yield f"key {_shown(missing[0])}", f"is missing{more}: every {what} of the test set needs an answer"


# JSON -----------------------------------------------------------------------------------------------------------------


class _Constant(str):
    """NaN or Infinity, which JSON does not know and Python writes all the same."""


#: Keeps repeated keys, and NaN where it stands.
_DECODER = json.JSONDecoder(object_pairs_hook=lambda pairs: [tuple(pair) for pair in pairs], parse_constant=_Constant)

_BETWEEN = re.compile(r"[\s,:]*")


def _entries(text: str, shape: str) -> Iterable[tuple[str, Any, int]]:
    """(key, value, line) of the one JSON object in ``text``, repeated keys included. Raises _Unreadable."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"is broken JSON: {error.msg} at column {error.colno}"
        if error.msg == "Extra data":
            reason = f"goes on behind the JSON value it should be ({shape}), at column {error.colno}"
        raise _Unreadable(f"line {error.lineno}", reason) from None
    except (ValueError, RecursionError) as error:
        raise _Unreadable("line 1", f"is broken JSON: {error}") from None
    start = _BETWEEN.match(text).end()
    if text[start] != "{":
        found = {"[": "a list", '"': "a string"}.get(text[start], _shown(text.strip()))
        raise _Unreadable(f"line {text.count(chr(10), 0, start) + 1}", f"is {found}, not one JSON object {shape}")
    return _scanned(text, start)


def _scanned(text: str, start: int) -> Iterator[tuple[str, Any, int]]:
    """The entries of an object that is known to be sound JSON."""
    position, line, counted = _BETWEEN.match(text, start + 1).end(), 1, 0
    while text[position] != "}":
        line, counted = line + text.count("\n", counted, position), position
        key, position = _DECODER.raw_decode(text, position)
        value, position = _DECODER.raw_decode(text, _BETWEEN.match(text, position).end())
        yield key, value, line
        position = _BETWEEN.match(text, position).end()


def _shown(value: Any, longest: int = 60) -> str:
    """A value as one short piece of JSON; a string in quotation marks."""
    text = str(value) if isinstance(value, _Constant) else json.dumps(value, ensure_ascii=False, default=str)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= longest else text[:longest] + "…"


_CHECKS: dict[str, Callable[[str, Task, Sequence[Any]], Iterator[_Found]]] = {
    SINGLE: _class_lines,
    PAIR: _class_lines,
    CHOICE: _option_lines,
    IDIOM: _candidate_object,
    SPAN: _answer_object,
}
