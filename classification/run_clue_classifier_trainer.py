"""Fine-tunes a model on one of the seven classification tasks of CLUE through PaddleNLP's Trainer.

    python classification/run_clue_classifier_trainer.py --model_name_or_path ernie-3.0-medium-zh \
        --dataset "clue tnews" --do_train --do_eval --do_predict --do_export --output_dir out

Takes all of PaddleNLP's TrainingArguments. Inputs, row order, losses and submission files are those of
run_clue_classifier.py with the same settings; what is left out is as in the published CLUE benchmark runs. An
interrupted run, started again with the same --output_dir, goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn, Optional

from cluebench import atomic, command, environment, submission
from cluebench.errors import UsageError
from cluebench.run import Run, configure
from cluebench.settings import RunFlags
from cluebench.tasks import TASKS, Task, task_named


def _about(text: str) -> dict[str, str]:
    return {"help": text}


@dataclass
class TaskFlags:
    """What is not among TrainingArguments. (PaddleNLP's parser reads types, and knows Optional only.)"""

    model_name_or_path: str = field(metadata=_about("published model name, or directory of a model"))
    dataset: str = field(
        metadata=_about(
            'task, in any case, with or without "clue" before it: '
            + ", ".join(task.title for task in TASKS.values() if task.is_classification)
        )
    )
    max_seq_length: Optional[int] = field(  # noqa: UP045
        default=None, metadata=_about("longest input in tokens, special tokens included (default: the task's)")
    )
    dropout: Optional[float] = field(  # noqa: UP045
        default=None,
        metadata=_about(
            "dropout after the embeddings and in every layer's residual and feed-forward branches "
            "(default: as in the model's configuration)"
        ),
    )
    amp: str = field(default="off", metadata=_about("mixed precision: off, fp16 or bf16; short for --fp16 and --bf16"))
    data_dir: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata=_about("official CLUE files, unpacked or zipped (default: CLUE_DATA_DIR, else they are downloaded)"),
    )
    cache_dir: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_about("where token ids are kept between runs (default: ~/.cache/cluebench)")
    )
    limit: Optional[int] = field(  # noqa: UP045
        default=None, metadata=_about("only the first N rows of every split, for a try (default: all)")
    )
    visualdl_dir: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_about("write scalars for VisualDL into this directory (default: none)")
    )
    result_json: Optional[str] = field(  # noqa: UP045
        default=None, metadata=_about("the result as JSON (default: <output_dir>/result.json after training)")
    )
    resume: bool = field(default=True, metadata=_about("go on from the last checkpoint in output_dir, if there is one"))
    offline: bool = field(default=False, metadata=_about("never touch the network"))


def main() -> None:
    environment.import_paddle()
    task, own, arguments = parsed()
    run = configure(run_flags(task, own, arguments), task, **other_settings(arguments))
    resumed = checkpoint_to_resume(run, own, arguments)
    with run.recording():
        run.start()
        model = run.new_model()
        trainer = build_trainer(run, model, arguments)
        if arguments.do_train:
            train(run, trainer, resumed)
        if arguments.do_eval:
            trainer.evaluate(trainer.eval_dataset)
        run.log_best()
        if arguments.do_predict:
            predict(run, trainer)
        if arguments.do_export:
            export(run, model)
        finish(run, arguments)


# Flags ----------------------------------------------------------------------------------------------------------------

#: The published settings, where PaddleNLP's TrainingArguments have others.
DEFAULTS = {
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "learning_rate": 3e-5,
    "weight_decay": 0.01,
    "logging_steps": 100,
    "save_steps": 100,
    "save_total_limit": 3,
    "metric_for_best_model": "eval_accuracy",
}

#: Those that depend on other flags.
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

_METRICS = ("eval_accuracy", "accuracy", "eval_loss", "loss")


def parsed() -> tuple[Task, TaskFlags, Any]:
    """The task, the flags of this script, and PaddleNLP's. Ends the program with one line when a flag is wrong."""
    from cluebench import models  # noqa: F401  quietens PaddleNLP

    parser, of_paddlenlp = flag_parser()
    values = vars(parser.parse_args())
    own = TaskFlags(**{one.name: values.pop(one.name) for one in fields(TaskFlags)})
    try:
        task = dataset_task(own.dataset)
        check(own, values)
        arguments = of_paddlenlp(**completed(values, task, own))
    except UsageError as error:
        parser.error(str(error))
    except (ValueError, AssertionError, KeyError) as error:
        parser.error(" ".join(str(error).split()))
    return task, own, arguments


