"""The command that runs a trial again."""

import shlex
from typing import Any

from cluebench.benchmark.tasks import SPAN, Task
from cluebench.records.identity import VARIED
from cluebench.records.result import Result
from cluebench.report.comparability import unlike_published

#: Settings whose flags have other names.
_FLAG_OF = {"epochs": "num_train_epochs", "eval_every_steps": "save_steps"}


def command(task: Task, result: Result, model: str, data_dir: str | None) -> str | None:
    """One line to type at the repository's root. Its run has the same configuration, and uses one device.

    None if settings are missing, or are not flags of the task's script, like those of PaddleNLP's Trainer.
    """
    settings: dict[str, Any] = result.configuration
    if not {*VARIED, "amp"} <= settings.keys():
        return None
    flags: dict[str, Any] = {"task_name": task.title} if task.is_classification else {}
    flags |= {"model_name_or_path": model, "do_train": True}
    flags |= {name: settings[name] for name in VARIED}
    flags["gradient_accumulation_steps"] = result.accumulation_steps * result.cards
    flags["padding"] = (task.kind != SPAN and "padding" not in settings) or None
    flags["amp"] = settings["amp"] if settings["amp"] != "off" else None
    for name, (value, _) in unlike_published(task, settings).items():
        warmup = "warmup_steps" if isinstance(value, int) else "warmup_proportion"
        flags[warmup if name == "warmup" else _FLAG_OF.get(name, name)] = value
    if any(isinstance(value, dict) for value in flags.values()):
        return None
    flags |= {"data_dir": data_dir, "output_dir": f"reproduced/{task.name}"}
    words = ["python", task.script]
    for name, value in flags.items():
        if value is not None:
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return shlex.join(words)
