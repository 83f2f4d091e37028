"""PaddleNLP's WordPiece tokenizers, built from what a directory's files say."""

import inspect
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from paddlenlp.transformers import BertTokenizer

from cluebench.foundation.errors import UsageError
from cluebench.foundation.notices import notice_once
from cluebench.pretrained.model_files import VOCABULARY, ModelFiles
from cluebench.pretrained.wordpiece import WordPiece

#: Settings that only BERT's own tokenizer has.
_ONLY_OF_BERT = {"strip_accents": None, "tokenize_chinese_chars": True}


def wordpiece_tokenizer(kind: type[Any], files: ModelFiles, wordpiece: WordPiece, **settings: Any) -> Any:
    """A tokenizer of class ``kind`` with the vocabulary and settings that the files say, and ``settings`` over them.

    PaddleNLP's from_pretrained takes every token of "added_tokens_decoder" for one that the vocabulary lacks, and needs
    a vocab.txt. Raises UsageError for an added word that PaddleNLP gives another row than the files.
    """
    for line in wordpiece.notices:
        notice_once(f"{files.model.typed}: {line}")
    settings = {**wordpiece.settings, **settings}
    known = inspect.signature(kind.__init__).parameters
    if any(key not in known and settings.get(key, usual) != usual for key, usual in _ONLY_OF_BERT.items()):
        kind = BertTokenizer
    if (
        "use_jieba" in known and "use_jieba" not in settings
    ):  # RoFormer's; Transformers always cuts words, PaddleNLP not
        settings["use_jieba"] = "transformers_version" in files.read_config()
        if settings["use_jieba"]:
            line = "its tokenizer cuts words with jieba, as in Transformers; letters with accents may be cut otherwise"
            notice_once(f"{files.model.typed}: {line}")
    with tempfile.TemporaryDirectory() as folder:
        path = files.vocabulary or Path(folder) / VOCABULARY
        if files.vocabulary is None:
            _write(wordpiece.vocabulary, folder)
        tokenizer = kind(vocab_file=str(path), **settings)
    if files.vocabulary is None:
        tokenizer.save_resources = partial(_write, wordpiece.vocabulary)  # its own copies the file it was made from
    for word, row in wordpiece.added.items():
        tokenizer.add_tokens(word, special_tokens=word in tokenizer.all_special_tokens)
        if tokenizer.convert_tokens_to_ids(word.lower() if getattr(tokenizer, "do_lower_case", False) else word) != row:
            raise UsageError(f"{files.model.typed}: its added word {word!r} is part of the vocabulary in lower case")
    tokenizer.sanitize_special_tokens()
    return tokenizer


def _write(vocabulary: tuple[str, ...], folder: str) -> None:
    (Path(folder) / VOCABULARY).write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
