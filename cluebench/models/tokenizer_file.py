"""tokenizer.json, which holds a whole tokenizer of any kind: WordPiece, byte-pair or unigram.

The `tokenizers` library that wrote it reads it, so token ids are those of the model's author.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from cluebench.features.templates import Template
from cluebench.foundation.errors import UsageError

#: Files beside tokenizer.json that say which of its tokens are special.
_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


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
        """A special token and its id: the one that is named, else the first of the usual ones that is there."""
        named = special.get(key)
        named = named.get("content") if isinstance(named, dict) else named
        for token in usual if named is None else (named,):
            if (index := self._tokenizer.token_to_id(token)) is not None:
                return token, index
        return named, None

    def _template(self, pair: Any, single: Any) -> Template:
        """Read off a pair of texts and a single one."""
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
            raise UsageError(f"{self._file}: ends a single text otherwise than a pair, which is not known here")
        before, between, after = map(tuple, parts)
        return Template(before, between, after, second_type)

    def encode_texts(self, texts: Sequence[str]) -> tuple[list[list[int]], list[np.ndarray]]:
        """Of each text: token ids, and int32 [tokens, 2] the first character of each token and the one after its last.

        Of tokens that are bytes of one character only the last covers it, as does the one behind a mark of white space.
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
        """Over everything that decides ids."""
        special = {name: value for name, value in vars(self).items() if name.endswith("_token")}
        settings = json.dumps([tokenizers.__version__, special, self.template], sort_keys=True)
        return hashlib.sha256(settings.encode() + self._tokenizer.to_str().encode()).hexdigest()[:16]

    # As PaddleNLP's tokenizers have it --------------------------------------------------------------------------------

    def get_vocab(self) -> dict[str, int]:
        """Every token with its number, added ones too."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    def get_added_vocab(self) -> dict[str, int]:
        """None: whatever tokenizer.json lists has a row of the embeddings."""
        return {}

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """Of one token or several; the unknown token's for one that is not there, else the mask's."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        found = self._tokenizer.token_to_id(tokens)
        return next((one for one in (found, self.unk_token_id, self.mask_token_id) if one is not None), None)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [self._tokenizer.id_to_token(index) for index in ids]

    def save_pretrained(self, folder: str) -> None:
        """The very files, so that a fine-tuned model has the tokenizer of the pretrained one."""
        for file in (self._file, *(self._file.with_name(name) for name in _BESIDE)):
            if file.is_file():
                shutil.copyfile(file, Path(folder) / file.name)
