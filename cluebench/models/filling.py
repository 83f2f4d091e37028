"""Weights into a network: those of this model, all of them, and a head only where it was trained for the task."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import paddle

from cluebench.benchmark.tasks import Task
from cluebench.foundation.errors import UsageError
from cluebench.foundation.notices import notice
from cluebench.models.architectures import ARCHITECTURES, architecture_of
from cluebench.models.hugging_face import in_paddle, is_hugging_face
from cluebench.models.labels import in_task_order
from cluebench.pretrained.model_files import ModelFiles
from cluebench.pretrained.weights import read_weights

#: Parts of a backbone that files may lack: pretraining leaves them out, or fine-tuning does not use them.
_DISPENSABLE = re.compile(r"pooler\.|fit_dense|rel_pos_embeddings\.|task_type_embeddings\.")


def read(files: ModelFiles) -> dict[str, np.ndarray]:
    """The model's weights, see `read_weights`. Raises UsageError naming the file that is damaged."""
    try:
        return read_weights(files.weights)
    except UsageError:
        if files.model.directory or any(file.suffix != ".pdparams" for file in files.weights):
            raise
        try:  # published by PaddleNLP itself, maybe long ago: what its own reader makes of it can be trusted
            loaded = paddle.load(str(files.weights[0]), return_numpy=True)
            return {name: np.asarray(value) for name, value in loaded.items()}
        except Exception:
            raise UsageError(f"{files.weights[0]}: damaged; remove it, and it is fetched again") from None


def in_paddles_names(
    files: ModelFiles, head: type[Any], weights: Mapping[str, np.ndarray], head_required: bool
) -> tuple[dict[str, np.ndarray], bool]:
    """The weights under PaddleNLP's plain names, and whether they had Hugging Face's.

    Raises UsageError where those mean something else in this model.
    """
    architecture = architecture_of(head)
    hugging_face = is_hugging_face(weights, architecture)
    if hugging_face and not architecture.in_transformers:
        known = ", ".join(name for name, one in ARCHITECTURES.items() if one.in_transformers)
        raise UsageError(
            f"{files.model.typed}: Hugging Face weights can't be converted for {head.__name__}; they can for {known}"
        )
    if hugging_face and head_required and head.__name__.endswith(tuple(architecture.unlike) or "-"):
        raise UsageError(
            f"{files.model.typed}: Transformers' {head.__name__} reads the last token, this one the first, "
            "so its head can't be used; add --do_train"
        )
    return in_paddle(weights, architecture), hugging_face


def fill(
    model: paddle.nn.Layer,
    stored: Mapping[str, np.ndarray],
    files: ModelFiles,
    written: Mapping[str, Any],
    task: Task,
    head_required: bool,
) -> None:
    """Copies weights, under PaddleNLP's plain names, into the model. Raises UsageError when they are of another one.

    ``written``: its configuration, which names the labels of a head.
    """
    prefix = model.base_model_prefix
    backbone = plain_backbone(model)
    head = {name: tensor for name, tensor in model.named_parameters() if not name.startswith(f"{prefix}.")}
    _refuse_whole_numbers(head, stored, files)
    stored = in_task_order(stored, list(head), files, written, task, head_required)
    lacking = [name for name, tensor in head.items() if not _fits(stored.get(name), tensor)]
    if lacking and head_required:
        raise UsageError(_no_head(files, task, lacking, stored))
    _tell_of_new_parts(files, [name for name in backbone if name not in stored], [n for n in lacking if n in stored])
    _tell_of_rounded_positions(files, stored)
    for name, tensor in (*backbone.items(), *head.items()):
        if name in stored and name not in lacking:
            tensor.set_value(np.ascontiguousarray(stored[name]))


def of_all_layers(backbone: Mapping[str, paddle.Tensor], layers: int) -> dict[str, paddle.Tensor]:
    """The arrays of a backbone of which only the first layers are built: the last of those stands for all behind it."""
    built = max((int(match[1]) for name in backbone if (match := _LAYER.search(name))), default=0)
    found = dict(backbone)
    for name, tensor in backbone.items():
        if (match := _LAYER.search(name)) and int(match[1]) == built:
            start, end = match.span(1)
            found |= {f"{name[:start]}{layer}{name[end:]}": tensor for layer in range(built + 1, layers)}
    return found


def plain_backbone(model: paddle.nn.Layer) -> dict[str, paddle.Tensor]:
    """Its parameters under names without the backbone's prefix."""
    prefix = f"{model.base_model_prefix}."
    parameters = model.named_parameters()
    return {name.removeprefix(prefix): tensor for name, tensor in parameters if name.startswith(prefix)}


#: An array, one of its axes, and the setting that says how long that is.
_SIZES = (
    ("embeddings.word_embeddings.weight", 0, "vocab_size"),
    ("embeddings.position_embeddings.weight", 0, "max_position_embeddings"),
    ("embeddings.token_type_embeddings.weight", 0, "type_vocab_size"),
    ("encoder.layers.0.linear1.weight", 0, "hidden_size"),
    ("encoder.layers.0.linear1.weight", 1, "intermediate_size"),
)
_LAYER = re.compile(r"encoder\.layers?\.(\d{1,9})\.")


