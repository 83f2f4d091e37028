"""A model in training: its steps in their row order, its optimizer, what --resume needs of them, and SIGTERM."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paddle

from cluebench.features import Features
from cluebench.foundation import environment
from cluebench.foundation.errors import DataError
from cluebench.foundation.notices import notice
from cluebench.records.paths import CHECKPOINT
from cluebench.records.result import Result
from cluebench.records.run_flags import RunFlags
from cluebench.training.checkpoint import Checkpoint
from cluebench.training.device import gathered, parallel
from cluebench.training.optimization import LossMeter, Precision, accumulate, build_optimizer

#: Steps between two exchanges of several ranks whether one of them got SIGTERM.
_EXCHANGE_EVERY = 10


@dataclass(frozen=True)
class Step:
    """One optimizer step: the micro-batches whose gradients it sums, as lists of example indices."""

    number: int  # counted from 1 over the whole run
    epoch: int  # from 0
    batch: int  # index of its last micro-batch within the epoch
    micro_batches: tuple[Sequence[int], ...]  # empty: an earlier process took this step
    evaluates: bool  # on dev, after it
    checkpoints: bool  # for --resume, after the evaluation

    @property
    def exchanges(self) -> bool:
        """Whether several ranks exchange after it if they are to end; see `Ending`."""
        return self.evaluates or self.number % _EXCHANGE_EVERY == 0


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
        first = place * self.accumulation
        due = place + 1 == self.steps_per_epoch if self.eval_every is None else number % self.eval_every == 0
        last, every = number == self.total_steps, self.checkpoint_every
        return Step(
            number,
            epoch,
            batch=min(first + self.accumulation, self.micro_batches) - 1,
            micro_batches=tuple(batches[first : first + self.accumulation]),
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


class Training:
    """The training of ``model`` on ``examples``.

    ``step``: the number of the last step; ``meter``: the losses of the steps; ``optimizer``: has the next rate.
    """

    def __init__(
        self, model: paddle.nn.Layer, examples: Features, flags: RunFlags, result: Result, precision: Precision
    ):
        self._model, self._examples, self._result, self._precision = model, examples, result, precision
        self._micro_batch = flags.batch_size // flags.gradient_accumulation_steps
        self.plan = StepPlan(
            micro_batches=len(order_of(examples, self._micro_batch)),
            accumulation=flags.gradient_accumulation_steps,
            epochs=flags.num_train_epochs,
            max_steps=flags.max_steps,
            eval_every=flags.save_steps,
            checkpoint_every=flags.checkpoint_steps,
        )
        self.optimizer, self._schedule = build_optimizer(model, self.plan.total_steps, flags)
        folder = Path(flags.output_dir) / CHECKPOINT
        self._checkpoint = Checkpoint(folder, model, self.optimizer, precision, result)
        self.step = 0
        self.meter = LossMeter(fp16=precision.scaler is not None)

    def resume(self) -> int:
        """Continues from the checkpoint of an earlier process; returns its step, 0 where there is none."""
        self.step = self._checkpoint.restore()
        return self.step

    def save(self) -> int:
        """Writes the checkpoint after the last step, on all ranks; returns that step."""
        self._checkpoint.save(self.step)
        return self.step

    def steps(self, loss_of: Callable[[paddle.nn.Layer, Sequence[int]], paddle.Tensor]) -> Iterator[Step]:
        """Takes every step that is left, and yields it.

        First comes the last step of an earlier process, without rows, if that process ended before it had evaluated.
        ``loss_of``: from the model (with several cards, exchanging gradients) and the rows of a micro-batch to the mean
        loss.
        """
        evaluated = {point.step for point in self._result.dev_curve}
        if self.step and self.step not in evaluated and (last := self.plan.step(self.step)).evaluates:
            yield last
        model = parallel(self._model)
        for step in optimizer_steps(self._examples, self._micro_batch, self.plan, self.step):
            start = time.perf_counter()
            self.meter.add(accumulate(model, step.micro_batches, lambda rows: loss_of(model, rows), self._precision))
            self._precision.step(self.optimizer)
            self._schedule.step()
            self.optimizer.clear_grad()
            self._result.train_seconds += time.perf_counter() - start
            self.step = step.number
            yield step


class Ending:
    """Turns SIGTERM into a KeyboardInterrupt at the places where the run calls `here`, after writing the checkpoint."""

    def __init__(self) -> None:
        self._asked = False
        self._save: Callable[[], int] | None = None

    @contextmanager
    def handled(self, save: Callable[[], int]) -> Iterator[None]:
        """Wraps training. ``save``: writes the checkpoint, on all ranks, and returns its step."""
        self._save = save
        before = signal.signal(signal.SIGTERM, self._ask)
        try:
            yield
        finally:
            self._save = None
            signal.signal(signal.SIGTERM, signal.SIG_IGN if self._asked else before)  # the process is ending already

    def _ask(self, number: int, frame: object) -> None:
        self._asked = True

    def here(self, exchanges: bool) -> None:
        """The run can end here. Several ranks must end together: only where it ``exchanges`` whether one got SIGTERM.

        All ranks exchange after the same steps.
        """
        several = environment.world_size() > 1
        if self._save is None or several and not exchanges:
            return
        self._asked = any(gathered(self._asked))
        if self._asked:
            step = self._save()
            if environment.rank() == 0:
                notice(f"asked to end: the checkpoint after step {step} is written, and --resume goes on from it")
            raise KeyboardInterrupt
