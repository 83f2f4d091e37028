"""The files of a model: in the user's directory, or in PaddleNLP's home under a published name."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cluebench.benchmark.published import unless_published
from cluebench.data import download
from cluebench.foundation import json_files
from cluebench.foundation.errors import BadFile, NetworkError, UsageError
from cluebench.foundation.file_facts import visible
from cluebench.foundation.json_files import Count, FileName, between
from cluebench.foundation.notices import notice_once
from cluebench.pretrained.model import CONFIG_FILES, Model, first_of

VOCABULARY = "vocab.txt"
TOKENIZER_FILE = "tokenizer_config.json"
WHOLE_TOKENIZER = "tokenizer.json"
SPECIAL_TOKENS_FILE, ADDED_TOKENS = "special_tokens_map.json", "added_tokens.json"

#: Seconds after which a server counts as unreachable.
REACH = 5.0

#: The first one in a folder is read: safetensors hold no code, so they stand before pickles.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "model_state.pdparams",
    "model_state.pdparams.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

#: Weights in another precision, such as model.fp16.safetensors.
_VARIANT = re.compile(r"(model|pytorch_model)(\.safetensors\.index|\.bin\.index)?\.\w+\.(safetensors|bin|json)")

#: Share of a vocabulary's lines that may repeat others: some published ones have a few.
_MOST_REPEATED = 0.01

#: Vocabularies of other tokenizers.
_OTHER_VOCABULARIES = (WHOLE_TOKENIZER, "vocab.json", "*.model")


_Share = Annotated[float, between(0, 0.999)]
_Token = Annotated[int, between(-1, 1 << 24)]


@dataclass
class Deviations:
    """What this project saves in a configuration beside PaddleNLP's settings; see `models.configuration`."""

    first_position: Annotated[int, between(0, 1 << 24)] | None = None
    layer_norm_eps: Annotated[float, between(1e-30, 1)] | None = None


@dataclass
class Configuration:
    """The keys of config.json that something depends on. The bounds are larger than any encoder, but fit into memory.

    A size of 0 is not given.
    """

    vocab_size: Annotated[int, between(1, 1 << 24)] = 0
    hidden_size: Annotated[int, between(1, 1 << 16)] = 0
    embedding_size: Annotated[int, between(1, 1 << 16)] | None = None
    fit_size: Annotated[int, between(1, 1 << 16)] | None = None
    num_hidden_layers: Annotated[int, between(1, 1000)] = 0
    num_attention_heads: Annotated[int, between(1, 1 << 12)] = 0
    intermediate_size: Annotated[int, between(1, 1 << 20)] = 0
    max_position_embeddings: Annotated[int, between(1, 1 << 20)] = 0
    rel_pos_size: Annotated[int, between(0, 1 << 16)] | None = None
    type_vocab_size: Annotated[int, between(0, 1 << 10)] = 2
    task_type_vocab_size: Annotated[int, between(1, 1 << 10)] | None = None
    num_labels: Annotated[int, between(1, 1 << 16)] | None = None
    num_choices: Annotated[int, between(1, 1 << 10)] | None = None
    hidden_dropout_prob: _Share = 0.1
    attention_probs_dropout_prob: _Share = 0.1
    classifier_dropout: _Share | None = None
    dropout: _Share | None = None
    layer_norm_eps: Annotated[float, between(1e-30, 1)] | None = None
    initializer_range: Annotated[float, between(0, 10)] | None = None
    pad_token_id: _Token | None = None
    cls_token_id: _Token | None = None
    hidden_act: str | None = None
    position_embedding_type: str | None = None
    architectures: list[str] | None = None
    init_class: str | None = None
    model_type: str | None = None
    finetuning_task: str | None = None
    use_task_id: bool | None = None
    cluebench: Deviations | None = None
    init_args: "list[Configuration | int | float | str | bool | None]" = field(default_factory=list)  # PaddleNLP 2

    def __post_init__(self) -> None:
        heads, size = self.num_attention_heads, self.hidden_size
        if heads and size and size % heads:
            raise ValueError(f"hidden_size {size} is not a multiple of num_attention_heads {heads}")


@dataclass
class SpecialToken:
    """A token that is given as an object."""

    content: str


@dataclass
class TokenizerConfiguration:
    """The keys of tokenizer_config.json and special_tokens_map.json that something depends on."""

    tokenizer_class: str | None = None
    init_class: str | None = None
    do_lower_case: bool | None = None
    unk_token: str | SpecialToken = "[UNK]"
    sep_token: str | SpecialToken = "[SEP]"
    pad_token: str | SpecialToken = "[PAD]"
    cls_token: str | SpecialToken = "[CLS]"
    mask_token: str | SpecialToken | None = "[MASK]"


