"""The bulk way against the tokenizer itself, on a stand-in that follows BERT's rules; PaddleNLP's own: see
test_slow_tokenizers.py."""

import fcntl
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from cluebench.features import TextEncoder, tokenization
from cluebench.foundation.errors import ClueError
from tests.features.standin import StandIn
from tests.features.tricky import TRICKY

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [
    *"abcdefghijklmnopqrstuvwxyz0123456789",
    *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"),
    *"中国人他们一，。“”[]_#!-",
    *"ABσς豈シン",
    "hello",
    "##llo",
    "he",
    "20",
    "##16",
    "\u1112",  # jamo: what 한 falls into
    "##\u1161",
]


def ids_of(encoder, texts):
    return [one.tolist() for one in encoder.encode(texts)]


def expected(tokenizer, texts):
    return [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) for text in texts]


SETTINGS = [
    {},
    {"do_lower_case": False},
    {"strip_accents": False},
    {"do_lower_case": False, "strip_accents": True},
    {"tokenize_chinese_chars": False},
    {"added": ("iphone", "中国", "[E1]")},
    {"do_lower_case": False, "added": ("iPhone", "##x")},
    {"never_split": ("他们", "AB")},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_ids_are_those_of_the_tokenizer_and_spans_lie_in_the_text(settings):
    tokenizer = StandIn(SPECIAL + PIECES, **settings)
    encoder = TextEncoder(tokenizer)
    draw = random.Random(0)
    alphabet = list({char for text in TRICKY for char in text}) + SPECIAL + ["中国", "iPhone", "他们", " ", "\u0301"]
    texts = ["".join(draw.choices(alphabet, k=draw.randrange(12))) for _ in range(400)]
    texts += TRICKY + ["iPhone IPHONE 中国人 [e1][E1] ##x AB ab"]
    codes = [*range(0, 0x3400, 7), *range(0x3400, 0x10000, 97), *range(0x10000, sys.maxunicode, 1997)]
    texts += [f"a{chr(code)}b" for code in codes]
    assert encoder.is_bulk
    assert ids_of(encoder, texts) == expected(tokenizer, texts)
    ids, starts, ends = encoder.encode_with_offsets(texts)
    assert [one.tolist() for one in ids] == expected(tokenizer, texts)
    for index, text in enumerate(texts):
        spans = list(zip(starts[ids.offsets[index] :], ends[ids.offsets[index] : ids.offsets[index + 1]]))
        assert all(0 <= start < end <= len(text) for start, end in spans)
        assert spans == sorted(spans)


def test_nearly_nothing_is_left_to_the_slow_way():
    tokenizer = StandIn(SPECIAL + PIECES)
    encoder = TextEncoder(tokenizer)
    before = tokenizer.calls
    encoder.encode(TRICKY)
    slow = [text for text in TRICKY if "MASK" in text or "MA\u200bSK" in text or "\u302e" in text]
    assert tokenizer.calls - before == len(slow)


def test_many_chunks_and_processes_make_no_difference(monkeypatch):
    tokenizer = StandIn(SPECIAL + PIECES)
    texts = TRICKY * 3
    whole = ids_of(TextEncoder(tokenizer), texts)
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 40)
    assert ids_of(TextEncoder(tokenizer), texts) == whole
    shared = TextEncoder(tokenizer).encode_with_offsets(texts, num_proc=2)
    alone = TextEncoder(tokenizer).encode_with_offsets(texts)
    assert shared[0].values.tolist() == alone[0].values.tolist()
    assert [part.tolist() for part in shared[1:]] == [part.tolist() for part in alone[1:]]


def test_a_worker_that_is_killed_is_reported(monkeypatch):
    """As by the kernel where memory runs out; nobody waits for it."""

    def encode(texts):
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ClueError, match="one of 2 processes that tokenize was killed.*--num_proc"):
        tokenization._map_processes(encode, [["a"], ["b"], ["c"]], 2)


def test_workers_end_with_their_parent(tmp_path):
    """They have inherited the cache's lock."""
    program = """
        import fcntl, os, sys, time
        from cluebench.features import tokenization
        lock = open(sys.argv[1], "w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        def encode(texts):
            os.write(1, b"begun\\n")  # in one piece, as print need not
            time.sleep(60)
        tokenization._map_processes(encode, [["a"], ["b"], ["c"]], 2)
    """
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", textwrap.dedent(program), str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == process.stdout.readline() == "begun\n"
        process.kill()
        begun = time.monotonic()
        with open(lock, "w") as again:
            while time.monotonic() < begun + 30:
                try:
                    return fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(0.05)
    pytest.fail("the lock is not free")


def test_words_are_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr(tokenization, "_REMEMBERED_WORDS", 5)
    tokenizer = StandIn(SPECIAL + PIECES)
    encoder = TextEncoder(tokenizer)
    for turn in range(4):
        texts = [f"word{number}x" for number in range(turn, turn + 4)]
        assert ids_of(encoder, texts) == expected(tokenizer, texts)
    assert len(encoder._pieces) <= 5


