"""The flags that all fine-tuning scripts share, and their defaults by task. Never imports Paddle."""

import math
import os
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeVar

from cluebench.benchmark.tasks import CHOICE, DEFAULT_SEED, IDIOM, PAIR, SINGLE, SPAN, TASKS, Task
from cluebench.foundation import environment
from cluebench.foundation.errors import UsageError
from cluebench.foundation.flags import cache_dir_flag, data_dir_flag, flag, offline_flag

#: Default of --eval_batch_size: examples that make about 64 sequences of a usual length.
_EVAL_BATCH_SIZES = {SINGLE: 64, PAIR: 64, SPAN: 32, CHOICE: 16, IDIOM: 16}

#: Flags that can't change a score: trials that differ only in these are the same trial. Every other flag of any script
#: counts (see `cluebench.records.identity`): a new flag that is missing here repeats a trial, and makes no table wrong.
NOT_SCORED = frozenset({
    "task_name", "do_train", "do_eval", "do_predict", "output_dir", "eval_batch_size", "gradient_accumulation_steps",
    "device", "logging_steps", "checkpoint_steps", "pause_at", "resume", "overwrite_output_dir", "save_best_model",
    "data_dir", "cache_dir", "evaluation", "overwrite_cache", "num_proc", "visualdl_dir", "result_json", "offline",
})  # fmt: skip


def _of_task(help: str, **about: Any) -> Any:
    """A flag whose default is in the task's row."""
    return flag(None, help, default_text="the task's", **about)


@dataclass
class RunFlags:
    """Flags of a fine-tuning run. Flags that the task's row decides are None until `resolved`."""

    model_name_or_path: str = flag(
        ..., "published model name, or directory of a model (PaddleNLP or Hugging Face layout)"
    )
    do_train: bool = flag(False, "fine-tune on the train split, evaluating on dev")
    do_eval: bool = flag(False, "evaluate on dev: the best checkpoint of this training, else the given model")
    do_predict: bool = flag(False, "write submission files into output_dir, by the same model as do_eval")
    output_dir: str = flag("out", "directory of the best model, checkpoints and submission files", writes="directory")
    batch_size: int = flag(32, "training examples per card and optimizer step", minimum=1)
    eval_batch_size: int = flag(None, "examples per card evaluated at once", minimum=1, default_text="by task")
    gradient_accumulation_steps: int = _of_task(
        "micro-batches the batch_size is cut into; saves memory, does not change the score", minimum=1
    )
    learning_rate: float = flag(3e-5, "peak learning rate", minimum=0)
    num_train_epochs: int = _of_task("passes over the train split", minimum=1)
    max_steps: int = flag(
        -1, "optimizer steps of the run, instead of num_train_epochs; 0 or less: no limit",
        default_text="no limit",
    )  # fmt: skip
    max_seq_length: int = _of_task("longest input in tokens, special tokens included", minimum=8)
    warmup_steps: int = flag(0, "optimizer steps of linear warm-up; 0: by warmup_proportion", minimum=0)
    warmup_proportion: float = _of_task("share of the optimizer steps spent in warm-up", minimum=0, maximum=1)
    weight_decay: float = flag(0.01, "AdamW weight decay, on all but biases and layer norms", minimum=0)
    adam_epsilon: float = flag(1e-8, "AdamW epsilon", above=0)
    max_grad_norm: float | None = _of_task("clip gradients to this global norm; 0: don't clip", minimum=0)
    dropout: float | None = flag(
        None, "dropout after the embeddings and in every layer's residual and feed-forward branches",
        minimum=0, maximum=0.99, default_text="as in the model's configuration",
    )  # fmt: skip
    seed: int = flag(
        DEFAULT_SEED, "seed of new weights and dropout; every seed has the published row order",
        minimum=0, maximum=2**32 - 1,
    )  # fmt: skip
    device: str | None = flag(None, "gpu, cpu, xpu or npu, also gpu:0", default_text="gpu if Paddle has one, else cpu")
    amp: str = flag("off", "mixed precision", choices=("off", "fp16", "bf16"))
    padding: bool = flag(
        False, "compute padding, too, as the published tool does; dropout then draws other random numbers"
    )
    logging_steps: int = flag(100, "optimizer steps between training log lines", minimum=1)
    save_steps: int | None = flag(
        None, "optimizer steps between evaluations on dev, each keeping the best model", minimum=1,
        default_text="100 in classification, an epoch in reading comprehension",
    )  # fmt: skip
    evaluation: str = flag(
        "full", "bounded: end an evaluation that cannot be the best so far; best score, best model and "
        "predictions are the same", choices=("full", "bounded"),
    )  # fmt: skip
    checkpoint_steps: int = flag(500, "optimizer steps between checkpoints for --resume; 0: none", minimum=0)
    pause_at: Fraction | None = flag(
        None, "pause at the first evaluation after this share of the steps, such as 1/4 (never at a run's first "
        "evaluation), with a checkpoint for --resume; nothing is predicted", above=0, maximum=1,
        default_text="at the end",
    )  # fmt: skip
    resume: bool = flag(False, "continue from the last periodic checkpoint in output_dir, if there is one")
    overwrite_output_dir: bool = flag(
        False, "write over the checkpoint or the finished model that a run with other settings left in output_dir"
    )
    save_best_model: bool = flag(True, "keep the model with the best dev score in output_dir")
    data_dir: str | None = data_dir_flag()
    cache_dir: str = cache_dir_flag()
    overwrite_cache: bool = flag(False, "tokenize again even if the cache has this data")
    num_proc: int = flag(1, "processes that tokenize", minimum=1)
    limit: int | None = flag(None, "only the first N rows of every split, for a try", minimum=1)
    visualdl_dir: str | None = flag(None, "write scalars for VisualDL into this directory", writes="directory")
    result_json: str | None = flag(
        None, "the result as JSON", default_text="<output_dir>/result.json after training", writes="file"
    )
    offline: bool = offline_flag()

    def feature_settings(self) -> dict[str, Any]:
        """A script's own flags that change the model inputs: fields of `cluebench.features.FeatureRequest`."""
        return {}

    def tokenizer_settings(self) -> dict[str, Any]:
        """A script's own flags that change the model's tokenizer."""
        return {}


