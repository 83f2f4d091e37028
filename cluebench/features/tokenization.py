"""Many distinct strings to token ids at once, with exactly the ids of PaddleNLP's slow tokenizer.

PaddleNLP's BERT, ERNIE, ERNIE-Gram, RoBERTa (Chinese), RoFormerV2 and TinyBERT tokenizers are one scheme: a
BasicTokenizer that works character by character (drop, white space, a word of its own, part of a word; lower case and
accents on the way), then WordPiece inside words (Devlin et al. 2019). Chinese text is nearly all one-character words,
so here a table holds what each code point becomes, and whole corpora pass through it as arrays. The table is not a copy
of the rules: each code point met is shown to the tokenizer's own BasicTokenizer, and each distinct longer word to its
own WordPiece. So every setting, and the Unicode version of the running Python, counts as in the slow tokenizer.

What does depend on its neighbours (special or added tokens standing in the text, combining characters that
normalisation would reorder) is found and left to the slow tokenizer itself, as is every tokenizer of another kind.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from cluebench.features.ragged import Ragged, flat_positions, offsets_of

#: Raised when ids or offsets change for the same tokenizer and text.
TOKENIZATION_VERSION = 1

# What a code point does to the text round it. The order matters: everything up to MARK leaves no trace in the tokens.
_DROPPED, _MARK, _SPACE, _ALONE, _INSIDE_WORD, _CONTEXTUAL, _UNSEEN = range(7)

_CHUNK_CHARACTERS = 1 << 20  # bounds the memory of one pass to some tens of MB
_REMEMBERED_WORDS = 1 << 19

#: Strings every rule of the scheme shows in; a tokenizer that differs on one of them is of another kind.
_SPECIMENS = (
    "",
    " ",
    "他们说：“2016年，iPhone 7 Plus卖12.5元/台！”",
    "unaffable UNAFFABLE Café ÀÉÎ\u0301 e\u0301 ΑΣ σς İstanbul",
    "２０１６ＡＢｃ，全角。 ①②③ ⅷ ㎡ ℃ ™ © $100+20% a_b^c `x` ~y~",
    "a\u200bb\ufeffc\x00d\ufffde\x7ff \u3000g\u2028h\xa0i\tj\nk",
    "한국어 日本語ひらがなカタカナ ไทย हिन्दी 豈\U00020000\U0001f600",
    "x" * 101 + " " + "1" * 100 + " a-b--c…——「」《》·",
    "[ MASK ] ##a # # _他_ [他] (10)(11) 0.05 http://a.b/c?d=e&f",
)


class _Word(NamedTuple):
    """One distinct word through WordPiece; starts and ends are in characters of the word as written."""

    ids: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]


class _Encoded(NamedTuple):
    """Token ids of some strings; starts and ends [tokens] are characters of each string, empty when not asked for."""

    ids: Ragged
    starts: np.ndarray = np.empty(0, np.int32)
    ends: np.ndarray = np.empty(0, np.int32)


_NOTHING = _Encoded(Ragged.of(()))


class TextEncoder:
    """Token ids of strings, without special tokens: ``tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))``.

    ``tokenizer`` is any slow PaddleNLP tokenizer; of a fast one ids differ on rare characters. One that is not of the
    BERT scheme is called string by string: correct, and slow.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.cls_id, self.sep_id = tokenizer.cls_token_id, tokenizer.sep_token_id
        self.pad_id, self.mask_id = tokenizer.pad_token_id, tokenizer.mask_token_id
        self._basic: Any = getattr(self.tokenizer, "basic_tokenizer", None)
        self._wordpiece: Any = getattr(self.tokenizer, "wordpiece_tokenizer", None)
        self._lower = bool(getattr(self.tokenizer, "do_lower_case", False))
        self._kinds = np.full(0x110000, _UNSEEN, np.uint8)
        self._single = np.full(0x110000, -1, np.int32)  # id of a code point that is a word and a token of its own
        self._written: dict[str, str] = {}  # code point → its lower-cased, stripped form inside a word
        self._words: dict[str, _Word] = {}
        self._fingerprint: str | None = None
        self.is_bulk = self._basic is not None and self._wordpiece is not None
        self._strips = self.is_bulk and self._basic_words("e\u0301") == ["e"]
        self._literals = self._literal_tokens()
        self._cuts = [str(token) for token in getattr(self.tokenizer, "unique_no_split_tokens", ())]
        if self.is_bulk:
            odd = self._contextual_texts(list(_SPECIMENS))
            regular = [text for index, text in enumerate(_SPECIMENS) if index not in odd]
            encoded = self._encode_regular(regular, offsets=False).ids
            self.is_bulk = all(encoded[i].tolist() == self._slow_ids(text) for i, text in enumerate(regular))

    def token_id(self, token: str) -> int:
        """Id of one token as it stands in the vocabulary; the unknown token's when it doesn't."""
        return self.tokenizer.convert_tokens_to_ids(token)

    def encode(self, texts: Sequence[str], num_proc: int | None = None) -> Ragged:
        """Token ids (int32) of each string. Repeated strings are worth removing first: each is encoded.

        ``num_proc`` processes share the work where the platform can fork and the text is long enough to matter.
        """
        return self._encode(texts, False, num_proc).ids

    def encode_with_offsets(
        self, texts: Sequence[str], num_proc: int | None = None
    ) -> tuple[Ragged, np.ndarray, np.ndarray]:
        """Token ids, and for each token (in ``ids.values`` order) the first character it covers and the one after.

        int32 positions count code points of the very string given, so ``text[start:end]`` is what the token was made
        of: in its own case and width, with the accents that were stripped from it, and whole for the unknown token.
        """
        encoded = self._encode(texts, True, num_proc)
        return encoded.ids, encoded.starts, encoded.ends

    def _encode(self, texts: Sequence[str], offsets: bool, num_proc: int | None) -> _Encoded:
        chunks = list(_chunks(texts, _CHUNK_CHARACTERS if self.is_bulk else _CHUNK_CHARACTERS >> 5))
        parts = _map_processes(partial(self._encode_chunk, offsets=offsets), chunks, num_proc) or [_NOTHING]
        return _Encoded(
            Ragged.concatenate([part.ids for part in parts]),
            np.concatenate([part.starts for part in parts]),
            np.concatenate([part.ends for part in parts]),
        )

    def _encode_chunk(self, texts: list[str], offsets: bool) -> _Encoded:
        """Strings that are all regular go through the table; the others one by one, and back into their places."""
        odd = set(self._contextual_texts(texts) if self.is_bulk else range(len(texts)))
        regular = _NOTHING
        if len(odd) < len(texts) or not texts:
            regular = self._encode_regular(["" if index in odd else text for index, text in enumerate(texts)], offsets)
        if not odd:
            return regular
        places = range(len(texts))
        ids = Ragged.of([self._slow_ids(texts[place]) if place in odd else regular.ids[place] for place in places])
        if not offsets:
            return _Encoded(ids)
        spans = {place: np.array(self._slow_offsets(texts[place]), np.int32).reshape(-1, 2) for place in odd}
        columns = []
        for side, values in enumerate((regular.starts, regular.ends)):
            known = Ragged(values, regular.ids.offsets)
            columns.append([spans[place][:, side] if place in odd else known[place] for place in places])
        starts, ends = map(np.concatenate, columns)
        return _Encoded(ids, starts, ends)

    def _encode_regular(self, texts: list[str], offsets: bool) -> _Encoded:
        """The table's way, for strings in which every code point does the same whatever stands beside it."""
        joined = "\n".join(texts)  # a line break always ends a word, and leaves no token
        codes = _code_points(joined)
        self._learn(codes)
        kinds = self._kinds[codes]
        text_starts = offsets_of([len(text) + 1 for text in texts])

        kept = np.flatnonzero(kinds > _MARK)
        reach = _reach(kinds, kept) if offsets else kept
        if len(kept) < len(codes):
            codes, kinds = codes[kept], kinds[kept]
            joined = codes.tobytes().decode("utf-32-le", "surrogatepass")

        begin, end = _word_bounds(kinds)
        single = self._single[codes[begin]]
        compound = (end - begin > 1) | (single < 0)  # words that WordPiece has to look at
        bounds = zip(begin[compound].tolist(), end[compound].tolist())
        table, index = self._look_up([joined[start:behind] for start, behind in bounds])

        counts = np.ones(len(begin), np.int64)
        counts[compound] = table.ids.lengths[index]
        token_at = offsets_of(counts)
        values = np.empty(token_at[-1], np.int32)
        values[token_at[:-1][~compound]] = single[~compound]
        source = flat_positions(table.ids.starts[index], counts[compound])
        target = flat_positions(token_at[:-1][compound], counts[compound])
        values[target] = table.ids.values[source]

        word_of_text = np.searchsorted(kept[begin], text_starts)
        ids = Ragged(values, token_at[word_of_text])
        if not offsets:
            return _Encoded(ids)

        starts, ends = np.repeat(begin, counts), np.repeat(end, counts)
        starts[target] += table.starts[source]
        ends[target] = begin[compound].repeat(counts[compound]) + table.ends[source]
        text_start = np.repeat(text_starts[:-1], ids.lengths)
        return _Encoded(
            ids, (kept[starts] - text_start).astype(np.int32), (reach[ends - 1] - text_start).astype(np.int32)
        )

    def _look_up(self, words: list[str]) -> tuple[_Encoded, np.ndarray]:
        """The distinct words as arrays, and the index of each word in them."""
        numbers: dict[str, int] = {}
        index = np.fromiter((numbers.setdefault(word, len(numbers)) for word in words), np.int64, len(words))
        if len(self._words) > _REMEMBERED_WORDS:
            self._words.clear()
        found = []
        for word in numbers:
            if (known := self._words.get(word)) is None:
                known = self._words[word] = self._pieces(word)
            found.append(known)
        ids = Ragged.of([word.ids for word in found])
        starts, ends = Ragged.of([word.starts for word in found]), Ragged.of([word.ends for word in found])
        return _Encoded(ids, starts.values, ends.values), index

    def _pieces(self, word: str) -> _Word:
        """One word, of characters that are all regular, through the tokenizer's own WordPiece."""
        written = [self._written[character] for character in word]
        tokens = self._wordpiece.tokenize("".join(written))
        ids = tuple(self.tokenizer.convert_tokens_to_ids(tokens))
        lengths = [len(token) - 2 * (place > 0 and token.startswith("##")) for place, token in enumerate(tokens)]
        if len(tokens) == 1 or sum(lengths) != sum(map(len, written)):
            return _Word(ids, (0,) * len(ids), (len(word),) * len(ids))  # a whole word, known or unknown
        origin = [place for place, form in enumerate(written) for _ in form]
        ends = list(accumulate(lengths))
        starts = [0, *ends[:-1]]
        return _Word(ids, tuple(origin[s] for s in starts), tuple(origin[e - 1] + 1 for e in ends))

    # What a code point does -------------------------------------------------------------------------------------------

    def _basic_words(self, text: str) -> list[str]:
        """Words of a text without special tokens: PaddleNLP lower-cases each character by itself, then splits."""
        if self._lower:
            text = "".join(character.lower() for character in text)
        return self._basic.tokenize(text)

    def _learn(self, codes: np.ndarray) -> None:
        """Fills the table for code points it has not met."""
        unseen = codes[self._kinds[codes] == _UNSEEN]
        for code in np.unique(unseen).tolist():
            self._kinds[code] = self._kind(chr(code))

    def _kind(self, character: str) -> int:
        """Shows a character to the BasicTokenizer between letters, alone and doubled, and reads off what it does."""
        words = self._basic_words(f"a{character}b {character} {character}{character}")
        if words == ["ab"]:
            return _MARK if unicodedata.category(character) == "Mn" else _DROPPED
        if words == ["a", "b"]:
            return _SPACE
        if len(words) == 6 and words[0] == "a" and words[2] == "b" and len({words[1], *words[3:]}) == 1:
            form, kind = words[1], _ALONE
        elif len(words) == 3 and words[0] == f"a{words[1]}b" and words[2] == words[1] * 2:
            form, kind = words[1], _INSIDE_WORD
        else:
            return _CONTEXTUAL
        if self._strips and any(map(unicodedata.combining, form)):
            return _CONTEXTUAL  # canonical ordering may move it past its neighbours
        self._written[character] = form
        tokens = self._wordpiece.tokenize(form)
        if len(tokens) == 1:
            self._single[ord(character)] = self.tokenizer.convert_tokens_to_ids(tokens)[0]
        return kind

    def _literal_tokens(self) -> tuple[str, ...]:
        """Tokens that the slow tokenizer treats as a unit where they stand in a text, caseless."""
        tokens = {str(token) for token in getattr(self.tokenizer, "all_special_tokens", ())}
        tokens |= {str(token) for token in getattr(self.tokenizer, "unique_no_split_tokens", ())}
        tokens |= {str(token) for token in getattr(self.tokenizer, "added_tokens_encoder", ())}
        tokens |= {str(token) for token in getattr(self._basic, "never_split", None) or ()}
        return tuple(sorted(tokens - {""}))

    def _contextual_texts(self, texts: list[str]) -> list[int]:
        """Indices of the strings that the table can't be trusted with."""
        joined = "\n".join(texts)
        codes = _code_points(joined)
        self._learn(codes)
        kinds = self._kinds[codes]
        text_starts = offsets_of([len(text) + 1 for text in texts])
        hits = np.flatnonzero(kinds == _CONTEXTUAL)
        odd = set((np.searchsorted(text_starts, hits, "right") - 1).tolist())
        if self._may_hold_literal(joined):
            odd.update(index for index, text in enumerate(texts) if self._may_hold_literal(text))
        # A character that leaves no trace may hide a special token: "[MA\u200bSK]".
        dropped = np.flatnonzero(kinds <= _MARK)
        for index in set((np.searchsorted(text_starts, dropped, "right") - 1).tolist()) - odd:
            visible = "".join(character for character in texts[index] if self._kinds[ord(character)] > _MARK)
            if self._may_hold_literal(visible):
                odd.add(index)
        return sorted(odd)

    def _may_hold_literal(self, text: str) -> bool:
        folded = text.casefold()
        return any(token.casefold() in folded for token in self._literals)

    # The slow tokenizer, string by string -----------------------------------------------------------------------------

    def _slow_ids(self, text: str) -> list[int]:
        return self.tokenizer.convert_tokens_to_ids(self.tokenizer.tokenize(text))

    def _slow_offsets(self, text: str) -> list[tuple[int, int]]:
        """Spans of a string the table can't be trusted with, found by laying the tokens over the text.

        What can't be laid over it is left to PaddleNLP's own search, which guesses round unknown tokens.
        """
        spans = self._laid_over(text, self.tokenizer.tokenize(text)) if self.is_bulk else None
        if spans is None:
            spans = [(int(start), int(end)) for start, end in self.tokenizer.get_offset_mapping(text)]
        return spans

    def _laid_over(self, text: str, tokens: list[str]) -> list[tuple[int, int]] | None:
        """Walks text and tokens side by side; None when they don't end together."""
        self._learn(_code_points(text))
        kinds = [int(self._kinds[ord(character)]) for character in text]
        origin = [  # of each character as written in tokens, the character it came from
            place for place, kind in enumerate(kinds) if kind > _SPACE for _ in self._form(text[place])
        ]
        spans, here = [], 0
        for token in tokens:
            if here == len(origin):
                return None
            start = origin[here]
            if token in self._literals and text[start : start + len(token)].casefold() == token.casefold():
                here = bisect_left(origin, start + len(token), here)
            elif token == self._wordpiece.unk_token:
                here = bisect_left(origin, self._word_end(text, kinds, start), here)
            else:
                here += len(token) - 2 * (token.startswith("##") and len(token) > 2)
            if here > len(origin):
                return None
            end = origin[here - 1] + 1
            while end < len(text) and kinds[end] == _MARK:
                end += 1
            spans.append((start, end))
        return spans if here == len(origin) else None

    def _word_end(self, text: str, kinds: list[int], start: int) -> int:
        """Where the word that begins at ``start`` ends: before white space, a one-character word or an added token."""
        end = start + 1
        while kinds[start] != _ALONE and end < len(text) and kinds[end] not in (_SPACE, _ALONE):
            for token in self._cuts:
                ahead = text[end : end + len(token)]
                if ahead == token or self._lower and ahead.lower() == token:
                    return end
            end += 1
        return end

    def _form(self, character: str) -> str:
        """How a character that leaves a trace is written in tokens."""
        if (form := self._written.get(character)) is None:
            form = "".join(self._basic_words(character))
        return form

    # Identity ---------------------------------------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything that decides ids: vocabulary, settings, special tokens, versions.

        The Unicode version of the running Python is part of it, since categories of characters are.
        """
        if self._fingerprint is None:
            tokenizer = self.tokenizer
            settings = {
                "version": TOKENIZATION_VERSION,
                "unicode": unicodedata.unidata_version,
                "class": type(tokenizer).__name__,
                "lower": self._lower,
                "basic": _plain(vars(self._basic)) if self._basic is not None else None,
                "longest word": getattr(self._wordpiece, "max_input_chars_per_word", None),
                "special": _plain(getattr(tokenizer, "special_tokens_map", {})),
                "literals": self._literals,
                "specimens": [self._slow_ids(text) for text in _SPECIMENS],
            }
            digest = hashlib.sha256(json.dumps(settings, sort_keys=True, ensure_ascii=True).encode())
            for token, index in sorted(tokenizer.get_vocab().items()):
                digest.update(f"{token}\t{index}\n".encode("utf-8", "surrogatepass"))
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint


def _plain(value: Any) -> Any:
    """Something JSON can write, equal for equal settings."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _word_bounds(kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where words begin and end: _ALONE characters, and runs of _INSIDE_WORD characters."""
    inside = kinds == _INSIDE_WORD
    first, last = inside.copy(), inside.copy()
    first[1:] &= ~inside[:-1]
    last[:-1] &= ~inside[1:]
    begin = np.flatnonzero(first | (kinds == _ALONE))
    end = begin + 1
    end[first[begin]] = np.flatnonzero(last) + 1
    return begin, end


