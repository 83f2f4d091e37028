"""What must be right once in every fine-tuning script: seeds, step arithmetic, optimizer, accumulation, checkpoints."""

from __future__ import annotations

import math
import pickle
import random
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddlenlp.transformers import LinearDecayWithWarmup

from cluebench import atomic, environment
from cluebench.errors import DataError, Diverged, UsageError
from cluebench.runlog import Result

# Starting -------------------------------------------------------------------------------------------------------------


def use_device(device: str | None) -> str:
    """Selects the device of this process and joins the other ranks when there are some; returns its name.

    None: gpu if Paddle has one, else cpu. Raises UsageError when this Paddle has no such device.
    """
    if device is None:
        device = "gpu" if paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0 else "cpu"
    kind = device.split(":")[0]
    if kind == "gpu" and not paddle.is_compiled_with_cuda():
        raise UsageError(
            f"--device {device}: this PaddlePaddle was built for CPUs; install paddlepaddle-gpu or use --device cpu"
        )
    if kind in ("xpu", "npu") and kind not in paddle.device.get_all_device_type():
        raise UsageError(f"--device {device}: this PaddlePaddle was not built for {kind.upper()}s")
    try:
        paddle.set_device(device)
    except (ValueError, RuntimeError, OSError) as error:
        raise UsageError(f"--device {device}: {' '.join(str(error).split())[:200]}") from None
    if environment.world_size() > 1:
        paddle.distributed.init_parallel_env()
    return device


def seed(number: int) -> None:
    """Seeds random, numpy and paddle. Call it right before the model is built, as the published runs did."""
    random.seed(number)
    np.random.seed(number)
    paddle.seed(number)


# Steps ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepPlan:
    """How many optimizer steps a run takes, and when it evaluates."""

    micro_batches: int  # per epoch and rank
    accumulation: int  # micro-batches per optimizer step
    epochs: int
    max_steps: int = 0  # 0: as the epochs give
    eval_every: int | None = None  # optimizer steps; None: after every epoch
    checkpoint_every: int = 0  # optimizer steps; 0: never

    def __post_init__(self) -> None:
        if self.micro_batches < 1:
            raise DataError("the train split is empty")

    @property
    def steps_per_epoch(self) -> int:
        """A last, incomplete accumulation is a step too."""
        return math.ceil(self.micro_batches / self.accumulation)

    @property
    def total_steps(self) -> int:
        return self.max_steps or self.steps_per_epoch * self.epochs

    def evaluates_after(self, step: Step) -> bool:
        """On the cadence, and always after the last step."""
        if step.number == self.total_steps:
            return True
        return step.ends_epoch if self.eval_every is None else step.number % self.eval_every == 0

    def checkpoints_after(self, step: Step) -> bool:
        return (
            bool(self.checkpoint_every) and step.number % self.checkpoint_every == 0 and step.number < self.total_steps
        )


@dataclass(frozen=True)
class Step:
    """One optimizer step: the micro-batches whose gradients it sums, as lists of example indices."""

    number: int  # counted from 1 over the whole run
    epoch: int  # from 0
    batch: int  # index of its last micro-batch within the epoch
    micro_batches: tuple[Sequence[int], ...]
    ends_epoch: bool


def optimizer_steps(examples: Any, micro_batch: int, plan: StepPlan, done: int = 0) -> Iterator[Step]:
    """The steps that follow ``done`` finished ones, in the row order of the published runs.

    ``examples``: anything with a length; ``micro_batch``: examples of one on this rank. Rows come from
    paddle.io.DistributedBatchSampler with shuffle, one pass an epoch, so the ranks' batches together are one run of the
    epoch's permutation.
    """
    sampler = order_of(examples, micro_batch)
    number = done
    while number < plan.total_steps:
        epoch, skipped = divmod(number, plan.steps_per_epoch)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        for first in range(skipped * plan.accumulation, len(batches), plan.accumulation):
            micro_batches = tuple(batches[first : first + plan.accumulation])
            last = first + len(micro_batches)
            number += 1
            yield Step(number, epoch, last - 1, micro_batches, last == len(batches))
            if number == plan.total_steps:
                return


