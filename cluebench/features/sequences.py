"""Sequences of tokens: where special tokens stand, what all kinds of features have in common, how batches are padded.

Sequences of this project are written down for BERT: ``[CLS] a [SEP] b [SEP]``. For any other model the special tokens
change, and nothing else: those before the first text stand for [CLS], those between a pair's texts for each [SEP]
between two texts, those after the second for the last [SEP]. So C3's are ``<s> context </s></s> question </s></s>
option </s>`` for RoBERTa, CHID's ``<s> idiom </s></s> left blank right </s>``, where the blank is [unused1], else the
unknown token.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cluebench.features.ragged import Piece, Ragged, flat_positions, pack_strings, unpack_strings
from cluebench.features.tokenization import Template, TextEncoder

Arrays = dict[str, np.ndarray]

_LABELS = ("labels", "start_positions", "end_positions")


def common_columns(
    encoder: TextEncoder,
    max_seq_length: int,
    ids: Sequence[int | str | None] = (None,),
    labels: Sequence[int | None] = (None,),
) -> dict[str, Any]:
    """What all kinds of features store: special tokens, the longest input, and ids and labels if every row has them."""
    columns = {**encoder.template._asdict(), "pad": encoder.pad_id, "max_seq_length": max_seq_length}
    if None not in ids:
        numbers = all(isinstance(index, int) for index in ids)
        columns["ids"] = np.array(ids, np.int64) if numbers else pack_strings(map(str, ids))
    if len(labels) and None not in labels:
        columns["labels"] = labels
    return columns


class Features:
    """Model inputs of one split. An example is what a sampler draws: a row, a question, a blank or a window.

    lengths: int64 [examples], tokens of each example, of its longest sequence if it has several. labels: int64
    [examples], None in test splits. ids: of the rows, as the file gives them, numbers among strings as strings; None
    where it gives none.
    """

    lengths: np.ndarray

    def __init__(self, arrays: Mapping[str, np.ndarray], texts: int):
        """``texts``: in a sequence."""
        before, between, after = (tuple(arrays[name].tolist()) for name in ("before", "between", "after"))
        self._template = Template(before, between, after, int(arrays["second_type"]))
        self._pad = int(arrays["pad"])
        self._special_tokens = self._template.special_tokens(texts)
        self._room = int(arrays["max_seq_length"]) - self._special_tokens  # for texts
        self._tokens = Ragged.stored_in(arrays, "tokens")
        self._labels: Arrays = {name: arrays[name].astype(np.int64) for name in _LABELS if name in arrays}
        labels: list[Any] = [self._labels.get(name) for name in _LABELS]
        self.labels, self.start_positions, self.end_positions = labels
        self.ids: Any = arrays["ids"].tolist() if "ids" in arrays else None
        if "ids_offsets" in arrays:
            self.ids = unpack_strings(Ragged.stored_in(arrays, "ids"))

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Arrays:
        """Model inputs of some examples, and their labels int64 [B] if they are known.

        ``input_ids``, ``token_type_ids``: int64 [B, longest], of choices [B, choices, longest].
        """
        examples = np.asarray(indices, np.int64)
        labels = {name: values[examples] for name, values in self._labels.items()}
        return self._inputs(examples) | labels

    def _inputs(self, examples: np.ndarray) -> Arrays:
        raise NotImplementedError

    def _sequences(self, *texts: Sequence[Piece]) -> Arrays:
        """Texts with special tokens before, between and behind them, as ``input_ids`` and ``token_type_ids``."""
        rows, token_type = len(texts[0][0].starts), 0
        pieces = [token(self._template.before, rows)]
        for number, text in enumerate(texts):
            if number:
                pieces.append(token(self._template.between, rows, token_type))
                token_type = self._template.second_type
            pieces += [piece._replace(token_type=token_type) for piece in text]
        return assemble([*pieces, token(self._template.after, rows, token_type)], self._pad)


def token(ids: int | Sequence[int], rows: int, token_type: int = 0) -> Piece:
    """The same token or tokens in every row."""
    values, zeros = np.array(ids, np.int64, ndmin=1), np.zeros(rows, np.int64)
    return Piece(values, zeros, zeros + len(values), token_type)


def assemble(pieces: Sequence[Piece], pad_id: int) -> Arrays:
    """Rows of pieces laid end to end: ``input_ids`` and ``token_type_ids``, int64 [rows, longest row].

    Shorter rows are filled up with ``pad_id`` and token type 0.
    """
    rows = len(pieces[0].starts)
    width = int(np.sum([piece.lengths for piece in pieces], axis=0, dtype=np.int64).max()) if rows else 0
    input_ids = np.full(rows * width, pad_id, np.int64)
    token_type_ids = np.zeros(rows * width, np.int64)
    place = np.arange(rows, dtype=np.int64) * width
    for piece in pieces:
        target = flat_positions(place, piece.lengths)
        input_ids[target] = piece.values[flat_positions(piece.starts, piece.lengths)]
        if piece.token_type:
            token_type_ids[target] = piece.token_type
        place = place + piece.lengths
    return {"input_ids": input_ids.reshape(rows, width), "token_type_ids": token_type_ids.reshape(rows, width)}


def length_sorted_batches(lengths: np.ndarray, batch_size: int, rank: int = 0, world_size: int = 1) -> list[np.ndarray]:
    """Indices of the examples of each batch of one rank, for evaluation: neighbours in length share a batch.

    Over all ranks every index stands in exactly one batch. The longest come first, so that too little memory shows at
    once. Ranks take turns, so that their work is alike. Raises ValueError for a rank outside the world.
    """
    if batch_size < 1 or not 0 <= rank < world_size:
        raise ValueError(f"batches of {batch_size} for rank {rank} of {world_size}")
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return batches[rank::world_size]
