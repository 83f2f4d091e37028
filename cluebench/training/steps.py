"""Which steps a run takes, in which order of rows, and what follows each of them."""

import math
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass

import paddle

from cluebench.foundation.errors import DataError


@dataclass(frozen=True)
class Step:
    """One optimizer step: the micro-batches whose gradients it sums, as lists of example indices."""

    number: int  # counted from 1 over the whole run
    epoch: int  # from 0
    batch: int  # index of its last micro-batch within the epoch
    micro_batches: tuple[Sequence[int], ...]  # empty: an earlier process took this step
    ends_epoch: bool
    evaluates: bool  # on dev, after it
    checkpoints: bool  # for --resume, after the evaluation


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

    def step(self, number: int, batches: Sequence[Sequence[int]] = ()) -> Step:
        """Step ``number``, with its rows of the epoch's micro-batches. The last step always evaluates."""
        epoch, place = divmod(number - 1, self.steps_per_epoch)
        first, ends_epoch = place * self.accumulation, place + 1 == self.steps_per_epoch
        due = ends_epoch if self.eval_every is None else number % self.eval_every == 0
        last, every = number == self.total_steps, self.checkpoint_every
        return Step(
            number,
            epoch,
            batch=min(first + self.accumulation, self.micro_batches) - 1,
            micro_batches=tuple(batches[first : first + self.accumulation]),
            ends_epoch=ends_epoch,
            evaluates=due or last,
            checkpoints=every > 0 and number % every == 0 and not last,
        )


def optimizer_steps(examples: Sized, micro_batch: int, plan: StepPlan, done: int = 0) -> Iterator[Step]:
    """The steps that follow ``done`` finished ones, in the row order of the published runs.

    ``micro_batch``: its examples on this rank. Rows come from paddle.io.DistributedBatchSampler with shuffle, one pass
    an epoch, so the ranks' batches together follow the epoch's permutation.
    """
    sampler, batches = order_of(examples, micro_batch), []
    for number in range(done, plan.total_steps):
        if number % plan.steps_per_epoch == 0 or number == done:
            sampler.set_epoch(number // plan.steps_per_epoch)
            batches = list(sampler)
        yield plan.step(number + 1, batches)


def order_of(examples: Sized, micro_batch: int) -> paddle.io.DistributedBatchSampler:
    """The sampler of the train split; ``len()`` of it is the number of micro-batches an epoch."""
    return paddle.io.DistributedBatchSampler(examples, batch_size=micro_batch, shuffle=True)