def order_of(examples: Any, micro_batch: int) -> paddle.io.DistributedBatchSampler:
    """The sampler of the train split; ``len()`` of it is the number of micro-batches an epoch."""
    return paddle.io.DistributedBatchSampler(examples, batch_size=micro_batch, shuffle=True)


# Optimizer ------------------------------------------------------------------------------------------------------------


def build_optimizer(
    model: paddle.nn.Layer,
    learning_rate: float,
    total_steps: int,
    warmup: int | float,
    weight_decay: float,
    epsilon: float,
    max_grad_norm: float | None,
) -> tuple[paddle.optimizer.AdamW, paddle.optimizer.lr.LRScheduler]:
    """AdamW as published: no decay on biases and layer norms, betas 0.9 0.999, linear warm-up and decay to 0.

    ``warmup``: steps if an int, a share of ``total_steps`` if a float. ``max_grad_norm`` None: gradients not clipped.
    """
    schedule = LinearDecayWithWarmup(learning_rate, total_steps, warmup)
    decayed = {
        parameter.name
        for name, parameter in model.named_parameters()
        if not any(part in name for part in ("bias", "norm"))
    }
    optimizer = paddle.optimizer.AdamW(
        learning_rate=schedule,
        beta1=0.9,
        beta2=0.999,
        epsilon=epsilon,
        parameters=model.parameters(),
        weight_decay=weight_decay,
        apply_decay_param_fun=lambda name: name in decayed,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(max_grad_norm) if max_grad_norm else None,
    )
    return optimizer, schedule


@dataclass
class Precision:
    """Mixed precision: ``"off"``, ``"fp16"`` with dynamic loss scaling, or ``"bf16"``."""

    amp: str = "off"
    scaler: Any = None

    @classmethod
    def of(cls, amp: str, device: str) -> Precision:
        """Raises UsageError when the device can't compute in that precision."""
        if amp == "fp16" and device.split(":")[0] == "cpu":
            raise UsageError("--amp fp16: Paddle has no float16 training on CPUs; use --amp off")
        if amp == "bf16" and device.split(":")[0] == "cpu":
            # auto_cast would only warn and compute in float32: kernels for bfloat16 are missing from the CPU builds.
            raise UsageError("--amp bf16: PaddlePaddle has no bfloat16 kernels for CPUs; use --amp off")
        if amp == "bf16" and device.split(":")[0] == "gpu" and not paddle.amp.is_bfloat16_supported():
            raise UsageError(f"--amp bf16: {device} does not compute in bfloat16; use --amp fp16 or off")
        return cls(amp, paddle.amp.GradScaler(init_loss_scaling=2.0**15) if amp == "fp16" else None)

    def context(self) -> Any:
        """The context in which a forward pass runs."""
        if self.amp == "off":
            return nullcontext()
        return paddle.amp.auto_cast(level="O1", dtype="float16" if self.amp == "fp16" else "bfloat16")

    def backward(self, loss: paddle.Tensor) -> None:
        (self.scaler.scale(loss) if self.scaler else loss).backward()

    def step(self, optimizer: paddle.optimizer.Optimizer) -> None:
        """Applies the accumulated gradients; with fp16, a step whose gradients overflowed is left out."""
        if self.scaler:
            self.scaler.step(optimizer)
            self.scaler.update()
        else:
            optimizer.step()


def accumulate(
    model: paddle.nn.Layer,
    step: Step,
    loss_of: Callable[[Sequence[int]], paddle.Tensor],
    precision: Precision,
) -> paddle.Tensor:
    """Adds the gradient of the mean loss over the step's micro-batches to the parameters; returns that mean, detached.

    ``loss_of`` maps example indices to a scalar loss. The mean is over the micro-batches the step has, so the
    incomplete step at the end of an epoch is scaled to those. Ranks exchange gradients once, after the last of them.
    """
    count = len(step.micro_batches)
    total = None
    for number, rows in enumerate(step.micro_batches, start=1):
        exchange = number == count or not isinstance(model, paddle.DataParallel)
        with nullcontext() if exchange else model.no_sync():
            with precision.context():
                loss = loss_of(rows)
            share = loss / count if count > 1 else loss
            precision.backward(share)
        total = share.detach() if total is None else total + share.detach()
    return total


