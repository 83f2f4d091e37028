"""Weights into a network: the whole backbone of this very model, and a head only where it was trained for the task."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle

from cluebench.foundation.errors import UsageError
from cluebench.models.architectures import ARCHITECTURES, in_paddle, is_hugging_face
from cluebench.models.configuration import Target
from cluebench.pretrained.model_files import ModelFiles
from cluebench.pretrained.weights import read_weights

#: Parts of a backbone that files may lack: pretraining leaves them out, or fine-tuning does not use them.
_DISPENSABLE = re.compile(r"pooler\.|fit_dense|rel_pos_embeddings\.|task_type_embeddings\.")

#: An array, one of its axes, and the setting with its length.
_SIZES = (
    ("embeddings.word_embeddings.weight", 0, "vocab_size"),
    ("embeddings.position_embeddings.weight", 0, "max_position_embeddings"),
    ("embeddings.token_type_embeddings.weight", 0, "type_vocab_size"),
    ("encoder.layers.0.linear1.weight", 0, "hidden_size"),
    ("encoder.layers.0.linear1.weight", 1, "intermediate_size"),
)
_LAYER = re.compile(r"encoder\.layers?\.(\d{1,9})\.")


def read(files: ModelFiles) -> dict[str, np.ndarray]:
    """The model's weights, see `read_weights`. Raises UsageError naming the file that is damaged."""
    try:
        return read_weights(files.weights)
    except UsageError:
        if files.model.directory or any(file.suffix != ".pdparams" for file in files.weights):
            raise
        try:  # PaddleNLP itself published it, maybe long ago: its own reader can be trusted
            loaded = paddle.load(str(files.weights[0]), return_numpy=True)
            return {name: np.asarray(value) for name, value in loaded.items()}
        except Exception:
            raise UsageError(f"{files.weights[0]}: damaged; remove it, and it is fetched again") from None


def in_paddles_names(target: Target, weights: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], bool]:
    """The weights under PaddleNLP's plain names, and whether they had Hugging Face's.

    Raises UsageError where those mean something else in this model.
    """
    architecture, head = target.architecture, target.head.__name__
    hugging_face = is_hugging_face(weights, architecture)
    if hugging_face and not architecture.in_transformers:
        supported = ", ".join(name for name, row in ARCHITECTURES.items() if row.in_transformers)
        raise target.error(f"Hugging Face weights can't be converted for {head}; they can for {supported}")
    if hugging_face and target.head_required and head.endswith(tuple(architecture.unlike) or "-"):
        raise target.error(
            f"Transformers' {head} reads the last token, PaddleNLP's the first, so its head can't be used; "
            "add --do_train"
        )
    return in_paddle(weights, architecture), hugging_face


def refuse_other_task(target: Target) -> None:
    """Raises UsageError when the configuration says that the model is fine-tuned for another task.

    Heads of different tasks can have the same names and shapes, so that the weights alone don't tell.
    """
    written, head = target.written, target.head.__name__
    tuned = written.get("finetuning_task")
    names = [name for name in written.get("architectures") or [written.get("init_class")] if name]
    if isinstance(tuned, str) and tuned != target.task.name:
        reason = f"was fine-tuned for {tuned.upper()}"
    elif names and names[-1].lower() != head.lower():  # Transformers writes Nezha, PaddleNLP NeZha
        reason = f"is a {names[-1]}, not a {head}"
    else:
        return
    raise target.error(f"{reason}, so it can't be used for {target.task.title} without --do_train")


def check_sizes(target: Target, config: Any, stored: Mapping[str, np.ndarray]) -> None:
    """Raises UsageError where configuration and weights differ in size, before anything of that size is built.

    ``stored``: under plain names. Layers that the configuration does not have would be left out silently.
    """
    where, described = _names(target)
    shapes = {name: array.shape for name, array in stored.items()}
    sizes = [(shapes[name][axis], key) for name, axis, key in _SIZES if len(shapes.get(name, ())) > axis]
    if layers := [int(match[1]) + 1 for name in stored if (match := _LAYER.match(name))]:
        sizes.append((max(layers), "num_hidden_layers"))
    for size, key in sizes:
        expected = getattr(config, key, None)
        if expected is not None and expected != size:
            raise target.error(f"{where} has {key} {size:,}, {described} {expected:,}, so they are of different models")


