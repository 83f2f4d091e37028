"""What is wrong with a submission file: one check per file shape.

A check knows a file's content and the rows of its test set, nothing else; whatever a leaderboard would count as wrong,
refuse or misread is a `Problem`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task, TestSet
from cluebench.data.json_text import members
from cluebench.data.rows import IDIOM_TAG


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
        found = sorted(check(_decoded(content), task, rows), key=_line)
    except _Unreadable as error:
        found = [(error.place, error.reason)]
    return [Problem(test.submission, place, reason) for place, reason in found]


def one_label(content: bytes, task: Task) -> str | None:
    """``one label (102) for all 10,000 rows``, of a sound file of a classification task that says so; else None."""
    if not task.labels:
        return None
    labels = [json.loads(line)["label"] for line in content.splitlines() if line.strip()]
    return f"one label ({labels[0]}) for all {len(labels):,} rows" if len(labels) > 1 == len(set(labels)) else None


#: (place, reason)
_Found = tuple[str, str]


def _line(found: _Found) -> float:
    """What is missing stands in no line, and comes last."""
    number = re.match(r"line (\d+)", found[0])
    return int(number[1]) if number else math.inf


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
        next_id = f"the next id is {_shown(ids[len(lines)])}"
        yield f"line {len(lines)}", f"the file ends after {len(lines)} of {len(ids)} lines of the test set ({next_id})"
    elif len(lines) > len(ids):
        yield f"line {len(ids) + 1}", f"the file goes on for {len(lines)} lines; the test set has {len(ids)}"
    row_of = dict(zip(ids, rows))
    line_of: dict[int | str, int] = {}
    in_order = True
    for number, (line, expected) in enumerate(zip(lines, ids), start=1):
        place = f"line {number}"
        try:
            values = _labelled_object(line)
        except _Unreadable as error:
            yield place, error.reason
            continue
        named = values["id"]
        if in_order and (reason := _id_problem(named, expected, row_of, line_of)):
            yield place, reason
            in_order = False
        if type(named) not in (int, str):
            continue
        if named in row_of and (reason := label_problem(values["label"], task, row_of[named])):
            yield place, reason
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


@dataclass(frozen=True)
class _Constant:
    """NaN or Infinity, which JSON does not know and Python writes all the same. No text, though it looks like one."""

    name: str

    def __str__(self) -> str:
        return self.name


#: Keeps repeated keys, and NaN where it stands.
_DECODER = json.JSONDecoder(object_pairs_hook=lambda pairs: [tuple(pair) for pair in pairs], parse_constant=_Constant)


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
    start = len(text) - len(text.lstrip())
    if text[start] != "{":
        found = {"[": "a list", '"': "a string"}.get(text[start], _shown(text.strip()))
        raise _Unreadable(f"line {text.count(chr(10), 0, start) + 1}", f"is {found}, not one JSON object {shape}")
    return _scanned(text, start)


def _scanned(text: str, start: int) -> Iterator[tuple[str, Any, int]]:
    """The entries of an object that is known to be sound JSON."""
    line, counted = 1, 0
    for member in members(text, start, _DECODER):
        line, counted = line + text.count("\n", counted, member.start), member.start
        yield member.key, member.value, line


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
