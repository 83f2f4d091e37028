"""A model's tokenizer: PaddleNLP's for a WordPiece vocabulary, else tokenizer.json.

tokenizer.json holds a whole tokenizer of any kind. The `tokenizers` library that wrote it reads it, so token ids are
those of the model's author.
"""

import hashlib
import inspect
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddlenlp.transformers
import tokenizers
from paddlenlp.transformers import BertTokenizer

from cluebench.features.tokenization import Template
from cluebench.foundation.errors import UsageError
from cluebench.foundation.notices import notice_once
from cluebench.models.classes import architecture, published_tokenizer
from cluebench.models.configuration import in_one_line
from cluebench.models.loading import located
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import ADDED_TOKENS, SPECIAL_TOKENS_FILE, TOKENIZER_FILE, VOCABULARY, ModelFiles
from cluebench.pretrained.wordpiece import WordPiece, read_wordpiece

#: Settings that only BERT's own tokenizer has.
_ONLY_OF_BERT = {"strip_accents": None, "tokenize_chinese_chars": True}

#: Files beside tokenizer.json that say which of its tokens are special.
_BESIDE = (TOKENIZER_FILE, SPECIAL_TOKENS_FILE, ADDED_TOKENS)


def load_tokenizer(model: Model, *, offline: bool = False, **settings: Any) -> Any:
    """The tokenizer of a model: PaddleNLP's for a WordPiece vocabulary, else the one in tokenizer.json.

    ``settings`` override the model's own, as ``do_lower_case=False``. ``offline``: the network is not used. Raises
    UsageError or NetworkError in one line.
    """
    files = located(model, offline=offline, weights=False)
    architecture(files)  # raises for a model that can't be fine-tuned
    files.check_tokenizer()
    with in_one_line(model, "tokenizer"):
        if files.config is None:
            kind = published_tokenizer(model.name)
            # from_pretrained of a published name writes into PaddleNLP's home, which other trials are reading.
            tokenizer = kind(str(files.vocabulary), **{**kind.pretrained_init_configuration[model.name], **settings})
            tokenizer.sanitize_special_tokens()
            return tokenizer
        if wordpiece := read_wordpiece(files):
            return _wordpiece_tokenizer(files, wordpiece, settings)
        if not files.tokenizer.is_file():
            return _tokenizer_class(files, is_wordpiece=False).from_pretrained(str(files.folder), **settings)
        if settings:
            raise UsageError(f"--{next(iter(settings))}: {files.tokenizer} decides it; leave the flag out")
        special = files.read_tokenizer_config(SPECIAL_TOKENS_FILE) | files.read_tokenizer_config()
        return TokenizerFile(files.tokenizer, special)


def _tokenizer_class(files: ModelFiles, is_wordpiece: bool) -> type[Any]:
    """The slow tokenizer that a directory's files name, else the usual one for its architecture and vocabulary.

    PaddleNLP's AutoTokenizer assumes that RoBERTa is English, and needs tokenizer_config.json.
    Raises UsageError when PaddleNLP has none for these files.
    """
    config = files.read_tokenizer_config()
    prefix = architecture(files)
    wordpiece = [f"{prefix}ChineseTokenizer", f"{prefix}Tokenizer", "BertTokenizer"] if is_wordpiece else []
    names = [config.get("tokenizer_class"), config.get("init_class"), *wordpiece, f"{prefix}BPETokenizer"]
    for name in (str(name).removesuffix("Fast") for name in names if name):
        kind = getattr(paddlenlp.transformers, name, None)
        if isinstance(kind, type) and hasattr(kind, "resource_files_names"):
            needed = set(kind.resource_files_names.values()) - ({VOCABULARY} if is_wordpiece else set())
            if kind.resource_files_names and all((files.folder / name).is_file() for name in needed):
                return kind
    raise UsageError(f"{files.folder}: PaddleNLP has no tokenizer for the files in this directory")


def _wordpiece_tokenizer(files: ModelFiles, wordpiece: WordPiece, settings: Mapping[str, Any]) -> Any:
    """PaddleNLP's tokenizer with the vocabulary and settings that the files say, and ``settings`` over them.

    PaddleNLP's from_pretrained takes every token of "added_tokens_decoder" for one that the vocabulary lacks, and needs
    a vocab.txt. Raises UsageError for an added word that PaddleNLP gives another row than the files.
    """
    for line in wordpiece.notices:
        notice_once(f"{files.model.typed}: {line}")
    settings, kind = {**wordpiece.settings, **settings}, _tokenizer_class(files, is_wordpiece=True)
    accepted = inspect.signature(kind.__init__).parameters
    if any(key not in accepted and settings.get(key, usual) != usual for key, usual in _ONLY_OF_BERT.items()):
        kind = BertTokenizer
    if "use_jieba" in accepted and "use_jieba" not in settings:  # RoFormer's; Transformers always cuts words
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


