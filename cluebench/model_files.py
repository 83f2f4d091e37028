"""The files of a model: in a directory of the user's, or in PaddleNLP's own home under a published name."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluebench.errors import UsageError

if TYPE_CHECKING:
    from cluebench.model import Model

#: What makes a directory a model's: the layout of Hugging Face and PaddleNLP, that of older PaddleNLP.
CONFIG_FILES = ("config.json", "model_config.json")
VOCABULARY = "vocab.txt"
TOKENIZER_FILE = "tokenizer_config.json"

#: In the order in which they are taken: safetensors hold no code, so they go before pickles.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "model_state.pdparams",
    "model_state.pdparams.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

#: Vocabularies of tokenizers that are no WordPiece.
_OTHER_VOCABULARIES = ("vocab.json", "*.model")


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model, found on this machine."""

    model: Model
    folder: Path
    config: Path | None  # None: PaddleNLP carries the configuration of this published model
    weights: tuple[Path, ...]  # empty: only the tokenizer was asked for
    vocabulary: Path | None  # vocab.txt; None: a tokenizer of another kind

    def read_config(self) -> dict[str, Any]:
        """The configuration as its author wrote it. Raises UsageError when it is no JSON object."""
        return _json_object(self.config) if self.config else {}

    def read_tokenizer_config(self) -> dict[str, Any]:
        """Empty where there is none."""
        path = self.folder / TOKENIZER_FILE
        return _json_object(path) if path.is_file() else {}


def kept_weights(folder: Path) -> list[Path]:
    """The weight files in the directory of a trial's best model; empty where none was kept."""
    suffixes = (".pdparams", ".safetensors")
    return sorted(path for path in folder.iterdir() if path.suffix in suffixes) if folder.is_dir() else []


def in_directory(model: Model, folder: Path, weights: bool = True) -> ModelFiles:
    """The files in the user's directory. Raises UsageError naming what is missing."""
    vocabulary = first_of(folder, (VOCABULARY,))
    if vocabulary is None and not any(any(folder.glob(pattern)) for pattern in _OTHER_VOCABULARIES):
        raise UsageError(f"{folder}: no {VOCABULARY} in this model directory{_vocabulary_advice(folder)}")
    files = _weight_files(folder)
    if weights and not files:
        raise UsageError(f"{folder}: no weights in this model directory; put {' or '.join(WEIGHT_FILES[::2])} there")
    return ModelFiles(model, folder, first_of(folder, CONFIG_FILES), files if weights else (), vocabulary)


def held_by_paddlenlp(model: Model, weights: bool = True) -> ModelFiles | None:
    """What PaddleNLP's home holds of a published model; None when anything needed is missing."""
    folder = model_home() / model.name
    files = _weight_files(folder)
    vocabularies = sorted(folder.glob("*vocab.txt"), key=lambda path: path.name != VOCABULARY)
    if not vocabularies or (weights and not files):
        return None
    return ModelFiles(model, folder, first_of(folder, CONFIG_FILES), files if weights else (), vocabularies[0])


def model_home() -> Path:
    """Where PaddleNLP keeps published models: PPNLP_HOME, else ~/.paddlenlp."""
    return Path(os.environ.get("PPNLP_HOME") or "~/.paddlenlp").expanduser() / "models"


def server() -> str:
    """Where PaddleNLP fetches published models from."""
    return os.environ.get("PPNLP_ENDPOINT", "https://bj.bcebos.com/paddlenlp")


def first_of(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of these files that is in the folder."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _vocabulary_advice(folder: Path) -> str:
    """Newer Transformers write the vocabulary into tokenizer.json only."""
    if not (folder / "tokenizer.json").is_file():
        return ""
    return (
        "; write it from tokenizer.json: cd there and python -c \"import json; v = json.load(open('tokenizer.json'))"
        "['model']['vocab']; open('vocab.txt', 'w').write('\\n'.join(sorted(v, key=v.get)))\""
    )


def _weight_files(folder: Path) -> tuple[Path, ...]:
    first = first_of(folder, WEIGHT_FILES)
    if first is None:
        return ()
    return _shards(first) if first.suffix == ".json" else (first,)


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index (``*.index.json``) lists. Raises UsageError when it is broken or one is missing."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise UsageError(f"{index}: not an index of weights") from None
    files = tuple(index.parent / Path(name).name for name in names)
    for file in files:
        if not file.is_file():
            raise UsageError(f"{index} lists {file.name}, which is not there: the model was copied incompletely")
    return files


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path}: not a JSON object")
    return value
