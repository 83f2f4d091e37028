"""PaddleNLP's Trainer, made to follow the benchmark's protocol step by step.

Without these changes it draws rows in another order, drops an epoch's last incomplete accumulation (whose gradients
then leak into the next epoch), does not evaluate after the last step, misreads bfloat16 logits, counts rows twice in
the dev loss of several cards, ignores --save_total_limit on one card, does not restore the random generators where it
resumes at the start of an epoch, resumes from half-written checkpoints, and decays the layer norms of DeBERTa-v2 and
XLM-RoBERTa. Evaluation is the other scripts'.
"""

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddlenlp.prompt.prompt_trainer  # noqa: F401  (see cluebench.foundation.environment)
from paddlenlp.trainer import IntervalStrategy, Trainer, TrainerCallback, TrainingArguments
from paddlenlp.trainer.trainer_utils import speed_metrics

from cluebench import models
from cluebench.features import Features
from cluebench.foundation import atomic, environment
from cluebench.foundation.errors import UsageError
from cluebench.foundation.file_facts import facts_of
from cluebench.pretrained.weights import refuse_programs
from cluebench.records import analysis, dev_predictions
from cluebench.records.analysis import Choices
from cluebench.records.identity import different_settings
from cluebench.records.log import TrainingLine
from cluebench.training.checkpoint import generators, set_generators
from cluebench.training.checkpoint_format import COMPLETE_FILE, CheckpointOwner
from cluebench.training.configure import RunConfig
from cluebench.training.optimization import LossMeter, Precision, accumulate, decayed_parameters
from cluebench.training.paddlenlp_arguments import TaskFlags
from cluebench.training.run import Run
from cluebench.training.steps import StepPlan

# Rows -----------------------------------------------------------------------------------------------------------------


class StepSampler(paddle.io.DistributedBatchSampler):
    """The rows of each optimizer step: its micro-batches, in the published row order, laid end to end.

    The last step of an epoch may have fewer; only an epoch's last micro-batch may be short. Once ``last_step`` is set,
    no rows follow that step of the run.
    """

    last_step: int | None = None

    def __init__(self, rows: Sequence[int], micro_batch: int, accumulation: int, drop_last: bool):
        super().__init__(rows, batch_size=micro_batch, shuffle=True, drop_last=drop_last)
        self.plan = StepPlan(super().__len__(), accumulation, epochs=1)

    def __iter__(self) -> Iterator[list[int]]:
        done = self.epoch * len(self)
        batches = list(super().__iter__())  # which also counts the epoch
        for number in range(done + 1, done + len(self) + 1):
            if self.last_step is None or number <= self.last_step:
                yield [row for batch in self.plan.step(number, batches).micro_batches for row in batch]

    def __len__(self) -> int:
        return self.plan.steps_per_epoch


def collate(features: Features, micro_batch: int, rows: Sequence[int]) -> dict[str, Any]:
    """The batch of these rows; several micro-batches come as {"micro_batches": […]}."""
    batches = [features.batch(rows[start : start + micro_batch]) for start in range(0, len(rows), micro_batch)]
    return batches[0] if len(batches) == 1 else {"micro_batches": batches}


class Loader(paddle.io.DataLoader):
    """Makes batches in the caller's thread, where no processes make them.

    A batch takes microseconds, and a reader thread that is still making one when the program ends crashes it.
    """

    padding: int | None = None  # the id of what is not computed

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.num_workers:
            yield from super().__iter__()
            return
        for batch in map(self.collate_fn, self.batch_sampler):
            if "micro_batches" in batch:
                yield {"micro_batches": [models.on_device(part, self.padding) for part in batch["micro_batches"]]}
            else:
                yield models.on_device(batch, self.padding)


# The Trainer ----------------------------------------------------------------------------------------------------------


