"""What a directory's files say of a WordPiece tokenizer: its vocabulary, its settings, words added to it. No Paddle.

Several files say the same, and people copy some of them only: vocab.txt, tokenizer.json (alone since Transformers 5),
tokenizer_config.json, special_tokens_map.json, added_tokens.json.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cluebench.foundation import json_files
from cluebench.foundation.errors import BadFile, UsageError
from cluebench.foundation.json_files import Count
from cluebench.pretrained.model_files import (
    ADDED_TOKENS,
    SPECIAL_TOKENS_FILE,
    TOKENIZER_FILE,
    VOCABULARY,
    WHOLE_TOKENIZER,
    ModelFiles,
    TokenizerConfiguration,
)

#: Special tokens of the scheme, by the keys that files give them under.
_SPECIAL = {key.name: key.default for key in fields(TokenizerConfiguration) if key.name.endswith("_token")}
#: tokenizer.json's name of a setting of its normalizer, and tokenizer_config.json's.
_NORMALIZER = {
    "lowercase": "do_lower_case",
    "strip_accents": "strip_accents",
    "handle_chinese_chars": "tokenize_chinese_chars",
}
#: Classes of Transformers that leave tokenizer.json's normalizer as it is.
_AS_IN_TOKENIZER_JSON = ("PreTrainedTokenizerFast", "TokenizersBackend")
#: Keys of tokenizer_config.json that are not settings of the tokenizer, or are read apart.
_APART = {"added_tokens_decoder", "tokenizer_class", "init_class", "name_or_path", "vocab_file", "tokenizer_file"}


@dataclass
class AddedToken:
    """A token that tokenizer.json or tokenizer_config.json lists beside the vocabulary."""

    content: str
    id: Count = 0


@dataclass
class TokenizerJson:
    """tokenizer.json of the tokenizers library, as far as it is read here."""

    model: dict[str, Any]
    normalizer: dict[str, Any] | None = None
    added_tokens: list[AddedToken] | None = None

    @property
    def is_wordpiece(self) -> bool:
        """Whether it is the scheme of BERT's tokenizers, which PaddleNLP's compute."""
        model = self.model
        kind = model.get("type", "WordPiece" if "continuing_subword_prefix" in model else None)
        same = model.get("continuing_subword_prefix") == "##" and model.get("max_input_chars_per_word") == 100
        return kind == "WordPiece" and same and (self.normalizer or {}).get("type") == "BertNormalizer"


@dataclass(frozen=True)
class WordPiece:
    """A tokenizer of BERT's scheme. ``settings``: as PaddleNLP's tokenizers take them."""

    vocabulary: tuple[str, ...]  # by row of the embeddings
    settings: Mapping[str, Any]
    added: Mapping[str, int]  # words of their own rows, behind the vocabulary
    notices: tuple[str, ...]  # where files contradict each other, and which counts


def read_wordpiece(files: ModelFiles) -> WordPiece | None:
    """None where the files are of another kind of tokenizer. Raises BadFile and UsageError naming what contradicts."""
    path = files.tokenizer
    saved = json_files.read(path, TokenizerJson) if path.is_file() else None
    if saved and not saved.is_wordpiece:
        saved = None
    if files.vocabulary is None and saved is None:
        return None
    notices: list[str] = []
    rows = json_files.declared(saved.model.get("vocab"), dict[str, Count], path) if saved else {}  # token → row
    if files.vocabulary is None:
        vocabulary, name = _by_row(rows, path), WHOLE_TOKENIZER
    else:
        vocabulary, name = files.vocabulary.read_text(encoding="utf-8").removesuffix("\n").split("\n"), VOCABULARY
        if not rows.items() <= {token: row for row, token in enumerate(vocabulary)}.items():
            notices.append(f"{VOCABULARY} and {WHOLE_TOKENIZER} have different vocabularies; {VOCABULARY} counts")
    settings, added = _settings(files, saved, notices), _added(files, saved, vocabulary, name)
    tokens = {*vocabulary, *added}
    missing = [settings[key] for key in _SPECIAL if key != "mask_token" and settings[key] not in tokens]
    if missing:
        raise UsageError(f"{files.model.typed}: its vocabulary has no {', '.join(missing)}")
    if settings["mask_token"] not in tokens:
        settings["mask_token"] = None  # PaddleNLP would put it behind the vocabulary, where there is no embedding
    return WordPiece(tuple(vocabulary), settings, added, tuple(notices))


def _by_row(rows: Mapping[str, int], path: Path) -> list[str]:
    """The tokens in the order of their rows; a row without a token has a name that no text contains."""
    size = max(rows.values(), default=-1) + 1
    if size > 2 * len(rows) + 1000:
        raise BadFile(f"{path}: a vocabulary of {len(rows):,} tokens has the row {size - 1:,}")
    vocabulary = [f"[row {number}]" for number in range(size)]
    for token, number in rows.items():
        vocabulary[number] = token
    return vocabulary


def _settings(files: ModelFiles, saved: TokenizerJson | None, notices: list[str]) -> dict[str, Any]:
    """tokenizer_config.json counts, as in Transformers, then tokenizer.json."""
    config = files.read_tokenizer_config()
    written = config | files.read_tokenizer_config(SPECIAL_TOKENS_FILE)
    settings = {key: _plain(value) for key, value in written.items() if key not in _APART and value is not None}
    for in_json, key in _NORMALIZER.items():
        of_json = (saved.normalizer or {}).get(in_json) if saved else None
        if of_json is None:
            continue
        if settings.get(key) is None:
            settings[key] = of_json
            if key == "do_lower_case" and not of_json and config.get("tokenizer_class") not in _AS_IN_TOKENIZER_JSON:
                notices.append(
                    f"{WHOLE_TOKENIZER} keeps capitals and {TOKENIZER_FILE} says nothing, so capitals are kept; "
                    'Transformers would lower-case the text, unless "do_lower_case": false stands there'
                )
        elif settings[key] != of_json:
            notices.append(
                f'"{key}" is {settings[key]} in {TOKENIZER_FILE}, {of_json} in {WHOLE_TOKENIZER}; the first counts'
            )
    return {**settings, **{key: settings.get(key) or token for key, token in _SPECIAL.items()}}


def _plain(value: Any) -> Any:
    """A token given as an object as its text, in lists too."""
    if isinstance(value, list):
        return [_plain(token) for token in value]
    return value["content"] if isinstance(value, dict) and isinstance(value.get("content"), str) else value


def _added(files: ModelFiles, saved: TokenizerJson | None, vocabulary: list[str], name: str) -> dict[str, int]:
    """Words behind the vocabulary. Raises BadFile for a token whose id is another row's."""
    rows = {token: number for number, token in enumerate(vocabulary)}
    added: dict[str, int] = {}
    for file, token, number in sorted(_tokens_with_ids(files, saved), key=lambda entry: entry[2]):
        following = len(vocabulary) + len(added)
        if token not in rows and number == following:
            added[token] = rows[token] = number
        elif token not in rows:
            raise BadFile(
                f"{files.folder / file}: {token} has the id {number}, but the row behind {name} is {following}"
            )
        elif rows[token] != number:
            raise BadFile(f"{files.folder / file}: {token} has the id {number}, but is row {rows[token]} of {name}")
    return added


def _tokens_with_ids(files: ModelFiles, saved: TokenizerJson | None) -> Iterator[tuple[str, str, int]]:
    """The file, the token and its id, for each token that a file lists beside the vocabulary."""
    path = files.folder / TOKENIZER_FILE
    beside = files.read_tokenizer_config().get("added_tokens_decoder") or {}
    for key, token in json_files.declared(beside, dict[str, AddedToken], path).items():
        if not key.isdecimal():
            raise BadFile(f'{path}: "added_tokens_decoder" has the key {key!r}, which is no id')
        yield TOKENIZER_FILE, token.content, int(key)
    for token in (saved.added_tokens or ()) if saved else ():
        yield WHOLE_TOKENIZER, token.content, token.id
    for word, row in files.read_added_tokens().items():
        yield ADDED_TOKENS, word, row
