"""Many distinct strings to token ids at once, with exactly the ids of PaddleNLP's slow tokenizer.

PaddleNLP's BERT, ERNIE, ERNIE-Gram, RoBERTa (Chinese), RoFormerV2 and TinyBERT tokenizers are one scheme: a
BasicTokenizer that works character by character (drop, white space, a word of its own, part of a word; lower case and
accents on the way), then WordPiece inside words (Devlin et al. 2019). So a table says how each character is written,
`str.translate` makes words out of a text by it, and each distinct word goes through WordPiece once. The table is not a
copy of the rules: each character met is shown to the tokenizer's own BasicTokenizer, and each word to its own
WordPiece. So every setting, and the Unicode version of the running Python, counts as in the slow tokenizer.

What does depend on its neighbours (special or added tokens standing in the text, combining characters that
normalisation would reorder) is found and left to the slow tokenizer itself, as is every tokenizer of another kind.
"""

import hashlib
import json
import multiprocessing
import signal
import threading
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property, lru_cache, partial
from itertools import accumulate, chain, groupby
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np

from cluebench.features.ragged import Ragged, distinct, distinct_numbers, flat_positions, offsets_of
from cluebench.features.templates import Template
from cluebench.foundation.errors import ClueError
from cluebench.foundation.resource_limits import usable_cores

T = TypeVar("T")

#: Token ids of each text, and int32 [tokens, 2] the characters each token covers, end exclusive.
_Encoded = tuple[Ragged, np.ndarray]
_NO_SPANS = np.zeros((0, 2), np.int32)

#: Raised when ids or offsets change for the same tokenizer and text.
TOKENIZATION_VERSION = 1

#: The form of a character that depends on its neighbours. BERT's tokenizers leave this one out of every text.
_CONTEXTUAL = "\0"

_CHUNK_CHARACTERS = 1 << 17  # bounds the memory of one pass to some tens of MB
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


