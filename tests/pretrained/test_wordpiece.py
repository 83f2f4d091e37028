"""What is read of the files that say how a model's texts are tokenised, and what of them contradicts."""

import json

import pytest

from cluebench.foundation.errors import UsageError
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import find
from cluebench.pretrained.wordpiece import read_wordpiece

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "天", "气", "b", "##b"]


@pytest.fixture
def folder(tmp_path):
    """A model without a tokenizer."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    return tmp_path


def vocab_txt(folder, tokens=TOKENS, end="\n"):
    (folder / "vocab.txt").write_bytes("".join(token + end for token in tokens).encode())


def tokenizer_json(folder, tokens=TOKENS, added=(), model=(), **normalizer):
    content = {
        "added_tokens": [{"id": number, "content": token, "special": False} for token, number in added],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, **normalizer},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": {token: row for row, token in enumerate(tokens)}, **dict(model),
        },
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(content))


def settings_json(folder, **settings):
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def decoder(**tokens):
    return {str(number): {"content": token, "special": True} for token, number in tokens.items()}


def read(folder):
    return read_wordpiece(find(Model.of(folder)))


def test_vocab_txt_alone(folder):
    vocab_txt(folder)
    found = read(folder)
    assert found.vocabulary == tuple(TOKENS) and not found.added and not found.notices
    assert found.settings == {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}


def test_lines_may_end_as_windows_writes_them(folder):
    vocab_txt(folder, end="\r\n")
    assert read(folder).vocabulary == tuple(TOKENS)


def test_tokenizer_json_alone(folder):
    tokenizer_json(folder, lowercase=False, strip_accents=None, handle_chinese_chars=True, added=[("天气", 9)])
    found = read(folder)
    assert found.vocabulary == tuple(TOKENS) and found.added == {"天气": 9}
    assert found.settings["do_lower_case"] is False and found.settings["tokenize_chinese_chars"] is True
    assert "strip_accents" not in found.settings
    assert found.notices[0].startswith("tokenizer.json keeps capitals and tokenizer_config.json says nothing")
    settings_json(folder, tokenizer_class="PreTrainedTokenizerFast")
    assert not read(folder).notices


@pytest.mark.parametrize("rows", [{"a": 0, "b": 2}, {"[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[PAD]": 5}])
def test_a_row_without_a_token_is_kept_free(folder, rows):
    settings_json(folder, unk_token="b", cls_token="b", sep_token="b", pad_token="b") if "b" in rows else None
    tokenizer_json(folder, lowercase=True, model={"vocab": rows})
    found = read(folder)
    assert {found.vocabulary[row]: row for row in rows.values()} == rows
    assert len(found.vocabulary) == max(rows.values()) + 1


@pytest.mark.parametrize(
    "model",
    [
        {"type": "BPE", "vocab": {}, "merges": []},
        {"type": "Unigram", "vocab": [["a", 0.0]]},
        {"continuing_subword_prefix": "_"},
        {"max_input_chars_per_word": 5},
    ],
)
def test_tokenizers_of_other_kinds_are_left_to_others(folder, model):
    tokenizer_json(folder, model=model)
    assert read(folder) is None


def test_which_file_counts(folder):
    vocab_txt(folder)
    tokenizer_json(folder, lowercase=True, strip_accents=False)
    settings_json(folder, do_lower_case=False)
    found = read(folder)
    assert found.settings["do_lower_case"] is False and found.settings["strip_accents"] is False
    expected = '"do_lower_case" is False in tokenizer_config.json, True in tokenizer.json; the first counts'
    assert found.notices == (expected,)
    tokenizer_json(folder, tokens=TOKENS[::-1], lowercase=False)
    assert read(folder).vocabulary == tuple(TOKENS)
    assert read(folder).notices == ("vocab.txt and tokenizer.json have different vocabularies; vocab.txt counts",)


@pytest.mark.parametrize("kind", [{}, {"__type": "AddedToken"}])
def test_special_tokens_as_objects(folder, kind):
    vocab_txt(folder, ["<pad>", *TOKENS[1:]])
    settings_json(folder, pad_token={"content": "<pad>", "lstrip": False, **kind}, additional_special_tokens=[
        {"content": "天", **kind}, "气"])  # fmt: skip
    found = read(folder)
    assert found.settings["pad_token"] == "<pad>" and found.settings["additional_special_tokens"] == ["天", "气"]
    (folder / "special_tokens_map.json").write_text(json.dumps({"cls_token": {"content": "b", **kind}}))
    assert read(folder).settings["cls_token"] == "b"


def test_listed_tokens_with_the_ids_of_their_rows_are_nothing_new(folder):
    vocab_txt(folder)
    settings_json(folder, added_tokens_decoder=decoder(**{"[PAD]": 0, "[CLS]": 2, "天气": 9, "b天": 10}))
    (folder / "added_tokens.json").write_text(json.dumps({"天气": 9, "b天": 10}))
    assert read(folder).added == {"天气": 9, "b天": 10}


@pytest.mark.parametrize(
    ("listed", "line"),
    [
        ({"[CLS]": 3}, r"tokenizer_config.json: \[CLS\] has the id 3, but is row 2 of vocab.txt"),
        ({"天气": 5}, "天气 has the id 5, but the row behind vocab.txt is 9"),
        ({"天气": 11}, "天气 has the id 11, but the row behind vocab.txt is 9"),
        ({"天气": 9, "b天": 9}, "b天 has the id 9, but the row behind vocab.txt is 10"),
    ],
)
def test_another_id_than_the_row_is_named(folder, listed, line):
    vocab_txt(folder)
    (folder / "added_tokens.json").write_text(json.dumps(listed))
    with pytest.raises(UsageError, match=line.replace("tokenizer_config.json", "added_tokens.json")):
        read(folder)
    if len(set(listed.values())) == len(listed):
        (folder / "added_tokens.json").unlink()
        settings_json(folder, added_tokens_decoder=decoder(**listed))
        with pytest.raises(UsageError, match=line):
            read(folder)


def test_what_the_vocabulary_lacks_is_named(folder):
    vocab_txt(folder, [token for token in TOKENS if token not in ("[CLS]", "[SEP]")])
    with pytest.raises(UsageError, match=r"its vocabulary has no \[SEP\], \[CLS\]$"):
        read(folder)
    (folder / "added_tokens.json").write_text(json.dumps({"[CLS]": 7, "[SEP]": 8}))
    assert read(folder).added == {"[CLS]": 7, "[SEP]": 8}


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {"content": "a"}}}', "key 'x', which is no id"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"5": 1}}', "Expected object, got int"),
        ("tokenizer_config.json", '{"added_tokens_decoder": []}', None),
        ("tokenizer.json", '{"model": {"vocab": {"a": -1}}}', None),
        ("tokenizer.json", '{"model": []}', "tokenizer.json: model: Expected object"),
        ("tokenizer.json", "{", "tokenizer.json, line 1: is broken JSON"),
        ("added_tokens.json", '{"a": -1}', "added_tokens.json"),
    ],
)
def test_broken_files_are_named(folder, file, content, line):
    vocab_txt(folder)
    (folder / file).write_text(content)
    if line is None:
        assert read(folder).vocabulary == tuple(TOKENS)
        return
    with pytest.raises(UsageError, match=line) as raised:
        read(folder)
    assert str(folder / file) in str(raised.value)


def test_a_vocabulary_of_far_too_many_rows(folder):
    tokenizer_json(folder, model={"vocab": {"a": 0, "b": 10**9}})
    with pytest.raises(UsageError, match="a vocabulary of 2 tokens has the row 1,000,000,000"):
        read(folder)