def flag_parser() -> tuple[argparse.ArgumentParser, type]:
    """A parser of this script's flags and all TrainingArguments, and that class."""
    from paddlenlp.trainer import PdArgumentParser, TrainingArguments

    class Parser(PdArgumentParser):
        def error(self, message: str) -> NoReturn:
            print(f"{self.prog}: error: {message} (--help lists the flags)", file=sys.stderr)
            sys.exit(2)

    parser = Parser(
        (TaskFlags, TrainingArguments), description=__doc__, formatter_class=_HelpFormatter, allow_abbrev=False
    )
    parser.set_defaults(**DEFAULTS, **dict.fromkeys(DEPENDENT))
    for action in parser._actions:  # argparse has no public way to change a help text
        if action.dest in DEPENDENT:
            action.help = f"{action.help} (default: {DEPENDENT[action.dest]})"
    return parser, TrainingArguments


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Names each flag's default, where its text does not do so itself."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        return text if "(default:" in text or action.required else super()._get_help_string(action)


def dataset_task(name: str) -> Task:
    """The row behind --dataset. Raises UsageError."""
    *collection, short = name.split() or [""]
    try:
        if [word.lower() for word in collection] not in ([], ["clue"]):
            raise ValueError(f'unknown data set {name!r}; write "clue" and a task, as in "clue tnews"')
        task = task_named(short)
    except ValueError as error:
        raise UsageError(f"--dataset: {error}") from None
    if not task.is_classification:
        raise UsageError(f"--dataset {name}: run {task.script} for this task")
    return task


def check(own: TaskFlags, values: Mapping[str, Any]) -> None:
    """Raises UsageError for values that neither parser nor TrainingArguments refuse."""
    smallest = {
        "max_seq_length": 8, "limit": 1, "per_device_train_batch_size": 1, "per_device_eval_batch_size": 1,
        "gradient_accumulation_steps": 1, "learning_rate": 0, "weight_decay": 0, "max_grad_norm": 0, "dropout": 0,
        "seed": 0, "warmup_steps": 0, "logging_steps": 1, "save_steps": 1, "eval_steps": 1, "num_train_epochs": 0,
    }  # fmt: skip
    for name, least in smallest.items():
        value = getattr(own, name, None) if hasattr(own, name) else values[name]
        if value is not None and not value >= least:
            raise UsageError(f"--{name} {value}: must be at least {least}")
    if own.dropout is not None and own.dropout >= 1:
        raise UsageError(f"--dropout {own.dropout}: must be below 1")
    if own.amp not in ("off", "fp16", "bf16"):
        raise UsageError(f"--amp {own.amp}: choose from off, fp16, bf16")
    if own.amp != "off" and values["bf16" if own.amp == "fp16" else "fp16"]:
        raise UsageError(f"--amp {own.amp} contradicts --{'bf16' if own.amp == 'fp16' else 'fp16'}")
    if values["metric_for_best_model"] not in _METRICS:
        raise UsageError(
            f"--metric_for_best_model {values['metric_for_best_model']}: choose from {', '.join(_METRICS)}"
        )
    if not any(values[name] for name in ("do_train", "do_eval", "do_predict", "do_export")):
        raise UsageError("nothing to do: give --do_train, --do_eval, --do_predict or --do_export")


def completed(values: Mapping[str, Any], task: Task, own: TaskFlags) -> dict[str, Any]:
    """TrainingArguments with what was left out as the published runs had it."""
    import paddle

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


def run_flags(task: Task, own: TaskFlags, arguments: Any) -> RunFlags:
    """The same settings in the words of the other scripts."""
    return RunFlags(
        model_name_or_path=own.model_name_or_path,
        do_train=arguments.do_train,
        do_eval=arguments.do_eval,
        do_predict=arguments.do_predict or arguments.do_export,
        output_dir=arguments.output_dir,
        batch_size=arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        eval_batch_size=arguments.per_device_eval_batch_size,
        learning_rate=arguments.learning_rate,
        num_train_epochs=arguments.num_train_epochs,
        max_steps=arguments.max_steps,
        max_seq_length=own.max_seq_length,
        warmup_steps=arguments.warmup_steps,
        warmup_proportion=arguments.warmup_ratio,
        weight_decay=arguments.weight_decay,
        adam_epsilon=arguments.adam_epsilon,
        max_grad_norm=arguments.max_grad_norm,
        dropout=own.dropout,
        seed=arguments.seed,
        device=arguments.device,
        amp="fp16" if arguments.fp16 else "bf16" if arguments.bf16 else "off",
        logging_steps=arguments.logging_steps,
        save_steps=arguments.eval_steps,
        save_best_model=arguments.load_best_model_at_end,
        data_dir=own.data_dir,
        cache_dir=own.cache_dir,
        limit=own.limit,
        visualdl_dir=own.visualdl_dir,
        result_json=own.result_json,
        offline=own.offline,
    )


