"""Official files to checked rows.

What a file holds, key by key, follows the CLUE data sets (Xu et al. 2020) and, for the reading tasks, C3 (Sun et al.
2020), ChID (Zheng et al. 2019) and CMRC 2018 (Cui et al. 2019). Every defect of a file is one DataError line that names
the file, the line and the field. Rows of test splits never need labels.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from cluebench.data.json_text import members
from cluebench.data.source import DataSource, split_files
from cluebench.errors import DataError
from cluebench.json_files import NotJson
from cluebench.json_files import parse as parse_json
from cluebench.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task

#: A blank in a ChID passage, and what is left of one that was damaged.
IDIOM_TAG = re.compile(r"#idiom\d+#")
_BROKEN_TAG = re.compile(r"#?idiom\d+#?")

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
    """A question of C3 with its options as they stand in the file: not padded to four, not lower-cased."""

    context: str  # the lines, joined by \n
    question: str
    options: tuple[str, ...]
    answer: int | None  # index in options; None in test splits
    id: int | str  # the question's own id; where the file has none, its number in the split


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
    at the white space, as in the published runs. The first answer, which is the one trained on, starts in the context.
    """

    id: str
    context: str
    question: str
    answers: tuple[str, ...]  # empty in test splits
    answer_starts: tuple[int, ...]  # character positions in context


def load_rows(source: DataSource, task: Task, split: str, limit: int | None = None) -> list:
    """The rows of a split in the file's order: TextRow, ChoiceRow, IdiomRecord or SpanRow by the task's kind.

    ``split`` is "train", "dev", or "test" and a version ("test1.1"). Rows of train and dev whose label is ``-`` are
    dropped, then the first ``limit`` are kept; what lies behind them is neither parsed nor checked where rows stand one
    a line.
    Raises DataError for a missing file or a defect in it, NetworkError when downloading fails, and ValueError for an
    unknown split.
    """
    files = split_files(task, split)
    labelled = not split.startswith("test")
    rows = list(islice(_LOADERS[task.kind](source, task, files, labelled), limit))
    if not rows and limit != 0:
        raise DataError(f"{task.name}: {source.describe(task, files[0])} holds no usable rows")
    return rows


class _Defect(Exception):
    """What is wrong with a row; the loader, who knows file and line, makes a DataError of it."""

    def __init__(self, message: str, path: Sequence[str | int] = ()):
        super().__init__(message)
        self.path = tuple(path)  # where in the document, when it is one JSON value


# Files of one JSON object a line --------------------------------------------------------------------------------------


def _json_lines(source: DataSource, task: Task, file: str, parse: Callable[[dict], Any]) -> Iterator[Any]:
    """``parse`` of each line's object. Lines end at \\n alone: texts hold other line separators, such as U+2028."""
    content = source.read(task, file)
    for number, line in enumerate(io.BytesIO(content.removeprefix(b"\xef\xbb\xbf")), start=1):
        if line.isspace():
            continue
        try:
            row = parse_json(line)
            if not isinstance(row, dict):
                raise _Defect(f"is {_shown(row)}, not a JSON object")
            parsed = parse(row)
        except (_Defect, NotJson) as defect:
            raise DataError(f"{task.name}: {source.describe(task, file)}, line {number}: {defect}") from None
        yield parsed


def _shown(value: Any, longest: int = 60) -> str:
    """A value as one short line."""
    text = json.dumps(value, ensure_ascii=True) if isinstance(value, float) else repr(value)
    return text if len(text) <= longest else text[:longest] + "…"


_KIND_NAMES = {str: "a string", list: "a list", dict: "an object", int: "an integer"}


