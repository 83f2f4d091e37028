"""The life of a run, from checked flags to its result. Paddle is imported when it starts."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import cluebench
from cluebench.foundation import environment
from cluebench.foundation.command import as_clue_error
from cluebench.foundation.errors import Paused, one_line
from cluebench.foundation.notices import notice, waiting
from cluebench.records.dev_predictions import CutEvaluation, Evaluation
from cluebench.records.paths import CHECKPOINT
from cluebench.records.result import PAUSED, Result
from cluebench.records.run_flags import F
from cluebench.training.configure import RunConfig, remove_leftovers

if TYPE_CHECKING:
    from paddle.nn import Layer

    from cluebench.training.run import Run


def carry_out(
    config: RunConfig[F],
    train: Callable[[Run[F], Layer], None],
    evaluate: Callable[[Run[F], Layer], Evaluation | CutEvaluation],
    predict: Callable[[Run[F], Layer], None],
) -> None:
    """The life of a run: its script says how to train, evaluate and predict, its flags which of them to do."""
    with started(config) as run:
        model = run.new_model()
        if config.flags.do_train:
            train(run, model)
            if config.flags.do_eval or config.flags.do_predict:
                model = run.best_model()
        if config.flags.do_eval:
            run.evaluated(evaluate(run, model), model)
        run.log_best()
        if config.flags.do_predict:
            predict(run, model)


@contextmanager
def started(config: RunConfig[F]) -> Iterator[Run[F]]:
    """The run, on its device, with its tokenizer; the block's end writes its result: "done", or "failed" and why.

    Paused ends the block well, with status "paused". An interruption writes nothing, so that the trial counts as not
    finished. Only rank 0 writes. The checkpoint is removed after the result says "done", so that a kill costs at most
    the steps since the checkpoint.
    """
    result, path, trains = config.result, config.flags.result_json, config.flags.do_train and environment.rank() == 0
    if trains:
        remove_leftovers(config.flags)
    result.started, result.versions = _now(), _versions()
    try:
        with waiting("importing Paddle"):
            environment.import_paddle()
        from cluebench.training.run import Run  # imports Paddle, which takes seconds

        run = Run(config)
        yield run
        run.finish()
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
    if trains and result.status == "done":
        shutil.rmtree(Path(config.flags.output_dir) / CHECKPOINT, ignore_errors=True)


def _write(result: Result, path: str | None) -> None:
    result.finished = _now()
    result.spend()
    if environment.rank() == 0:
        result.write(path)


def _versions() -> dict[str, str]:
    """Versions that a score depends on."""
    found = {"python": platform.python_version(), "cluebench": cluebench.__version__}
    for package in ("paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "numpy"):
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
