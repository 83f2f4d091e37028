"""The bulk way against PaddleNLP's own slow tokenizers, of every architecture in the published table."""

import random
import sys
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluebench.features import TextEncoder
from tests.features.conftest import GOLDEN
from tests.features.tricky import TRICKY

pytestmark = pytest.mark.slow

CLASSES = [
    ("BertTokenizer", {}),
    ("BertTokenizer", {"do_lower_case": False}),
    ("BertTokenizer", {"do_lower_case": False, "strip_accents": True}),
    ("BertTokenizer", {"strip_accents": False, "tokenize_chinese_chars": False}),
    ("BertTokenizer", {"never_split": ["他们", "iPhone"]}),
    ("ErnieTokenizer", {}),
    ("ErnieTokenizer", {"do_lower_case": False}),
    ("ErnieGramTokenizer", {}),
    ("RobertaChineseTokenizer", {}),
    ("RobertaChineseTokenizer", {"do_lower_case": False}),
    ("RoFormerv2Tokenizer", {}),
    ("RoFormerv2Tokenizer", {"do_lower_case": False}),
    ("TinyBertTokenizer", {}),
]


def slow_ids(tokenizer, texts):
    return [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) for text in texts]


def bulk_ids(encoder, texts):
    return [one.tolist() for one in encoder.encode(texts)]


def random_texts(number, seed=0):
    draw = random.Random(seed)
    alphabet = list({char for text in TRICKY for char in text})
    alphabet += ["[MASK]", "[UNK]", "[SEP]", "iPhone", "他们", " ", "\u0301", "2016", "Hello", "。", "x" * 60]
    return ["".join(draw.choices(alphabet, k=draw.randrange(15))) for _ in range(number)]


def assert_spans_fit(tokenizer, encoder, texts):
    """Every token's span lies in the text, in order, and holds what the token says, but for case and accents."""
    ids, starts, ends = encoder.encode_with_offsets(texts)
    for index, text in enumerate(texts):
        window = slice(ids.offsets[index], ids.offsets[index + 1])
        spans = list(zip(starts[window].tolist(), ends[window].tolist(), strict=True))
        assert spans == sorted(spans)
        assert all(0 <= start < end <= len(text) for start, end in spans)
        for token, (start, end) in zip(tokenizer.tokenize(text), spans, strict=True):
            if token.isascii() and token != tokenizer.unk_token:
                seen = "".join(char for char in text[start:end] if char.isascii()).lower()
                piece = token[2:] if token.startswith("##") and len(token) > 2 else token
                assert not seen or piece.lower() == "".join(char for char in seen if char.isprintable())


@pytest.mark.parametrize("name, options", CLASSES, ids=str)
def test_every_architecture(paddlenlp_transformers, name, options):
    tokenizer = getattr(paddlenlp_transformers, name)(str(GOLDEN / "vocab.txt"), **options)
    encoder = TextEncoder(tokenizer)
    texts = TRICKY + random_texts(500)
    assert encoder.is_bulk
    assert bulk_ids(encoder, texts) == slow_ids(tokenizer, texts)
    assert_spans_fit(tokenizer, encoder, texts)


PARTS = (
    st.sampled_from([*"".join(TRICKY), "[MASK]", "[UNK]", "他们", "iPhone", "\u0301", "##a", "x" * 101])
    | st.characters()
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(PARTS, max_size=12).map("".join), max_size=6))
def test_texts_encoded_together_are_texts_encoded_alone(paddlenlp_transformers, texts):
    tokenizer = paddlenlp_transformers.ErnieTokenizer(str(GOLDEN / "vocab.txt"))
    encoder = TextEncoder(tokenizer)
    assert bulk_ids(encoder, texts) == slow_ids(tokenizer, texts)
    assert_spans_fit(tokenizer, encoder, texts)
    together = encoder.encode_with_offsets(texts)[1:]
    alone = [encoder.encode_with_offsets([text])[1:] for text in texts]
    for part, places in enumerate(together):
        assert places.tolist() == [place for spans in alone for place in spans[part].tolist()]


#: Categories whose many members are all alike - letters without case, nothing at all - of which a sample will do.
UNIFORM = ("Lo", "Cn", "Co", "Cs")


@pytest.mark.parametrize(
    "name, options, step", [("ErnieTokenizer", {}, 61), ("BertTokenizer", CLASSES[1][1], 997)], ids=str
)
def test_every_code_point(paddlenlp_transformers, name, options, step):
    tokenizer = getattr(paddlenlp_transformers, name)(str(GOLDEN / "vocab.txt"), **options)
    encoder = TextEncoder(tokenizer)
    codes = range(sys.maxunicode + 1)
    chars = [chr(code) for code in codes if code % step == 0 or unicodedata.category(chr(code)) not in UNIFORM]
    # Words apart by spaces don't touch each other, so that many code points can share a string.
    texts = [
        " ".join(f"a{char}b {char} 中{char}中 {char}{char}1" for char in chars[start : start + 500])
        for start in range(0, len(chars), 500)
    ]
    assert encoder.is_bulk
    for text, ids in zip(texts, bulk_ids(encoder, texts), strict=True):
        assert ids == slow_ids(tokenizer, [text])[0]


def test_a_saved_tokenizer_with_added_tokens(paddlenlp_transformers, tmp_path):
    tokenizer = paddlenlp_transformers.BertTokenizer(str(GOLDEN / "vocab.txt"))
    tokenizer.add_tokens(["iPhone", "战国无双", "㎡"])
    tokenizer.add_tokens(["[E1]"], special_tokens=True)
    tokenizer.save_pretrained(str(tmp_path))
    loaded = paddlenlp_transformers.BertTokenizer.from_pretrained(str(tmp_path))
    assert "[MASK]" in loaded.unique_no_split_tokens  # so it is no longer cut up where it stands in a text
    encoder = TextEncoder(loaded)
    texts = TRICKY + random_texts(300, seed=1) + ["战国无双3 IPHONEx iphone [E1][e1] 100㎡"]
    assert bulk_ids(encoder, texts) == slow_ids(loaded, texts)
    assert_spans_fit(loaded, encoder, texts)
    assert (
        encoder.fingerprint != TextEncoder(paddlenlp_transformers.BertTokenizer(str(GOLDEN / "vocab.txt"))).fingerprint
    )


def test_real_texts(paddlenlp_transformers, clue_data_dir):
    from cluebench.benchmark.tasks import TASKS
    from cluebench.data.rows import load_rows
    from cluebench.data.source import DataSource

    source = DataSource(clue_data_dir)
    contexts = sorted({row.context for row in load_rows(source, TASKS["cmrc2018"], "dev")})
    passages = sorted({text for row in load_rows(source, TASKS["chid"], "dev") for text in row.passages})
    texts = (
        contexts[::3]
        + passages
        + [text for row in load_rows(source, TASKS["iflytek"], "dev", 200) for text in row.texts]
    )
    tokenizer = paddlenlp_transformers.ErnieTokenizer(str(GOLDEN / "vocab.txt"))
    encoder = TextEncoder(tokenizer)
    assert bulk_ids(encoder, texts) == slow_ids(tokenizer, texts)
    assert_spans_fit(tokenizer, encoder, texts)
