"""Dev rows as people read them: texts, right answer, and the meaning of an index."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task
from cluebench.data.rows import IDIOM_TAG, ChoiceRow, IdiomRecord, SpanRow, TextRow, ids_or_numbers
from cluebench.foundation.errors import DataError
from cluebench.records.dev_predictions import DevPredictions

#: Characters of a passage shown on either side of a blank.
_AROUND_BLANK = 80


class Example(NamedTuple):
    """A row that the metric counts."""

    id: int | str  # as in dev predictions
    texts: dict[str, str]  # name → text
    gold: str
    options: tuple[str, ...] = ()  # by index; none if the answer is a text

    def name(self, predicted: Any) -> str:
        """A prediction in words; an index that a broken file has beyond the options stays a number."""
        return self.options[predicted] if self.options and predicted < len(self.options) else str(predicted)


def examples_of(task: Task, rows: Sequence, predictions: DevPredictions) -> list[Example]:
    """The dev rows behind ``predictions``, from the ``rows`` of the data. Raises DataError if they are other rows."""
    examples = list(_KINDS[task.kind](task, rows))
    if not predictions.are_of([example.id for example in examples]):
        raise DataError(f"{task.title}: the predictions are of other dev rows: --data_dir must name their files")
    return examples


def _texts(task: Task, rows: Sequence[TextRow]) -> Iterator[Example]:
    for name, row in zip(ids_or_numbers([row.id for row in rows]), rows):
        yield Example(name, dict(zip(task.text_fields, row.texts)), _named(task.labels, row.label), task.labels)


def _choices(task: Task, rows: Sequence[ChoiceRow]) -> Iterator[Example]:
    for name, row in zip(ids_or_numbers([row.id for row in rows]), rows):
        texts = {"context": row.context, "question": row.question, "options": " | ".join(row.options)}
        yield Example(name, texts, _named(row.options, row.answer), row.options)


def _blanks(task: Task, rows: Sequence[IdiomRecord]) -> Iterator[Example]:
    for record in rows:
        for passage in record.passages:
            for found in IDIOM_TAG.finditer(passage):
                around = passage[max(0, found.start() - _AROUND_BLANK) : found.end() + _AROUND_BLANK]
                texts = {"passage": around, "candidates": " | ".join(record.candidates)}
                answer = _named(record.candidates, (record.answers or {}).get(found[0]))
                yield Example(found[0], texts, answer, record.candidates)


def _questions(task: Task, rows: Sequence[SpanRow]) -> Iterator[Example]:
    for row in rows:
        yield Example(row.id, {"context": row.context, "question": row.question}, " | ".join(row.answers))


def _named(options: Sequence[str], index: int | None) -> str:
    return "" if index is None else options[index]


_KINDS: dict[str, Callable[[Task, Sequence], Iterator[Example]]] = {
    SINGLE: _texts, PAIR: _texts, CHOICE: _choices, IDIOM: _blanks, SPAN: _questions,
}  # fmt: skip
