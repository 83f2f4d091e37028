"""From flags to a run: everything that is checked and settled before Paddle is imported."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from typing import TYPE_CHECKING, Any, Generic

import cluebench
from cluebench import earlier_run, environment, identity
from cluebench.command import as_clue_error
from cluebench.data.source import DataSource, open_source
from cluebench.errors import Paused, one_line
from cluebench.flags import refuse_unwritable
from cluebench.model import Model
from cluebench.notices import notice, waiting
from cluebench.run_flags import F, resolved
from cluebench.runlog import PAUSED, Evaluation, Result
from cluebench.tasks import Task

if TYPE_CHECKING:
    from paddle.nn import Layer

    from cluebench.training.run import Run


@dataclass(frozen=True)
class RunConfig(Generic[F]):
    """A run whose flags, model and data have been found right, and that can start."""

    task: Task
    flags: F  # resolved
    model: Model
    source: DataSource
    result: Result  # empty, with the trial's identity

    def carry_out(
        self,
        train: Callable[[Run[F], Layer], None],
        evaluate: Callable[[Run[F], Layer], Evaluation],
        predict: Callable[[Run[F], Layer], None],
    ) -> None:
        """The life of a run: its script says how to train, evaluate and predict, its flags which of them to do."""
        with self.started() as run:
            model = run.new_model()
            if self.flags.do_train:
                train(run, model)
                model = run.best_model(model)
            if self.flags.do_eval:
                run.evaluated(evaluate(run, model), model)
            run.log_best()
            if self.flags.do_predict:
                predict(run, model)

    @contextmanager
    def started(self) -> Iterator[Run[F]]:
        """The run, on its device, with its tokenizer; its result is written when the block ends, well or badly."""
        with recording(self.result, self.flags.result_json):
            with waiting("importing Paddle"):
                environment.import_paddle()
            from cluebench.training.run import Run  # imports Paddle: seconds, which a wrong flag need not wait for

            run = Run(self)
            yield run
            run.finish()


def configure(flags: F, task: Task, **more: Any) -> RunConfig[F]:
    """Checks flags, model and data directory and settles the trial's identity. Takes well under a second.

    ``more``: settings that move the score besides the flags. Raises UsageError, DataError and NetworkError in one line.
    """
    refuse_unwritable(flags)
    cards = environment.world_size()
    flags = resolved(flags, task, cards)
    model = Model.of(flags.model_name_or_path)
    if files := model.find(offline=flags.offline):
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
    earlier_run.refuse_other_settings(flags, result)
    return RunConfig(task, flags, model, source, result)


@contextmanager
def recording(result: Result, path: str | None) -> Iterator[Result]:
    """Stamps ``result`` and writes it to ``path`` when the block ends: status "done", or "failed" with the reason.

    Paused ends the block well, with a status of its own. An interruption writes nothing, so that the trial counts as
    not finished. Only rank 0 writes.
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
        known = as_clue_error(error)
        result.error = one_line(known or f"{type(error).__name__}: {error}")
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
