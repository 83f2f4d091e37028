"""The checks of submission files, by shape: everything that a leaderboard would count as wrong, refuse or misread.

A check sees only a file's content and the rows of its test set.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cluebench.benchmark.tasks import CHOICE, IDIOM, Task, TestSet
from cluebench.data.json_text import members
from cluebench.data.rows import IDIOM_TAG

_Found = tuple[str, str]  # place (a line, a key or both), reason


def problems_in(content: bytes, task: Task, test: TestSet, rows: Sequence[Any]) -> list[str]:
    """Everything that is wrong with a submission file, with file and place; empty if it can be uploaded.

    ``content``: the file's bytes; ``rows``: all rows of the test set, as `cluebench.data.rows.load_rows` gives them.
    The checks: UTF-8 without byte order mark, JSON of the task's shape, every id, tag or question of the test set once
    (in the test file's order if the file has an order), no other, and answers that the task has: label strings, the
    index of an option of the question, of one of ten candidates, a text. Two things are fine: a missing line break at
    the end, and an idiom used twice in a record.
    """
    check = _labelled_lines if task.is_classification or task.kind == CHOICE else _answered_keys
    try:
        found = list(check(_decoded(content), task, rows))
    except _Unreadable as error:
        found = [error.args]
    return [f"{test.submission}, {place}: {reason}" for place, reason in found]


def one_label(content: bytes, task: Task) -> str | None:
    """``one label (102) for all 10,000 rows``, if a sound file of a classification task has only one; else None."""
    if not task.labels:
        return None
    labels = [json.loads(line)["label"] for line in content.splitlines() if line.strip()]
    return f"one label ({labels[0]}) for all {len(labels):,} rows" if len(labels) > 1 == len(set(labels)) else None


class _Unreadable(Exception):
    """(place, reason): after this defect nothing more can be read."""


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


# An object a line -----------------------------------------------------------------------------------------------------


def _labelled_lines(text: str, task: Task, rows: Sequence[Any]) -> Iterator[_Found]:
    """One object for each row, in order. Ids after the first misplaced one are not compared."""
    lines, ids = text.removesuffix("\n").split("\n"), range(len(rows)) if task.labels else [row.id for row in rows]
    row_of, line_of, in_order = dict(zip(ids, rows)), dict[int | str, int](), True
    for number, (line, due) in enumerate(zip(lines, ids), start=1):
        place = f"line {number}"
        try:
            values = _labelled_object(line)
        except _Unreadable as error:
            yield place, error.args[1]
            continue
        found, label = values["id"], values["label"]
        if in_order and (reason := _id_problem(found, due, row_of, line_of)):
            yield place, reason
            in_order = False
        if type(found) in (int, str) and found in row_of:
            if reason := _class_problem(label, task) if task.labels else _option_problem(label, row_of[found]):
                yield place, reason
            line_of.setdefault(found, number)
    if len(lines) < len(ids):
        next_id = f"the next id is {_shown(ids[len(lines)])}"
        yield f"line {len(lines)}", f"the file ends after {len(lines)} of {len(ids)} lines of the test set ({next_id})"
    elif len(lines) > len(ids):
        yield f"line {len(ids) + 1}", f"the file goes on for {len(lines)} lines; the test set has {len(ids)}"


def _labelled_object(line: str) -> dict[str, Any]:
    """The values of a line. Raises _Unreadable unless its keys are id and label, each once."""
    if not line.strip():
        raise _Unreadable("", "is blank, where a JSON object belongs")
    values: dict[str, Any] = {}
    for key, value, _ in _entries(line, '{"id": …, "label": …}'):
        if key in values:
            raise _Unreadable("", f'has the key "{key}" twice')
        values[key] = value
    if missing := [key for key in ("id", "label") if key not in values]:
        raise _Unreadable("", f'has no key "{missing[0]}"')
    if others := [key for key in values if key not in ("id", "label")]:
        raise _Unreadable("", f'has the key "{others[0]}": only "id" and "label" belong here')
    return values


def _id_problem(found: Any, due: int | str, row_of: Mapping, line_of: Mapping) -> str | None:
    if type(found) is not type(due):
        kind = "a whole number" if isinstance(due, int) else "a string"
        return f"id is {_shown(found)}, not {kind}; {_shown(due)} is due here"
    if found == due:
        return None
    if found in line_of:
        return f"id {_shown(found)} is here for the second time (first in line {line_of[found]}); {_shown(due)} is due"
    if found not in row_of:
        return f"id {_shown(found)} is not in the test set; {_shown(due)} is due"
    return f"id is {_shown(found)}, where {_shown(due)} is due: keep the order of the test file"


def _class_problem(label: Any, task: Task) -> str | None:
    if isinstance(label, str) and label in task.labels:
        return None
    if not isinstance(label, str) and (text := json.dumps(label)) in task.labels:
        return f'label is {text} without quotation marks: labels are strings, write "{text}"'
    few = task.labels if len(task.labels) <= 20 else (*task.labels[:3], "…", task.labels[-1])
    return f"label is {_shown(label)}, none of the task's: {' '.join(few)}"


def _option_problem(label: Any, row: Any) -> str | None:
    if type(label) is not int:
        return f"label is {_shown(label)}, not the number of an option, such as 0"
    if not 0 <= label < len(row.options):
        return f"label is {label}, but question {row.id} has {len(row.options)} options: 0 to {len(row.options) - 1}"
    return None


# One object with a key for each blank or question ---------------------------------------------------------------------


def _answered_keys(text: str, task: Task, rows: Sequence[Any]) -> Iterator[_Found]:
    """Every tag or question is there once, no other key, and every value is an answer."""
    if task.kind == IDIOM:
        what, check = "blank", _candidate_problem
        due = dict.fromkeys(tag for row in rows for passage in row.passages for tag in IDIOM_TAG.findall(passage))
    else:
        what, check, due = "question", _text_problem, dict.fromkeys(row.id for row in rows)
    line_of: dict[str, int] = {}
    for key, value, line in _entries(text, "{…}"):
        place = f"line {line}, key {_shown(key)}"
        if key in line_of:
            yield place, f"is here for the second time (first in line {line_of[key]})"
        elif key not in due:
            yield place, f"no {what} of the test set has this name"
        elif reason := check(value, task):
            yield place, reason
        line_of.setdefault(key, line)
    if missing := [key for key in due if key not in line_of]:
        more = f", and so are {len(missing) - 1} more" if len(missing) > 1 else ""
        yield f"key {_shown(missing[0])}", f"is missing{more}: every {what} of the test set needs an answer"


def _candidate_problem(value: Any, task: Task) -> str | None:
    if type(value) is int and 0 <= value < task.num_choices:
        return None
    return f"is {_shown(value)}, not a candidate's number from 0 to {task.num_choices - 1}"


def _text_problem(value: Any, task: Task) -> str | None:
    if not isinstance(value, str):
        return f"is {_shown(value)}, not a string"
    halves = any("\ud800" <= character <= "\udfff" for character in value)
    return f"is {_shown(value)}, which holds half a character: the text was cut in its middle" if halves else None


# JSON -----------------------------------------------------------------------------------------------------------------


def _entries(text: str, shape: str) -> Iterator[tuple[str, Any, int]]:
    """(key, value, line) of the one JSON object in ``text``, repeated keys included. Raises _Unreadable."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"is broken JSON: {error.msg} at column {error.colno}"
        if error.msg == "Extra data":
            reason = f"has more text after its JSON value ({shape}), at column {error.colno}"
        raise _Unreadable(f"line {error.lineno}", reason) from None
    except (ValueError, RecursionError) as error:
        raise _Unreadable("line 1", f"is broken JSON: {error}") from None
    start = len(text) - len(text.lstrip())
    if text[start] != "{":
        found = {"[": "a list", '"': "a string"}.get(text[start], _shown(text.strip()))
        raise _Unreadable(f"line {text.count(chr(10), 0, start) + 1}", f"is {found}, not one JSON object {shape}")
    line, counted = 1, 0
    for member in members(text, start):
        line, counted = line + text.count("\n", counted, member.start), member.start
        yield member.key, member.value, line


def _shown(value: Any) -> str:
    """A value as one short piece of JSON; a string in quotation marks."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 60 else text[:60] + "…"