class LossMeter:
    """The loss and speed for the log line, and the guard against a loss that is no number.

    Losses stay on the device until they are read: a read waits for all steps enqueued so far.
    """

    def __init__(self) -> None:
        self._last = None
        self._sum = None
        self._steps = 0
        self._since = time.perf_counter()

    def add(self, loss: paddle.Tensor) -> None:
        self._last = loss
        self._sum = loss if self._sum is None else self._sum + loss
        self._steps += 1

    def read(self, step: Step) -> tuple[float, float]:
        """(loss of the last step over all ranks, steps a second since the last read). Raises Diverged."""
        self.check(step)
        last = self._last
        if environment.world_size() > 1:
            last = last.clone()
            paddle.distributed.all_reduce(last)
            last = last / environment.world_size()
        loss = float(last)
        now = time.perf_counter()
        speed = self._steps / max(now - self._since, 1e-9)
        self._sum, self._steps, self._since = None, 0, now
        return loss, speed

    def check(self, step: Step) -> None:
        """Raises Diverged when any loss since the last read was NaN or infinite."""
        if self._sum is not None and not math.isfinite(float(self._sum)):
            raise Diverged(
                f"the loss became {float(self._sum)} at or shortly before step {step.number}; "
                "try a lower --learning_rate, or --amp off"
            )


# Checkpoints ----------------------------------------------------------------------------------------------------------


@dataclass
class Fit:
    """The moving parts of a training: what a checkpoint holds, besides the model."""

    plan: StepPlan
    micro_batch: int  # examples on this rank
    optimizer: paddle.optimizer.AdamW
    schedule: paddle.optimizer.lr.LRScheduler
    precision: Precision
    checkpoint: Path
    done: int = 0  # optimizer steps taken before this process started

    def update(self) -> None:
        """One optimizer step with the accumulated gradients, one step of the learning rate, gradients cleared."""
        self.precision.step(self.optimizer)
        self.schedule.step()
        self.optimizer.clear_grad()

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return self.optimizer.get_lr()


def begin(flags: Any, model: paddle.nn.Layer, examples: Any, precision: Precision, result: Result) -> Fit:
    """Everything a training loop needs, from resolved flags; goes on from a checkpoint when --resume finds one.

    ``examples``: the train split, anything with a length. ``result`` gets the total steps and, on --resume, what the
    earlier process had recorded.
    """
    micro_batch = flags.batch_size // flags.gradient_accumulation_steps
    plan = StepPlan(
        micro_batches=len(order_of(examples, micro_batch)),
        accumulation=flags.gradient_accumulation_steps,
        epochs=flags.num_train_epochs,
        max_steps=flags.max_steps,
        eval_every=flags.save_steps,
        checkpoint_every=flags.checkpoint_steps,
    )
    warmup = flags.warmup_steps if flags.warmup_steps > 0 else float(flags.warmup_proportion)
    optimizer, schedule = build_optimizer(
        model,
        flags.learning_rate,
        plan.total_steps,
        warmup,
        flags.weight_decay,
        flags.adam_epsilon,
        flags.max_grad_norm,
    )
    fit = Fit(plan, micro_batch, optimizer, schedule, precision, Path(flags.output_dir) / "checkpoint")
    result.total_steps = plan.total_steps
    if flags.resume:
        _restore(fit, model, result)
        _adopt_newer_best(result, flags.result_json)
    return fit


