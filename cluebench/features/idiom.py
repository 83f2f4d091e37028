"""Idiom cloze (CHID): ``[CLS] idiom [SEP] left [unused1] right [SEP]`` for each candidate of a blank, token type 0.

One example a blank: a window of its passage, max_seq_length - 8 tokens (56 of 64), half on each side of the blank, a
side that is short giving its room to the other. Other blanks in the window become four [MASK], and each side keeps the
length it had before that, nearest the blank. Tokens go to ids directly, never back through text. Where a tokenizer that
is not of vocab.txt makes more than four tokens of an idiom, a window gives up as many. Special tokens: see `sequences`.

A passage is stored once, with every blank as four [MASK]. Cutting twice then comes down to how many tokens each side
may have: counted with other blanks as one token, read from the stored passage outwards from the blank.
"""

from collections.abc import Iterable, Sequence
from itertools import count, islice

import numpy as np

from cluebench.data.rows import IDIOM_TAG, IdiomRecord
from cluebench.features.ragged import (
    Piece,
    Ragged,
    flat_positions,
    narrowest,
    offsets_of,
    pack_strings,
    stored,
    unpack_strings,
)
from cluebench.features.sequences import Arrays, Features, common_columns, token
from cluebench.features.tokenization import TextEncoder

#: What stands for the blank to be filled. A vocabulary without it gives the id of its unknown token, as the published
#: runs had it for such models.
BLANK = "[unused1]"

#: [MASK] tokens that stand for another blank: idioms have four characters.
_MASKS = 4

_TEXTS = 2

_PUNCTUATION = {"“": '"', "”": '"', "‘": "'", "’": "'", "—": "-", "―": "-", "…": "..."}

#: Records whose passages are tokenised together; bounds the memory of a large file.
_RECORDS_AT_ONCE = 1024


def normalised(passage: str) -> str:
    """A passage with its punctuation as in the published runs: ``“”`` to ``"``, ``——`` to ``--``, ``…`` to ``...``."""
    for mark, plain in _PUNCTUATION.items():  # str.translate takes ten times as long
        passage = passage.replace(mark, plain)
    return passage


def build(
    rows: Iterable[IdiomRecord],
    encoder: TextEncoder,
    *,
    max_seq_length: int,
    num_choices: int,
    num_proc: int | None = None,
) -> Arrays:
    """Every distinct idiom tokenised once, every passage once; a blank is a place in a passage."""
    unread, numbers, parts = iter(rows), dict[str, int](), list[Arrays]()
    for first in count(step=_RECORDS_AT_ONCE):
        records = list(islice(unread, _RECORDS_AT_ONCE))
        if parts and not records:
            break
        parts.append(_passages(records, first, encoder, num_proc))
        candidates = [numbers.setdefault(idiom, len(numbers)) for record in records for idiom in record.candidates]
        parts[-1]["candidates"] = np.array(candidates, np.int64)
    idioms = encoder.encode(list(numbers), num_proc)
    blanks = _joined(parts)
    candidate_index = blanks["candidates"].reshape(-1, num_choices)
    longest = np.full(len(candidate_index), _MASKS)
    if not encoder.of_vocabulary:
        longest = np.maximum(longest, idioms.lengths[candidate_index].max(axis=1, initial=0))
    room = (max_seq_length - encoder.template.special_tokens(_TEXTS) - 1 - longest)[blanks["records"]]
    left, right = window_sides(blanks["before"], blanks["after"], room)
    columns = {
        "tokens": Ragged(blanks["tokens"], np.array([0, len(blanks["tokens"])])),
        "places": blanks["places"],
        "left": left,
        "right": right,
        "records": blanks["records"],
        "tags": Ragged(blanks["tags"], offsets_of(blanks["tag_lengths"])),
        "idioms": idioms,
        "candidates": candidate_index,
        "blank": encoder.token_id(BLANK),
    }
    if len(blanks["labels"]) and blanks["labels"].min() >= 0:
        columns["labels"] = blanks["labels"]
    return stored(columns | common_columns(encoder, max_seq_length))