@dataclass
class WeightIndex:
    """The file of each array, in a model of several files."""

    weight_map: dict[str, FileName]


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model, found on this machine."""

    model: Model
    folder: Path
    config: Path | None  # None: PaddleNLP carries the configuration of this published model
    weights: tuple[Path, ...]  # empty: only the tokenizer was asked for
    vocabulary: Path | None  # vocab.txt; None: a tokenizer of another kind

    def read_config(self) -> dict[str, Any]:
        """The configuration as its author wrote it. Raises BadFile where it can't be an encoder's."""
        return json_files.read_object(self.config, Configuration) if self.config else {}

    def read_tokenizer_config(self, name: str = TOKENIZER_FILE) -> dict[str, Any]:
        """tokenizer_config.json, or `SPECIAL_TOKENS_FILE` with some of its keys; empty if missing. Raises BadFile."""
        path = self.folder / name
        return json_files.read_object(path, TokenizerConfiguration) if path.is_file() else {}

    def read_added_tokens(self) -> dict[str, int]:
        """`ADDED_TOKENS`: token → row of the embeddings; empty if missing. Raises BadFile."""
        path = self.folder / ADDED_TOKENS
        return json_files.read(path, dict[str, Count]) if path.is_file() else {}

    @property
    def tokenizer(self) -> Path:
        """Where tokenizer.json would be."""
        return self.folder / WHOLE_TOKENIZER

    def check_length(self, max_seq_length: int | None, positions: int | None) -> None:
        """Raises UsageError when inputs are longer than the model's positions; None where the length is not known."""
        if max_seq_length and positions and max_seq_length > positions:
            raise UsageError(
                f"--max_seq_length {max_seq_length}: {self.model.typed} has positions for {positions} tokens only; "
                "give at most that"
            )

    def check_tokenizer(self) -> None:
        """Prints one line when vocab.txt repeats lines; raises BadFile when a file of the tokenizer is broken."""
        self.read_tokenizer_config()
        self.read_tokenizer_config(SPECIAL_TOKENS_FILE)
        self.read_added_tokens()
        if self.vocabulary is not None:
            _check_vocabulary(self.vocabulary)


def kept_weights(folder: Path) -> list[Path]:
    """The weight files in the directory of a trial's best model; empty where none was kept."""
    suffixes = (".pdparams", ".safetensors")
    return [path for path in visible(folder) if path.suffix in suffixes]


def find(model: Model, *, offline: bool = False, weights: bool = True) -> ModelFiles | None:
    """The files of a model on this machine; None for a published model that must be fetched, and can be.

    ``weights`` False: the tokenizer's files are enough. Raises UsageError when a directory is not whole, or when
    ``offline`` forbids fetching; NetworkError, within seconds, when PaddleNLP's server can't be reached.
    """
    if model.directory:
        return in_directory(model, model.directory, weights)
    if files := in_home(model, weights):
        return files
    place, address = model_home() / model.name, server()
    if offline:
        raise UsageError(
            f"{model.name}{unless_published(model.name)}: not in {place}, and --offline forbids fetching it: "
            "run once without --offline, or give the directory of a model"
        )
    if reasons := download.unreachable([address], REACH):
        raise NetworkError(
            f"{model.name}{unless_published(model.name)}: not in {place}, and {address} can't be reached "
            f"({reasons[address]}), so it is unknown whether it has this model: "
            "copy it there from a machine that has it, or give the directory of a model"
        )
    return None


def in_directory(model: Model, folder: Path, weights: bool = True) -> ModelFiles:
    """The files in the user's directory. Raises UsageError naming what is missing."""
    vocabulary = first_of(folder, (VOCABULARY,))
    if vocabulary is None and not any(visible(folder, pattern) for pattern in _OTHER_VOCABULARIES):
        raise UsageError(f"{folder}: no {VOCABULARY} or {WHOLE_TOKENIZER} in this model directory")
    files = _weight_files(folder)
    if weights and not files:
        variants = [path.name for path in visible(folder) if _VARIANT.fullmatch(path.name)]
        there = f"but {', '.join(variants)}, which would have to be renamed; " if variants else ""
        wanted = " or ".join(WEIGHT_FILES[::2])
        raise UsageError(f"{folder}: no weights in this model directory; {there}put {wanted} there")
    return ModelFiles(model, folder, first_of(folder, CONFIG_FILES), files if weights else (), vocabulary)


def in_home(model: Model, weights: bool = True) -> ModelFiles | None:
    """What PaddleNLP's home holds of a published model; None when anything needed is missing."""
    folder = model_home() / model.name
    files = _weight_files(folder)
    vocabularies = sorted(visible(folder, "*vocab.txt"), key=lambda path: path.name != VOCABULARY)
    if not vocabularies or (weights and not files):
        return None
    return ModelFiles(model, folder, first_of(folder, CONFIG_FILES), files if weights else (), vocabularies[0])


def model_home() -> Path:
    """Where PaddleNLP keeps published models: PPNLP_HOME, else ~/.paddlenlp."""
    return Path(os.environ.get("PPNLP_HOME") or "~/.paddlenlp").expanduser() / "models"


def server() -> str:
    """Where PaddleNLP fetches published models from."""
    return os.environ.get("PPNLP_ENDPOINT", "https://bj.bcebos.com/paddlenlp")


def _weight_files(folder: Path) -> tuple[Path, ...]:
    """The file of the weights, or all that an index (``*.index.json``) lists.

    Raises UsageError when an index is broken, or lists a file that is not there.
    """
    first = first_of(folder, WEIGHT_FILES)
    if first is None or first.suffix != ".json":
        return (first,) if first else ()
    names = sorted(set(json_files.read(first, WeightIndex).weight_map.values()))
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise UsageError(f"{first} lists {missing[0]}, which is not there: the model was copied incompletely")
    return tuple(folder / name for name in names)


def _check_vocabulary(path: Path) -> None:
    """Each line is a token, and its number the row of the embeddings: an extra line shifts all lines after it."""
    try:
        lines = json_files.content_of(path).decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise BadFile(f"{path}: is not UTF-8 text (byte {error.start + 1})") from None
    first: dict[str, int] = {}
    repeated = [(number, line) for number, line in enumerate(lines, 1) if first.setdefault(line, number) != number]
    if repeated:
        (number, line), count = repeated[0], len(repeated)
        problem = f"{path}: {count} line(s) repeat earlier ones (line {number} has {line!r} of line {first[line]})"
        if count > _MOST_REPEATED * len(lines):
            raise BadFile(f"{problem}: get the model's own {path.name}")
        notice_once(f"warning: {problem}")
