"""What no trial has to wait for: data that is found or fetched, and splits that are tokenized for a model."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cluebench.benchmark.tasks import TASKS, Task
from cluebench.data.source import DataSource
from cluebench.features import FeatureCache, FeatureRequest, TextEncoder, load_features
from cluebench.foundation.errors import DataError, UsageError
from cluebench.foundation.notices import notice, progress, say, waiting
from cluebench.pretrained.model import Model


def check_data(source: DataSource, tasks: Sequence[Task]) -> None:
    """Finds every file of every task, and downloads missing files where downloads are allowed.

    Raises NetworkError, or DataError after a line for each task whose data is missing or broken.
    """
    reasons: dict[Task, DataError] = {}
    for task in tasks:
        try:
            lacking = [file for file in task.files if source.lacks(task, file)]
            source.fingerprint(task, [file for file in task.files if file not in lacking])
            if lacking:
                copy = source.describe(task, task.dev_files[0])
                notice(f"{task.title} is read from a copy ({copy}), which has no {', '.join(lacking)}")
        except DataError as error:
            reasons[task] = error
    if reasons:
        for reason in reasons.values():
            notice(str(reason))
        advice = _with_others([task for task in tasks if task not in reasons], "name another place by --data_dir")
        raise DataError(f"no whole data of {', '.join(task.title for task in reasons)}: {advice}")
    print(f"data: {', '.join(task.title for task in tasks)} found", flush=True)


def refuse_what_it_cannot_do(model: Model, reasons: Mapping[str, str | None]) -> None:
    """Raises UsageError after a line for each task that the preflight found impossible."""
    unable = [TASKS[name] for name, reason in reasons.items() if reason]
    for task in unable:
        notice(f"{model.typed} can't do {task.title}: {reasons[task.name]}")
    if unable:
        advice = _with_others([TASKS[name] for name in reasons if not reasons[name]], "choose another model")
        raise UsageError(f"{model.typed} can't do {', '.join(task.title for task in unable)}: {advice}")


def _with_others(tasks: Sequence[Task], otherwise: str) -> str:
    """The advice to go on with ``tasks``; ``otherwise`` if there are none."""
    return f"--tasks {' '.join(task.title for task in tasks)} runs the others" if tasks else otherwise


def tokenize(name: str, requests: Sequence[FeatureRequest], cache: FeatureCache, **options: Any) -> None:
    """Makes features as trials will ask for them, for the model ``name``; says of each split whether the cache had it.

    ``options``: of `load_features`.
    """
    start, before = time.perf_counter(), cache.built
    with progress(name, len(requests), "split") as bar:
        for request in requests:
            begin, built, what = time.perf_counter(), cache.built, f"{request.task.title} {request.split}"
            with waiting(what):
                features = load_features(request, cache, **options)
            how = "found" if cache.built == built else f"tokenized in {time.perf_counter() - begin:.1f} s"
            say(f"{what}: {len(features):,} examples, {how}", sys.stdout)
            bar.update()
    made, seconds = cache.built - before, time.perf_counter() - start
    found = f"{len(requests) - made} found in {cache.directory}"
    say(f"{name}: {made} splits tokenized, {found}, {seconds:.1f} s", sys.stdout)


def requests_of(
    tasks: Sequence[Task], source: DataSource, encoder: TextEncoder, limit: int | None = None
) -> list[FeatureRequest]:
    """Every split a script may ask for: train, dev and all test sets, except those that a copy of the data lacks."""
    return [
        FeatureRequest(task, split, source, encoder, limit=limit)
        for task in tasks
        for split in ("train", "dev", *(test.split for test in task.test_sets if not source.lacks(task, test.file)))
    ]
