"""Which steps a run takes, in which order of rows, and what follows each of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass

import paddle

from cluebench.foundation.errors import DataError


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

    def evaluates_after(self, number: int, ends_epoch: bool) -> bool:
        """On the cadence, and always after the last step."""
        if number == self.total_steps:
            return True
        return ends_epoch if self.eval_every is None else number % self.eval_every == 0

    def taken(self, number: int) -> Step:
        """A step that an earlier process has taken, without its rows."""
        epoch, before = divmod(number - 1, self.steps_per_epoch)
        ends_epoch = before + 1 == self.steps_per_epoch
        last = self.micro_batches if ends_epoch else (before + 1) * self.accumulation
        return Step(number, epoch, last - 1, (), ends_epoch, self.evaluates_after(number, ends_epoch), False)

    def checkpoints_after(self, number: int) -> bool:
        return bool(self.checkpoint_every) and number % self.checkpoint_every == 0 and number < self.total_steps


@dataclass(frozen=True)
class Step:
    """One optimizer step: the micro-batches whose gradients it sums, as lists of example indices."""

    number: int  # counted from 1 over the whole run
    epoch: int  # from 0
    batch: int  # index of its last micro-batch within the epoch
    micro_batches: tuple[Sequence[int], ...]
    ends_epoch: bool
    evaluates: bool  # on dev, after it
    checkpoints: bool  # for --resume, after that


def optimizer_steps(examples: Sized, micro_batch: int, plan: StepPlan, done: int = 0) -> Iterator[Step]:
    """The steps that follow ``done`` finished ones, in the row order of the published runs.

    ``micro_batch``: examples of one on this rank. Rows come from
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
            ends_epoch = last == len(batches)
            number += 1
            yield Step(
                number,
                epoch,
                last - 1,
                micro_batches,
                ends_epoch,
                plan.evaluates_after(number, ends_epoch),
                plan.checkpoints_after(number),
            )
            if number == plan.total_steps:
                return


def order_of(examples: Sized, micro_batch: int) -> paddle.io.DistributedBatchSampler:
    """The sampler of the train split; ``len()`` of it is the number of micro-batches an epoch."""
    return paddle.io.DistributedBatchSampler(examples, batch_size=micro_batch, shuffle=True)
