"""Inputs made with tokenizer.json: ids, special tokens and token types are those of the library that wrote it."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer

from cluebench.data.rows import ChoiceRow, IdiomRecord, SpanRow, TextRow
from cluebench.demo import synthetic
from cluebench.features import TextEncoder, choice, idiom, pair, span
from cluebench.foundation.errors import UsageError
from tests.models.tokenizer_files import write_byte_pairs, write_unigram

WRITERS = {"byte pairs": write_byte_pairs, "unigram": write_unigram}
TEXTS = ["我们 今天在北京，Hello １２", "", "  中国 人 ", "《他》说：“好” ok", "</s>不是<mask>"]


@pytest.fixture(scope="module", params=WRITERS)
def made(request, tmp_path_factory):
    """(the library's own tokenizer, ours)"""
    from cluebench.foundation import environment

    environment.import_paddle()
    from cluebench.models.tokenizer import TokenizerFile

    folder = tmp_path_factory.mktemp("tokenizer")
    WRITERS[request.param](folder, synthetic.characters() + "他在北京说好中国：，！“”一二三四五六七八九十心意:")
    return Tokenizer.from_file(str(folder / "tokenizer.json")), TokenizerFile(folder / "tokenizer.json", {})


def ids(own: Tokenizer, *texts: str) -> list[int]:
    return own.encode(*texts).ids


def body(own: Tokenizer, text: str) -> list[int]:
    return own.encode(text, add_special_tokens=False).ids


def rows_of(batch, pad):
    flat = batch["input_ids"].reshape(-1, batch["input_ids"].shape[-1])
    return [row[: np.flatnonzero(row != pad)[-1] + 1].tolist() for row in flat]


def test_singles_and_pairs_are_what_the_library_makes(made):
    own, ours = made
    encoder = TextEncoder(ours)
    for texts in ((TEXTS[0],), (TEXTS[1],), (TEXTS[0], TEXTS[3]), (TEXTS[4], TEXTS[2])):
        arrays = pair.build([TextRow(texts, 0)], encoder, max_seq_length=200)
        batch = pair.PairFeatures(arrays).batch([0])
        encoding = own.encode(*texts)
        assert batch["input_ids"].tolist() == [encoding.ids]
        assert batch["token_type_ids"].tolist() == [encoding.type_ids]


def test_pairs_are_cut_to_the_length_with_all_special_tokens(made):
    own, ours = made
    features = pair.PairFeatures(pair.build([TextRow((TEXTS[0], TEXTS[3]), 0)], TextEncoder(ours), max_seq_length=12))
    (row,) = features.batch([0])["input_ids"].tolist()
    first, second = body(own, TEXTS[0]), body(own, TEXTS[3])
    start, end = own.token_to_id("<s>"), own.token_to_id("</s>")
    assert features.lengths.tolist() == [12]
    assert row == [start, *first[:4], end, end, *second[:4], end]


def test_options_follow_the_context_and_the_question(made):
    """<s> context </s></s> question </s></s> option </s>"""
    own, ours = made
    row = ChoiceRow("他在北京。", "他在哪？", ("北京", "中国"), 0, 0)
    arrays = choice.build([row], TextEncoder(ours), max_seq_length=100, num_choices=2)
    batch = choice.ChoiceFeatures(arrays).batch([0])
    start, end = own.token_to_id("<s>"), own.token_to_id("</s>")
    head = [start, *body(own, row.context), end, end, *body(own, row.question), end, end]
    assert rows_of(batch, ours.pad_token_id) == [[*head, *body(own, option), end] for option in row.options]
    assert not batch["token_type_ids"].any()


def test_a_blanks_window_leaves_room_for_whole_idioms(made):
    """<s> idiom </s></s> left blank right </s>; Chinese characters are up to three tokens each."""
    own, ours = made
    candidates = tuple("一二三四五六七八九十"[place] + "心一意" for place in range(10))
    record = IdiomRecord(("我们今天#idiom000001#在北京说话" * 1,), candidates, {"#idiom000001#": 3})
    arrays = idiom.build([record], TextEncoder(ours), max_seq_length=24, num_choices=10)
    found = rows_of(idiom.IdiomFeatures(arrays).batch([0]), ours.pad_token_id)
    start, end, blank = (own.token_to_id(token) for token in ("<s>", "</s>", "<unk>"))
    longest = max(len(body(own, one)) for one in candidates)
    left, right = body(own, "我们今天"), body(own, "在北京说话")
    room = 24 - 5 - max(4, longest)
    kept = idiom.window_sides(np.array([len(left)]), np.array([len(right)]), room)
    window = [*left[len(left) - kept[0][0] :], blank, *right[: kept[1][0]]]
    assert found == [[start, *body(own, one), end, end, *window, end] for one in candidates]
    assert max(map(len, found)) <= 24
    assert len({tuple(row) for row in found}) == 10


def test_every_answer_is_read_off_the_tokens_it_is_labelled_with(made):
    _, ours = made
    context = "他在  北京说：hello，“好”！１２ 中国"
    for start in range(len(context)):
        for end in range(start + 1, min(start + 4, len(context)) + 1):
            answer = context[start:end]
            if answer != answer.strip():
                continue
            row = SpanRow("q", context, "在哪？", (answer,), (start,))
            features = span.SpanFeatures(span.build([row], TextEncoder(ours), max_seq_length=200, doc_stride=64))
            first, last = features.start_positions[0], features.end_positions[0]
            begin, behind = features.characters(0, first, last)
            assert first <= last and begin <= start and end <= behind
            if answer not in "hello" and "hello" not in answer:  # words may be one token
                assert context[begin:behind].strip() == answer


def test_the_blank_and_its_fallbacks(made, tmp_path):
    own, ours = made
    assert TextEncoder(ours).token_id("[unused1]") == own.token_to_id("<unk>")
    assert ours.convert_ids_to_tokens([own.token_to_id("<mask>")]) == ["<mask>"]


def test_saved_files_are_the_very_same(made, tmp_path):
    from cluebench.models.tokenizer import TokenizerFile

    _, ours = made
    ours.save_pretrained(str(tmp_path))
    again = TokenizerFile(tmp_path / "tokenizer.json", {})
    assert again.fingerprint == ours.fingerprint
    assert TextEncoder(again).encode(TEXTS).values.tolist() == TextEncoder(ours).encode(TEXTS).values.tolist()


@pytest.mark.parametrize("content, reason", [("{}", "damaged"), ("{", "damaged"), (None, "puts no special tokens")])
def test_a_file_that_no_encoder_has_is_refused_in_one_line(content, reason, made, tmp_path):
    from cluebench.models.tokenizer import TokenizerFile

    own, _ = made
    file = tmp_path / "tokenizer.json"
    file.write_text(content or json.dumps({**json.loads(own.to_str()), "post_processor": None}), encoding="utf-8")
    with pytest.raises(UsageError, match=reason) as raised:
        TokenizerFile(file, {})
    assert str(file) in str(raised.value) and "\n" not in str(raised.value)
