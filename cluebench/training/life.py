"""The life of a run, from its flags to its result. All checks come before Paddle is imported."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import cluebench
from cluebench.benchmark.tasks import Task
from cluebench.data.source import DataSource, open_source
from cluebench.foundation import atomic, environment
from cluebench.foundation.command import as_clue_error
from cluebench.foundation.errors import Paused, UsageError, one_line
from cluebench.foundation.flags import refuse_unwritable
from cluebench.foundation.notices import notice, waiting
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model
from cluebench.records import dev_predictions, identity
from cluebench.records.dev_predictions import CutEvaluation, Evaluation
from cluebench.records.paths import CHECKPOINT
from cluebench.records.result import PAUSED, Result, Settings
from cluebench.records.run_flags import F, RunFlags, resolved
from cluebench.training.checkpoint_format import RESTARTS, STATE_FILE, CheckpointState

if TYPE_CHECKING:
    from paddle import Tensor
    from paddle.nn import Layer

    from cluebench.training.run import Run


@dataclass(frozen=True)
class RunConfig(Generic[F]):
    """A run that can start: its flags, model and data are checked."""

    task: Task
    flags: F  # resolved
    model: Model
    source: DataSource
    result: Result  # empty, with the trial's identity


def configure(flags: F, task: Task, **more: Any) -> RunConfig[F]:
    """Checks flags, model and data directory, and computes the trial's identity. Takes well under a second.

    ``more``: settings beside the flags that change the score. Raises UsageError, DataError and NetworkError.
    """
    refuse_unwritable(flags)
    cards = environment.world_size()
    flags = resolved(flags, task, cards)
    model = Model.of(flags.model_name_or_path)
    if files := model_files.find(model, offline=flags.offline):
        files.check_length(flags.max_seq_length, files.read_config().get("max_position_embeddings"))
        files.check_tokenizer()
    source = open_source(flags.data_dir, offline=flags.offline)
    data = source.fingerprint(task) if flags.do_train else ""  # a model can predict where there is no train split
    settings = identity.configuration(task, flags, model.identity, data, cards=cards, **more)
    result = Result(
        task=task.name,
        model=model.typed,
        configuration=settings,
        configuration_hash=identity.configuration_hash(settings),
        metric=task.metric,
        cards=cards,
        accumulation_steps=flags.gradient_accumulation_steps,
    )
    refuse_other_settings(flags, result)
    return RunConfig(task, flags, model, source, result)


def carry_out(
    config: RunConfig[F],
    loss: Callable[[Run[F], Layer, Mapping[str, Any]], Tensor] = lambda run, model, batch: run.label_loss(model, batch),
    evaluate: Callable[[Run[F], Layer], Evaluation | CutEvaluation] = lambda run, model: run.evaluate(model),
    predict: Callable[[Run[F], Layer], None] = lambda run, model: run.predict(model),
) -> None:
    """The life of a run; its flags say what to do. The defaults are for tasks with one choice of several.

    ``loss``: the mean loss of a micro-batch. ``evaluate``: on dev. ``predict``: writes the submission files.
    """
    with started(config) as run:
        model = run.new_model()
        if config.flags.do_train:
            for step in run.steps(model, partial(loss, run)):
                if step.evaluates:
                    run.evaluated(evaluate(run, model), model, step)
            if config.flags.do_eval or config.flags.do_predict:
                model = run.best_model()
        if config.flags.do_eval:
            run.evaluated(evaluate(run, model), model)
        run.log_best()
        if config.flags.do_predict:
            predict(run, model)


@contextmanager
def started(config: RunConfig[F]) -> Iterator[Run[F]]:
    """The run, on its device, with its tokenizer; its result is written when the block ends, well or badly.

    The checkpoint is removed after the result says "done", so that a kill costs at most the steps since the checkpoint.
    """
    trains = config.flags.do_train and environment.rank() == 0
    if trains:
        remove_leftovers(config.flags)
    with recording(config.result, config.flags.result_json):
        with waiting("importing Paddle"):
            environment.import_paddle()
        from cluebench.training.run import Run  # imports Paddle, which takes seconds

        run = Run(config)
        yield run
        run.finish()
    if trains and config.result.status == "done":
        shutil.rmtree(Path(config.flags.output_dir) / CHECKPOINT, ignore_errors=True)


@contextmanager
def recording(result: Result, path: str | None) -> Iterator[Result]:
    """Stamps ``result`` and writes it to ``path`` when the block ends: status "done", or "failed" with the reason.

    Paused ends the block well, with status "paused". An interruption writes nothing, so that the trial counts as not
    finished. Only rank 0 writes.
    """
    result.started = _now()
    result.versions = versions()
    try:
        yield result
        result.status = "done"
    except Paused:
        result.status = PAUSED
    except Exception as error:
        result.status = "failed"
        result.error = one_line(as_clue_error(error) or f"{type(error).__name__}: {error}")
        try:
            _write(result, path)
        except OSError as unwritten:
            notice(f"{path}: the result could not be written ({unwritten})")
        raise
    _write(result, path)


def _write(result: Result, path: str | None) -> None:
    result.finished = _now()
    result.spend()
    if environment.rank() == 0:
        result.write(path)


def versions() -> dict[str, str]:
    """Versions that a score depends on."""
    found = {"python": platform.python_version(), "cluebench": cluebench.__version__}
    for package in ("paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


# Earlier runs in --output_dir -----------------------------------------------------------------------------------------


def refuse_other_settings(flags: RunFlags, result: Result) -> None:
    """Raises UsageError when training would write over a run with other settings: its checkpoint or finished model.

    ``flags``: resolved; ``result``: the new run's. The same settings again are the same run, which may be repeated.
    """
    if not flags.do_train or flags.overwrite_output_dir:
        return
    folder = Path(flags.output_dir)
    state = CheckpointState.read(folder / CHECKPOINT / STATE_FILE, RESTARTS)
    if state and state.configuration_hash != result.configuration_hash:
        raise UsageError(_in_the_way(folder, f"the checkpoint after step {state.step}", state.configuration, result))
    for path in {flags.result_json or "", str(folder / "result.json")}:
        other = Result.read_finished(path)
        has_model = other and other.best_model and model_files.first_of(folder, model_files.WEIGHT_FILES)
        if other and has_model and other.configuration_hash != result.configuration_hash:
            score = "/".join(f"{number:.2f}" for number in other.best_score or ())
            raise UsageError(_in_the_way(folder, f"the finished model ({score} on dev)", other.configuration, result))


def remove_leftovers(flags: RunFlags) -> None:
    """Removes temporary files of a killed process of this run. On rank 0, before anything is written.

    Only one process may train into an output directory; in a grid the trial's lock ensures it.
    """
    atomic.remove_leftovers(flags.output_dir)
    if flags.result_json:
        for path in (Path(flags.result_json), dev_predictions.beside(flags.result_json)):
            atomic.remove_leftovers(path.parent, path.name)


def _in_the_way(folder: Path, what: str, there: Settings, result: Result) -> str:
    different = identity.different_settings(there, result.configuration)
    return (
        f"--output_dir {folder}: holds {what} of a run with other settings ({different}): "
        "give another directory, or --overwrite_output_dir to start again and write over it"
    )
