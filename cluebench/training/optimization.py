"""AdamW and the learning rate as published, mixed precision, accumulated gradients, and the loss that is logged."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import paddle
from paddlenlp.transformers import LinearDecayWithWarmup

from cluebench.foundation import environment
from cluebench.foundation.errors import Diverged, UsageError
from cluebench.records.run_flags import RunFlags, refuse_amp


def build_optimizer(
    model: paddle.nn.Layer, total_steps: int, flags: RunFlags
) -> tuple[paddle.optimizer.AdamW, paddle.optimizer.lr.LRScheduler]:
    """AdamW as published: no decay on biases and layer norms, betas 0.9 0.999, linear warm-up and decay to 0.

    Gradients are clipped where the resolved ``flags`` give a norm.
    """
    warmup = flags.warmup_steps or float(flags.warmup_proportion)  # steps if an int, a share of them if a float
    schedule = LinearDecayWithWarmup(flags.learning_rate, total_steps, warmup)
    decayed = decayed_parameters(model)
    optimizer = paddle.optimizer.AdamW(
        learning_rate=schedule,
        beta1=0.9,
        beta2=0.999,
        epsilon=flags.adam_epsilon,
        parameters=model.parameters(),
        weight_decay=flags.weight_decay,
        apply_decay_param_fun=lambda name: name in decayed,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(flags.max_grad_norm) if flags.max_grad_norm else None,
    )
    return optimizer, schedule


def decayed_parameters(model: paddle.nn.Layer) -> set[str]:
    """Paddle's names of the parameters that weight decay applies to: all but biases and the scales of layer norms.

    DeBERTa-v2 and XLM-RoBERTa call their norms LayerNorm, the other models norm or layer_norm.
    """
    return {
        parameter.name
        for name, parameter in model.named_parameters()
        if not any(part in name.lower() for part in ("bias", "norm"))
    }


@dataclass
class Precision:
    """The precision of a forward pass, and how its loss is scaled in the backward pass."""

    context: Callable[[], AbstractContextManager] = nullcontext  # of a forward pass
    scaler: paddle.amp.GradScaler | None = None
    spacing: float = 2.0**-23  # of the numbers it computes with, relative to their size

    @classmethod
    def of(cls, amp: str, device: str) -> "Precision":
        """``amp``: "off", "fp16" (with dynamic loss scaling) or "bf16".

        Raises UsageError when the device can't compute in that precision.
        """
        if amp == "off":
            return cls()
        refuse_amp(amp, device)
        if amp == "bf16" and device.split(":")[0] == "gpu" and not paddle.amp.is_bfloat16_supported():
            raise UsageError(f"--amp bf16: {device} does not compute in bfloat16; use --amp fp16 or off")
        if amp == "fp16":
            scaler = paddle.amp.GradScaler(init_loss_scaling=2.0**15)
            return cls(lambda: paddle.amp.auto_cast(level="O1", dtype="float16"), scaler, 2.0**-10)
        return cls(lambda: paddle.amp.auto_cast(level="O1", dtype="bfloat16"), spacing=2.0**-7)

    def backward(self, loss: paddle.Tensor) -> None:
        (self.scaler.scale(loss) if self.scaler else loss).backward()

    def step(self, optimizer: paddle.optimizer.Optimizer) -> None:
        """Applies the accumulated gradients; with fp16, a step whose gradients overflowed is left out."""
        if self.scaler:
            self.scaler.step(optimizer)
            self.scaler.update()
        else:
            optimizer.step()


MicroBatch = TypeVar("MicroBatch")


def accumulate(
    model: paddle.nn.Layer,
    micro_batches: Sequence[MicroBatch],
    loss_of: Callable[[MicroBatch], paddle.Tensor],
    precision: Precision,
) -> paddle.Tensor:
    """Adds the gradient of the mean loss over a step's micro-batches to the parameters; returns that mean, detached.

    ``loss_of`` maps a micro-batch to a scalar loss. The mean is over the micro-batches the step has, so the incomplete
    step at the end of an epoch is scaled to those. Ranks exchange gradients once, after the last of them.
    """
    count = len(micro_batches)
    total = None
    for number, micro_batch in enumerate(micro_batches, start=1):
        exchange = number == count or not hasattr(model, "no_sync")  # paddle.DataParallel has it
        with nullcontext() if exchange else model.no_sync():
            with precision.context():
                loss = loss_of(micro_batch)
            share = loss / count if count > 1 else loss
            precision.backward(share)
        total = share.detach() if total is None else total + share.detach()
    return total


#: Steps in a row that may overflow in fp16 before a run counts as diverged. Each is left out and halves the scale of
#: the loss: 15 bring it from 2**15 to 1, where only a diverged run still overflows.
MOST_OVERFLOWS = 30


class LossMeter:
    """The loss and speed for the log line, and the check for a loss that is not finite.

    Losses stay on the device until they are read: a read waits for all steps enqueued so far. ``fp16``: the optimizer
    leaves out steps that overflow.
    """

    _last: paddle.Tensor  # of the last step

    def __init__(self, fp16: bool = False) -> None:
        self._fp16, self._steps, self._since = fp16, 0, time.perf_counter()
        # The sum of the losses, which shows a loss that is not finite; with fp16 how many of the last losses are not.
        self._kept = paddle.zeros([])

    def add(self, loss: paddle.Tensor) -> None:
        self._last, self._steps = loss, self._steps + 1
        if self._fp16:
            self._kept = paddle.where(paddle.isfinite(loss).reshape([]), paddle.zeros([]), self._kept + 1)
        else:
            self._kept = self._kept + loss

    def read(self, step: int) -> tuple[float, float]:
        """(loss of the last step over all ranks, steps a second since the last read). Raises Diverged."""
        self.check(step)
        loss = self._last
        if environment.world_size() > 1:
            loss = loss.clone()
            paddle.distributed.all_reduce(loss)
            loss = loss / environment.world_size()
        number, now = float(loss), time.perf_counter()
        speed = self._steps / max(now - self._since, 1e-9)
        self._steps, self._since = 0, now
        return number, speed

    def check(self, step: int) -> None:
        """Raises Diverged when a loss up to ``step`` was NaN or infinite; with fp16, when too many in a row were."""
        kept = float(self._kept)
        if kept > MOST_OVERFLOWS if self._fp16 else not math.isfinite(kept):
            raise Diverged(
                f"the loss became NaN or infinite at or shortly before step {step}; "
                "try a lower --learning_rate, or --amp off"
            )
