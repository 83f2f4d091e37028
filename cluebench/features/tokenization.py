"""Many distinct strings to token ids at once, with exactly the ids of PaddleNLP's slow tokenizer.

PaddleNLP's BERT, ERNIE, ERNIE-Gram, RoBERTa (Chinese), RoFormerV2 and TinyBERT tokenizers are one scheme: a
BasicTokenizer that works character by character (drop, white space, a word of its own, part of a word; lower case and
accents on the way), then WordPiece inside words (Devlin et al. 2019). So a table of characters says where words begin
and end, and each distinct word goes through WordPiece once. The table is not a copy of the rules: each new character is
shown to the tokenizer's own BasicTokenizer, and each new word to its own WordPiece. So every setting, and the Unicode
version of the running Python, counts as in the slow tokenizer.

A text whose tokens may depend on more than single characters (special or added tokens in the text, combining characters
that normalisation would reorder) goes to the slow tokenizer as a whole, as does every text of a tokenizer of another
kind. The `tokenizers` library needs six times the CPU seconds for the texts of C3 and CMRC2018.
"""

import hashlib
import json
import multiprocessing
import signal
import threading
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property, lru_cache, partial
from itertools import accumulate, chain, groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from cluebench.features.ragged import Ragged, distinct, distinct_numbers, flat_positions, offsets_of
from cluebench.foundation.errors import ClueError
from cluebench.foundation.resource_limits import usable_cores

#: Token ids of each text, and int32 [tokens, 2] the characters each token covers, end exclusive.
_Encoded = tuple[Ragged, np.ndarray]
#: The same of one text.
_Pieces = tuple[list[int], Sequence[tuple[int, int]]]

#: What becomes of a character: nothing, white space, a word of its own, a part of a word.
_DROPPED, _GAP, _ALONE, _PART = 1, 2, 3, 4

_CHUNK_CHARACTERS = 1 << 18  # bounds the memory of one pass to some tens of MB
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


