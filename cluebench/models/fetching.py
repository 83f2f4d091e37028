"""Published models that are not here yet: PaddleNLP fetches them into its own home."""

from dataclasses import replace

import paddlenlp.transformers
from paddlenlp.utils.download import bos_download, bos_file_exists

from cluebench.benchmark.published import unless_published
from cluebench.foundation.errors import ClueError, NetworkError, UsageError
from cluebench.models.classes import published_prefix, published_tokenizer
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import ModelFiles


def located(model: Model, *, offline: bool = False, weights: bool = True) -> ModelFiles:
    """The files of a model; PaddleNLP fetches a published model that is not here.

    ``weights`` False: only what the tokenizer needs. Raises UsageError and NetworkError.
    """
    files = model_files.find(model, offline=offline, weights=weights) or _fetch(model, weights)
    # PaddleNLP carries the configurations of its own models; a file beside their weights does not count.
    return files if model.directory or not published_prefix(model.name) else replace(files, config=None)


def _fetch(model: Model, weights: bool) -> ModelFiles:
    """PaddleNLP fetches what is not in its home yet. Raises UsageError for a name that its server does not have."""
    name, home = model.name, str(model_files.model_home())
    wanted: list[tuple[str, str | None]] = []  # file name; address, None: the community's models
    if prefix := published_prefix(name):
        backbone = getattr(paddlenlp.transformers, f"{prefix}Model")
        vocabulary = published_tokenizer(name).pretrained_resource_files_map["vocab_file"][name]
        wanted.append((vocabulary.split("/")[-1], vocabulary))
        if weights:
            wanted.append(("model_state.pdparams", backbone.pretrained_resource_files_map["model_state"][name]))
    try:
        for file, address in wanted or _community_files(name, weights):
            bos_download(name, file, url=address, cache_dir=home)
    except ClueError:
        raise
    except Exception as error:  # requests', huggingface_hub's and the system's
        reason = " ".join(str(error).split())[:300]
        raise NetworkError(f"{name}: could not be fetched from {model_files.server()} ({reason}); try again") from error
    files = model_files.in_home(model, weights)
    if files is None:
        raise UsageError(f"{name}: PaddleNLP's server has this model incompletely")
    return files


def _community_files(name: str, weights: bool) -> list[tuple[str, None]]:
    """The files of a model that PaddleNLP's server offers for other authors."""
    config = next((file for file in model_files.CONFIG_FILES if bos_file_exists(name, file)), None)
    if config is None:
        raise UsageError(f"{name}: neither a directory nor a model that PaddleNLP knows{unless_published(name)}")
    files = [config, model_files.VOCABULARY]
    if bos_file_exists(name, model_files.TOKENIZER_FILE):
        files.append(model_files.TOKENIZER_FILE)
    if weights:
        single = ("model.safetensors", "model_state.pdparams")
        files += [file for file in single if bos_file_exists(name, file)][:1]
    return [(file, None) for file in files]