class TokenizerFile:
    """What `TextEncoder` and PaddleNLP's saving need of a tokenizer, from tokenizer.json.

    ``special``: tokenizer_config.json and special_tokens_map.json together. Raises UsageError for a file that is broken
    or puts special tokens where no encoder has them.
    """

    def __init__(self, file: Path, special: Mapping[str, Any]):
        self._file = file
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(file))
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            pair, single = self._tokenizer.encode("a", "a"), self._tokenizer.encode("a")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library's own panics are no Exception
            raise UsageError(f"{file}: damaged, or of a newer version ({' '.join(str(error).split())[:200]})") from None
        self.cls_token, self.cls_token_id = self._special(special, "cls_token", "[CLS]", "<s>")
        self.sep_token, self.sep_token_id = self._special(special, "sep_token", "[SEP]", "</s>")
        self.pad_token, self.pad_token_id = self._special(special, "pad_token", "[PAD]", "<pad>")
        self.unk_token, self.unk_token_id = self._special(special, "unk_token", "[UNK]", "<unk>")
        self.mask_token, self.mask_token_id = self._special(special, "mask_token", "[MASK]", "<mask>")
        self.template = self._template(pair, single)

    def _special(self, special: Mapping[str, Any], key: str, *usual: str) -> tuple[str | None, int | None]:
        """A special token and its id: the token that is named, else the first usual token that the vocabulary has."""
        named = special.get(key)
        named = named.get("content") if isinstance(named, dict) else named
        for token in usual if named is None else (named,):
            if (index := self._tokenizer.token_to_id(token)) is not None:
                return token, index
        return named, None

    def _template(self, pair: Any, single: Any) -> Template:
        """The special tokens round texts, by the encodings of a pair of texts and of a single text."""
        parts: list[list[int]] = [[], [], []]
        part, second_type = 0, 0
        for token, kind, text in zip(pair.ids, pair.type_ids, pair.sequence_ids):
            if text is None:
                parts[part].append(token)
            else:
                part, second_type = text + 1, kind
        if not all(parts):
            raise UsageError(f"{self._file}: puts no special tokens round texts, as an encoder's does")
        if [token for token, text in zip(single.ids, single.sequence_ids) if text is None] != parts[0] + parts[2]:
            raise UsageError(f"{self._file}: ends a single text otherwise than a pair, which is not supported")
        before, between, after = map(tuple, parts)
        return Template(before, between, after, second_type)

    def encode_texts(self, texts: Sequence[str]) -> tuple[list[list[int]], list[np.ndarray]]:
        """Each text's token ids, and int32 [tokens, 2] each token's first character and the next after its last.

        If several tokens are bytes of one character, only the last covers it. So does the token behind white space.
        """
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        spans = []
        for encoding in encodings:
            places = np.array(encoding.offsets, np.int32).reshape(-1, 2)
            same = (places[1:] == places[:-1]).all(axis=1)
            places[:-1, 1][same] = places[:-1, 0][same]
            spans.append(places)
        return [encoding.ids for encoding in encodings], spans

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides ids."""
        special = {name: value for name, value in vars(self).items() if name.endswith("_token")}
        settings = json.dumps([tokenizers.__version__, special, self.template], sort_keys=True)
        return hashlib.sha256(settings.encode() + self._tokenizer.to_str().encode()).hexdigest()[:16]

    def get_vocab(self) -> dict[str, int]:
        """Every token with its number, added ones too."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    def get_added_vocab(self) -> dict[str, int]:
        """Nothing: every token in tokenizer.json has a row of the embeddings."""
        return {}

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """The id of a token, or of each of several; for a missing token the unknown token's, else the mask's."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        ids = self._tokenizer.token_to_id(tokens), self.unk_token_id, self.mask_token_id
        return next((number for number in ids if number is not None), None)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [self._tokenizer.id_to_token(index) for index in ids]

    def save_pretrained(self, folder: str) -> None:
        """Copies its files, so that a fine-tuned model has the tokenizer of the pretrained model."""
        for file in (self._file, *(self._file.with_name(name) for name in _BESIDE)):
            if file.is_file():
                shutil.copyfile(file, Path(folder) / file.name)