def _reach(kinds: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """For each kept character the position after it, stripped accents that stand directly behind it included."""
    marks = kinds == _MARK
    if not marks.any():
        return kept + 1
    following = np.where(marks, len(kinds), np.arange(len(kinds)))
    following = np.append(np.minimum.accumulate(following[::-1])[::-1], len(kinds))
    return following[kept + 1]


def _chunks(texts: Sequence[str], characters: int) -> Iterator[list[str]]:
    """Consecutive strings of about so many characters together, each at least one string."""
    chunk: list[str] = []
    room = characters
    for text in texts:
        chunk.append(text)
        room -= len(text) + 1
        if room <= 0:
            yield chunk
            chunk, room = [], characters
    if chunk:
        yield chunk


#: What worker processes do, inherited by fork, so that the tokenizer is never pickled.
_inherited: Callable[[list[str]], _Encoded] | None = None


def _call_inherited(texts: list[str]) -> _Encoded:
    assert _inherited is not None  # set before the fork
    return _inherited(texts)


def _map_processes(
    encode: Callable[[list[str]], _Encoded], chunks: list[list[str]], num_proc: int | None
) -> list[_Encoded]:
    """``encode`` of all chunks, in order, by up to ``num_proc`` forked processes."""
    global _inherited
    workers = min(num_proc or 1, len(chunks))
    if workers < 2 or "fork" not in multiprocessing.get_all_start_methods():
        return list(map(encode, chunks))
    _inherited = encode
    try:
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            return pool.map(_call_inherited, chunks, chunksize=1)
    finally:
        _inherited = None
