"""Span extraction (CMRC2018): ``[CLS] question [SEP] window of the context [SEP]``, token type 1 after the first [SEP].

Windows advance by ``doc_stride`` tokens (a step, not an overlap), each as long as max_seq_length leaves room for; the
last is the first that reaches the context's end. Labels are the tokens of the first answer, by character offsets, and
[CLS] in a window that doesn't hold the whole of it.
"""

from collections.abc import Sequence

import numpy as np

from cluebench.data.rows import SpanRow
from cluebench.features.ragged import Piece, Ragged, distinct, pack_strings, stored, unpack_string
from cluebench.features.sequences import Arrays, Features, common_columns
from cluebench.features.tokenization import TextEncoder
from cluebench.foundation.errors import UsageError

_TEXTS = 2


def build(
    rows: Sequence[SpanRow],
    encoder: TextEncoder,
    *,
    max_seq_length: int,
    doc_stride: int,
    max_query_length: int | None = None,
    num_proc: int | None = None,
) -> Arrays:
    """Every distinct context and question tokenised once; a window is a question and a slice of a context.

    ``max_query_length`` None keeps all tokens of a question, as in the published runs. Raises UsageError when a
    question leaves no room for a context.
    """
    contexts, context = distinct(row.context for row in rows)
    questions, question = distinct(row.question for row in rows)
    context_ids, starts, ends = encoder.encode_with_offsets(contexts, num_proc)
    question_ids = encoder.encode(questions, num_proc)
    if max_query_length is not None:
        question_ids = question_ids.cut(max_query_length)
    reserved = encoder.template.special_tokens(_TEXTS) + question_ids.lengths[question]
    room = max_seq_length - reserved
    if len(rows) and room.min() < 1:
        raise UsageError(
            f"--max_seq_length {max_seq_length}: the question {rows[int(room.argmin())].question!r} leaves no room for "
            "its context; raise it, or cut questions with --max_query_length"
        )
    of_row, begins = windows(context_ids.lengths[context], room, doc_stride)
    columns = {
        "tokens": context_ids,
        "starts": starts,
        "ends": ends,
        "text": pack_strings(contexts),
        "question_tokens": question_ids,
        "contexts": context,
        "questions": question,
        "rows": of_row,
        "first": begins,
    }
    arrays = stored(columns | common_columns(encoder, max_seq_length, [row.id for row in rows]))
    if rows and all(row.answers for row in rows):
        first = np.array([row.answer_starts[0] for row in rows], np.int64)
        behind = first + [len(row.answers[0]) for row in rows]
        arrays["start_positions"], arrays["end_positions"] = SpanFeatures(arrays).label(first, behind)
    return arrays


def windows(lengths: np.ndarray, room: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """(row, first context token) of every window over contexts of ``lengths`` tokens; a window takes ``room`` of them.

    A window never starts behind the one before it has ended, however long the stride. An empty context has one window.
    """
    step = np.minimum(room, stride)
    count = 1 + np.maximum(0, -(-(lengths - room) // step))
    of_row = np.repeat(np.arange(len(lengths)), count)
    number = np.arange(len(of_row)) - np.repeat(np.cumsum(count) - count, count)
    return of_row, number * step[of_row]


class SpanFeatures(Features):
    """Windows of questions; example i is window i, those of a question in a row, in reading order.

    start_positions, end_positions: int64 [windows], places in the sequence of the first and last token of the answer, 0
    where the window doesn't hold it; None in test splits. ids: str, of each row's question; rows: int64 [windows], each
    window's row; contexts: int64 [rows], the number of the context it asks about.
    """

    def __init__(self, arrays: Arrays):
        super().__init__(arrays, _TEXTS)
        self._starts, self._ends = arrays["starts"], arrays["ends"]
        self._texts = Ragged.stored_in(arrays, "text")
        self._question_tokens = Ragged.stored_in(arrays, "question_tokens")
        self.contexts, self._questions, first, self.rows = (
            arrays[name].astype(np.int64) for name in ("contexts", "questions", "first", "rows")
        )
        self.ids = [str(index) for index in self.ids or ()]
        question = self._question_tokens.lengths[self._questions[self.rows]]
        self._kept = np.minimum(self._tokens.lengths[self.contexts[self.rows]] - first, self._room - question)
        self._begin = self._tokens.starts[self.contexts[self.rows]] + first  # in the flat context tokens
        # Place in the sequence of a window's first context token.
        self._context_at = question + len(self._template.before) + len(self._template.between)
        self.lengths = question + self._kept + self._special_tokens

    def _inputs(self, examples: np.ndarray) -> Arrays:
        question = self._question_tokens.piece(self._questions[self.rows[examples]])
        window = Piece(self._tokens.values, self._begin[examples], self._kept[examples])
        return self._sequences([question], [window])

    def label(self, answer_starts: np.ndarray, answer_ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int64 [windows] places of an answer's first and last token; given are its characters [rows], end exclusive.

        The first is the last token that starts no later than the answer, the last the first that ends no sooner.
        """
        first, last = self._begin, self._begin + self._kept - 1
        answer_starts, answer_ends = answer_starts[self.rows], answer_ends[self.rows]

        # One sorted column for all contexts: characters of a context lie behind those of the ones before it.
        span = int(max(self._ends.max(initial=0), answer_ends.max(initial=0))) + 1
        of_token = np.repeat(np.arange(len(self._tokens)), self._tokens.lengths) * span
        of_window = self.contexts[self.rows] * span
        from_token = np.searchsorted(of_token + self._starts, of_window + answer_starts, "right") - 1
        to_token = np.searchsorted(of_token + self._ends, of_window + answer_ends, "left")

        inside = from_token >= first
        inside[inside] = self._ends[last[inside]] >= answer_ends[inside]
        shift = self._context_at - first
        starts = np.where(inside, np.minimum(from_token, last) + shift, 0)
        return starts, np.where(inside, np.maximum(to_token, first) + shift, 0)

    # What decoding needs ----------------------------------------------------------------------------------------------

    def context(self, row: int) -> str:
        """The context a row asks about, as it stands in the file without surrounding white space."""
        return unpack_string(self._texts, int(self.contexts[row]))

    def context_range(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 [windows]: place in the sequence of the first context token, and the one behind the last."""
        return self._context_at, self._context_at + self._kept

    def characters(self, window: int, start: int, end: int) -> tuple[int, int]:
        """Characters of the context (end exclusive) from the token at place ``start`` to that at ``end``, included."""
        begin = self._begin[window] - self._context_at[window]
        return int(self._starts[begin + start]), int(self._ends[begin + end])

    def offsets(self, window: int) -> list[tuple[int, int] | None]:
        """(first character, one behind the last) of every token of a window; None outside the context."""
        spans = slice(self._begin[window], self._begin[window] + self._kept[window])
        inside = zip(self._starts[spans].tolist(), self._ends[spans].tolist(), strict=True)
        return [None] * int(self._context_at[window]) + list(inside) + [None]