class Template(NamedTuple):
    """Ids of special tokens, and the token type of all texts behind the first (0 or 1)."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    second_type: int = 1

    def special_tokens(self, texts: int) -> int:
        """The number of special tokens in a sequence of this many texts."""
        return len(self.before) + (texts - 1) * len(self.between) + len(self.after)

    @classmethod
    def read_off(cls, tokenizer: Any) -> "Template":
        """From what a slow tokenizer makes of a pair."""
        first, second = -1, -2  # no token's ids
        ids = tokenizer.build_inputs_with_special_tokens([first], [second])
        types = tokenizer.create_token_type_ids_from_sequences([first], [second])
        begin, end = ids.index(first), ids.index(second)
        return cls(tuple(ids[:begin]), tuple(ids[begin + 1 : end]), tuple(ids[end + 1 :]), int(types[end]))


class TextEncoder:
    """Token ids of strings, without special tokens: ``tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))``.

    ``tokenizer`` is any slow PaddleNLP tokenizer; of a fast one ids differ on rare characters. One that is not of the
    BERT scheme is called string by string: correct, and slow. One that has ``encode_texts``, ``template`` and
    ``fingerprint``, as `models.tokenizer` has, is asked for many strings at once.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.of_vocabulary = not hasattr(tokenizer, "encode_texts")
        self.pad_id, self.mask_id = tokenizer.pad_token_id, tokenizer.mask_token_id
        self.template = getattr(tokenizer, "template", None) or Template.read_off(tokenizer)
        self._basic: Any = getattr(tokenizer, "basic_tokenizer", None)
        self._wordpiece: Any = getattr(tokenizer, "wordpiece_tokenizer", None)
        self._lower = bool(getattr(tokenizer, "do_lower_case", False))
        self._id = lru_cache(maxsize=None)(tokenizer.convert_tokens_to_ids)
        self._kinds = np.zeros(0x110000, np.uint8)  # by code point; 0: not met yet
        self._odd = np.zeros(0x110000, bool)  # by code point: its text may have to stay whole, see `_is_uncut`
        self._written: dict[int, str] = {}  # by code point
        self._contextual: set[str] = set()  # characters whose form depends on their neighbours
        self._pieces: dict[str, _Pieces] = {}  # of words
        # Tokens that the slow tokenizer treats as a unit where they stand in a text.
        names = ("all_special_tokens", "unique_no_split_tokens", "added_tokens_encoder")
        literals = [*(getattr(tokenizer, name, ()) for name in names), getattr(self._basic, "never_split", None) or ()]
        self._literals = frozenset(map(str, chain(*literals))) - {""}
        self._folded = [token.casefold() for token in self._literals]
        self._beginnings = {token[0] for token in self._folded}
        cuts_words = hasattr(self._basic, "vocab")  # RoFormer's, by jieba: no table of characters says where
        self.is_bulk = self._basic is not None and self._wordpiece is not None and not cuts_words
        if self.is_bulk:
            self._strips = self._basic_words("e\u0301") == ["e"]
            ids, _ = self._encode_words(_SPECIMENS, False)
            self.is_bulk = ids.values.tolist() == [index for text in _SPECIMENS for index in self._slow_ids(text)]

    def token_id(self, token: str) -> int:
        """Id of one token as it stands in the vocabulary; the unknown token's when it doesn't."""
        return self._id(token)

    def encode(self, texts: Sequence[str], num_proc: int | None = None) -> Ragged:
        """Token ids (int32) of each string. Repeated strings are worth removing first: each is encoded.

        ``num_proc`` processes share the work where the platform can fork and the text is long enough to matter.
        """
        return self._encode(texts, False, num_proc)[0]

    def encode_with_offsets(
        self, texts: Sequence[str], num_proc: int | None = None
    ) -> tuple[Ragged, np.ndarray, np.ndarray]:
        """Token ids, and for each token (in ``ids.values`` order) the first character it covers and the one after.

        int32 positions count code points of the very string given, so ``text[start:end]`` is what the token was made
        of: in its own case and width, with the accents that were stripped from it, and whole for the unknown token.
        """
        ids, spans = self._encode(texts, True, num_proc)
        return ids, spans[:, 0], spans[:, 1]

    def _encode(self, texts: Sequence[str], offsets: bool, num_proc: int | None) -> _Encoded:
        encode, characters = self._encode_words, _CHUNK_CHARACTERS
        if not self.of_vocabulary:
            encode, num_proc = self._encode_in_library, None  # it has threads of its own
        elif not self.is_bulk:
            encode, characters = self._encode_one_by_one, _CHUNK_CHARACTERS >> 4
        chunks = _chunks(texts, characters)
        ids, spans = zip(*_map_processes(partial(encode, offsets=offsets), chunks, num_proc))
        return Ragged.concatenate(ids), np.concatenate(spans)

    def _encode_in_library(self, texts: Sequence[str], offsets: bool) -> _Encoded:
        ids, spans = self.tokenizer.encode_texts(texts)
        return Ragged.of(ids), np.concatenate([_flat_spans(()), *spans])

    def _encode_one_by_one(self, texts: Sequence[str], offsets: bool) -> _Encoded:
        pieces = [self._slow_pieces(text, offsets) for text in texts]
        return Ragged.of([ids for ids, _ in pieces]), _flat_spans(spans for _, spans in pieces)

    def _slow_ids(self, text: str) -> list[int]:
        return self.tokenizer.convert_tokens_to_ids(self.tokenizer.tokenize(text))

    def _slow_pieces(self, text: str, offsets: bool) -> _Pieces:
        if not offsets:
            return self._slow_ids(text), ()
        tokens = self.tokenizer.tokenize(text)
        spans = self._laid_over(text, tokens) if self.is_bulk else self.tokenizer.get_offset_mapping(text)
        return self.tokenizer.convert_tokens_to_ids(tokens), spans

    # Many texts at once -----------------------------------------------------------------------------------------------

    def _encode_words(self, texts: Sequence[str], offsets: bool) -> _Encoded:
        """Cuts texts into words and looks up each distinct word. A text that must not be cut counts as one word."""
        together = "".join(f"{text}\n" for text in texts)
        bounds = offsets_of([len(text) + 1 for text in texts])
        codes = np.frombuffer(together.encode("utf-32-le", "surrogatepass"), "<u4")
        kinds = self._kinds_of(codes)
        suspects = np.unique(np.searchsorted(bounds, np.flatnonzero(self._odd[codes]), "right") - 1)
        uncut = [number for number in suspects.tolist() if self._is_uncut(texts[number])]
        for number in uncut:
            kinds[bounds[number] : bounds[number + 1] - 1] = _PART
        starts, ends = _words(kinds)
        words, word = _distinct_words(together, codes, starts, ends)
        pieces = self._pieces_of(words, {texts[number] for number in uncut}, offsets)

        ids = Ragged.of([of_word for of_word, _ in pieces])
        lengths = ids.lengths_at(word)
        chosen = flat_positions(ids.starts[word], lengths)
        place = np.repeat(starts, lengths)
        encoded = Ragged(ids.values[chosen], np.searchsorted(place, bounds))
        if not offsets:
            return encoded, _flat_spans(())
        place -= np.repeat(bounds[:-1], encoded.lengths)
        return encoded, _flat_spans(spans for _, spans in pieces)[chosen] + place.astype(np.int32)[:, None]

    def _kinds_of(self, codes: np.ndarray) -> np.ndarray:
        """uint8: what becomes of each character."""
        kinds = self._kinds[codes]
        if kinds.all():
            return kinds
        for code in np.unique(codes[kinds == 0]).tolist():
            character = chr(code)
            self._kinds[code], self._written[code] = self._kind(character)
            begins_token = not self._beginnings.isdisjoint(f"{character}{self._written[code]}".casefold())
            self._odd[code] = begins_token or character in self._contextual
        return self._kinds[codes]

    def _kind(self, character: str) -> tuple[int, str]:
        """What becomes of a character and how it is written, by showing it to the BasicTokenizer among letters."""
        words = self._basic_words(f"a{character}b {character}{character}")
        if words in (["ab"], ["a", "b"]):
            return len(words), ""  # _DROPPED, _GAP
        written = words[1] if len(words) == 5 else words[0][1:-1]
        kinds = {("a", written, "b", written, written): _ALONE, (f"a{written}b", written * 2): _PART}
        kind = kinds.get(tuple(words), _PART)
        if tuple(words) not in kinds or self._strips and any(map(unicodedata.combining, written)):
            self._contextual.add(character)  # canonical ordering may move it past its neighbours
            return _PART, "".join(self._basic_words(character))
        return kind, written

    def _is_uncut(self, text: str) -> bool:
        """Whether tokens may depend on more than how each character is written.

        A character that is left out may hide a special token: "[MA\u200bSK]".
        """
        folded = f"{text}\n{text.translate(self._written)}".casefold()
        return not self._contextual.isdisjoint(text) or any(token in folded for token in self._folded)

    def _pieces_of(self, words: Sequence[str], uncut: set[str], offsets: bool) -> list[_Pieces]:
        for word in words:
            if word not in self._pieces and word not in uncut:
                tokens = self._wordpiece.tokenize(word.translate(self._written))
                self._pieces[word] = [self._id(token) for token in tokens], self._laid_over(word, tokens)
        pieces = [self._slow_pieces(word, offsets) if word in uncut else self._pieces[word] for word in words]
        if len(self._pieces) > _REMEMBERED_WORDS:
            self._pieces.clear()
        return pieces

    def _basic_words(self, text: str) -> list[str]:
        """Words of a text without special tokens: PaddleNLP lower-cases each character by itself, then splits."""
        if self._lower:
            text = "".join([character.lower() for character in text])
        return self._basic.tokenize(text)

    # Characters of tokens ---------------------------------------------------------------------------------------------

    def _laid_over(self, text: str, tokens: Sequence[str]) -> Sequence[tuple[int, int]]:
        """The characters of each token, by walking text and tokens side by side.

        Where they don't end together, PaddleNLP's own search counts, which guesses round unknown tokens.
        """
        forms = [self._written[ord(character)] for character in text]
        origin = [place for place, form in enumerate(forms) for _ in form]  # of each character written in tokens
        spans, here = [], 0
        for token in tokens:
            if here >= len(origin):
                return self.tokenizer.get_offset_mapping(text)
            start = origin[here]
            if token in self._literals and text[start : start + len(token)].casefold() == token.casefold():
                here = bisect_left(origin, start + len(token), here)
            elif token == self._wordpiece.unk_token:
                here = bisect_left(origin, self._word_end(text, start), here)
            else:
                here += len(token) - 2 * (token.startswith("##") and len(token) > 2)
            end = origin[min(here, len(origin)) - 1] + 1
            while end < len(text) and not forms[end] and unicodedata.category(text[end]) == "Mn":
                end += 1  # an accent that was stripped from it
            spans.append((start, end))
        return spans if here == len(origin) else self.tokenizer.get_offset_mapping(text)

    def _word_end(self, text: str, start: int) -> int:
        """Where the word that begins at ``start`` ends: before white space, a one-character word or an added token."""
        cuts = getattr(self.tokenizer, "unique_no_split_tokens", ())
        is_part = [self._kinds[ord(character)] in (_DROPPED, _PART) for character in text]
        end = start + 1
        while is_part[start] and end < len(text) and is_part[end]:
            ahead = [text[end : end + len(token)] for token in cuts]
            if any(seen == token or self._lower and seen.lower() == token for seen, token in zip(ahead, cuts)):
                break
            end += 1
        return end

    # Identity ---------------------------------------------------------------------------------------------------------

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything that decides ids: vocabulary, settings, special tokens, versions.

        The Unicode version of the running Python is part of it, since categories of characters are.
        """
        tokenizer = self.tokenizer
        if not self.of_vocabulary:
            return tokenizer.fingerprint
        settings = [
            unicodedata.unidata_version,
            type(tokenizer).__name__,
            self._lower,
            None if self._basic is None else vars(self._basic),
            getattr(self._wordpiece, "max_input_chars_per_word", None),
            getattr(tokenizer, "special_tokens_map", {}),
            self._literals,
            [self._slow_ids(text) for text in _SPECIMENS],
            tokenizer.get_vocab(),
        ]
        return hashlib.sha256(json.dumps(settings, sort_keys=True, default=_plain).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Something JSON can write, equal for equal settings."""
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else str(value)