def _passages(records: Sequence[IdiomRecord], first: int, encoder: TextEncoder, num_proc: int | None) -> Arrays:
    """Tokens of some records' passages, blanks as four [MASK], and their blanks in reading order.

    Of each blank: ``places``, of its first [MASK] in the tokens; ``before`` and ``after``, tokens on either side in its
    passage, other blanks counted as one; ``records``, counted from ``first``; ``labels``, -1 where unknown; the tag.
    """
    segments, tags, owners, counts, labels = [], [], [], [], []
    for number, record in enumerate(records, start=first):
        for passage in record.passages:
            found = IDIOM_TAG.findall(passage)
            if not found:
                continue
            segments += IDIOM_TAG.split(normalised(passage))
            tags += found
            counts.append(len(found))
            owners += [number] * len(found)
            labels += [record.answers[tag] if record.answers is not None else -1 for tag in found]

    encoded = encoder.encode(segments, num_proc)
    blanks = np.array(counts, np.int64)
    last = np.cumsum(blanks + 1) - 1  # a passage's last segment has no blank behind it
    has_blank = np.ones(len(segments), bool)
    has_blank[last] = False
    start = offsets_of(encoded.lengths + _MASKS * has_blank)
    tokens = np.full(start[-1], encoder.mask_id, np.int32)
    tokens[flat_positions(start[:-1], encoded.lengths)] = encoded.values

    # With a blank counted as one token, a segment's end in its passage is where the blank behind it stands.
    counted = offsets_of(encoded.lengths + has_blank)
    begin, end = counted[last - blanks], counted[last + 1]
    position = counted[:-1][has_blank] + encoded.lengths[has_blank]
    packed = pack_strings(tags)
    return {
        "tokens": narrowest(tokens),
        "places": start[:-1][has_blank] + encoded.lengths[has_blank],
        "before": position - np.repeat(begin, blanks),
        "after": np.repeat(end, blanks) - position - 1,
        "records": np.array(owners, np.int64),
        "labels": np.array(labels, np.int64),
        "tags": packed.values,
        "tag_lengths": packed.lengths,
    }


def _joined(parts: list[Arrays]) -> Arrays:
    """The columns of all parts, one behind the other; places count through all tokens. The parts are used up."""
    base = offsets_of([len(part["tokens"]) for part in parts])
    for part, start in zip(parts, base[:-1], strict=True):
        part["places"] = part["places"] + start
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}


def window_sides(before: np.ndarray, after: np.ndarray, room: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens kept left and right of blanks that have so many on either side: half of ``room``, and what a side lacks.

    An odd token goes to the right.
    """
    left_half, right_half = room // 2, room - room // 2
    left = np.minimum(before, np.maximum(left_half, room - after))
    return left, np.minimum(after, np.maximum(right_half, room - before))


class IdiomFeatures(Features):
    """Blanks with ten candidates each; example i is the i-th blank in reading order, its label the answer's index.

    records: int64 [blanks], the number of the record a blank belongs to. A blank's tag is its name: there are no ids.
    """

    def __init__(self, arrays: Arrays):
        super().__init__(arrays, _TEXTS)
        self._template = self._template._replace(second_type=0)
        self._places, self._left, self._right = (arrays[name] for name in ("places", "left", "right"))
        self._idioms = Ragged.stored_in(arrays, "idioms")
        self._candidates, self._blank = arrays["candidates"], int(arrays["blank"])
        self._tags = Ragged.stored_in(arrays, "tags")
        self.records = arrays["records"].astype(np.int64)
        longest = self._idioms.lengths[self._candidates.astype(np.int64)].max(axis=1)
        texts = self._left.astype(np.int64) + 1 + self._right + longest[self.records]
        self.lengths = np.minimum(texts, self._room) + self._special_tokens

    @property
    def tags(self) -> list[str]:
        """The tag of each blank."""
        return unpack_strings(self._tags)

    def _inputs(self, examples: np.ndarray) -> Arrays:
        idioms = self._candidates[self.records[examples]].astype(np.int64)
        left, right, place = (
            np.repeat(column[examples].astype(np.int64), idioms.shape[1])
            for column in (self._left, self._right, self._places)
        )
        idiom = self._idioms.piece(idioms.reshape(-1))
        idiom = idiom._replace(lengths=np.minimum(idiom.lengths, self._room - left - 1 - right))
        window = [
            Piece(self._tokens.values, place - left, left),
            token(self._blank, len(place)),
            Piece(self._tokens.values, place + _MASKS, right),
        ]
        batch = self._sequences([idiom], window)
        return {name: values.reshape(*idioms.shape, -1) for name, values in batch.items()}
