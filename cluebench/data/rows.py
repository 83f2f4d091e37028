"""Official files to checked rows.

What a file holds, key by key, follows the CLUE data sets (Xu et al. 2020) and, for the reading tasks, C3 (Sun et al.
2020), ChID (Zheng et al. 2019) and CMRC 2018 (Cui et al. 2019). Every defect of a file is one DataError line that names
the file, the line and the field. Rows of test splits never need labels.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Any, NamedTuple, Protocol, TypeVar

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task
from cluebench.data.json_text import members
from cluebench.data.official import split_files
from cluebench.foundation.errors import DataError
from cluebench.foundation.json_files import Misfit, NotJson, converted
from cluebench.foundation.json_files import parse as parse_json
from cluebench.foundation.notices import notice_once

#: A blank in a ChID passage, and what is left of a damaged one.
IDIOM_TAG = re.compile(r"#idiom\d+#")
_BROKEN_TAG = re.compile(r"#?idiom\d+#?")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

T = TypeVar("T")

#: The label of rows on which the annotators did not agree (OCNLI, CMNLI): they are dropped from train and dev.
NO_AGREED_LABEL = "-"


@dataclass(frozen=True, slots=True)
class TextRow:
    """A row of a classification task: one text or two."""

    texts: tuple[str, ...]
    label: int | None  # index in task.labels; None in test splits
    id: int | str | None = None


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    """A question of C3 with its options as in the file: not padded to four, not lower-cased."""

    context: str  # the lines, joined by \n
    question: str
    options: tuple[str, ...]
    answer: int | None  # index in options; None in test splits
    id: int | str  # the question's own id; without one its number in the split


@dataclass(frozen=True, slots=True)
class IdiomRecord:
    """A record of CHID: passages with blanks, ten candidates for all of them."""

    passages: tuple[str, ...]
    candidates: tuple[str, ...]
    answers: dict[str, int] | None  # tag → index in candidates, tags in reading order; None in test splits


@dataclass(frozen=True, slots=True)
class SpanRow:
    """A question of CMRC2018. Texts are stripped of surrounding white space; starts count from the stripped context.

    An answer's start is the file's: a few don't match the text, and where an answer was stripped on its left it points
    at the white space, as in the published runs. The first answer, which is used in training, starts in the context.
    """

    id: str
    context: str
    question: str
    answers: tuple[str, ...]  # empty in test splits
    answer_starts: tuple[int, ...]  # character positions in context


class Files(Protocol):
    """What `load_rows` needs of a `cluebench.data.source.DataSource`."""

    def read(self, task: Task, file: str) -> bytes: ...
    def describe(self, task: Task, file: str) -> str: ...
    def is_official(self, task: Task, file: str) -> bool: ...


#: A file's name → its place, for errors, and its bytes.
Read = Callable[[str], tuple[str, bytes]]


def load_rows(source: Files, task: Task, split: str, limit: int | None = None) -> list:
    """The rows of a split in the file's order: TextRow, ChoiceRow, IdiomRecord or SpanRow by the task's kind.

    ``split`` is "train", "dev", or "test" and a version ("test1.1"). Rows of train and dev whose label is ``-`` are
    dropped, then the first ``limit`` are kept. Rows after the limit are not checked in files with one row a line.
    Raises DataError for a missing file or a defect in it, NetworkError when downloading fails, and ValueError for an
    unknown split.
    """
    return list(read_rows(source, task, split, limit))


def read_rows(source: Files, task: Task, split: str, limit: int | None = None) -> Iterator:
    """The same, one after the other, for splits whose rows take much memory."""
    files, labelled = split_files(task, split), not split.startswith("test")

    def place(file: str = files[0]) -> str:
        return f"{task.name}: {source.describe(task, file)}"

    def read(file: str) -> tuple[str, bytes]:
        return place(file), source.read(task, file)

    is_empty, misplaced = True, []
    for row in islice(_LOADERS[task.kind](task, files, labelled, read), limit):
        is_empty = False
        if task.kind == SPAN and labelled and not stands(row.context, row.answers[0], row.answer_starts[0]):
            misplaced.append(row.id)
        yield row
    if is_empty and limit != 0:
        raise DataError(f"{place()} holds no usable rows")
    found = f"{len(misplaced)} first answer(s) don't stand at their answer_start"
    if misplaced and not source.is_official(task, files[0]):
        which = ", ".join(misplaced[:3]) + (", …" if len(misplaced) > 3 else "")
        notice_once(f"warning: {place()}: {found} ({which}); the starts are used as they are")
    elif misplaced and split == "train":  # those of the official dev file change nothing
        notice_once(f"{task.name}: {found} in the official {files[0]}, as published")


def row_hash(task: Task, file: str, read: Read) -> str:
    """The `hash_of_rows` of one official file. Raises DataError."""
    return hash_of_rows(task, _LOADERS[task.kind](task, (file,), file in task.train_files + task.dev_files, read))


def hash_of_rows(task: Task, rows: Iterable[Any]) -> str:
    """16 hexadecimal digits of what a model or a score sees of rows, in order.

    It covers texts, options, right answers and their places, but no ids: the same rows in another layout, or from a
    copy, give the same hash.
    """
    digest = hashlib.sha256()
    for row in rows:
        seen = [getattr(row, name) for name in type(row).__slots__ if name != "id"]
        if task.labels:
            seen[1] = None if row.label is None else task.labels[row.label]
        digest.update(json.dumps(seen, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()[:16]


def ids_or_numbers(ids: Sequence[int | str | None]) -> Sequence[int | str]:
    """The ids of rows, all numbers or all texts; the numbers of the rows if an id is missing."""
    present = [id for id in ids if id is not None]
    if len(present) < len(ids):
        return range(len(ids))
    return present if all(isinstance(id, int) for id in present) else [*map(str, present)]


def stands(context: str, answer: str, start: int) -> bool:
    """Whether an answer is at its start, after white space that was stripped from it."""
    return start >= 0 and context[start:].lstrip().startswith(answer)


# Values of JSON -------------------------------------------------------------------------------------------------------


class _Defect(Exception):
    """What is wrong with a row, and where in the JSON value. The loader adds file and line and raises a DataError."""

    def __init__(self, message: str, path: Sequence[str | int] = ()):
        super().__init__(message)
        self.path = tuple(path)


_KIND_NAMES = {"str": "a string", "array": "a list", "object": "an object", "int": "an integer"}


def _declared(value: Any, kind: type[T], *at: str | int) -> T:
    """A JSON value, which is ``at`` some path, as ``kind`` declares it. Raises _Defect."""
    if type(value) is kind:  # quicker than msgspec
        return value
    try:
        return converted(value, kind)
    except Misfit as misfit:
        what, path = misfit.what, [*at, *misfit.path]
    for step in path[len(at) :]:
        value = value[step]
    wanted = what.removeprefix("Expected ").split(",")[0].removesuffix(" | null")
    key = next((place for place in reversed(range(len(path))) if isinstance(path[place], str)), None)
    field = "" if key is None else f"field {path[key]!r}{''.join(f'[{step}]' for step in path[key + 1 :])} "
    raise _Defect(f"{field}is {_shown(value)}, not {_KIND_NAMES.get(wanted, wanted)}", path)


def _member(row: Any, key: str, kind: Any, *at: str | int) -> Any:
    """What the object ``at`` some path has under a key, as ``kind`` declares it. Raises _Defect."""
    if not isinstance(row, dict):
        _declared(row, dict, *at)
    # Keys may be any text, and msgspec 0.22.0 misses those beyond ASCII, see findings/msgspec_keys_beyond_ascii.sh.
    if key not in row:
        raise _Defect(f"field {key!r} is missing", at)
    return _declared(row[key], kind, *at, key)


def _shown(value: Any) -> str:
    """A value as one short line."""
    text = json.dumps(value, ensure_ascii=True) if isinstance(value, float) else repr(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _lines(place: str, content: bytes, parse: Callable[[Any], T]) -> Iterator[T]:
    """``parse`` of each line's value. Lines end at \\n alone: texts hold other line separators, such as U+2028."""
    for number, line in enumerate(io.BytesIO(content.removeprefix(_BYTE_ORDER_MARK)), start=1):
        if line.isspace():
            continue
        try:
            parsed = parse(parse_json(line))
        except (_Defect, NotJson) as defect:
            raise DataError(f"{place}, line {number}: {defect}") from None
        yield parsed