class TextEncoder:
    """Token ids of strings, without special tokens: ``tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))``.

    ``tokenizer`` is any slow PaddleNLP tokenizer; of a fast one ids differ on rare characters. One that is not of the
    BERT scheme is called string by string: correct, and slow. One that has ``encode_texts``, ``template`` and
    ``fingerprint``, as `models.tokenizer` has, is asked for many strings at once.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self._encode_texts = getattr(tokenizer, "encode_texts", None)
        self.of_vocabulary = self._encode_texts is None
        self.cls_id, self.sep_id = tokenizer.cls_token_id, tokenizer.sep_token_id
        self.pad_id, self.mask_id = tokenizer.pad_token_id, tokenizer.mask_token_id
        self.template = getattr(tokenizer, "template", None) or _template_of(tokenizer)
        self._basic: Any = getattr(tokenizer, "basic_tokenizer", None)
        self._wordpiece: Any = getattr(tokenizer, "wordpiece_tokenizer", None)
        self._lower = bool(getattr(tokenizer, "do_lower_case", False))
        self._form = lru_cache(maxsize=None)(self._form_of)
        self._pieces = lru_cache(maxsize=_REMEMBERED_WORDS)(self._pieces_of)
        self._literals = self._literal_tokens()
        self._folded = [token.casefold() for token in self._literals]
        self._cuts = [str(token) for token in getattr(tokenizer, "unique_no_split_tokens", ())]
        cuts_words = hasattr(self._basic, "vocab")  # RoFormer's, by jieba: no table of characters says where
        self.is_bulk = self._basic is not None and self._wordpiece is not None and not cuts_words
        self._strips = self.is_bulk and self._basic_words("e\u0301") == ["e"]
        if self.is_bulk:
            encoded = [(text, self._encode_regular([text], offsets=False)) for text in _SPECIMENS]
            self.is_bulk = all(got is None or got[0].values.tolist() == self._slow_ids(text) for text, got in encoded)

    def token_id(self, token: str) -> int:
        """Id of one token as it stands in the vocabulary; the unknown token's when it doesn't."""
        return self.tokenizer.convert_tokens_to_ids(token)

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
        quick = self.is_bulk or not self.of_vocabulary
        chunks = _chunks(texts, _CHUNK_CHARACTERS if quick else _CHUNK_CHARACTERS >> 3)
        if not self.of_vocabulary:
            num_proc = None  # it has threads of its own
        return _joined(_map_processes(partial(self._encode_chunk, offsets=offsets), chunks, num_proc))

    def _encode_chunk(self, texts: list[str], offsets: bool) -> _Encoded:
        if self._encode_texts is not None:
            ids, spans = self._encode_texts(texts)
            return Ragged.of(ids), np.concatenate([_NO_SPANS, *spans])
        encoded = self._encode_regular(texts, offsets) if self.is_bulk or not texts else None
        if encoded is not None:
            return encoded
        if len(texts) > 1:  # halves, until the irregular texts are alone
            middle = len(texts) // 2
            return _joined([self._encode_chunk(half, offsets) for half in (texts[:middle], texts[middle:])])
        spans = self._slow_spans(texts[0]) if offsets else _NO_SPANS
        return Ragged.of([self._slow_ids(texts[0])]), np.array(spans, np.int32).reshape(-1, 2)

    def _slow_ids(self, text: str) -> list[int]:
        return self.tokenizer.convert_tokens_to_ids(self.tokenizer.tokenize(text))

    # Many texts at once -----------------------------------------------------------------------------------------------

    def _encode_regular(self, texts: Sequence[str], offsets: bool) -> _Encoded | None:
        """None where a token of the texts may depend on more than the form of each character.

        A character that is left out may hide a special token: "[MA\u200bSK]".
        """
        text = "".join(texts)
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)
        characters, kind = distinct_numbers(codes)
        forms = [self._form(code) for code in characters.tolist()]
        shapes = Ragged.of([[ord(character) for character in form.strip()] for form in forms])
        written = shapes.values[flat_positions(shapes.starts[kind], shapes.lengths[kind])]
        visible = written.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
        seen = (text.casefold(), visible.casefold())
        if _CONTEXTUAL in forms or any(token in one for token in self._folded for one in seen):
            return None

        origin = np.repeat(np.arange(len(codes)), shapes.lengths[kind])  # the character of each written character
        of_text = np.repeat(np.arange(len(texts)), [len(one) for one in texts])
        apart = np.array([form[:1] == " " for form in forms], np.int64)[kind]
        gap = 2 * np.cumsum(apart) - apart + of_text  # grows before, in and behind what stands apart
        starts = np.flatnonzero(np.diff(gap[origin], prepend=-1))
        words, word = self._distinct_words(written, visible, starts)
        pieces = [self._pieces(one) for one in words]
        ids = Ragged.of([of_word for of_word, _ in pieces])
        chosen = flat_positions(ids.starts[word], ids.lengths[word])
        widths = np.fromiter(chain.from_iterable(widths for _, widths in pieces), np.int64)[chosen]
        ends = np.cumsum(widths)
        first = origin[ends - widths]
        counts = np.bincount(of_text[first], minlength=len(texts))
        encoded = Ragged(ids.values[chosen], offsets_of(counts))
        if not offsets:
            return encoded, _NO_SPANS
        text_offsets = offsets_of([len(one) for one in texts])
        accents = [not form and unicodedata.category(chr(code)) == "Mn" for code, form in zip(characters, forms)]
        behind = np.append(np.flatnonzero(~np.array(accents, bool)[kind]), len(codes))
        end = behind[np.searchsorted(behind, origin[ends - 1] + 1)]  # behind the accents that were stripped from it
        end = np.minimum(end, text_offsets[1:][of_text[first]])
        spans = np.stack([first, end], axis=1) - text_offsets[of_text[first], None]
        return encoded, spans.astype(np.int32)

    def _distinct_words(self, written: np.ndarray, visible: str, starts: np.ndarray) -> tuple[list[str], np.ndarray]:
        """The distinct words, and the number of each word that begins at one of ``starts``."""
        ends = np.append(starts[1:], len(written))
        numbers = written[starts].astype(np.int64)  # most words are one character
        longer = np.flatnonzero(ends - starts > 1)
        names, name = distinct(visible[start:end] for start, end in zip(starts[longer], ends[longer]))
        characters = int(numbers.max(initial=0)) + 1
        numbers[longer] = characters + name
        present, word = distinct_numbers(numbers)
        return [chr(one) if one < characters else names[one - characters] for one in present.tolist()], word

    def _pieces_of(self, word: str) -> tuple[list[int], list[int]]:
        """A word's token ids, and how many of its characters each token covers; the unknown token covers all."""
        tokens = self._wordpiece.tokenize(word)
        widths = [len(token) - 2 * (token.startswith("##") and len(token) > 2) for token in tokens]
        widths[-1] += len(word) - sum(widths)
        return self.tokenizer.convert_tokens_to_ids(tokens), widths

    def _basic_words(self, text: str) -> list[str]:
        """Words of a text without special tokens: PaddleNLP lower-cases each character by itself, then splits."""
        if self._lower:
            text = "".join(character.lower() for character in text)
        return self._basic.tokenize(text)

    def _form_of(self, code: int) -> str:
        """Shows a character to the BasicTokenizer between letters, alone and doubled, and reads off what it does.

        Nothing is left of it, or it becomes a space, a word of its own between spaces, or a part of a word.
        """
        character = chr(code)
        words = self._basic_words(f"a{character}b {character} {character}{character}")
        if words in (["ab"], ["a", "b"]):
            return " " * (len(words) - 1)
        if len(words) == 6 and words[0] == "a" and words[2] == "b" and len({words[1], *words[3:]}) == 1:
            form = f" {words[1]} "
        elif len(words) == 3 and words[0] == f"a{words[1]}b" and words[2] == words[1] * 2:
            form = words[1]
        else:
            return _CONTEXTUAL
        # Canonical ordering may move it past its neighbours.
        return _CONTEXTUAL if self._strips and any(map(unicodedata.combining, form)) else form

    def _literal_tokens(self) -> frozenset[str]:
        """Tokens that the slow tokenizer treats as a unit where they stand in a text, caseless."""
        tokens = {str(token) for token in getattr(self.tokenizer, "all_special_tokens", ())}
        tokens |= {str(token) for token in getattr(self.tokenizer, "unique_no_split_tokens", ())}
        tokens |= {str(token) for token in getattr(self.tokenizer, "added_tokens_encoder", ())}
        tokens |= {str(token) for token in getattr(self._basic, "never_split", None) or ()}
        return frozenset(tokens - {""})

    # Characters of an irregular text's tokens ------------------------------------------------------------------------

    def _slow_spans(self, text: str) -> Sequence[tuple[int, int]]:
        """Found by laying the tokens over the text.

        Where that is impossible it is left to PaddleNLP's own search, which guesses round unknown tokens.
        """
        spans = self._laid_over(text, self.tokenizer.tokenize(text)) if self.is_bulk else None
        return self.tokenizer.get_offset_mapping(text) if spans is None else spans

    def _laid_over(self, text: str, tokens: Sequence[str]) -> list[tuple[int, int]] | None:
        """Walks text and tokens side by side; None when they don't end together."""
        forms = [self._form(ord(character)) for character in text]
        origin = []  # of each character as written in tokens, the character it came from
        for place, form in enumerate(forms):
            written = "".join(self._basic_words(text[place])) if form == _CONTEXTUAL else form.strip()
            origin += [place] * len(written)
        spans, here = [], 0
        for token in tokens:
            if here == len(origin):
                return None
            start = origin[here]
            if token in self._literals and text[start : start + len(token)].casefold() == token.casefold():
                here = bisect_left(origin, start + len(token), here)
            elif token == self._wordpiece.unk_token:
                here = bisect_left(origin, self._word_end(text, forms, start), here)
            else:
                here += len(token) - 2 * (token.startswith("##") and len(token) > 2)
            if here > len(origin):
                return None
            end = origin[here - 1] + 1
            while end < len(text) and not forms[end] and unicodedata.category(text[end]) == "Mn":
                end += 1  # an accent that was stripped from it
            spans.append((start, end))
        return spans if here == len(origin) else None

    def _word_end(self, text: str, forms: Sequence[str], start: int) -> int:
        """Where the word that begins at ``start`` ends: before white space, a one-character word or an added token."""
        end = start + 1
        while forms[start][:1] != " " and end < len(text) and forms[end][:1] != " ":
            for token in self._cuts:
                ahead = text[end : end + len(token)]
                if ahead == token or self._lower and ahead.lower() == token:
                    return end
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
        settings = {
            "version": TOKENIZATION_VERSION,
            "unicode": unicodedata.unidata_version,
            "class": type(tokenizer).__name__,
            "lower": self._lower,
            "basic": _plain(vars(self._basic)) if self._basic is not None else None,
            "longest word": getattr(self._wordpiece, "max_input_chars_per_word", None),
            "special": _plain(getattr(tokenizer, "special_tokens_map", {})),
            "literals": sorted(self._literals),
            "specimens": [self._slow_ids(text) for text in _SPECIMENS],
        }
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, ensure_ascii=True).encode())
        for token, index in sorted(tokenizer.get_vocab().items()):
            digest.update(f"{token}\t{index}\n".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


def _template_of(tokenizer: Any) -> Template:
    """Read off what a slow tokenizer makes of a pair."""
    first, second = -1, -2  # no token's ids
    try:
        ids = tokenizer.build_inputs_with_special_tokens([first], [second])
        types = tokenizer.create_token_type_ids_from_sequences([first], [second])
        one, two = ids.index(first), ids.index(second)
        return Template(tuple(ids[:one]), tuple(ids[one + 1 : two]), tuple(ids[two + 1 :]), int(types[two]))
    except (AttributeError, ValueError, IndexError, NotImplementedError):
        return Template((tokenizer.cls_token_id,), (tokenizer.sep_token_id,), (tokenizer.sep_token_id,))


def _plain(value: Any) -> Any:
    """Something JSON can write, equal for equal settings."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _joined(parts: Sequence[_Encoded]) -> _Encoded:
    ids, spans = zip(*parts)
    return Ragged.concatenate(ids), np.concatenate(spans)


def _chunks(texts: Sequence[str], characters: int) -> list[list[str]]:
    """Consecutive strings of about ``characters`` together; at least one chunk."""
    numbers = (end // characters for end in accumulate(len(text) + 1 for text in texts))
    return [[text for _, text in chunk] for _, chunk in groupby(zip(numbers, texts), itemgetter(0))] or [[]]


#: What a worker process does, inherited by fork, so that the tokenizer is never pickled.
_work: Callable[[list[str]], Any]


def _begin_work(work: Callable[[list[str]], Any]) -> None:
    """A worker ends with its parent: it has inherited the lock of the cache."""
    global _work
    _work = work

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        signal.raise_signal(signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def _map_processes(encode: Callable[[list[str]], T], chunks: list[list[str]], num_proc: int | None) -> list[T]:
    """``encode`` of all chunks, in order, by up to ``num_proc`` forked processes, but no more than there are cores.

    Raises ClueError when one of them is killed.
    """
    workers = min(num_proc or 1, len(chunks), usable_cores())
    if workers < 2 or "fork" not in multiprocessing.get_all_start_methods():
        return list(map(encode, chunks))
    forking = multiprocessing.get_context("fork")
    try:
        with ProcessPoolExecutor(workers, forking, _begin_work, (encode,)) as pool:
            return list(pool.map(_do_work, chunks))
    except BrokenProcessPool:
        raise ClueError(
            f"one of {workers} processes that tokenize was killed, as happens when memory runs out: lower --num_proc"
        ) from None


def _do_work(chunk: list[str]) -> Any:
    return _work(chunk)