def check_sizes(files: ModelFiles, config: Any, stored: Mapping[str, np.ndarray]) -> None:
    """Raises UsageError where configuration and weights are of different sizes; before anything of a size is built.

    ``stored``: under plain names. Layers that the configuration does not have would else be left out in silence.
    """
    where, described = _names(files)
    shapes = {name: array.shape for name, array in stored.items()}
    sizes = [(shapes[name][axis], key) for name, axis, key in _SIZES if len(shapes.get(name, ())) > axis]
    layers = [int(match[1]) + 1 for name in stored if (match := _LAYER.match(name))]
    sizes += [(max(layers), "num_hidden_layers")] if layers else []
    for size, key in sizes:
        said = getattr(config, key, None)
        if said is not None and said != size:
            differ = f"{where} has {key} {size:,}, {described} {said:,}"
            raise UsageError(f"{files.model.typed}: {differ}, so they are of different models")


def _names(files: ModelFiles) -> tuple[str, str]:
    """Where weights and configuration are, for people."""
    where = ", ".join(file.name for file in files.weights[:1])
    return where, files.config.name if files.config else "its configuration"


def check_backbone(backbone: Mapping[str, Any], stored: Mapping[str, np.ndarray], files: ModelFiles) -> None:
    """Raises UsageError when the weights lack an array of the backbone, or have one of another shape; plain names."""
    where, config = _names(files)
    for name, tensor in backbone.items():
        if name in stored and not _fits(stored[name], tensor):
            raise UsageError(
                f"{files.model.typed}: {name} is {list(stored[name].shape)} in {where}, but {list(tensor.shape)} by "
                f"{config}"
            )
    _refuse_whole_numbers(backbone, stored, files)
    missing = [name for name in backbone if name not in stored and not _DISPENSABLE.match(name)]
    if missing:
        raise UsageError(
            f"{files.model.typed}: {where} lacks {len(missing)} of the {len(backbone)} arrays of the model that "
            f"{config} describes ({', '.join(missing[:3])}, …), so it holds another model, or not all of this one"
        )


def _refuse_whole_numbers(wanted: Iterable[str], stored: Mapping[str, np.ndarray], files: ModelFiles) -> None:
    for name in wanted:
        if name in stored and stored[name].dtype.kind != "f":
            raise UsageError(
                f"{files.model.typed}: {name} holds {stored[name].dtype} in {_names(files)[0]}: no weights"
            )


def _fits(array: np.ndarray | None, tensor: Any) -> bool:
    return array is not None and list(array.shape) == list(tensor.shape)


def refuse_other_task(files: ModelFiles, written: Mapping[str, Any], head: type[Any], task: Task) -> None:
    """Raises UsageError when the configuration, as written, is that of a model fine-tuned for another task.

    Heads of different tasks can have the same names and shapes, so that the weights alone don't tell.
    """
    tuned = written.get("finetuning_task")
    names = [name for name in written.get("architectures") or [written.get("init_class")] if name]
    if isinstance(tuned, str) and tuned != task.name:
        reason = f"was fine-tuned for {tuned.upper()}"
    elif names and names[-1].lower() != head.__name__.lower():  # Transformers writes Nezha, PaddleNLP NeZha
        reason = f"is a {names[-1]}, not a {head.__name__}"
    else:
        return
    raise UsageError(f"{files.model.typed}: {reason}, so it can't be used for {task.title} without --do_train")


def _no_head(files: ModelFiles, task: Task, lacking: Sequence[str], stored: Mapping[str, np.ndarray]) -> str:
    other = [f"{name} of shape {list(stored[name].shape)}" for name in lacking if name in stored]
    reason = f"have another head ({other[0]})" if other else f"have no head ({lacking[0]})"
    return f"{files.model.typed}: the weights {reason}: fine-tune on {task.title} first, or add --do_train"


def _tell_of_rounded_positions(files: ModelFiles, stored: Mapping[str, np.ndarray]) -> None:
    """RoFormer's sines and cosines stand in Transformers' weights too, and are rounded there in half precision."""
    table = stored.get("encoder.embed_positions.weight")  # [size, positions]
    if table is None or table.ndim != 2 or len(table) % 2:
        return
    half = len(table) // 2
    angles = np.arange(table.shape[1]) / 10000 ** (np.arange(half)[:, None] / half)
    if np.abs(table - np.concatenate([np.sin(angles), np.cos(angles)])).max() > 1e-5:
        notice(
            f"{files.model.typed}: its table of positions is rounded; positions are computed, so outputs "
            "differ a little from those of the library that wrote it"
        )


def _tell_of_new_parts(files: ModelFiles, backbone: Sequence[str], resized: Sequence[str]) -> None:
    """That a pretrained model has no head yet goes without saying."""
    if parts := sorted({name.split(".")[0] for name in backbone}):
        notice(f"{files.model.typed}: not in the weights, so drawn anew: {', '.join(parts)}")
    if resized:
        notice(f"{files.model.typed}: the weights have a head of another size; a new one is drawn")
