"""The flags of the Trainer script: PaddleNLP's TrainingArguments, with the published settings as their defaults."""

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import paddle
import paddlenlp.prompt.prompt_trainer  # noqa: F401  (see cluebench.foundation.environment)
from paddlenlp.trainer import PdArgumentParser, TrainingArguments

from cluebench.benchmark.tasks import TASKS, Task
from cluebench.foundation import atomic
from cluebench.foundation.errors import UsageError
from cluebench.foundation.flags import OneLineParser, add_flags, flag
from cluebench.records.run_flags import RunFlags, classification_task

_OTHERS = {other.name: other for other in fields(RunFlags)}


def _as_elsewhere(name: str) -> Any:
    """The flag of the other scripts."""
    return field(default=_OTHERS[name].default, metadata=_OTHERS[name].metadata)


@dataclass
class TaskFlags:
    """The flags that are not among TrainingArguments."""

    dataset: str = flag(
        ...,
        'task, in any case, with or without "clue" before it: '
        + ", ".join(task.title for task in TASKS.values() if task.is_classification),
    )
    padding: bool = flag(False, "compute padding too, other draws of dropout (always with dataloader workers)")
    amp: str = flag("off", "mixed precision; short for --fp16 and --bf16", choices=("off", "fp16", "bf16"))
    resume: bool = flag(True, "go on from the last checkpoint in output_dir, if there is one")
    model_name_or_path: str = _as_elsewhere("model_name_or_path")
    max_seq_length: int = _as_elsewhere("max_seq_length")
    dropout: float | None = _as_elsewhere("dropout")
    data_dir: str | None = _as_elsewhere("data_dir")
    cache_dir: str = _as_elsewhere("cache_dir")
    limit: int | None = _as_elsewhere("limit")
    visualdl_dir: str | None = _as_elsewhere("visualdl_dir")
    result_json: str | None = _as_elsewhere("result_json")
    offline: bool = _as_elsewhere("offline")


#: Published settings that differ from the defaults of PaddleNLP's TrainingArguments.
DEFAULTS = {
    "per_device_train_batch_size": 32, "per_device_eval_batch_size": 64, "learning_rate": 3e-5, "weight_decay": 0.01,
    "logging_steps": 100, "save_steps": 100, "save_total_limit": 3, "metric_for_best_model": "eval_accuracy",
}  # fmt: skip

#: Defaults that depend on other flags; `completed` computes them.
DEPENDENT = {
    "num_train_epochs": "the task's",
    "warmup_ratio": "the task's",
    "evaluation_strategy": "steps with do_train, else no",
    "eval_steps": "save_steps",
    "load_best_model_at_end": "with do_train, where evaluation and saving go together",
    "device": "gpu if Paddle has one, else cpu",
    "disable_tqdm": "where the output is no terminal",
    "report_to": "visualdl with logging_dir, else none",
}

#: The least value of TrainingArguments that neither their parser nor they themselves check.
_LEAST = {
    "per_device_train_batch_size": 1, "per_device_eval_batch_size": 1, "gradient_accumulation_steps": 1,
    "learning_rate": 0, "weight_decay": 0, "max_grad_norm": 0, "seed": 0, "warmup_steps": 0, "logging_steps": 1,
    "save_steps": 1, "eval_steps": 1, "num_train_epochs": 0,
}  # fmt: skip

#: TrainingArguments that --help shows, beside those with a default of this script.
_USUAL = ("output_dir", "do_train", "do_eval", "do_predict", "do_export", "gradient_accumulation_steps", "max_steps",
          "warmup_steps", "seed", "adam_epsilon", "max_grad_norm", "fp16", "bf16")  # fmt: skip

#: Flags of the other scripts under the names that they have here too.
_SAME = (
    "do_train", "do_eval", "output_dir", "gradient_accumulation_steps", "learning_rate", "num_train_epochs",
    "max_steps", "warmup_steps", "weight_decay", "adam_epsilon", "max_grad_norm", "seed", "device", "logging_steps",
    "overwrite_output_dir",
)  # fmt: skip

_METRICS = ("eval_accuracy", "accuracy", "eval_loss", "loss")


def parsed(description: str) -> tuple[Task, TaskFlags, Any]:
    """The task, the flags of this script, and PaddleNLP's. Ends the program with one line when a flag is wrong.

    ``description``: the beginning of the script's --help.
    """
    parser = _flag_parser(description)
    values = vars(parser.parse_args())
    own = TaskFlags(**{field.name: values.pop(field.name) for field in fields(TaskFlags)})
    try:
        *collection, short = own.dataset.split() or [""]
        if [word.lower() for word in collection] not in ([], ["clue"]):
            parser.error(f'--dataset: unknown data set {own.dataset!r}; write "clue" and a task, as in "clue tnews"')
        task = classification_task("--dataset", short)
        _check(own, values)
        arguments = TrainingArguments(**completed(values, task, own))
    except (UsageError, ValueError, AssertionError, KeyError) as error:
        parser.error(" ".join(str(error).split()))
    return task, own, arguments