def other_settings(arguments: Any) -> dict[str, Any]:
    """TrainingArguments that move a score and that the other scripts don't have, for the run's identity."""
    plain = ("num_train_epochs", "adam_beta1", "adam_beta2", "dataloader_drop_last")
    chosen = ("evaluation_strategy", "optim", "lr_scheduler_type")
    settings = {name: getattr(arguments, name) for name in plain}
    return {"trainer": {**settings, **{name: getattr(arguments, name).value for name in chosen}}}


def checkpoint_to_resume(run: Run, own: TaskFlags, arguments: Any) -> str | None:
    """The checkpoint to go on from; None to begin anew. Raises UsageError."""
    from cluebench.trainer import last_checkpoint, restore

    if not arguments.do_train:
        return None
    if chosen := arguments.resume_from_checkpoint:
        if not Path(chosen, "trainer_state.json").is_file():
            raise UsageError(f"--resume_from_checkpoint {chosen}: no checkpoint of the Trainer is there")
        restore(run, Path(chosen))
        return chosen
    if arguments.overwrite_output_dir:
        if environment.rank() == 0:
            for folder in Path(arguments.output_dir).glob("checkpoint-*"):
                shutil.rmtree(folder)
        return None
    found = last_checkpoint(run) if own.resume else None
    if found:
        run.log.line(f"going on from {found}")
    return found


# The life of a run ----------------------------------------------------------------------------------------------------


def build_trainer(run: Run, model: Any, arguments: Any) -> Any:
    """A Trainer over the splits it will need."""
    from cluebench.trainer import Examples, ProtocolTrainer

    micro_batch = arguments.per_device_train_batch_size
    return ProtocolTrainer(
        run,
        model,
        arguments,
        train_dataset=Examples(run.features("train"), micro_batch) if arguments.do_train else None,
        eval_dataset=Examples(run.features("dev")) if arguments.do_eval else None,
    )


def train(run: Run, trainer: Any, resumed: str | None) -> None:
    """Fine-tunes, and saves the model that evaluation, prediction and export go on with: the best, or the last one."""
    from cluebench import models

    trainer.train(resume_from_checkpoint=resumed)
    if trainer.is_world_process_zero():
        models.save_model(trainer.model, run.tokenizer, run.flags.output_dir)


def predict(run: Run, trainer: Any) -> None:
    """One submission file for each test set of the task."""
    from cluebench.trainer import Examples

    for test in run.task.test_sets:
        chosen = trainer.predict(Examples(run.features(test.split))).predictions.argmax(axis=-1)
        if trainer.is_world_process_zero():
            path = run.output(test.submission)
            submission.write_labels(path, range(len(chosen)), [run.task.labels[index] for index in chosen])
            run.log.line(f"predictions for {test.file}: {path}")


def export(run: Run, model: Any) -> None:
    """<output_dir>/export: the model as a static graph, ``paddle.jit.load("…/export/model")``, and its tokenizer.

    Input: ids and token types, int64 [rows, tokens] of any size. Output: logits, float32 [rows, labels].
    """
    import paddle

    if environment.rank() != 0:
        return
    shape = [None, None]
    names = ("input_ids", "token_type_ids")
    model.eval()
    graph = paddle.jit.to_static(
        model,
        input_spec=[paddle.static.InputSpec(shape=shape, dtype="int64", name=name) for name in names],
        full_graph=True,
    )
    folder = run.output("export")
    with atomic.replacing(folder) as temporary:
        temporary.mkdir()
        paddle.jit.save(graph, str(temporary / "model"))
        run.tokenizer.save_pretrained(str(temporary))
    run.log.line(f"static graph: {folder / 'model'}")


def finish(run: Run, arguments: Any) -> None:
    """What the result still lacks; returns when rank 0 has written everything but the result."""
    from cluebench import training

    run.result.peak_memory_bytes = training.peak_memory_bytes(run.device)
    if arguments.do_train and arguments.load_best_model_at_end:
        run.result.best_model = arguments.output_dir
    run.scalars.close()
    training.wait_for_all()


if __name__ == "__main__":
    command.run(main)