def _field(holder: dict, key: str, kind: type, path: Sequence[str | int] = ()) -> Any:
    """``holder[key]``, which must be of ``kind``. JSON's true and false are not integers."""
    if key not in holder:
        raise _Defect(f"field {key!r} is missing", path)
    value = holder[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _Defect(f"field {key!r} is {_shown(value)}, not {_KIND_NAMES[kind]}", (*path, key))
    return value


def _strings(holder: dict, key: str, path: Sequence[str | int] = ()) -> list[str]:
    values = _field(holder, key, list, path)
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise _Defect(f"field {key!r}[{index}] is {_shown(value)}, not a string", (*path, key, index))
    return values


def _identity(row: dict) -> int | str | None:
    """The row's id, whatever the data set calls it."""
    value = row.get("id", row.get("idx"))
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


# Classification -------------------------------------------------------------------------------------------------------


def _text_rows(source: DataSource, task: Task, files: Sequence[str], labelled: bool) -> Iterator[TextRow]:
    label_index = {label: index for index, label in enumerate(task.labels)}

    def parse(row: dict) -> TextRow | None:
        if labelled and row.get("label") == NO_AGREED_LABEL:
            return None
        return TextRow(_texts(task, row), _label(row, label_index) if labelled else None, _identity(row))

    for file in files:
        for row in _json_lines(source, task, file, parse):
            if row is not None:
                yield row


def _label(row: dict, label_index: dict[str, int]) -> int:
    """The label's index. Labels come as strings, numbers or JSON's true and false."""
    if "label" not in row:
        raise _Defect("field 'label' is missing")
    label = row["label"]
    index = label_index.get(label if isinstance(label, str) else json.dumps(label))
    if index is None:
        raise _Defect(f"field 'label' is {_shown(label)}, not one of {', '.join(label_index)}")
    return index


def _texts(task: Task, row: dict) -> tuple[str, ...]:
    texts = tuple(
        " ".join(_strings(row, field)) if field == task.joined_field else _field(row, field, str)
        for field in task.text_fields
    )
    return (_marked(texts[0], _field(row, "target", dict)), *texts[1:]) if task.marked_spans else texts


def _marked(text: str, target: dict) -> str:
    """``_`` round span1 (the noun) and ``[ ]`` round span2 (the pronoun), as CLUEWSC2020 is presented to a model."""
    spans = [(*_span(text, target, "span1"), "_", "_"), (*_span(text, target, "span2"), "[", "]")]
    (first, first_end, *_), (second, second_end, *_) = spans
    if max(first, second) < min(first_end, second_end):
        raise _Defect("fields 'target.span1_text' and 'target.span2_text' overlap in 'text'")
    for start, end, before, after in sorted(spans, reverse=True):  # the later one first, so that positions hold
        text = f"{text[:start]}{before}{text[start:end]}{after}{text[end:]}"
    return text


def _span(text: str, target: dict, name: str) -> tuple[int, int]:
    """Start and end of a span in characters."""
    span, start = _field(target, f"{name}_text", str), _field(target, f"{name}_index", int)
    if not span:
        raise _Defect(f"field 'target.{name}_text' is empty")
    if start < 0 or text[start : start + len(span)] != span:
        found = text[max(start, 0) : max(start, 0) + len(span)]
        raise _Defect(f"field 'target.{name}_index' is {start}, where 'text' has {_shown(found)}, not {_shown(span)}")
    return start, start + len(span)


# CHID -----------------------------------------------------------------------------------------------------------------


def _idiom_records(source: DataSource, task: Task, files: Sequence[str], labelled: bool) -> Iterator[IdiomRecord]:
    for file in files:
        if file in task.answer_files.values():
            continue
        answers = _idiom_answers(source, task, task.answer_files[file]) if labelled else None
        seen: set[str] = set()

        def parse(row: dict, answers: dict | None = answers, seen: set = seen) -> IdiomRecord:
            passages, candidates = _strings(row, "content"), _strings(row, "candidates")
            for index, passage in enumerate(passages):
                if broken := _BROKEN_TAG.search(IDIOM_TAG.sub("", passage)):
                    raise _Defect(f"field 'content'[{index}] has {broken[0]!r}, a blank without one of its #")
            if len(candidates) != task.num_choices:
                raise _Defect(f"field 'candidates' has {len(candidates)} idioms, not {task.num_choices}")
            tags = [tag for passage in passages for tag in IDIOM_TAG.findall(passage)]
            for tag in tags:
                if tag in seen:
                    raise _Defect(f"field 'content' has the blank {tag} for the second time in this file")
                seen.add(tag)
            chosen = None if answers is None else {tag: _idiom_answer(answers, tag, len(candidates)) for tag in tags}
            return IdiomRecord(tuple(passages), tuple(candidates), chosen)

        yield from _json_lines(source, task, file, parse)
        # Not reached where a limit ends the reading early.
        _check_blanks(f"{task.name}: {source.describe(task, file)}", task, file, seen, answers)


def _check_blanks(place: str, task: Task, file: str, seen: set[str], answers: dict | None) -> None:
    """Raises DataError when a file has no blank at all, or its answer file has answers for none of them."""
    if not seen:
        raise DataError(f"{place}: has no blank, such as #idiom000000#, in any line")
    if unasked := [tag for tag in answers or () if tag not in seen]:
        more = f" and {len(unasked) - 1} more" if len(unasked) > 1 else ""
        raise DataError(f"{place}: has no blank {unasked[0]}{more}, which {task.answer_files[file]} has answers for")


def _idiom_answers(source: DataSource, task: Task, file: str) -> dict:
    answers = _json_document(source, task, file)[0]
    if not isinstance(answers, dict):
        place = source.describe(task, file)
        raise DataError(f"{task.name}: {place}, line 1: is {_shown(answers)}, not an object of blanks and answers")
    return answers


def _idiom_answer(answers: dict, tag: str, candidates: int) -> int:
    if tag not in answers:
        raise _Defect(f"field 'content' has the blank {tag}, which has no answer in the answer file")
    answer = answers[tag]
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < candidates:
        raise _Defect(f"the answer file has {_shown(answer)} for {tag}, not a number from 0 to {candidates - 1}")
    return answer


# Files of one JSON value: C3 and CMRC2018 -----------------------------------------------------------------------------


def _json_document(source: DataSource, task: Task, file: str) -> tuple[Any, str]:
    """The value and its text. Raises DataError with the line where the JSON breaks."""
    content = source.read(task, file).removeprefix(b"\xef\xbb\xbf")
    try:
        return parse_json(content), content.decode()
    except NotJson as error:
        line = f", line {error.line}" if error.line else ""
        raise DataError(f"{task.name}: {source.describe(task, file)}{line}: {error}") from None


def _document_rows(source: DataSource, task: Task, file: str, parse: Callable[[Any], Iterator[Any]]) -> Iterator[Any]:
    """The rows that ``parse`` finds in a document; its defects get the line on which they stand."""
    document, text = _json_document(source, task, file)
    try:
        yield from parse(document)
    except _Defect as defect:
        place = f"{task.name}: {source.describe(task, file)}, line {_line_of(text, defect.path)}"
        at = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in defect.path).lstrip(".")
        raise DataError(f"{place}{f' ({at})' if at else ''}: {defect}") from None