class _Parser(OneLineParser, PdArgumentParser):
    """Reports a wrong flag in one line, as in the other scripts."""


def _flag_parser(description: str) -> argparse.ArgumentParser:
    """A parser of this script's flags and all TrainingArguments."""
    parser = _Parser(
        (),  # type: ignore[arg-type]  # PdArgumentParser takes classes first
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_flags(parser, TaskFlags)
    parser._add_dataclass_arguments(TrainingArguments)
    parser.set_defaults(**DEFAULTS, **dict.fromkeys(DEPENDENT))
    parser.add_argument("--help_all", action="help", help="show all of PaddleNLP's TrainingArguments, too, and exit")
    shown = {own.name for own in fields(TaskFlags)} | {"help", "help_all", *DEFAULTS, *DEPENDENT, *_USUAL}
    for action in parser._actions:  # argparse has no public way to change a help text
        text, has_default = action.help or "", action.default not in (None, argparse.SUPPRESS)
        if action.dest in DEPENDENT:
            text += f" (default: {DEPENDENT[action.dest]})"
        elif has_default and not action.required and "(default:" not in text:
            text += " (default: %(default)s)"
        hidden = action.dest not in shown and "--help_all" not in sys.argv
        action.help = argparse.SUPPRESS if hidden else text
    return parser


def _check(own: TaskFlags, values: Mapping[str, Any]) -> None:
    """Raises UsageError for wrong values that neither the parser nor TrainingArguments refuse."""
    for name, least in _LEAST.items():
        if values[name] is not None and not values[name] >= least:
            raise UsageError(f"--{name} {values[name]}: must be at least {least}")
    other = {"fp16": "bf16", "bf16": "fp16"}.get(own.amp)
    if other and values[other]:
        raise UsageError(f"--amp {own.amp} contradicts --{other}")
    if values["logging_dir"] and (reason := atomic.why_unwritable(values["logging_dir"], directory=True)):
        raise UsageError(f"--logging_dir {values['logging_dir']}: {reason}; give another place")
    if (metric := values["metric_for_best_model"]) not in _METRICS:
        raise UsageError(f"--metric_for_best_model {metric}: choose from {', '.join(_METRICS)}")
    if not any(values[name] for name in ("do_train", "do_eval", "do_predict", "do_export")):
        raise UsageError("nothing to do: give --do_train, --do_eval, --do_predict or --do_export")


def completed(values: Mapping[str, Any], task: Task, own: TaskFlags) -> dict[str, Any]:
    """TrainingArguments, with the published settings for flags that are not given."""
    values = dict(values, output_dir=os.path.abspath(os.path.expanduser(values["output_dir"])))
    values["fp16"] |= own.amp == "fp16"
    values["bf16"] |= own.amp == "bf16"
    rules = {
        "num_train_epochs": float(task.epochs),
        "warmup_ratio": 0.0 if values["warmup_steps"] else task.warmup_proportion,
        "evaluation_strategy": "steps" if values["do_train"] else "no",
        "eval_steps": values["save_steps"],
        "device": "gpu" if paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() else "cpu",
        "disable_tqdm": not sys.stderr.isatty(),
        "report_to": ["visualdl"] if values["logging_dir"] else ["none"],
    }
    values.update({name: value for name, value in rules.items() if values[name] is None})
    if values["no_cuda"]:
        values["device"] = "cpu"
    if values["load_best_model_at_end"] is None:
        same = values["evaluation_strategy"] == values["save_strategy"] != "no"
        in_step = values["evaluation_strategy"] == "epoch" or values["save_steps"] % values["eval_steps"] == 0
        values["load_best_model_at_end"] = bool(values["do_train"] and same and in_step)
    return values


def run_flags(own: TaskFlags, arguments: Any) -> RunFlags:
    """The same settings as flags of the other scripts."""
    settings = {name: value for name, value in vars(own).items() if name not in ("dataset", "padding", "amp", "resume")}
    return RunFlags(
        **settings,
        **{name: getattr(arguments, name) for name in _SAME},
        do_predict=arguments.do_predict or arguments.do_export,
        batch_size=arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps,
        eval_batch_size=arguments.per_device_eval_batch_size,
        warmup_proportion=arguments.warmup_ratio,
        # Batches from other processes don't tell where their padding is.
        padding=own.padding or bool(arguments.dataloader_num_workers),
        amp="fp16" if arguments.fp16 else "bf16" if arguments.bf16 else "off",
        save_steps=arguments.eval_steps,
        save_best_model=arguments.load_best_model_at_end,
    )


def other_settings(arguments: Any) -> dict[str, Any]:
    """TrainingArguments that change a score and that the other scripts don't have, for the run's identity."""
    plain = ("num_train_epochs", "adam_beta1", "adam_beta2", "dataloader_drop_last")
    chosen = ("evaluation_strategy", "optim", "lr_scheduler_type")
    settings = {name: getattr(arguments, name) for name in plain}
    return {"trainer": {**settings, **{name: getattr(arguments, name).value for name in chosen}}}