def test_a_tokenizer_of_another_kind_is_called_string_by_string():
    class Pairs(StandIn):
        """Not WordPiece at all: two characters a token."""

        def tokenize(self, text):
            self.calls += 1
            return [text[start : start + 2] for start in range(0, len(text), 2)]

        def get_offset_mapping(self, text):
            return [(start, min(start + 2, len(text))) for start in range(0, len(text), 2)]

    tokenizer = Pairs([*SPECIAL, "he", "ll"])
    encoder = TextEncoder(tokenizer)
    assert not encoder.is_bulk
    ids, starts, ends = encoder.encode_with_offsets(["hello", "", "ll"])
    assert [one.tolist() for one in ids] == [[5, 6, 1], [], [6]]
    assert starts.tolist() == [0, 2, 4, 0] and ends.tolist() == [2, 4, 5, 2]
    bare = Pairs([*SPECIAL, "he"])
    del bare.basic_tokenizer
    assert not TextEncoder(bare).is_bulk
    assert ids_of(TextEncoder(bare), ["hehe"]) == [[5, 5]]


# Offsets --------------------------------------------------------------------------------------------------------------

LETTERS = [("[", "["), ("m", "M"), ("##a", "A"), ("##s", "S"), ("##k", "K"), ("]", "]")]

#: Text → each token, and the characters it was made of.
SPANS = {
    "他HeLLo 2016": [("他", "他"), ("hello", "HeLLo"), ("20", "20"), ("##16", "16")],
    # Characters that the vocabulary lacks keep their span.
    "鑫 ωμέγα他": [("[UNK]", "鑫"), ("[UNK]", "ωμέγα"), ("他", "他")],
    "x" * 101 + "中": [("[UNK]", "x" * 101), ("中", "中")],
    "ＡＢ": [("[UNK]", "ＡＢ")],
    # Accents belong to the letter they stand on.
    "hé他": [("he", "hé"), ("他", "他")],
    "he\u0301\u0302 他": [("he", "he\u0301\u0302"), ("他", "他")],
    "h\u0301e": [("he", "h\u0301e")],
    "\u0301他": [("他", "他")],
    # Control characters and spaces belong to nothing.
    "\ufeff他\u200b 们\x00": [("他", "他"), ("们", "们")],
    "h\u200be": [("he", "h\u200be")],
    # A character may fall into several tokens.
    "x하": [("[UNK]", "x하")],
    "하中": [("\u1112", "하"), ("##\u1161", "하"), ("中", "中")],
    # Special tokens are cut like other text, unless they stand alone.
    "[MASK]Hello 鑫": [*LETTERS, ("hello", "Hello"), ("[UNK]", "鑫")],
    "ω他 [MASK] [mask]": [
        ("[UNK]", "ω"),
        ("他", "他"),
        ("[MASK]", "[MASK]"),
        *((one, of.lower()) for one, of in LETTERS),
    ],
}
ADDED_SPANS = {"他[MASK]Hello": [("他", "他"), ("[MASK]", "[MASK]"), ("hello", "Hello")]}


@pytest.mark.parametrize("added, spans", [((), SPANS), (("[MASK]",), ADDED_SPANS)])
def test_characters_of_tokens(added, spans):
    tokenizer = StandIn(SPECIAL + PIECES, added=added)
    names = {index: token for token, index in tokenizer.get_vocab().items()}
    for text, expected_spans in spans.items():
        ids, starts, ends = TextEncoder(tokenizer).encode_with_offsets([text])
        found = [
            (names[index], text[start:end]) for index, start, end in zip(ids[0].tolist(), starts, ends, strict=True)
        ]
        assert found == expected_spans, text


def test_tokens_that_do_not_end_with_the_text_are_left_to_the_tokenizers_own_search():
    class Shorter(StandIn):
        def tokenize(self, text):
            return super().tokenize(text)[: -1 if "[MASK]" in text else None]

        def get_offset_mapping(self, text):
            return [(0, 6), (6, 9)]

    _, starts, ends = TextEncoder(Shorter(SPECIAL + PIECES)).encode_with_offsets(["他", "[MASK] 他们"])
    assert starts.tolist() == [0, 0, 6] and ends.tolist() == [1, 6, 9]


# Identity -------------------------------------------------------------------------------------------------------------


def test_fingerprints_tell_apart_what_gives_other_ids():
    variants = [
        StandIn(SPECIAL + PIECES),
        StandIn(SPECIAL + PIECES[1:] + PIECES[:1]),
        StandIn(SPECIAL + PIECES + ["x y"]),
        StandIn(SPECIAL + PIECES, added=("iphone",)),
        *(StandIn(SPECIAL + PIECES, **settings) for settings in SETTINGS[1:5]),
    ]
    fingerprints = [TextEncoder(variant).fingerprint for variant in variants]
    assert len(set(fingerprints)) == len(variants)
    assert fingerprints[0] == TextEncoder(StandIn(SPECIAL + PIECES)).fingerprint


def test_a_token_the_vocabulary_lacks_has_the_unknown_id():
    encoder = TextEncoder(StandIn(SPECIAL + PIECES))
    assert encoder.token_id("[unused1]") == encoder.token_id("[UNK]") == 1
    assert (encoder.pad_id, encoder.mask_id) == (0, 4)
