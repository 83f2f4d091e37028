"""Writes a fine-tuned model for Hugging Face's Transformers, or as an ONNX graph.

    python export_model.py runs/ernie-3.0-base-zh --task TNEWS --format huggingface --output tnews_model
    python export_model.py runs/ernie-3.0-base-zh/tnews/3e-05_32_0.1 --format onnx --output tnews_model

The model is the best kept one of a task in a run directory, or the one in a directory. The command compares the written
model with the original on made-up rows before it moves it to --output.
"""

from dataclasses import dataclass
from pathlib import Path

from cluebench.benchmark.tasks import TASKS, Task, task_named
from cluebench.foundation import atomic, command, environment
from cluebench.foundation.errors import UsageError
from cluebench.foundation.flags import flag, parse, refuse_unwritable
from cluebench.pretrained import model_files
from cluebench.pretrained.model import CONFIG_FILES, Model, first_of
from cluebench.records.finished_trials import finished_trials
from cluebench.submission import kept, packing

_KEEPS = "grid_search.py … --save_best_model True keeps the best one of each task"


@dataclass
class Flags:
    __doc__ = __doc__

    directory: str = flag(..., "run directory of one model, or directory of a fine-tuned model", positional=True)
    format: str = flag(..., "layout to write", choices=("huggingface", "onnx"))
    output: str = flag(..., "a new or empty directory", writes="directory")
    task: str | None = flag(None, "task, in any case", default_text="the task of the model")
    max_seq_length: int | None = flag(
        None, "tokens of an input, if the ONNX graph has a fixed length", minimum=8, default_text="the task's"
    )


def main() -> None:
    flags = parse(Flags)
    refuse_unwritable(flags)
    output = Path(flags.output).expanduser()
    if output.exists() and any(output.iterdir()):
        raise UsageError(f"--output {output}: holds files already; give another directory")
    model, task = chosen(Path(flags.directory).expanduser(), flags.task)
    environment.import_paddle()  # only now: wrong flags are reported within a second
    from cluebench import models

    tokenizer = models.load_tokenizer(model)
    loaded = models.load_model(task, model, tokenizer=tokenizer, head_required=True)
    loaded.eval()
    with atomic.replacing(output) as temporary:
        temporary.mkdir()
        if flags.format == "huggingface":
            models.write_hugging_face(loaded, tokenizer, task, temporary)
            report = "read back, its outputs on made-up rows equal the model's"
        else:
            length = flags.max_seq_length or task.max_seq_length
            by, shape = models.write_onnx(loaded, task, temporary, length)
            sizes = ", ".join("any" if size == -1 else str(size) for size in shape)
            tokenizer.save_pretrained(str(temporary))
            report = f"inputs of shape [{sizes}]; its outputs by {by} on made-up rows equal the model's"
    print(f"{output}: {task.title}, {model.typed}; {report}, to {models.TOLERANCE:g} of their size")


def chosen(folder: Path, task_name: str | None) -> tuple[Model, Task]:
    """The model and its task. Raises UsageError if either is not clear."""
    task = task_named(task_name) if task_name else None
    if first_of(folder, CONFIG_FILES) is None:
        return _best_of_run(folder, task)
    model = Model.of(folder, "directory")
    files = model_files.find(model, offline=True)
    tuned = files.read_config().get("finetuning_task") if files else None
    if task is None and tuned not in TASKS:
        raise UsageError(f"{folder}: does not say which task it was fine-tuned for; name it with --task")
    return model, task or TASKS[str(tuned)]


def _best_of_run(folder: Path, task: Task | None) -> tuple[Model, Task]:
    """The best kept model of the task in a run directory; without a task, of the only task that has a model."""
    run = packing.run_directory(folder)
    if run is None:
        raise UsageError(f"{folder}: contains predictions, but no model")
    found = {}
    for name, trials in finished_trials(run).items():
        if (task is None or name == task.name) and (model := kept.best_kept_model(run, trials)):
            found[name] = model
    if not found:
        raise UsageError(f"{run}: no model was kept{f' of {task.title}' if task else ''}; {_KEEPS}")
    if len(found) > 1:
        titles = ", ".join(TASKS[name].title for name in found)
        raise UsageError(f"{run}: contains models of {titles}; choose with --task")
    (model,) = found.values()
    return Model.of(model.folder, "directory"), model.task


if __name__ == "__main__":
    command.run(main, "export_model.py")