def of_all_layers(backbone: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """All arrays of a backbone whose first layers are built: the last built layer stands for the layers after it."""
    numbers = {name: match for name in backbone if (match := _LAYER.search(name))}
    last = max((int(match[1]) for match in numbers.values()), default=0)
    behind = {
        name[: match.start(1)] + str(layer) + name[match.end(1) :]: backbone[name]
        for name, match in numbers.items() if int(match[1]) == last
        for layer in range(last + 1, layers)
    }  # fmt: skip
    return {**backbone, **behind}


def fill(model: paddle.nn.Layer, layers: int, stored: Mapping[str, np.ndarray], target: Target) -> None:
    """Copies weights, under PaddleNLP's plain names, into the model. ``layers``: see `of_all_layers`.

    Raises UsageError for the weights of another model, or of another head than is required.
    """
    prefix, parameters = f"{model.base_model_prefix}.", dict(model.named_parameters())
    backbone = {name.removeprefix(prefix): array for name, array in parameters.items() if name.startswith(prefix)}
    head = {name: array for name, array in parameters.items() if not name.startswith(prefix)}
    whole = of_all_layers(backbone, layers)
    _check_backbone(whole, stored, target)
    for name in (*whole, *head):
        if name in stored and stored[name].dtype.kind != "f":
            raise target.error(f"{name} holds {stored[name].dtype} in {_names(target)[0]}: no weights")
    stored = _in_task_order(stored, list(head), target)
    lacking = [name for name, tensor in head.items() if not _fits(stored.get(name), tensor)]
    resized = [f"{name} of shape {list(stored[name].shape)}" for name in lacking if name in stored]
    if lacking and target.head_required:
        reason = f"have another head ({resized[0]})" if resized else f"have no head ({lacking[0]})"
        raise target.error(f"the weights {reason}: fine-tune on {target.task.title} first, or add --do_train")
    if parts := sorted({name.split(".")[0] for name in backbone if name not in stored}):
        target.notice(f"not in the weights, so newly drawn: {', '.join(parts)}")
    if resized:
        target.notice("the weights have a head of another size; a new one is drawn")
    _warn_of_rounded_positions(target, stored.get("encoder.embed_positions.weight"))
    for name, tensor in (*backbone.items(), *head.items()):
        if name in stored and name not in lacking:
            tensor.set_value(np.ascontiguousarray(stored[name]))


def _check_backbone(whole: Mapping[str, Any], stored: Mapping[str, np.ndarray], target: Target) -> None:
    """Raises UsageError when the weights lack an array of the ``whole`` backbone, or have one of another shape."""
    where, config = _names(target)
    for name, tensor in whole.items():
        if name in stored and not _fits(stored[name], tensor):
            there, expected = list(stored[name].shape), list(tensor.shape)
            raise target.error(f"{name} is {there} in {where}, but {expected} by {config}")
    missing = [name for name in whole if name not in stored and not _DISPENSABLE.match(name)]
    if missing:
        raise target.error(
            f"{where} lacks {len(missing)} of the {len(whole)} arrays of the model that "
            f"{config} describes ({', '.join(missing[:3])}, …), so it holds another model, or not all of this one"
        )


def _in_task_order(stored: Mapping[str, np.ndarray], head: Sequence[str], target: Target) -> Mapping[str, np.ndarray]:
    """The weights with the head's outputs in the order of the task's labels, by the configuration's ``id2label``.

    ``stored``: under PaddleNLP's names; ``head``: the names of the head's arrays, the output layer's last. A head with
    other labels is left out, so that a new head is drawn; where a head is required, it is a UsageError. A head without
    label names is used as it is, and a notice names the order that is assumed.
    """
    task, output_layer = target.task, head[-1].rpartition(".")[0]
    outputs = [name for name in head if name.rpartition(".")[0] == output_layer and name in stored]
    names, size = target.written.get("id2label"), (len(task.labels),)
    if not (task.labels and names and outputs and all(stored[name].shape[-1:] == size for name in outputs)):
        return stored
    labels = [str(names.get(str(index))).strip().lower() for index in range(len(names))]
    wanted = [label.lower() for label in task.labels]
    if all(re.fullmatch(r"label_\d+", label) for label in labels):
        if target.written.get("finetuning_task") != task.name:
            target.notice(f"its labels have no names; their order is assumed to be {', '.join(task.labels)}")
        return stored
    if sorted(labels) == sorted(wanted):
        order = [labels.index(label) for label in wanted]
        return {**stored, **{name: stored[name][..., order] for name in outputs}}
    others = f"its labels are {_listed(labels)}, not {_listed(task.labels)} as in {task.title}"
    if target.head_required:
        raise target.error(f"{others}, so it can't be used without --do_train")
    target.notice(f"{others}; a new head is drawn")
    return {name: array for name, array in stored.items() if name not in head}


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (", …" if len(labels) > 3 else "")


def _names(target: Target) -> tuple[str, str]:
    """Where weights and configuration are, for people."""
    weights, config = target.files.weights, target.files.config
    return weights[0].name if weights else "", config.name if config else "its configuration"


def _fits(array: np.ndarray | None, tensor: Any) -> bool:
    return array is not None and list(array.shape) == list(tensor.shape)


def _warn_of_rounded_positions(target: Target, table: np.ndarray | None) -> None:
    """``table`` [size, positions]: RoFormer's sines and cosines, which Transformers saves, rounded with its weights."""
    if table is None or table.ndim != 2 or len(table) % 2:
        return
    half = len(table) // 2
    angles = np.arange(table.shape[1]) / 10000 ** (np.arange(half)[:, None] / half)
    if np.abs(table - np.concatenate([np.sin(angles), np.cos(angles)])).max() > 1e-5:
        target.notice(
            "its table of positions is rounded; positions are computed, so outputs differ a little from the outputs of "
            "the library that wrote it"
        )
