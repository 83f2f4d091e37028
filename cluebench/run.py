"""One run of a fine-tuning script: its flags, data, device, log and result, held together."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluebench import analysis, command, environment, model_files, settings
from cluebench.data.source import DataSource, open_source
from cluebench.features import FeatureCache, Features, TextEncoder, load_features
from cluebench.runlog import DevPoint, Result, RunLog
from cluebench.tasks import Task


@dataclass
class Run:
    """What every stage of a script needs. `configure` makes it without Paddle, `start` fills in the rest."""

    task: Task
    flags: Any  # settings.RunFlags, resolved
    source: DataSource
    result: Result
    log: RunLog = field(default_factory=lambda: RunLog(rank=environment.rank()))
    feature_settings: dict[str, Any] = field(default_factory=dict)  # lengths of this kind of task, for load_features
    tokenizer_settings: dict[str, Any] = field(default_factory=dict)  # what a flag changes in the tokenizer
    device: str = ""
    precision: Any = None  # training.Precision
    scalars: Any = None
    tokenizer: Any = None
    encoder: TextEncoder | None = None

    def start(self) -> None:
        """Imports Paddle, takes the device, loads the tokenizer. Raises UsageError before any model is loaded."""
        environment.import_paddle()
        from cluebench import models, training
        from cluebench.scalars import Scalars

        self.device = self.result.device = training.use_device(self.flags.device)
        self.precision = training.Precision.of(self.flags.amp, self.device)
        self.scalars = Scalars(self.flags.visualdl_dir)
        self.tokenizer = models.load_tokenizer(
            self.flags.model_name_or_path, offline=self.flags.offline, **self.tokenizer_settings
        )
        self.encoder = TextEncoder(self.tokenizer)

    def features(self, split: str) -> Features:
        """The model inputs of a split; from the cache when any earlier run made them."""
        return load_features(
            self.task,
            split,
            self.source,
            self.encoder,
            FeatureCache(self.flags.cache_dir),
            max_seq_length=self.flags.max_seq_length,
            limit=self.flags.limit,
            overwrite=self.flags.overwrite_cache,
            num_proc=self.flags.num_proc,
            **self.feature_settings,
        )

    def new_model(self) -> Any:
        """The model of --model_name_or_path: the first thing to draw from paddle's generator, as in published runs.

        Without --do_train it must have been fine-tuned already, for this task.
        """
        from cluebench import models, training

        if self.flags.do_train and self.keeps_best:
            models.check_output(self.flags.output_dir)
        training.seed(self.flags.seed)
        return models.load_model(
            self.task,
            self.flags.model_name_or_path,
            self.flags.dropout,
            tokenizer=self.tokenizer,
            max_seq_length=self.flags.max_seq_length,
            head_required=not self.flags.do_train,
            offline=self.flags.offline,
        )

    def begin(self, model: Any, examples: Features) -> Any:
        """The training.Fit of a loop over ``examples``; on --resume, of where an earlier process left off."""
        from cluebench import training

        fit = training.begin(self.flags, model, examples, self.precision, self.result)
        if fit.done:
            self.log.line(f"going on from the checkpoint after step {fit.done}/{fit.plan.total_steps}")
        return fit

    @property
    def keeps_best(self) -> bool:
        """Whether the best model is saved, if only until it has predicted."""
        return self.flags.save_best_model or self.flags.do_eval or self.flags.do_predict

    def best_model(self) -> Any:
        """The model with the best dev score of the training that just ended."""
        from cluebench import models, training

        training.wait_for_all()
        return models.load_model(self.task, self.flags.output_dir, tokenizer=self.tokenizer, head_required=True)

    def evaluated(self, point: DevPoint, predictions: Iterable[dict], model: Any) -> None:
        """Records an evaluation during training; a new best model is saved before the result names it.

        ``predictions``: records of `cluebench.analysis`, only read when the evaluation is the best so far.
        """
        from cluebench import models

        improved = self.result.add(point)
        if environment.rank() != 0:
            return
        if improved:
            analysis.write(self.output(analysis.DEV_PREDICTIONS), predictions)
        if improved and self.keeps_best:
            models.save_model(model, self.tokenizer, self.flags.output_dir)
        self.result.write(self.flags.result_json)

    def log_best(self) -> None:
        """The pairs of labels the best model mixes up most, then the published last line."""
        if self.result.best_score is None:
            return
        predictions = self.output(analysis.DEV_PREDICTIONS)
        if self.task.is_classification and predictions.is_file() and environment.rank() == 0:
            for line in analysis.worst_pairs(predictions):
                self.log.line(line)
        self.log.best(self.task.format_score(self.result.best_score))

    def log_training(self, step: Any, total_steps: int, meter: Any, learning_rate: float) -> None:
        """The published training line, and the same numbers as scalars."""
        loss, speed = meter.read(step)
        self.log.train(step.number, total_steps, step.epoch, step.batch, loss, learning_rate, speed)
        self.scalars.add(step.number, train_loss=loss, train_lr=learning_rate, train_speed=speed)

    def adding_seconds(self, name: str) -> AbstractContextManager[None]:
        """Adds the seconds of a block to a field of the result."""
        return command.adding_seconds(self.result, name)

    def recording(self) -> AbstractContextManager[Result]:
        """Writes the result when the block ends, well or badly."""
        return command.recording(self.result, self.flags.result_json)

    def output(self, name: str) -> Path:
        """A file in --output_dir."""
        return Path(self.flags.output_dir) / name

    def finish(self) -> None:
        """Memory used, curves closed, and a model that was only kept to predict removed. Waits for all ranks."""
        from cluebench import models, training

        self.result.peak_memory_bytes = training.peak_memory_bytes(self.device)
        self.scalars.close()
        if self.flags.do_train and self.flags.save_best_model:
            self.result.best_model = str(self.flags.output_dir)
        elif self.flags.do_train and self.keeps_best and environment.rank() == 0:
            models.remove_model(self.flags.output_dir)
        training.wait_for_all()


def configure(flags: settings.RunFlags, task: Task, **kind_settings: Any) -> Run:
    """Checks flags, model and data directory and settles the trial's identity, all before Paddle is imported.

    ``kind_settings``: settings of this kind of task that move its score (doc_stride, …).
    Raises UsageError, DataError and NetworkError in one line.
    """
    flags = settings.resolved(flags, task)
    model_files.find(flags.model_name_or_path, offline=flags.offline)
    source = open_source(flags.data_dir, offline=flags.offline)
    return Run(task, flags, source, settings.new_result(flags, task, source, **kind_settings))