class ProtocolTrainer(Trainer):
    """A Trainer that takes the steps of `cluebench.training`, and follows its arguments in everything else.

    ``run`` is started; its model was built after seeding. ``run.result`` records what is logged, evaluated and saved.
    """

    control: Any

    def __init__(self, run: Run, model: paddle.nn.Layer, arguments: TrainingArguments):
        # The steps themselves accumulate: to the Trainer, each of its batches is a whole step.
        self.accumulation, arguments.gradient_accumulation_steps = arguments.gradient_accumulation_steps, 1
        self.run, self.losses = run, LossMeter(fp16=arguments.fp16)
        before = generators()
        rows = range(len(run.features("train"))) if arguments.do_train else None
        super().__init__(
            model, args=arguments, train_dataset=rows, tokenizer=run.tokenizer, callbacks=[PublishedLines(run)]
        )
        set_generators(before)  # the Trainer seeds again, but in the published runs they continue after the weights
        run.precision = Precision(self.autocast_smart_context_manager, self.scaler if self.do_grad_scaling else None)

    def create_optimizer(self, lr_scheduler: Any = None) -> paddle.optimizer.Optimizer:
        """PaddleNLP's optimizer, which would decay the layer norms of DeBERTa-v2 and XLM-RoBERTa."""
        optimizer = super().create_optimizer(lr_scheduler)
        optimizer._apply_decay_param_fun = decayed_parameters(self.model).__contains__
        return optimizer

    def get_train_dataloader(self) -> paddle.io.DataLoader:
        rows, size = self.train_dataset, self.args.per_device_train_batch_size
        loader = Loader(
            rows,
            batch_sampler=StepSampler(rows, size, self.accumulation, self.args.dataloader_drop_last),
            collate_fn=partial(collate, self.run.features("train"), size),
            num_workers=self.args.dataloader_num_workers,
        )
        loader.padding = self.run.padding_left_out(self.model)
        return loader

    def training_step(self, model: paddle.nn.Layer, inputs: dict[str, Any], step_control: int = 0) -> paddle.Tensor:
        """Adds the gradient of the mean loss over the step's micro-batches; returns that mean, detached."""
        model.train()
        micro_batches, run = inputs.get("micro_batches", [inputs]), self.run
        return accumulate(model, micro_batches, lambda batch: run.label_loss(model, batch), run.precision)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The metrics on dev, recorded as by any script, with what the best model predicts for each example."""
        run, step, size, began = self.run, self.state.global_step, self.args.per_device_eval_batch_size, time.time()
        dev, most = run.features("dev"), self.args.max_evaluate_steps
        batches = [np.arange(start, min(start + size, len(dev))) for start in range(0, len(dev), size)]
        if most > 0:
            batches = batches[: most * environment.world_size()]
        run.begins(len(dev))
        own = batches[environment.rank() :: environment.world_size()]
        pieces = [(rows, logits) for rows, (logits,) in run.computed(self.model, dev, own)]
        rows, logits = map(np.concatenate, zip(*sorted(pieces, key=lambda piece: piece[0][0])))
        ids, groups = (None if column is None else column[: len(rows)] for column in (dev.ids, dev.groups))
        found = Choices(dev.labels[rows], ids, groups).evaluation(logits)
        metrics = {"eval_accuracy": found.score[0] / 100, "eval_loss": found.loss}
        metrics |= speed_metrics("eval", began, num_samples=len(rows), num_steps=len(batches))
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        last = self.callback_handler.train_dataloader.batch_sampler.plan.step(step) if step else None
        run.evaluated(found, self.model, last, is_training=self.is_in_train)
        return metrics

    def _check_loss_valid(self, loss: paddle.Tensor) -> None:
        self.losses.add(loss)
        self.losses.check(self.state.global_step + 1)

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def _save_checkpoint(self, model: paddle.nn.Layer, metrics: dict | None = None) -> None:
        super()._save_checkpoint(model, metrics)
        if not self.is_world_process_zero():
            return
        if self.args.local_rank == -1:
            self._rotate_checkpoints(use_mtime=True, output_dir=self.args.output_dir)
        folder, result = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}", self.run.result
        for name, path in _best_predictions(self.run).items():
            if result.best_score is not None and path.is_file():
                shutil.copyfile(path, folder / name)
        files = {path.name: facts_of(path) for path in folder.iterdir() if path.is_file()}
        owner = CheckpointOwner(result.configuration_hash, result.progress(), result.configuration, files)
        owner.write(folder / COMPLETE_FILE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        self._load_rng_state(checkpoint)


def train(run: Run, trainer: ProtocolTrainer, resumed: Path | None) -> None:
    """Fine-tunes, and saves the model for evaluation, prediction and export: the best model, or the last one.

    ``resumed``: the checkpoint to resume from.
    """
    if resumed:
        run.log.line(f"going on from {resumed}")
        if owner := CheckpointOwner.read(resumed / COMPLETE_FILE, "its dev curve starts empty"):
            run.result.take_up(owner.result)
        for name, path in _best_predictions(run).items():
            if (resumed / name).is_file() and trainer.is_world_process_zero():  # the files may be of a later step
                with atomic.replacing(path) as temporary:
                    shutil.copyfile(resumed / name, temporary)
    trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    if trainer.is_world_process_zero():
        models.save_model(trainer.model, run.tokenizer, run.flags.output_dir)
    if not run.flags.save_best_model:
        run.wrote(run.output("model_state.pdparams"))  # of the last model


def export(run: Run, model: paddle.nn.Layer) -> None:
    """<output_dir>/export: the model as a static graph, see `models.write_static`, and its tokenizer."""
    if environment.rank() == 0:
        folder = run.output("export")
        with atomic.replacing(folder) as temporary:
            temporary.mkdir()
            models.write_static(model, run.task, temporary, run.flags.max_seq_length)
            run.tokenizer.save_pretrained(str(temporary))
        run.log.line(f"static graph: {folder / 'model'}")


# Checkpoints ----------------------------------------------------------------------------------------------------------


def _best_predictions(run: Run) -> dict[str, Path]:
    """Where the run keeps what its best model predicts, by the name of the copy in a checkpoint."""
    files = {analysis.DEV_PREDICTIONS: run.output(analysis.DEV_PREDICTIONS)}
    if run.flags.result_json:
        files["dev.predictions"] = dev_predictions.beside(run.flags.result_json)
    return files


_PASSED_OVER = "this checkpoint is not used"


def checkpoint_to_resume(config: RunConfig, own: TaskFlags, arguments: TrainingArguments) -> Path | None:
    """The checkpoint to resume from; None to start again. Raises UsageError, also for a checkpoint with code in it."""
    found, given = None, arguments.resume_from_checkpoint
    if not arguments.do_train:
        return None
    if given:
        found = Path(given)
        if not (found / "trainer_state.json").is_file():
            raise UsageError(f"--resume_from_checkpoint {given}: no checkpoint of the Trainer is there")
        owner = CheckpointOwner.read(found / COMPLETE_FILE, _PASSED_OVER)
        if owner and not owner.is_whole(found, _PASSED_OVER):
            raise UsageError(f"--resume_from_checkpoint {given}: damaged; give the checkpoint before it")
    elif arguments.overwrite_output_dir:
        for folder in Path(arguments.output_dir).glob("checkpoint-*"):
            if environment.rank() == 0:
                shutil.rmtree(folder)
    elif own.resume:
        found = _last_checkpoint(config)
    if found:
        refuse_programs(found)
    return found


def _last_checkpoint(config: RunConfig) -> Path | None:
    """The last whole checkpoint in --output_dir; None without one.

    Raises UsageError when the checkpoints there have other settings.
    """
    folders = [
        (int(number[1]), folder)
        for folder in Path(config.flags.output_dir).glob("checkpoint-*")
        if (number := re.fullmatch(r"checkpoint-(\d{1,12})", folder.name))
    ]
    for _, folder in sorted(folders, reverse=True):
        owner = CheckpointOwner.read(folder / COMPLETE_FILE, _PASSED_OVER)
        if owner is None:  # half-written: the run was stopped meanwhile
            continue
        if owner.configuration_hash != config.result.configuration_hash:
            different = different_settings(owner.configuration, config.result.configuration)
            raise UsageError(
                f"--output_dir {config.flags.output_dir} holds checkpoints of another run ({different}): "
                "give another directory, or --overwrite_output_dir to start again"
            )
        if owner.is_whole(folder, _PASSED_OVER):
            return folder
    return None


# Log lines ------------------------------------------------------------------------------------------------------------


class PublishedLines(TrainerCallback):
    """Writes the published training lines, and asks for the evaluation after the last step."""

    sampler: StepSampler  # set when training begins

    def __init__(self, run: Run):
        self.run = run
        self.began = 0.0  # clock when the step began
        self.logged_at = (0, 0.0)  # step, clock

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kwargs: Any) -> None:
        self.sampler = train_dataloader.batch_sampler
        self.sampler.last_step = state.max_steps  # else a finished run that is resumed takes one more step
        self.run.result.total_steps = state.max_steps
        self.run.scalars.go_on_from(state.global_step)
        self.run.begins(len(train_dataloader.dataset), state.max_steps)
        self.logged_at = state.global_step, time.perf_counter()

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.run.result.train_seconds += time.perf_counter() - self.began
        if state.global_step >= state.max_steps:
            control.should_evaluate |= args.evaluation_strategy == IntervalStrategy.STEPS
            control.should_save |= args.save_strategy == IntervalStrategy.STEPS

    def on_log(self, args: Any, state: Any, control: Any, logs: dict, lr_scheduler: Any = None, **kwargs: Any) -> None:
        if "loss" not in logs:
            return
        step, now, rate = state.global_step, time.perf_counter(), lr_scheduler.get_lr()
        at = self.sampler.plan.step(step)
        since, clock = self.logged_at
        speed = (step - since) / max(now - clock, 1e-9)
        self.logged_at = step, now
        self.run.log.train(TrainingLine(step, state.max_steps, at.epoch, at.batch, logs["loss"], rate, speed))
        self.run.scalars.add(step, train_loss=logs["loss"], train_lr=rate, train_speed=speed)
