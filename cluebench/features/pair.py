"""Single sentences and sentence pairs: ``[CLS] a [SEP]`` or ``[CLS] a [SEP] b [SEP]``, truncated longest-first."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cluebench.data.rows import TextRow
from cluebench.features.ragged import distinct, stored
from cluebench.features.sequences import Arrays, Features, common_columns
from cluebench.features.tokenization import TextEncoder


def build(rows: Sequence[TextRow], encoder: TextEncoder, *, max_seq_length: int, num_proc: int | None = None) -> Arrays:
    """Every distinct text tokenised once; a row is the numbers of its texts. Nothing longer than fits is kept."""
    segments = len(rows[0].texts) if rows else 1
    texts, index = distinct(text for row in rows for text in row.texts)
    room = max_seq_length - encoder.template.special_tokens(segments)
    columns = {"tokens": encoder.encode(texts, num_proc).cut(room), "texts": index.reshape(len(rows), segments)}
    return stored(
        columns | common_columns(encoder, max_seq_length, [row.id for row in rows], [row.label for row in rows])
    )


class PairFeatures(Features):
    """Classification rows; example i is row i.

    groups: int64 [rows] of dev, the same number for rows of one premise, abstract or text.
    """

    def __init__(self, arrays: Arrays):
        self._texts = arrays["texts"]
        super().__init__(arrays, self._texts.shape[1])
        self.groups: Any = arrays.get("groups")
        self.lengths = np.sum(self._kept(self._texts.astype(np.int64)), axis=0) + self._special_tokens

    def _inputs(self, examples: np.ndarray) -> Arrays:
        texts = self._texts[examples].astype(np.int64)  # stored narrow: arithmetic on it would overflow
        pieces = zip(texts.T, self._kept(texts))
        return self._sequences(*([self._tokens.piece(text, lengths)] for text, lengths in pieces))

    def _kept(self, texts: np.ndarray) -> list[np.ndarray]:
        """Tokens kept of each text [rows, segments], as one array [rows] for each segment."""
        lengths = self._tokens.lengths_at(texts)
        if lengths.shape[1] == 1:
            return [np.minimum(lengths[:, 0], self._room)]
        return list(longest_first(lengths[:, 0], lengths[:, 1], self._room))


def longest_first(first: np.ndarray, second: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths after taking tokens one by one from the end of the longer text, of the second where they are equal.

    This is PaddleNLP's ``longest_first`` truncation in closed form; all are counts of tokens.
    """
    kept_first = np.minimum(first, np.maximum(room - second, (room + 1) // 2))
    return kept_first, np.minimum(second, room - kept_first)
