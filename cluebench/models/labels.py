"""What the outputs of a classification head mean: labels of a configuration, and labels of the task."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from cluebench.models.configuration import Target


def in_task_order(stored: Mapping[str, np.ndarray], head: Sequence[str], target: Target) -> dict[str, np.ndarray]:
    """The weights with the head's outputs in the order of the task's labels, by the configuration's ``id2label``.

    ``stored``: under PaddleNLP's names; ``head``: the names of the head's arrays, the output layer's last. A head with
    other labels is left out, so that a new head is drawn; where a head is required, it is a UsageError. A head without
    label names is used as it is, and a notice names the order that is assumed.
    """
    task, output_layer = target.task, head[-1].rpartition(".")[0]
    outputs = [name for name in head if name.rpartition(".")[0] == output_layer and name in stored]
    names = target.written.get("id2label")
    if not (
        task.labels and names and outputs and all(stored[name].shape[-1:] == (len(task.labels),) for name in outputs)
    ):
        return dict(stored)
    labels = [str(names.get(str(index))).strip().lower() for index in range(len(names))]
    wanted = [label.lower() for label in task.labels]
    if all(re.fullmatch(r"label_\d+", label) for label in labels):
        if target.written.get("finetuning_task") != task.name:
            target.notice(f"its labels have no names; their order is assumed to be {', '.join(task.labels)}")
        return dict(stored)
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