def _flat_spans(spans: Iterable[Sequence[tuple[int, int]]]) -> np.ndarray:
    """int32 [tokens, 2] of the spans of several texts."""
    return np.fromiter(chain.from_iterable(chain.from_iterable(spans)), np.int32).reshape(-1, 2)


def _words(kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where words start, and the next word or gap behind each; the last character is a gap.

    A character that is left out never starts a word, and belongs to the one before it.
    """
    shown = np.flatnonzero(kinds != _DROPPED)
    kind = kinds[shown]
    is_start = (kind == _ALONE) | ((kind == _PART) & (np.roll(kind, 1) != _PART))
    is_edge = is_start | (kind == _GAP)
    edges, is_start = shown[is_edge], is_start[is_edge]
    return edges[is_start], edges[1:][is_start[:-1]]


def _distinct_words(text: str, codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The distinct words of a text, and the number of each word."""
    numbers = codes[starts].astype(np.int64)  # most words are one character
    longer = np.flatnonzero(ends - starts > 1)
    names, name = distinct(text[start:end] for start, end in zip(starts[longer].tolist(), ends[longer].tolist()))
    characters = int(codes.max(initial=0)) + 1
    numbers[longer] = characters + name
    present, word = distinct_numbers(numbers)
    words = [chr(number) if number < characters else names[number - characters] for number in present.tolist()]
    return words, word


def _chunks(texts: Sequence[str], characters: int) -> list[list[str]]:
    """Consecutive strings of about ``characters`` together; at least one chunk."""
    numbers = (end // characters for end in accumulate(len(text) + 1 for text in texts))
    return [[text for _, text in chunk] for _, chunk in groupby(zip(numbers, texts), itemgetter(0))] or [[]]


#: What a worker process does, inherited by fork, so that the tokenizer is never pickled.
_work: Callable[[list[str]], Any]


def _begin_work(work: Callable[[list[str]], Any]) -> None:
    global _work
    _work = work
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker has inherited the lock of the cache."""
    multiprocessing.parent_process().join()  # type: ignore[union-attr]
    signal.raise_signal(signal.SIGKILL)


def _do_work(chunk: list[str]) -> Any:
    return _work(chunk)


def _map_processes(encode: Callable[[list[str]], Any], chunks: list[list[str]], num_proc: int | None) -> list[Any]:
    """``encode`` of all chunks, in order, by up to ``num_proc`` forked processes, but no more than there are cores.

    Raises ClueError when one of them is killed.
    """
    workers = min(num_proc or 1, len(chunks), usable_cores())
    if workers < 2 or "fork" not in multiprocessing.get_all_start_methods():
        return list(map(encode, chunks))
    try:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _begin_work, (encode,)) as pool:
            return list(pool.map(_do_work, chunks))
    except BrokenProcessPool:
        raise ClueError(
            f"one of {workers} processes that tokenize was killed, as happens when memory runs out: lower --num_proc"
        ) from None
