"""A model in training: its steps, its optimizer, and what --resume needs of them."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import paddle

from cluebench.features import Features
from cluebench.records.paths import CHECKPOINT
from cluebench.records.result import Result
from cluebench.records.run_flags import RunFlags
from cluebench.training.checkpoint import Checkpoint
from cluebench.training.device import parallel
from cluebench.training.optimization import LossMeter, Precision, accumulate, build_optimizer
from cluebench.training.steps import Step, StepPlan, optimizer_steps, order_of


class Training:
    """The training of ``model`` on ``examples``.

    ``step``: the number of the last step; ``meter``: the losses of the steps.
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
        self._optimizer, self._schedule = build_optimizer(model, self.plan.total_steps, flags)
        folder = Path(flags.output_dir) / CHECKPOINT
        self._checkpoint = Checkpoint(folder, model, self._optimizer, precision, result)
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
            self._precision.step(self._optimizer)
            self._schedule.step()
            self._optimizer.clear_grad()
            self._result.train_seconds += time.perf_counter() - start
            self.step = step.number
            yield step

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return self._optimizer.get_lr()