def _line_of(text: str, path: Sequence[str | int]) -> int:
    """The line on which the value at ``path`` begins, or what holds it when it isn't there. ``text`` is sound JSON."""
    position = len(text) - len(text.lstrip())
    for step in path:
        found = [member.value_start for member in members(text, position) if member.key == step]
        if not found:
            break
        position = found[0]
    return text.count("\n", 0, position) + 1


def _expect(value: Any, kind: type, path: Sequence[str | int]) -> Any:
    if not isinstance(value, kind):
        raise _Defect(f"is {_shown(value)}, not {_KIND_NAMES[kind]}", path)
    return value


def _choice_rows(source: DataSource, task: Task, files: Sequence[str], labelled: bool) -> Iterator[ChoiceRow]:
    numbers = count()
    seen: set[int | str] = set()

    def parse(document: Any) -> Iterator[ChoiceRow]:
        for item_number, item in enumerate(_expect(document, list, ())):
            if len(_expect(item, list, (item_number,))) < 2:
                raise _Defect("an item is a list of context and questions", (item_number,))
            lines = _list_at(item, 0, item_number)
            context = "\n".join(_expect(line, str, (item_number, 0, index)) for index, line in lines)
            for index, question in _list_at(item, 1, item_number):
                path = (item_number, 1, index)
                row = _choice_row(_expect(question, dict, path), context, labelled, next(numbers), path)
                if row.id in seen:
                    raise _Defect(f"field 'id' is {_shown(row.id)} for the second time in this split", (*path, "id"))
                seen.add(row.id)
                yield row

    for file in files:
        yield from _document_rows(source, task, file, parse)


def _list_at(item: list, index: int, item_number: int) -> Iterator[tuple[int, Any]]:
    """The numbered values of the list that is part ``index`` of a C3 item."""
    return enumerate(_expect(item[index], list, (item_number, index)))


