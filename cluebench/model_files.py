"""Where the files of a model are: in a directory of the user's, or in PaddleNLP's own home under a published name.

Nothing here needs Paddle, so that a model that is not there, or not whole, is told of before anything is imported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluebench.data import download
from cluebench.errors import NetworkError, UsageError

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

#: Seconds until a machine without network is told so.
REACH = 5.0


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model, found on this machine."""

    name: str  # as the user wrote it
    folder: Path
    config: Path | None  # None: PaddleNLP carries the configuration of this published model
    weights: tuple[Path, ...]  # empty: only the tokenizer was asked for
    vocabulary: Path | None  # vocab.txt; None: a tokenizer of another kind
    is_directory: bool  # the user's own, not PaddleNLP's

    def read_config(self) -> dict[str, Any]:
        """The configuration as its author wrote it. Raises UsageError when it is no JSON object."""
        return _json_object(self.config) if self.config else {}

    def read_tokenizer_config(self) -> dict[str, Any]:
        """Empty where there is none."""
        path = self.folder / TOKENIZER_FILE
        return _json_object(path) if path.is_file() else {}


def find(name_or_path: str, *, offline: bool = False, weights: bool = True) -> ModelFiles | None:
    """The files behind a name or directory; None for a published name that still has to be fetched, which then can be.

    ``weights`` False: the tokenizer alone will do. Raises UsageError when a directory is not whole, or a name is not
    here and ``offline`` forbids fetching it; NetworkError when PaddleNLP's server can't be reached, within seconds.
    """
    if folder := model_directory(name_or_path):
        return _in_directory(name_or_path, folder, weights)
    if held := held_by_paddlenlp(name_or_path, weights):
        return held
    place = model_home() / name_or_path
    if offline:
        raise UsageError(
            f"{name_or_path}: not in {place}, and --offline forbids fetching it: "
            "run once without --offline, or give the directory of a model"
        )
    if reasons := download.unreachable([server()], REACH):
        raise NetworkError(
            f"{name_or_path}: not in {place}, and {server()} can't be reached ({reasons[server()]}): "
            f"copy {place} from a machine that has it, or give the directory of a model"
        )
    return None


def model_directory(name_or_path: str) -> Path | None:
    """The directory that is meant, or None for a published name. Raises UsageError for a path that is no directory.

    A folder that merely has a published model's name, as logs have, is no model unless it holds a configuration.
    """
    if not name_or_path.strip("/"):
        raise UsageError(f"--model_name_or_path {name_or_path!r}: name a published model or the directory of a model")
    path = Path(name_or_path).expanduser()
    is_path = name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") > 1
    if path.is_file():
        raise UsageError(f"--model_name_or_path {name_or_path}: a file; give the directory it lies in")
    if not path.is_dir():
        if is_path:
            raise UsageError(f"--model_name_or_path {name_or_path}: no such directory")
        return None
    return path if is_path or any((path / name).is_file() for name in CONFIG_FILES) else None


def held_by_paddlenlp(name: str, weights: bool = True) -> ModelFiles | None:
    """What PaddleNLP's home holds of a published model; None when anything needed is missing."""
    folder = model_home() / name
    config = _first(folder, CONFIG_FILES)
    files = _weight_files(folder)
    vocabularies = sorted(folder.glob("*vocab.txt"), key=lambda path: path.name != VOCABULARY)
    if not vocabularies or (weights and not files):
        return None
    return ModelFiles(name, folder, config, files if weights else (), vocabularies[0], is_directory=False)


def model_home() -> Path:
    """Where PaddleNLP keeps published models: PPNLP_HOME, else ~/.paddlenlp."""
    return Path(os.environ.get("PPNLP_HOME") or "~/.paddlenlp").expanduser() / "models"


def server() -> str:
    """Where PaddleNLP fetches published models from."""
    return os.environ.get("PPNLP_ENDPOINT", "https://bj.bcebos.com/paddlenlp")


def _in_directory(name: str, folder: Path, weights: bool) -> ModelFiles:
    config = _first(folder, CONFIG_FILES)
    if config is None:
        raise UsageError(f"{folder}: no {' or '.join(CONFIG_FILES)} in this model directory")
    vocabulary = folder / VOCABULARY
    if not vocabulary.is_file():
        if not any(any(folder.glob(pattern)) for pattern in _OTHER_VOCABULARIES):
            raise UsageError(f"{folder}: no {VOCABULARY} in this model directory{_vocabulary_advice(folder)}")
        vocabulary = None
    files = _weight_files(folder)
    if weights and not files:
        raise UsageError(f"{folder}: no weights in this model directory; put {' or '.join(WEIGHT_FILES[::2])} there")
    return ModelFiles(name, folder, config, files if weights else (), vocabulary, is_directory=True)


def _vocabulary_advice(folder: Path) -> str:
    """Newer Transformers write the vocabulary into tokenizer.json only."""
    if not (folder / "tokenizer.json").is_file():
        return ""
    return (
        "; write it from tokenizer.json: cd there and python -c \"import json; v = json.load(open('tokenizer.json'))"
        "['model']['vocab']; open('vocab.txt', 'w').write('\\n'.join(sorted(v, key=v.get)))\""
    )


def _weight_files(folder: Path) -> tuple[Path, ...]:
    first = _first(folder, WEIGHT_FILES)
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


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path}: not a JSON object")
    return value