def _document(place: str, content: bytes, parse: Callable[[Any], Iterator[T]]) -> Iterator[T]:
    """What ``parse`` finds in the one value of a file. Errors name the line of a defect or of broken JSON."""
    content = content.removeprefix(_BYTE_ORDER_MARK)
    try:
        yield from parse(parse_json(content))
    except NotJson as error:
        line = f", line {error.line}" if error.line else ""
        raise DataError(f"{place}{line}: {error}") from None
    except _Defect as defect:
        at = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in defect.path).lstrip(".")
        line = f"line {_line_of(content.decode(), defect.path)}{f' ({at})' if at else ''}"
        raise DataError(f"{place}, {line}: {defect}") from None


def _line_of(text: str, path: Sequence[str | int]) -> int:
    """The line of the value at ``path``; if it is missing, the line of its parent. ``text`` is sound JSON."""
    position = len(text) - len(text.lstrip())
    for step in path:
        found = [member.value_start for member in members(text, position) if member.key == step]
        if not found:
            break
        position = found[0]
    return text.count("\n", 0, position) + 1


# Classification -------------------------------------------------------------------------------------------------------


def label_names(source: Files, task: Task) -> dict[str, str]:
    """Label → its meaning, by the official list of a task's labels; empty for a task without such a list.

    Raises DataError where the list is missing or broken.
    """

    def parse(row: Any) -> tuple[str, str]:
        label = _member(row, "label", str)
        return label, next((str(row[key]) for key in ("label_desc", "label_des") if row.get(key)), label)

    if not (file := task.label_file):
        return {}
    return dict(_lines(f"{task.name}: {source.describe(task, file)}", source.read(task, file), parse))


