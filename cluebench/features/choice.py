"""Multiple choice (C3): ``[CLS] context [SEP] question [SEP] option [SEP]`` for each option of a question.

Models with other special tokens: see `sequences`.

Token type is 0 up to and including the first [SEP], then 1. Everything is lower-cased, whatever the tokenizer does, and
questions are filled up to four options, as in the published runs. When a question's longest option does not fit, the
longest of context, question and option gives up tokens from its end until it does; so all options of a question see the
same context, whatever their order.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np

from cluebench.data.rows import ChoiceRow
from cluebench.features.ragged import Ragged, distinct, flat_positions, offsets_of, stored
from cluebench.features.sequences import Arrays, Features, common_columns
from cluebench.features.tokenization import TextEncoder

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
    options = [row.options for row in rows]
    strings = [NO_OPTION, *(row.context for row in rows), *(row.question for row in rows), *chain(*options)]
    texts, index = distinct(string.lower() for string in strings)
    contexts, questions, option = np.split(index[1:], [len(rows), 2 * len(rows)])
    tokens = encoder.encode(texts, num_proc).cut(max_seq_length - encoder.template.special_tokens(_TEXTS))
    columns = {
        "tokens": tokens,
        "contexts": contexts,
        "questions": questions,
        "options": Ragged(option, offsets_of([len(texts) for texts in options])),
        "num_choices": num_choices,
    }
    return stored(
        columns | common_columns(encoder, max_seq_length, [row.id for row in rows], [row.answer for row in rows])
    )


class ChoiceFeatures(Features):
    """Questions with their options; example i is question i, its label the answer's index.

    contexts: int64 [questions], the same number for questions about the same context.
    """

    def __init__(self, arrays: Arrays):
        super().__init__(arrays, _TEXTS)
        self.contexts = arrays["contexts"].astype(np.int64)
        self._questions = arrays["questions"].astype(np.int64)
        self._options = Ragged.stored_in(arrays, "options")
        self._num_choices = int(arrays["num_choices"])
        self._kept = self._fitted()
        self.lengths = np.sum(self._kept, axis=0) + self._special_tokens

    @property
    def option_mask(self) -> np.ndarray:
        """bool [questions, most options]: the real options."""
        return self._mask(np.arange(len(self)))

    def _inputs(self, examples: np.ndarray) -> Arrays:
        """With ``option_mask`` bool [B, choices]: four, or the most options of a question. The others are NO_OPTION."""
        mask = self._mask(examples)
        options = np.zeros(mask.shape, np.int64)  # text 0 is NO_OPTION
        real = self._options.piece(examples)
        options[mask] = real.values[flat_positions(real.starts, real.lengths)]
        sequences = np.repeat(examples, mask.shape[1])
        texts = self.contexts[sequences], self._questions[sequences], options.reshape(-1)
        context, question, option = (kept[sequences] for kept in self._kept)
        option = np.minimum(option, self._tokens.lengths_at(texts[2]))
        pieces = zip(texts, (context, question, option))
        batch = self._sequences(*([self._tokens.piece(text, lengths)] for text, lengths in pieces))
        return {name: values.reshape(*mask.shape, -1) for name, values in batch.items()} | {"option_mask": mask}

    def _mask(self, rows: np.ndarray) -> np.ndarray:
        counts = self._options.lengths_at(rows)
        number = max(self._num_choices, int(counts.max(initial=0)))
        return np.arange(number) < counts[:, None]

    def _fitted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens kept of each question's context, its question, and at most of each of its options."""
        lengths = self._tokens.lengths
        of_option = lengths[self._options.values.astype(np.int64)]
        counts = self._options.lengths
        longest = np.zeros(len(counts), np.int64)
        np.maximum.at(longest, np.repeat(np.arange(len(counts)), counts), of_option)
        longest = np.where(counts < self._num_choices, np.maximum(longest, lengths[0]), longest)
        return fit_longest(lengths[self.contexts], lengths[self._questions], longest, self._room)


def fit_longest(
    context: np.ndarray, question: np.ndarray, option: np.ndarray, room: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lengths after the longest of the three gave up one token at a time until they fit into ``room`` together.

    If several are longest, the context gives first, then the question.
    """
    kept = np.stack([context, question, option])
    too_long = np.flatnonzero(kept.sum(axis=0) > room)
    while len(too_long):
        kept[kept[:, too_long].argmax(axis=0), too_long] -= 1
        too_long = too_long[kept[:, too_long].sum(axis=0) > room]
    return kept[0], kept[1], kept[2]