F = TypeVar("F", bound=RunFlags)


def resolved(flags: F, task: Task, cards: int = 1) -> F:
    """The flags, with the task's defaults for flags without a value. Raises UsageError naming a wrong flag.

    ``cards``: the number that share the run, each with ``batch_size`` rows per step.
    """
    if not (flags.do_train or flags.do_eval or flags.do_predict):
        raise UsageError("nothing to do: give --do_train, --do_eval or --do_predict")
    if flags.device is not None and flags.device.split(":")[0] not in ("gpu", "cpu", "xpu", "npu"):
        raise UsageError(f"--device {flags.device}: choose gpu, cpu, xpu or npu, with :N for one card")
    refuse_amp(flags.amp, flags.device or "")
    accumulation = flags.gradient_accumulation_steps
    if accumulation is None:
        accumulation = _default_accumulation(task, flags.batch_size, cards)
    elif flags.batch_size % accumulation:
        raise UsageError(
            f"--batch_size {flags.batch_size} can't be cut into --gradient_accumulation_steps {accumulation} "
            "equal micro-batches"
        )
    max_grad_norm = task.max_grad_norm if flags.max_grad_norm is None else flags.max_grad_norm
    return replace(
        flags,
        gradient_accumulation_steps=accumulation,
        max_grad_norm=max_grad_norm or None,
        max_steps=max(0, flags.max_steps),
        padding=flags.padding or task.kind == SPAN,  # the published loss covers every place of a window
        eval_batch_size=flags.eval_batch_size or _EVAL_BATCH_SIZES[task.kind],
        num_train_epochs=flags.num_train_epochs or task.epochs,
        max_seq_length=flags.max_seq_length or task.max_seq_length,
        warmup_proportion=task.warmup_proportion if flags.warmup_proportion is None else flags.warmup_proportion,
        save_steps=flags.save_steps or task.eval_every_steps,
        cache_dir=flags.cache_dir or str(environment.cache_home()),
        result_json=flags.result_json or (os.path.join(flags.output_dir, "result.json") if flags.do_train else None),
    )


def refuse_amp(amp: str, device: str) -> None:
    """Raises UsageError for a precision that ``device``, a CPU, can't compute in."""
    if amp != "off" and device.split(":")[0] == "cpu":
        # With bfloat16, auto_cast only warns and computes in float32: CPU builds lack the kernels.
        lacks = {"fp16": "Paddle has no float16 training on", "bf16": "PaddlePaddle has no bfloat16 kernels for"}
        raise UsageError(f"--amp {amp}: {lacks[amp]} CPUs; use --amp off")


def _default_accumulation(task: Task, batch_size: int, cards: int) -> int:
    """The task's micro-batches per card; if they don't divide the batch, the largest divisor of both."""
    try:
        return task.accumulation_steps(batch_size * cards, cards)
    except ValueError:
        return math.gcd(batch_size, task.accumulation or max(1, batch_size // (task.micro_batch or 1)))


def classification_task(flag_name: str, name: str) -> Task:
    """The classification task that a flag names, in any case. Raises UsageError naming the flag."""
    task = TASKS.get(name.strip().lower())
    if task is None:
        titles = ", ".join(task.title for task in TASKS.values() if task.is_classification)
        raise UsageError(f"{flag_name}: unknown task {name!r}; this script does {titles}")
    if not task.is_classification:
        raise UsageError(f"{flag_name} {name}: run {task.script} for this task")
    return task
