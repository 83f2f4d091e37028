"""Fine-tuned models on disk, in PaddleNLP's layout."""

import os
import tempfile
from pathlib import Path
from typing import Any

import paddle

from cluebench.foundation import atomic
from cluebench.foundation.errors import UsageError
from cluebench.models.heads import unwrapped
from cluebench.pretrained.model_files import WEIGHT_FILES

_WEIGHTS = "model_state.pdparams"
_SAVED_FILES = (
    "config.json",
    "generation_config.json",
    _WEIGHTS,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "tokenizer.json",
)


def save_model(model: paddle.nn.Layer, tokenizer: Any, folder: str | os.PathLike) -> None:
    """Saves model and tokenizer, over earlier ones.

    Every file is written under a temporary name, synced and renamed, the weights last. Between two saves of one run
    only the weights change, so the directory holds a whole model at every instant. Raises OSError.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{_WEIGHTS}.", suffix=".tmp", dir=folder) as temporary:
        unwrapped(model).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        atomic.sync_tree(temporary)
        files = sorted(Path(temporary).iterdir(), key=lambda path: path.suffix == ".pdparams")
        for path in files:
            os.replace(path, folder / path.name)
        atomic.sync_directory(folder)


def check_output(folder: str | os.PathLike) -> None:
    """Raises UsageError when other weights in ``folder`` would be read instead of those `save_model` writes there."""
    for name in WEIGHT_FILES[: WEIGHT_FILES.index(_WEIGHTS)]:
        if (Path(folder) / name).exists():
            raise UsageError(
                f"--output_dir {folder}: holds {name}, another model's weights, which would be read instead of this "
                "run's; give another directory"
            )


def remove_model(folder: str | os.PathLike) -> None:
    """Removes the files `save_model` wrote, and nothing else."""
    for name in _SAVED_FILES:
        (Path(folder) / name).unlink(missing_ok=True)