def _text_rows(task: Task, files: Sequence[str], labelled: bool, read: Read) -> Iterator[TextRow]:
    label_index = {label: index for index, label in enumerate(task.labels)}

    def parse(value: Any) -> TextRow | None:
        index = None
        if labelled and _member(value, "label", Any) == NO_AGREED_LABEL:
            return None
        texts = [
            " ".join(_member(value, name, list[str])) if name == task.joined_field else _member(value, name, str)
            for name in task.text_fields
        ]
        if task.marked_spans:
            texts[0] = _marked(texts[0], _member(value, "target", dict))
        if labelled:  # labels come as strings, numbers or JSON's true and false
            label = value["label"]
            index = label_index.get(label if isinstance(label, str) else json.dumps(label))
            if index is None:
                raise _Defect(f"field 'label' is {_shown(label)}, not one of {', '.join(label_index)}")
        key = next((name for name in ("id", "idx") if value.get(name) is not None), None)
        return TextRow(tuple(texts), index, key and _member(value, key, int | str))

    return (row for file in files for row in _lines(*read(file), parse) if row is not None)


def _marked(text: str, target: dict) -> str:
    """``_`` round span1 (the noun) and ``[ ]`` round span2 (the pronoun), as CLUEWSC2020 is presented to a model."""
    spans = []
    for name, marks in (("span1", "__"), ("span2", "[]")):
        span, start = _member(target, f"{name}_text", str), _member(target, f"{name}_index", int)
        if not span:
            raise _Defect(f"field 'target.{name}_text' is empty")
        if start < 0 or not text.startswith(span, start):
            found = _shown(text[max(start, 0) : max(start, 0) + len(span)])
            raise _Defect(f"field 'target.{name}_index' is {start}, where 'text' has {found}, not {_shown(span)}")
        spans.append((start, start + len(span), marks))
    first, second = sorted(spans)
    if second[0] < first[1]:
        raise _Defect("fields 'target.span1_text' and 'target.span2_text' overlap in 'text'")
    for start, end, marks in (second, first):  # the later span first, so that positions stay right
        text = f"{text[:start]}{marks[0]}{text[start:end]}{marks[1]}{text[end:]}"
    return text


# CHID -----------------------------------------------------------------------------------------------------------------


def _idiom_records(task: Task, files: Sequence[str], labelled: bool, read: Read) -> Iterator[IdiomRecord]:
    for file in files:
        if file in task.answer_files.values():
            continue
        answers, seen = None, dict[str, int]()
        if labelled:
            (answers,) = _document(*read(task.answer_files[file]), lambda value: iter([_declared(value, dict)]))
        place, content = read(file)
        yield from _lines(place, content, partial(_idiom_record, task.num_choices, answers, seen))
        # Not reached where a limit ends the reading early.
        if not seen:
            raise DataError(f"{place}: has no blank, such as #idiom000000#, in any line")
        if answers:
            more = f" and {len(answers) - 1} more" if len(answers) > 1 else ""
            which = f"has no blank {next(iter(answers))}{more}, which {task.answer_files[file]} has answers for"
            raise DataError(f"{place}: {which}")


def _idiom_record(options: int, answers: dict[str, Any] | None, seen: dict[str, int], value: Any) -> IdiomRecord:
    """``options``: the number of candidates; ``seen``: the tags of the records before, to which its own are added.

    The answers to its blanks are removed from ``answers``.
    """
    passages, candidates = _member(value, "content", list[str]), _member(value, "candidates", list[str])
    if len(candidates) != options:
        raise _Defect(f"field 'candidates' has {len(candidates)} idioms, not {options}")
    chosen = {}
    for index, passage in enumerate(passages):
        if broken := _BROKEN_TAG.search(IDIOM_TAG.sub("", passage)):
            raise _Defect(f"field 'content'[{index}] has {broken[0]!r}, a blank without one of its #")
        for tag in IDIOM_TAG.findall(passage):
            if tag in seen:
                raise _Defect(f"field 'content' has the blank {tag} for the second time in this file")
            if answers is not None and tag not in answers:
                raise _Defect(f"field 'content' has the blank {tag}, which has no answer in the answer file")
            answer = 0 if answers is None else answers.pop(tag)
            if type(answer) is not int or not 0 <= answer < options:
                raise _Defect(f"the answer file has {_shown(answer)} for {tag}, not a number from 0 to {options - 1}")
            seen[tag] = chosen[tag] = answer
    return IdiomRecord(tuple(passages), tuple(candidates), None if answers is None else chosen)


