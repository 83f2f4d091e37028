"""Single sentences and sentence pairs: ``[CLS] a [SEP]`` or ``[CLS] a [SEP] b [SEP]``, truncated longest-first."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cluebench.data.rows import TextRow
from cluebench.features.batches import Piece, assemble, token
from cluebench.features.columns import common_columns, unpack_ids
from cluebench.features.ragged import Ragged, distinct, narrowest
from cluebench.features.templates import Template
from cluebench.features.tokenization import TextEncoder

Arrays = dict[str, np.ndarray]


def build(rows: Sequence[TextRow], encoder: TextEncoder, *, max_seq_length: int, num_proc: int | None = None) -> Arrays:
    """Every distinct text tokenised once; a row is the numbers of its texts. Nothing longer than fits is kept."""
    segments = len(rows[0].texts) if rows else 1
    texts, index = distinct(text for row in rows for text in row.texts)
    ids = encoder.encode(texts, num_proc).cut(max_seq_length - encoder.template.special_tokens(segments))
    return {
        "tokens": narrowest(ids.values),
        "offsets": ids.offsets,
        "texts": narrowest(index).reshape(len(rows), segments),
        **common_columns(encoder, max_seq_length, [row.id for row in rows], [row.label for row in rows]),
    }


class PairFeatures:
    """Classification rows; example i is row i.

    lengths: int64 [rows], tokens with the special ones. labels: int64 [rows], None in test splits. ids: those of the
    file, None where it has none. groups: int64 [rows] of dev, one number for rows of one premise, abstract or text.
    """

    def __init__(self, arrays: Arrays):
        self._tokens = Ragged(arrays["tokens"], arrays["offsets"])
        self._texts = arrays["texts"]
        self._template, self._pad = Template.of(arrays), int(arrays["pad"])
        special_tokens = self._template.special_tokens(self._texts.shape[1])
        self._room = int(arrays["max_seq_length"]) - special_tokens
        self.labels: Any = arrays.get("labels")
        self.groups: Any = arrays.get("groups")
        self.ids = unpack_ids(arrays)
        self.lengths = np.sum(self._kept(self._texts.astype(np.int64)), axis=0) + special_tokens

    def __len__(self) -> int:
        return len(self._texts)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Arrays:
        """``input_ids``, ``token_type_ids`` int64 [B, longest], and where known ``labels`` int64 [B]."""
        rows = np.asarray(indices, np.int64)
        texts = self._texts[rows].astype(np.int64)  # stored narrow: arithmetic on it would overflow
        n, template, pieces = len(rows), self._template, []
        for segment, lengths in enumerate(self._kept(texts)):
            starts, kind = self._tokens.offsets[texts[:, segment]], template.second_type * segment
            pieces += [token(template.between if segment else template.before, n)]
            pieces += [Piece(self._tokens.values, starts, lengths, kind)]
        batch = assemble([*pieces, token(template.after, n, kind)], self._pad)
        if self.labels is not None:
            batch["labels"] = np.asarray(self.labels[rows], np.int64)
        return batch

    def _kept(self, texts: np.ndarray) -> list[np.ndarray]:
        """Tokens kept of each text [rows, segments], as one array [rows] for each segment."""
        lengths = self._tokens.lengths_at(texts)
        if lengths.shape[1] == 1:
            return [np.minimum(lengths[:, 0], self._room)]
        return list(longest_first(lengths[:, 0], lengths[:, 1], self._room))


def longest_first(first: np.ndarray, second: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths after taking tokens one by one from the end of the longer text, of the second where they are equal.

    That is PaddleNLP's ``longest_first`` truncation in closed form; all are counts of tokens.
    """
    kept_first = np.minimum(first, np.maximum(room - second, (room + 1) // 2))
    return kept_first, np.minimum(second, room - kept_first)