def save_checkpoint(fit: Fit, model: paddle.nn.Layer, step: Step, result: Result) -> None:
    """Writes everything a run needs to go on as if it had never stopped, in one directory that is replaced whole.

    Rank 0 writes: model, optimizer and generators are the same on all ranks. Raises OSError.
    """
    if environment.rank() != 0:
        return
    state = dict(
        configuration_hash=result.configuration_hash,
        step=step.number,
        parameters=[parameter.name for parameter in model.parameters()],
        result={name: getattr(result, name) for name in _CARRIED_ON},
        scaler=fit.precision.scaler.state_dict() if fit.precision.scaler else None,
        python_random=random.getstate(),
        numpy_random=np.random.get_state(),
        paddle_random=paddle.get_rng_state(),
    )
    with atomic.replacing(fit.checkpoint) as temporary:
        temporary.mkdir()
        paddle.save(model.state_dict(), str(temporary / "model.pdparams"))
        paddle.save(fit.optimizer.state_dict(), str(temporary / "optimizer.pdopt"))
        (temporary / "state.pickle").write_bytes(pickle.dumps(state))


#: What the result has gathered by a checkpoint.
_CARRIED_ON = ("dev_curve", "best_score", "best_step", "train_seconds", "eval_seconds")


def _restore(fit: Fit, model: paddle.nn.Layer, result: Result) -> None:
    """Takes up the checkpoint in place, unless there is none, it is damaged, or it belongs to other settings."""
    try:
        state = pickle.loads((fit.checkpoint / "state.pickle").read_bytes())
        if state["configuration_hash"] != result.configuration_hash:
            return
        weights = paddle.load(str(fit.checkpoint / "model.pdparams"))
        moments = paddle.load(str(fit.checkpoint / "optimizer.pdopt"))
    except Exception:  # unpickling a damaged file raises nearly anything
        return
    model.set_state_dict(weights)
    fit.optimizer.set_state_dict(_renamed(moments, state["parameters"], [p.name for p in model.parameters()]))
    if fit.precision.scaler and state["scaler"]:
        fit.precision.scaler.load_state_dict(state["scaler"])
    random.setstate(state["python_random"])
    np.random.set_state(state["numpy_random"])
    paddle.set_rng_state(state["paddle_random"])
    for name, value in state["result"].items():
        setattr(result, name, value)
    fit.done = state["step"]


def _renamed(moments: dict[str, Any], old: Sequence[str], new: Sequence[str]) -> dict[str, Any]:
    """Optimizer state for parameters that Paddle has numbered anew: their names stand in front of its keys."""
    names = dict(zip(old, new))

    def renamed(key: str) -> str:
        for name in (key[:end] for end in range(len(key), 0, -1)):
            if name in names:
                return names[name] + key[len(name) :]
        return key

    return {
        renamed(key): _renamed(value, old, new) if key == "master_weights" else value for key, value in moments.items()
    }


def _adopt_newer_best(result: Result, path: str | None) -> None:
    """Keeps result and saved model in step when the earlier process improved after its last checkpoint."""
    earlier = Result.read(path) if path else None
    if earlier is None or earlier.configuration_hash != result.configuration_hash or earlier.best_score is None:
        return
    if result.best_score is None or earlier.best_score[0] > result.best_score[0]:
        result.best_score, result.best_step = earlier.best_score, earlier.best_step


def remove_checkpoint(fit: Fit) -> None:
    """The run is done: nothing is left to go on from."""
    if environment.rank() == 0:
        shutil.rmtree(fit.checkpoint, ignore_errors=True)


# Several cards --------------------------------------------------------------------------------------------------------


def parallel(model: paddle.nn.Layer) -> paddle.nn.Layer:
    """The model, exchanging gradients between ranks when there are several."""
    return paddle.DataParallel(model) if environment.world_size() > 1 else model


def wait_for_all() -> None:
    """Returns when every rank has come here: after this, what rank 0 wrote can be read."""
    if environment.world_size() > 1:
        paddle.distributed.barrier()


# Memory ---------------------------------------------------------------------------------------------------------------


def peak_memory_bytes(device: str) -> int:
    """The most memory used so far: of the card that Paddle reserved, or of the process on a CPU."""
    if device.split(":")[0] == "gpu":
        return int(paddle.device.cuda.max_memory_reserved())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