# C3 and CMRC2018: a file is one JSON value ----------------------------------------------------------------------------


class _Item(NamedTuple):
    context: list[str]  # lines
    questions: list[dict]
    document: Any = None


def _choice_rows(task: Task, files: Sequence[str], labelled: bool, read: Read) -> Iterator[ChoiceRow]:
    numbers = count()
    seen: set[int | str] = set()

    def parse(document: Any) -> Iterator[ChoiceRow]:
        for item_number, item in enumerate(_declared(document, list[_Item])):
            for index, question in enumerate(item.questions):
                path = (item_number, 1, index)
                row = _choice_row(question, "\n".join(item.context), labelled, next(numbers), path)
                if row.id in seen and not labelled:
                    raise _Defect(f"field 'id' is {_shown(row.id)} for the second time in this split", (*path, "id"))
                seen.add(row.id)
                yield row

    return (row for file in files for row in _document(*read(file), parse))


def _choice_row(question: dict, context: str, labelled: bool, number: int, path: tuple[int, ...]) -> ChoiceRow:
    text, options = (_member(question, key, kind, *path) for key, kind in (("question", str), ("choice", list[str])))
    if len(options) < 2:
        raise _Defect(f"field 'choice' has {len(options)} option(s); a question has at least two", (*path, "choice"))
    if not labelled:
        return ChoiceRow(context, text, tuple(options), None, _member(question, "id", int | str, *path))
    answer = _member(question, "answer", str, *path)
    if answer not in options:
        raise _Defect(f"field 'answer' is {_shown(answer)}, none of the options in 'choice'", (*path, "answer"))
    id = number if question.get("id") is None else _member(question, "id", int | str, *path)
    return ChoiceRow(context, text, tuple(options), options.index(answer), id)


def _span_rows(task: Task, files: Sequence[str], labelled: bool, read: Read) -> Iterator[SpanRow]:
    def parse(document: Any) -> Iterator[SpanRow]:
        """A file in SQuAD layout."""
        seen: set[str] = set()
        for number, article in enumerate(_member(document, "data", list)):
            at = ("data", number, "paragraphs")
            for index, paragraph in enumerate(_member(article, at[-1], list, *at[:-1])):
                context = _member(paragraph, "context", str, *at, index)
                for place, question in enumerate(_member(paragraph, "qas", list, *at, index)):
                    path = (*at, index, "qas", place)
                    row = _span_row(question, context, labelled, path)
                    if row.id in seen:
                        id = _shown(row.id)
                        raise _Defect(f"field 'id' is {id} for the second time in this file", (*path, "id"))
                    seen.add(row.id)
                    yield row

    return (row for file in files for row in _document(*read(file), parse))


def _span_row(question: Any, context: str, labelled: bool, path: tuple) -> SpanRow:
    id, text = str(_member(question, "id", int | str, *path)), _member(question, "question", str, *path).strip()
    if not labelled:
        return SpanRow(id, context.strip(), text, (), ())
    answers, indent = (
        question.get("answers") and _member(question, "answers", list, *path),
        len(context) - len(context.lstrip()),
    )
    if not answers:
        raise _Defect("field 'answers' is missing or empty: every question needs an answer", (*path, "answers"))
    texts, starts = [], []
    for index, answer in enumerate(answers):
        at = (*path, "answers", index)
        texts.append(_member(answer, "text", str, *at).strip())
        if not texts[-1]:
            raise _Defect("field 'text' of an answer is empty", (*at, "text"))
        start = _member(answer, "answer_start", int, *at)
        if index == 0 and not 0 <= start < len(context):  # the official dev file has -1 in some second answers
            message = f"field 'answer_start' is {start}, outside the context's {len(context)} characters"
            raise _Defect(message, (*at, "answer_start"))
        starts.append(start if start < 0 else max(0, start - indent))
    return SpanRow(id, context.strip(), text, tuple(texts), tuple(starts))


_LOADERS: dict[str, Callable[[Task, Sequence[str], bool, Read], Iterator[Any]]] = {
    SINGLE: _text_rows, PAIR: _text_rows, CHOICE: _choice_rows, IDIOM: _idiom_records, SPAN: _span_rows
}  # fmt: skip
