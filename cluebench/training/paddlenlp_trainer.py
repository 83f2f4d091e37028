"""PaddleNLP's Trainer, made to follow the benchmark's protocol step by step.

Without these changes it draws rows in another order, drops an epoch's last incomplete accumulation (whose gradients
then leak into the next epoch), does not evaluate after the last step, misreads bfloat16 logits, counts rows twice in
the dev loss of several cards, ignores --save_total_limit on one card, does not restore the random generators where it
resumes at the start of an epoch, and resumes from half-written checkpoints.
"""

import random
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddlenlp.prompt.prompt_trainer  # noqa: F401  (see cluebench.foundation.paddlenlp_import)
from paddlenlp.trainer import EvalPrediction, IntervalStrategy, Trainer, TrainerCallback, TrainingArguments

from cluebench import models
from cluebench.features import Features
from cluebench.features.metrics import accuracy, mean_cross_entropy
from cluebench.foundation import atomic, environment
from cluebench.foundation.errors import UsageError
from cluebench.foundation.file_facts import facts_of
from cluebench.models.forward_pass import forward
from cluebench.pretrained.weights import refuse_programs
from cluebench.records import analysis, dev_predictions
from cluebench.records.analysis import Choices
from cluebench.records.identity import different_settings
from cluebench.records.log import TrainingLine
from cluebench.training.checkpoint_format import COMPLETE_FILE, CheckpointOwner
from cluebench.training.configure import RunConfig
from cluebench.training.evaluation import on_device
from cluebench.training.optimization import Precision, accumulate, refuse_divergence
from cluebench.training.paddlenlp_arguments import TaskFlags
from cluebench.training.run import Run

# Data -----------------------------------------------------------------------------------------------------------------


class Examples(paddle.io.Dataset):
    """A split in the form of the Trainer's loaders; `collate` makes batches of its items.

    ``micro_batch``: in the train split, the rows that go through the model at once.
    """

    def __init__(self, features: Features, micro_batch: int | None = None):
        self.features, self.micro_batch = features, micro_batch

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> "tuple[Examples, int]":
        return self, index


def collate(items: list[tuple[Examples, int]]) -> dict[str, Any]:
    """A batch of examples of one split, padded to its longest; several micro-batches come as {"micro_batches": […]}."""
    examples, rows = items[0][0], [index for _, index in items]
    size = examples.micro_batch or len(rows)
    batches = [examples.features.batch(rows[start : start + size]) for start in range(0, len(rows), size)]
    return batches[0] if len(batches) == 1 else {"micro_batches": batches}


class Loader(paddle.io.DataLoader):
    """Makes batches in the caller's thread.

    A batch takes microseconds, and a reader thread that is still making one when the program ends crashes it.
    """

    padding: int | None = None  # the id of what is not computed

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for rows in self.batch_sampler:
            batch = self.collate_fn([self.dataset[row] for row in rows])
            if "micro_batches" in batch:
                yield {"micro_batches": [on_device(part, self.padding) for part in batch["micro_batches"]]}
            else:  # of rows without labels the Trainer hands all that is in a batch to the model itself
                yield on_device(batch, self.padding if "labels" in batch else None)


