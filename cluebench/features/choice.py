"""Multiple choice (C3): ``[CLS] context [SEP] question [SEP] option [SEP]`` for each option of a question.

Models with other special tokens: see `templates`.

Token type is 0 up to and including the first [SEP], then 1. Everything is lower-cased, whatever the tokenizer does, and
questions are filled up to four options, as in the published runs. When a question's longest option does not fit, the
longest of context, question and option gives up tokens from its end until it does; so all options of a question see the
same context, whatever their order.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cluebench.data.rows import ChoiceRow
from cluebench.features.batches import Piece, assemble, token
from cluebench.features.columns import common_columns, unpack_ids
from cluebench.features.ragged import Ragged, distinct, narrowest, offsets_of
from cluebench.features.templates import Template
from cluebench.features.tokenization import TextEncoder

Arrays = dict[str, np.ndarray]

#: What questions with few options are filled up with; scored in training, never predicted.
NO_OPTION = "无效答案"

_TEXTS = 3


def build(
    rows: Sequence[ChoiceRow],
    encoder: TextEncoder,
    *,
    max_seq_length: int,
    num_choices: int,
    num_proc: int | None = None,
) -> Arrays:
    """Every distinct context, question and option tokenised once; a question is the numbers of its texts."""
    strings = [NO_OPTION]
    for row in rows:
        strings += [row.context.lower(), row.question.lower(), *(option.lower() for option in row.options)]
    texts, index = distinct(strings)
    ids = encoder.encode(texts, num_proc).cut(max_seq_length - encoder.template.special_tokens(_TEXTS))
    counts = np.array([len(row.options) for row in rows], np.int64)
    first = 1 + offsets_of(counts + 2)[:-1]  # where a row's context stands among the strings
    is_option = np.ones(len(index), bool)
    is_option[np.concatenate([[0], first, first + 1])] = False
    return {
        "tokens": narrowest(ids.values),
        "offsets": ids.offsets,
        "contexts": narrowest(index[first]),
        "questions": narrowest(index[first + 1]),
        "options": narrowest(index[is_option]),
        "option_offsets": offsets_of(counts),
        "num_choices": np.array(num_choices),
        **common_columns(encoder, max_seq_length, [row.id for row in rows], [row.answer for row in rows]),
    }


class ChoiceFeatures:
    """Questions with their options; example i is question i.

    lengths: int64 [questions], tokens of the longest option's sequence. labels: int64 [questions], the answer's index;
    None in test splits. ids: the questions' own. option_mask: bool [questions, most options], the real options.
    contexts: int64 [questions], the same number for questions about the same context.
    """

    def __init__(self, arrays: Arrays):
        self._tokens = Ragged(arrays["tokens"], arrays["offsets"])
        self.contexts = arrays["contexts"].astype(np.int64)
        self._questions = arrays["questions"].astype(np.int64)
        self._options = Ragged(arrays["options"], arrays["option_offsets"])
        self._template, self._pad = Template.of(arrays), int(arrays["pad"])
        self._num_choices = int(arrays["num_choices"])
        self.labels: Any = arrays.get("labels")
        self.ids = unpack_ids(arrays)
        special_tokens = self._template.special_tokens(_TEXTS)
        self._kept = self._fitted(int(arrays["max_seq_length"]) - special_tokens)
        self.lengths = np.sum(self._kept, axis=0) + special_tokens

    def __len__(self) -> int:
        return len(self.contexts)

    @property
    def option_mask(self) -> np.ndarray:
        return self._mask(np.arange(len(self)))

    def batch(self, indices: Sequence[int] | np.ndarray) -> Arrays:
        """``input_ids``, ``token_type_ids`` int64 [B, N, longest], ``option_mask`` bool [B, N], ``labels`` int64 [B].

        N is four, or the most options of a question in the batch; what is no real option holds NO_OPTION.
        """
        rows = np.asarray(indices, np.int64)
        mask = self._mask(rows)
        number = mask.shape[1]
        options = np.zeros(mask.shape, np.int64)  # text 0 is NO_OPTION
        options[mask] = np.concatenate([self._options[row] for row in rows]) if len(rows) else 0

        sequences = np.repeat(rows, number)
        context, question, option = (kept[sequences] for kept in self._kept)
        texts = options.reshape(-1)
        option = np.minimum(option, self._tokens.lengths_at(texts))
        values, starts, n = self._tokens.values, self._tokens.starts, len(sequences)
        template, second = self._template, self._template.second_type
        batch = assemble(
            [
                token(template.before, n),
                Piece(values, starts[self.contexts[sequences]], context),
                token(template.between, n),
                Piece(values, starts[self._questions[sequences]], question, second),
                token(template.between, n, second),
                Piece(values, starts[texts], option, second),
                token(template.after, n, second),
            ],
            self._pad,
        )
        batch = {name: values.reshape(len(rows), number, -1) for name, values in batch.items()}
        batch["option_mask"] = mask
        if self.labels is not None:
            batch["labels"] = np.asarray(self.labels[rows], np.int64)
        return batch

    def _mask(self, rows: np.ndarray) -> np.ndarray:
        counts = self._options.lengths_at(rows)
        number = max(self._num_choices, int(counts.max(initial=0)))
        return np.arange(number) < counts[:, None]

    def _fitted(self, room: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens kept of each question's context, its question, and at most of each of its options."""
        lengths = self._tokens.lengths
        of_option = lengths[self._options.values.astype(np.int64)]
        counts = self._options.lengths
        longest = np.zeros(len(self), np.int64)
        np.maximum.at(longest, np.repeat(np.arange(len(self)), counts), of_option)
        longest = np.where(counts < self._num_choices, np.maximum(longest, lengths[0]), longest)
        return fit_longest(lengths[self.contexts], lengths[self._questions], longest, room)


def fit_longest(
    context: np.ndarray, question: np.ndarray, option: np.ndarray, room: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lengths after the longest of the three gave up one token at a time until they fit into ``room`` together.

    Where several are longest the context gives first, then the question. In closed form: all are cut to one level, and
    what then is left of the room goes back to those that were cut, the option first.
    """
    low, middle, high = np.sort(np.stack([context, question, option]), axis=0)
    level = np.where(
        low + 2 * middle <= room,
        room - low - middle,  # only the longest is cut
        np.where(3 * low <= room, (room - low) // 2, room // 3),
    )
    level = np.where(low + middle + high <= room, high, level)
    spare = room - sum(np.minimum(part, level) for part in (low, middle, high))
    kept = []
    for part in (option, question, context):
        gets_back = (part > level) & (spare > 0)
        spare = spare - gets_back
        kept.append(np.minimum(part, level) + gets_back)
    return kept[2], kept[1], kept[0]
