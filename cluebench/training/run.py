"""One run of a fine-tuning script on its device: features, model, steps, evaluations and records."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Generic, NoReturn

import numpy as np
import paddle

from cluebench import models, submission
from cluebench.benchmark.tasks import IDIOM, SPAN, TestSet
from cluebench.data.rows import load_rows
from cluebench.features import FeatureCache, FeatureRequest, Features, TextEncoder, load_features
from cluebench.features.sequences import length_sorted_batches
from cluebench.foundation import environment
from cluebench.foundation.errors import Paused
from cluebench.foundation.notices import notice, progress, waiting
from cluebench.pretrained.model import Model
from cluebench.records import analysis, dev_predictions
from cluebench.records.analysis import Choices
from cluebench.records.dev_predictions import CutEvaluation, DevPredictions, Evaluation
from cluebench.records.log import RunLog, TrainingLine
from cluebench.records.result import DevPoint
from cluebench.records.run_flags import F
from cluebench.training import device
from cluebench.training.bounded import BoundedEvaluation
from cluebench.training.configure import RunConfig
from cluebench.training.optimization import Precision
from cluebench.training.progress import Scalars, TrainingProgress
from cluebench.training.steps import Ending, Step, Training


class Run(Generic[F]):
    """What every stage of a script needs. `cluebench.training.life` makes it, on every rank.

    Raises UsageError, before any model is loaded, when the device is missing or can't compute in the given precision,
    or when the model's tokenizer can't be loaded.
    """

    def __init__(self, config: RunConfig[F]):
        self.task, self.flags, self.result = config.task, config.flags, config.result
        self.model, self.source = config.model, config.source
        self.log = RunLog(rank=environment.rank())
        self.device = self.result.device = device.use_device(self.flags.device)
        self.precision = Precision.of(self.flags.amp, self.device)
        self.scalars = Scalars(self.flags.visualdl_dir, self.result.configuration_hash)
        self.tokenizer = models.load_tokenizer(
            self.model, offline=self.flags.offline, **self.flags.tokenizer_settings()
        )
        self.encoder = TextEncoder(self.tokenizer)
        self._features: dict[str, Features] = {}
        self._rows: dict[str, Any] = {}
        self._announced, self._began = False, 0.0
        self._training: Training | None = None  # while the model is trained
        self._progress: TrainingProgress | None = None  # from then on
        self._bounded: BoundedEvaluation | None = None
        self._ending = Ending()
        self._best: DevPredictions | None = None  # of the best model, where this process has made them
        self._written: list[Path] = []

    def begins(self, examples: int, steps: int | None = None) -> None:
        """What takes time begins now. Prints once, in one line, what the run does and where it writes."""
        self._began = time.perf_counter()
        if not self._announced:
            work = f"{examples:,} examples" + (f", {steps:,} steps" if steps is not None else "")
            folder = self.flags.output_dir
            notice(f"{self.model.typed} on {self.task.title}, {self.device}: {work}, writing to {folder}")
        self._announced = True

    # Data and models --------------------------------------------------------------------------------------------------

    def features(self, split: str) -> Any:
        """The model inputs of a split: features of the task's kind, from the cache if an earlier run made them."""
        if split not in self._features:
            flags = self.flags
            lengths = {"max_seq_length": flags.max_seq_length, "limit": flags.limit, **flags.feature_settings()}
            request = FeatureRequest(self.task, split, self.source, self.encoder, **lengths)
            with waiting(f"reading {self.task.title} {split}"):
                self._features[split] = load_features(
                    request, FeatureCache(flags.cache_dir), overwrite=flags.overwrite_cache, num_proc=flags.num_proc
                )
        return self._features[split]

    def rows(self, split: str) -> Any:
        """The rows that the features of a split were made from, read once."""
        if split not in self._rows:
            self._rows[split] = load_rows(self.source, self.task, split, self.flags.limit)
        return self._rows[split]

    def new_model(self) -> paddle.nn.Layer:
        """The model of --model_name_or_path. It draws from paddle's generator first, as in the published runs.

        Without --do_train it must be fine-tuned for this task already.
        """
        if self.flags.do_train and self.keeps_best:
            models.check_output(self.flags.output_dir)
        device.seed(self.flags.seed)
        with waiting(f"loading {self.model.typed}"):
            model = models.load_model(
                self.task,
                self.model,
                tokenizer=self.tokenizer,
                max_seq_length=self.flags.max_seq_length,
                head_required=not self.flags.do_train,
                offline=self.flags.offline,
            )
        if self.flags.dropout is not None:
            models.set_dropout(model, self.flags.dropout)
        self.result.model_size = models.size_of(model)
        if not self.flags.padding and models.padding_of(model) is None:
            kind = type(model).__name__
            notice(f"{self.model.typed}: padding is computed too; equal results without it are not proven for {kind}")
        return model

    @property
    def keeps_best(self) -> bool:
        """Whether the best model is saved, at least until it has predicted."""
        return self.flags.save_best_model or self.flags.do_eval or self.flags.do_predict

    def best_model(self) -> paddle.nn.Layer:
        """The model with the best dev score of the training that just ended."""
        device.wait_for_all()
        best = Model.of(self.flags.output_dir, "--output_dir")
        return models.load_model(self.task, best, tokenizer=self.tokenizer, head_required=True)

    # Training ---------------------------------------------------------------------------------------------------------

    def steps(
        self,
        model: paddle.nn.Layer,
        loss_of: Callable[[paddle.nn.Layer, dict[str, Any]], paddle.Tensor],
    ) -> Iterator[Step]:
        """Fine-tunes ``model`` on the train split; yields every optimizer step after the step and its log line.

        ``loss_of``: from the model (with several cards, exchanging gradients) and a micro-batch on the device to the
        mean loss. With --resume, it continues from the checkpoint of an earlier process. After a step that evaluates,
        the caller evaluates; a checkpoint that follows holds what the caller recorded. Raises Diverged when a loss is
        not finite, Paused at --pause_at, and KeyboardInterrupt after SIGTERM, once the checkpoint is written.
        """
        flags, examples = self.flags, self.features("train")
        self._training = training = Training(model, examples, flags, self.result, self.precision)
        total = self.result.total_steps = training.plan.total_steps
        if flags.evaluation == "bounded" and self.task.kind == SPAN:
            notice(f"{self.task.title}: every evaluation computes all of dev, as spans have no bound")
        self.begins(len(examples), total)
        if flags.resume and (done := training.resume()):  # else training starts again, over any earlier best model
            self.result.adopt_newer_best(flags.result_json)
            self.scalars.go_on_from(done)
            self.log.line(f"going on from the checkpoint after step {done}/{total}")
        padding = self.padding_left_out(model)
        self._progress = shown = TrainingProgress(self.task.title, self.output(""), training.step, total)

        def loss_of_rows(trained: paddle.nn.Layer, rows: Sequence[int]) -> paddle.Tensor:
            with models.sums_as_products(model) if self.device == "cpu" else nullcontext():
                return loss_of(trained, models.on_device(examples.batch(rows), padding))

        with self._ending.handled(training.save) if flags.checkpoint_steps else nullcontext():
            for step in training.steps(loss_of_rows):
                if step.micro_batches:
                    shown.took(step.number)
                    self._log_step(step, training)
                self._ending.here(step.exchanges)
                yield step
                pauses = step.evaluates and self._is_to_pause(step.number)
                if step.checkpoints or pauses:
                    training.save()
                self._ending.here(step.exchanges)
                if pauses:
                    shown.close()
                    self._pause(step.number)
        shown.close()
        self._training = None

    def _log_step(self, step: Step, training: Training) -> None:
        """Logs a step: the published line, and the same numbers as scalars. The learning rate is the next step's."""
        if step.number % self.flags.logging_steps == 0:
            loss, speed = training.meter.read(step.number)
            rate = training.optimizer.get_lr()
            total = self.result.total_steps
            self.log.train(TrainingLine(step.number, total, step.epoch, step.batch, loss, rate, speed))
            self.scalars.add(step.number, train_loss=loss, train_lr=rate, train_speed=speed)
        if step.evaluates or step.checkpoints:
            training.meter.check(step.number)

    def _is_to_pause(self, step: int) -> bool:
        rung = self.flags.pause_at
        reached = rung is not None and self.result.curve.up_to(step).evaluations_at(rung) is not None
        return reached and step < self.result.total_steps

    def _pause(self, step: int) -> NoReturn:
        """Ends the run. The checkpoint is whole by then: no rank leaves before."""
        device.wait_for_all()
        self.result.peak_memory_bytes = device.peak_memory_bytes(self.device)
        self.scalars.close()
        notice(f"paused after step {step}/{self.result.total_steps}, because of --pause_at; --resume continues")
        raise Paused

    # The model over batches and splits --------------------------------------------------------------------------------

    # For the scripts, which don't import Paddle: the outputs of a model's head for a batch, and the mean over
    # rows of the cross entropy of logits [B, N] and labels [B].
    forward = staticmethod(models.forward)
    cross_entropy = staticmethod(paddle.nn.functional.cross_entropy)

    def label_loss(self, model: paddle.nn.Layer, batch: Mapping[str, Any]) -> paddle.Tensor:
        """The mean loss of a micro-batch whose ``labels`` are classes of rows, options of questions or candidates."""
        (logits,) = self.forward(model, batch)
        return self.cross_entropy(logits, batch["labels"])

    def outputs(self, model: paddle.nn.Layer, split: Features) -> tuple[np.ndarray, ...]:
        """`models.forward` for every example of a split: float32 arrays [examples, longest], in order.

        Where outputs differ in length from batch to batch, shorter rows are filled up with -inf. A batch has examples
        of similar length.
        """
        self.begins(len(split))
        size, rank, world = self.flags.eval_batch_size, environment.rank(), environment.world_size()
        batches = length_sorted_batches(split.lengths, size, rank, world)
        computed = self.computed(model, split, progress("evaluating", len(batches), "batch", iterable=batches))
        whole = []
        for number, _ in enumerate(computed[0][1]):
            longest = max(outputs[number].shape[1] for _, outputs in computed)
            merged = np.full((len(split), longest), -np.inf, np.float32)
            for rows, outputs in computed:
                merged[rows, : outputs[number].shape[1]] = outputs[number]
            whole.append(merged)
        return tuple(whole)

    def computed(
        self, model: paddle.nn.Layer, split: Features, batches: Iterable[np.ndarray]
    ) -> list[tuple[np.ndarray, list[np.ndarray]]]:
        """The rows of each batch of all ranks, and each output of the model's head for them, without dropout.

        ``batches``: of this rank, rows of the split. The model stays in training mode if it was.
        """
        was_training, padding, pieces = model.training, self.padding_left_out(model), []
        model.eval()
        with paddle.no_grad():
            for rows in batches:
                self._ending.here(exchanges=False)  # the next process repeats the evaluation
                with self.precision.context():
                    outputs = models.forward(model, models.on_device(split.batch(rows), padding))
                pieces.append((rows, [output.astype("float32").numpy() for output in outputs]))
        if was_training:
            model.train()
        return [piece for of_rank in device.gathered(pieces) for piece in of_rank]

    def evaluation(self, model: paddle.nn.Layer, dev: Features, choices: Choices) -> Evaluation | CutEvaluation:
        """A pass over dev; with --evaluation bounded it is cut once it can't become the best of the training."""
        if self._training is None or self.flags.evaluation == "full":
            (logits,) = self.outputs(model, dev)
            return choices.evaluation(logits)
        self.begins(len(dev))
        rank, world = environment.rank(), environment.world_size()
        if self._bounded is None:
            size, spacing = self.flags.eval_batch_size, self.precision.spacing
            self._bounded = BoundedEvaluation(choices, dev.lengths, size, world, spacing)

        def compute(batches: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
            return [(rows, logits) for rows, (logits,) in self.computed(model, dev, batches[rank::world])]

        # After --resume the result may have the best of a step that is still to be repeated: that does not count here.
        step = self._training.step
        before = [point.score[0] for point in self.result.dev_curve if point.step < step and point.cut_after is None]
        found = self._bounded.evaluate(compute, max(before, default=None))
        return found if isinstance(found, CutEvaluation) else choices.evaluation(found)

    def padding_left_out(self, model: paddle.nn.Layer) -> int | None:
        """The id of padding that is not computed; None with --padding, and where a model needs padding."""
        return None if self.flags.padding else models.padding_of(model)

    # What is recorded -------------------------------------------------------------------------------------------------

    def evaluated(
        self,
        found: Evaluation | CutEvaluation,
        model: paddle.nn.Layer,
        step: Step | None = None,
        *,
        is_training: bool = True,
    ) -> None:
        """Logs an evaluation. During training a new best model is saved before the result names it.

        ``step``: the last step; None when a finished model is evaluated. After training (``is_training`` False, or no
        step) it repeats an evaluation that the result has already.
        """
        result, seconds = self.result, time.perf_counter() - self._began
        result.eval_seconds += seconds
        result.spend()
        number, epoch = (step.number, step.epoch) if step else (result.best_step or 0, 0)
        again = self.flags.do_train and not (step and is_training)
        point = found.point(number, epoch)
        improved = not again and result.add(point)
        self._log_evaluation(found, point if again else result.evaluation_after(number), seconds)
        if environment.rank() != 0:
            return
        if improved and step and self._progress and result.best_score:
            self._progress.best(self.task.format_score(result.best_score))
            if self.keeps_best:
                models.save_model(model, self.tokenizer, self.flags.output_dir)
        if improved:  # last, so that predictions and result are hardly ever of different steps
            assert isinstance(found, Evaluation), "a pass that was cut is never the best"
            self._best = found.predictions
            analysis.write(self.wrote(self.output(analysis.DEV_PREDICTIONS)), self.task, found)
            if self.flags.result_json:
                path = self.wrote(dev_predictions.beside(self.flags.result_json))
                found.predictions.write(path, result.configuration, number)
        if step and is_training:
            result.write(self.flags.result_json)

    def _log_evaluation(self, found: Evaluation | CutEvaluation, point: DevPoint, seconds: float) -> None:
        """Logs what the result counts, ``point``."""
        if isinstance(found, CutEvaluation) and point.cut_after is not None:
            self.log.cut(found.bound, found.computed, found.rows, seconds)
            return
        loss = found.loss if point.loss is None else point.loss
        self.log.evaluated(loss, point.score, seconds, point.organisers)
        names = ("dev_accuracy",) if len(point.score) == 1 else ("dev_em", "dev_f1")
        self.scalars.add(point.step, dev_loss=loss, **dict(zip(names, point.score)))

    def log_best(self) -> None:
        """Logs the pairs of labels that the best model confuses most, then the published last line."""
        if self.result.best_score is None:
            return
        if self.task.is_classification and environment.rank() == 0:
            path, best = self.flags.result_json, self._best
            if best is None and path:  # an earlier process has written them
                best = dev_predictions.of_result(self.result, path)
            for line in analysis.worst_pairs(self.task, best) if best else ():
                self.log.line(line)
        self.log.best(self.task.format_score(self.result.best_score))

    def test_sets(self) -> Iterator[tuple[TestSet, Any]]:
        """The task's test sets, each with its `features`, without those that a copy of the data lacks."""
        for test in self.task.test_sets:
            if self.source.lacks(self.task, test.file):
                notice(f"{self.task.title}: no {test.submission}: the data is a copy, which has no {test.file}")
            else:
                yield test, self.features(test.split)

    def submit(self, test: TestSet, ids: Collection[Any], answers: Collection[Any]) -> None:
        """The submission file of a test set: an id and a label a line; of idioms and spans one object, id → answer."""
        if environment.rank() == 0:
            path = self.wrote(self.output(test.submission))
            if self.task.kind in (IDIOM, SPAN):
                submission.write_answers(path, dict(zip(ids, answers)))
            else:
                submission.write_labels(path, list(ids), list(answers))
            self.log.line(f"predictions for {test.file}: {path}")

    def output(self, name: str | Path) -> Path:
        """A file in --output_dir."""
        return Path(self.flags.output_dir) / name

    def wrote(self, path: Path) -> Path:
        """A file that `finish` names."""
        self._written.append(path)
        return path

    def finish(self) -> None:
        """Records the memory, closes the curves, removes a model saved only to predict, lists what was written.

        Waits for all ranks.
        """
        self.result.peak_memory_bytes = device.peak_memory_bytes(self.device)
        self.scalars.close()
        if self.flags.do_train and self.flags.save_best_model:
            self.result.best_model = str(self.flags.output_dir)
        elif self._progress and self.keeps_best and environment.rank() == 0:
            models.remove_model(self.flags.output_dir)
        places = [Path(place) for place in (*self._written, self.flags.result_json, self.flags.visualdl_dir) if place]
        folder, kept = Path(self.flags.output_dir), ["the best model"] if self.result.best_model else []
        names = [place.name if place.parent == folder else str(place) for place in dict.fromkeys(places)]
        notice(f"written to {folder}: {', '.join(kept + names)}")
        device.wait_for_all()