def _choice_row(question: dict, context: str, labelled: bool, number: int, path: tuple) -> ChoiceRow:
    text, options = _field(question, "question", str, path), _strings(question, "choice", path)
    if len(options) < 2:
        raise _Defect(f"field 'choice' has {len(options)} option(s); a question has at least two", (*path, "choice"))
    if not labelled:
        identity = _identity(question)
        if identity is None:
            raise _Defect("field 'id' is missing, or neither a number nor a string", path)
        return ChoiceRow(context, text, tuple(options), None, identity)
    answer = _field(question, "answer", str, path)
    if answer not in options:
        raise _Defect(f"field 'answer' is {_shown(answer)}, none of the options in 'choice'", (*path, "answer"))
    return ChoiceRow(context, text, tuple(options), options.index(answer), number)


def _span_rows(source: DataSource, task: Task, files: Sequence[str], labelled: bool) -> Iterator[SpanRow]:
    for file in files:
        seen: set[str] = set()
        misplaced: list[str] = []

        def parse(document: Any, seen: set = seen, misplaced: list = misplaced) -> Iterator[SpanRow]:
            for path, context, question in _span_questions(document):
                row = _span_row(question, context, labelled, path, misplaced)
                if row.id in seen:
                    raise _Defect(f"field 'id' is {_shown(row.id)} for the second time in this file", (*path, "id"))
                seen.add(row.id)
                yield row

        try:
            yield from _document_rows(source, task, file, parse)
        finally:  # also when a limit ends the reading early
            if misplaced and source.is_official(task, file):
                if file in task.train_files:  # known of dev too, where it moves nothing
                    source.say_once(f"{task.name}: {_misplaced(misplaced)} in the official {file}, as published")
            elif misplaced:
                which = ", ".join(misplaced[:3]) + (", …" if len(misplaced) > 3 else "")
                found = f"{_misplaced(misplaced)} ({which}); the starts are taken as they are"
                source.say_once(f"warning: {task.name}: {source.describe(task, file)}: {found}")


def _span_questions(document: Any) -> Iterator[tuple[tuple, str, dict]]:
    """(path, paragraph's context, question object) of a file in SQuAD layout."""
    articles = _field(_expect(document, dict, ()), "data", list)
    for article_number, article in enumerate(articles):
        at = ("data", article_number)
        for number, paragraph in enumerate(_field(_expect(article, dict, at), "paragraphs", list, at)):
            inside = (*at, "paragraphs", number)
            context = _field(_expect(paragraph, dict, inside), "context", str, inside)
            for index, question in enumerate(_field(paragraph, "qas", list, inside)):
                path = (*inside, "qas", index)
                yield path, context, _expect(question, dict, path)


def _span_row(question: dict, context: str, labelled: bool, path: tuple, misplaced: list[str]) -> SpanRow:
    """The row; its id is added to ``misplaced`` when the first answer doesn't stand at its start."""
    identity, text = _identity(question), _field(question, "question", str, path)
    if identity is None:
        raise _Defect("field 'id' is missing, or neither a number nor a string", path)
    answers, starts = [], []
    indent = len(context) - len(context.lstrip())
    if labelled:
        for index, answer in enumerate(_field(question, "answers", list, path)):
            at = (*path, "answers", index)
            start = _field(_expect(answer, dict, at), "answer_start", int, at)
            span = _field(answer, "text", str, at)
            if not span.strip():
                raise _Defect("field 'text' of an answer is empty", (*at, "text"))
            if index == 0 and not 0 <= start < len(context):  # the official dev file has -1 in some second answers
                message = f"field 'answer_start' is {start}, outside the context's {len(context)} characters"
                raise _Defect(message, (*at, "answer_start"))
            if index == 0 and not context.startswith(span, start):
                misplaced.append(str(identity))
            answers.append(span.strip())
            starts.append(start if start < 0 else max(0, start - indent))
        if not answers:
            raise _Defect("field 'answers' is empty: every question needs an answer", (*path, "answers"))
    return SpanRow(str(identity), context.strip(), text.strip(), tuple(answers), tuple(starts))


def _misplaced(answers: Sequence[str]) -> str:
    return f"{len(answers)} first answer(s) don't stand at their answer_start"


_LOADERS = {
    SINGLE: _text_rows,
    PAIR: _text_rows,
    CHOICE: _choice_rows,
    IDIOM: _idiom_records,
    SPAN: _span_rows,
}