class StepSampler(paddle.io.DistributedBatchSampler):
    """The rows of each optimizer step: the micro-batches of the published row order, ``accumulation`` laid end to end.

    The last step of an epoch may have fewer; only an epoch's last micro-batch may be short. Once ``last_step`` is set,
    no rows follow that step of the run.
    """

    last_step: int | None = None

    def __init__(self, examples: Examples, micro_batch: int, accumulation: int, drop_last: bool = False):
        super().__init__(examples, batch_size=micro_batch, shuffle=True, drop_last=drop_last)
        self.accumulation = accumulation
        self.micro_batches = super().__len__()

    def __iter__(self) -> Iterator[list[int]]:
        rows: list[int] = []
        step = self.epoch * len(self)
        for number, batch in enumerate(super().__iter__(), start=1):
            rows += batch
            if number % self.accumulation == 0 or number == self.micro_batches:
                if step == self.last_step:
                    return
                yield rows
                rows, step = [], step + 1

    def __len__(self) -> int:
        return -(-self.micro_batches // self.accumulation)


# The Trainer ----------------------------------------------------------------------------------------------------------


class ProtocolTrainer(Trainer):
    """A Trainer that takes the steps of `cluebench.training`, and follows its arguments in everything else.

    ``run`` is started; its model was built after seeding. ``run.result`` records what is logged, evaluated and saved.
    """

    def __init__(self, run: Run, model: paddle.nn.Layer, arguments: TrainingArguments, **datasets: Examples | None):
        # The steps themselves accumulate: to the Trainer, each of its batches is a whole step.
        self.accumulation, arguments.gradient_accumulation_steps = arguments.gradient_accumulation_steps, 1
        self.run, self._not_finite = run, 0  # losses in a row that are not finite
        generators = random.getstate(), np.random.get_state(), paddle.get_rng_state()
        super().__init__(
            model,
            criterion=paddle.nn.CrossEntropyLoss(),
            args=arguments,
            data_collator=collate,
            tokenizer=run.tokenizer,
            compute_metrics=_accuracy_of,
            callbacks=[PublishedLines(run)],
            **datasets,
        )
        # The Trainer seeds again, but in the published runs the generators continue after the model's weights.
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        paddle.set_rng_state(generators[2])

    def get_train_dataloader(self) -> paddle.io.DataLoader:
        loader = self._loader(self.train_dataset, self._get_train_sampler())
        return super().get_train_dataloader() if loader is None else loader

    def get_eval_dataloader(self, eval_dataset: Examples | None = None) -> paddle.io.DataLoader:
        examples = eval_dataset or self.eval_dataset
        self.run.begins(len(examples))
        loader = self._loader(examples, self._get_eval_sampler(examples))
        return super().get_eval_dataloader(examples) if loader is None else loader

    def get_test_dataloader(self, test_dataset: Examples) -> paddle.io.DataLoader:
        """As for dev: the Trainer's own drops rows, or fails, with --dataloader_drop_last."""
        return self.get_eval_dataloader(test_dataset)

    def _loader(self, examples: Examples, sampler: paddle.io.BatchSampler) -> Loader | None:
        """None where processes make the batches."""
        if self.args.dataloader_num_workers or self.args.distributed_dataloader:
            return None
        loader = Loader(examples, batch_sampler=sampler, collate_fn=collate)
        loader.padding = self.run.padding_left_out(self.model)
        return loader

    def _get_train_sampler(self) -> StepSampler:
        size, drop_last = self.args.per_device_train_batch_size, self.args.dataloader_drop_last
        return StepSampler(self.train_dataset, size, self.accumulation, drop_last)

    def compute_loss(self, model: paddle.nn.Layer, inputs: dict[str, Any], return_outputs: bool = False) -> Any:
        """The Trainer's loss, through the forward pass of every script."""
        (logits,) = forward(model, inputs)
        loss = self.criterion(logits, inputs["labels"])
        return (loss, (loss, logits)) if return_outputs else loss

    def training_step(self, model: paddle.nn.Layer, inputs: dict[str, Any], step_control: int = 0) -> paddle.Tensor:
        """Adds the gradient of the mean loss over the step's micro-batches; returns that mean, detached."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        micro_batches = inputs.get("micro_batches", [inputs])
        precision = Precision(self.autocast_smart_context_manager, self.scaler if self.do_grad_scaling else None)
        return accumulate(model, micro_batches, lambda batch: self.compute_loss(model, batch), precision)

    def prediction_step(self, *arguments: Any, **settings: Any) -> tuple:
        loss, logits, labels = super().prediction_step(*arguments, **settings)
        return loss, None if logits is None else logits.astype("float32"), labels  # numpy has no bfloat16

    def evaluation_loop(self, *arguments: Any, metric_key_prefix: str = "eval", **settings: Any) -> Any:
        output = super().evaluation_loop(*arguments, metric_key_prefix=metric_key_prefix, **settings)
        if output.predictions is not None and output.label_ids is not None:
            loss = mean_cross_entropy(output.predictions, output.label_ids)
            output.metrics[f"{metric_key_prefix}_loss"] = loss
            self.dev_output = output
        return output

    def evaluate(self, *arguments: Any, **settings: Any) -> dict[str, float]:
        """The metrics on dev, recorded as by any script, with what the best model predicts for each example."""
        metrics = super().evaluate(*arguments, **settings)
        run, step, dev = self.run, self.state.global_step, self.run.features("dev")
        epoch = (step - 1) // len(self.callback_handler.train_dataloader.batch_sampler) if step else 0
        found = Choices(self.dev_output.label_ids, dev.ids, dev.groups).evaluation(self.dev_output.predictions)
        again = run.flags.do_train and not self.is_in_train
        improved = run.record(found, step, epoch, metrics["eval_runtime"], again=again)
        if improved and self.is_world_process_zero():
            run.write_predictions(found, step)
        if self.is_in_train and self.is_world_process_zero():
            run.result.write(run.flags.result_json)
        return metrics

    def _check_loss_valid(self, loss: paddle.Tensor) -> None:
        self._not_finite = 0 if np.isfinite(float(loss)) else self._not_finite + 1
        refuse_divergence(self._not_finite, self.state.global_step + 1, fp16=self.args.fp16)

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


def _accuracy_of(evaluated: EvalPrediction) -> dict[str, float]:
    return {"accuracy": accuracy(evaluated.predictions.argmax(axis=-1), evaluated.label_ids)}


def build_trainer(run: Run, model: paddle.nn.Layer, arguments: TrainingArguments) -> ProtocolTrainer:
    """A Trainer over the splits it will need."""
    micro_batch = arguments.per_device_train_batch_size
    return ProtocolTrainer(
        run,
        model,
        arguments,
        train_dataset=Examples(run.features("train"), micro_batch) if arguments.do_train else None,
        eval_dataset=Examples(run.features("dev")) if arguments.do_eval else None,
    )


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
    return (
        files | {"dev.predictions": dev_predictions.beside(run.flags.result_json)} if run.flags.result_json else files
    )


def checkpoint_to_resume(config: RunConfig, own: TaskFlags, arguments: TrainingArguments) -> Path | None:
    """The checkpoint to resume from; None to start again. Raises UsageError, also for a checkpoint with code in it."""
    found = None
    if not arguments.do_train:
        return None
    if arguments.resume_from_checkpoint:
        found = _given_checkpoint(Path(arguments.resume_from_checkpoint))
    elif arguments.overwrite_output_dir:
        if environment.rank() == 0:
            for folder in Path(arguments.output_dir).glob("checkpoint-*"):
                shutil.rmtree(folder)
    elif own.resume:
        found = _last_checkpoint(config)
    if found:
        refuse_programs(found)
    return found


_PASSED_OVER = "this checkpoint is not used"


def _given_checkpoint(folder: Path) -> Path:
    if not (folder / "trainer_state.json").is_file():
        raise UsageError(f"--resume_from_checkpoint {folder}: no checkpoint of the Trainer is there")
    owner = CheckpointOwner.read(folder / COMPLETE_FILE, _PASSED_OVER)
    if owner and not owner.is_whole(folder, _PASSED_OVER):
        raise UsageError(f"--resume_from_checkpoint {folder}: damaged; give the checkpoint before it")
    return folder


def _last_checkpoint(config: RunConfig) -> Path | None:
    """The last whole checkpoint in --output_dir; None without one.

    Raises UsageError when the checkpoints there have other settings.
    """
    folders = {
        int(number[1]): folder
        for folder in Path(config.flags.output_dir).glob("checkpoint-*")
        if (number := re.fullmatch(r"checkpoint-(\d{1,12})", folder.name))
    }
    for _, folder in sorted(folders.items(), reverse=True):
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
        epoch, place = divmod(step - 1, len(self.sampler))
        batch = min((place + 1) * self.sampler.accumulation, self.sampler.micro_batches) - 1
        since, clock = self.logged_at
        speed = (step - since) / max(now - clock, 1e-9)
        self.logged_at = step, now
        self.run.log.train(TrainingLine(step, state.max_steps, epoch, batch, logs["loss"], rate, speed))
        self.run.scalars.add(step, train_loss=logs["loss"], train_lr=rate, train_speed=speed)
