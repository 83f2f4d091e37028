"""What the outputs of a classification head mean: labels of a configuration, and those of the task."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cluebench.benchmark.tasks import Task
from cluebench.foundation.errors import UsageError
from cluebench.foundation.notices import notice
from cluebench.pretrained.model_files import ModelFiles


def in_task_order(
    stored: Mapping[str, np.ndarray],
    head: Sequence[str],
    files: ModelFiles,
    written: Mapping[str, Any],
    task: Task,
    head_required: bool,
) -> dict[str, np.ndarray]:
    """The weights with the head's outputs in the order of the task's labels, by the configuration's ``id2label``.

    ``stored``: under PaddleNLP's names; ``head``: the names of the head's arrays, the output layer's last. A head of
    other labels is left out, so that a new one is drawn, or with ``head_required`` is a UsageError. One without label
    names is taken as it is, in the order that a notice names.
    """
    outputs = [name for name in head if name.rpartition(".")[0] == head[-1].rpartition(".")[0] and name in stored]
    said = written.get("id2label")
    if not (task.labels and said and outputs and all(_length(stored[name]) == len(task.labels) for name in outputs)):
        return dict(stored)
    labels = [str(said.get(str(index))).strip().lower() for index in range(len(said))]
    wanted = [label.lower() for label in task.labels]
    if all(re.fullmatch(r"label_\d+", label) for label in labels):
        if written.get("finetuning_task") != task.name:
            notice(
                f"{files.model.typed}: its labels have no names; their order is taken to be {', '.join(task.labels)}"
            )
    elif sorted(labels) == sorted(wanted):
        order = [labels.index(label) for label in wanted]
        return {**stored, **{name: stored[name][..., order] for name in outputs}}
    else:
        others = f"labels are {_listed(labels)}, not {_listed(task.labels)} as in {task.title}"
        if head_required:
            raise UsageError(f"{files.model.typed}: its {others}, so it can't be used without --do_train")
        notice(f"{files.model.typed}: its {others}; a new head is drawn")
        return {name: array for name, array in stored.items() if name not in head}
    return dict(stored)


def _length(array: np.ndarray) -> int:
    return array.shape[-1] if array.ndim else 0


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (", …" if len(labels) > 3 else "")
