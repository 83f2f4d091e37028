"""What no trial should wait for: the data found or fetched, and all splits of all tasks tokenized for a model."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from tqdm import tqdm

from cluebench.data.source import DataSource
from cluebench.errors import UsageError
from cluebench.features import FeatureCache, TextEncoder, feature_key, load_features
from cluebench.model import Model
from cluebench.tasks import TASKS, Task


def check_data(source: DataSource, tasks: Sequence[Task]) -> None:
    """Finds every file of every task, downloading what may be downloaded. Raises DataError or NetworkError."""
    for task in tasks:
        source.fingerprint(task, task.files)
    print(f"data: {', '.join(task.title for task in tasks)} found", flush=True)


def refuse_what_it_cannot_do(model: Model, reasons: Mapping[str, str | None]) -> None:
    """One line for each task that the preflight found impossible, then UsageError."""
    unable = [TASKS[name].title for name, reason in reasons.items() if reason]
    for title in unable:
        print(f"{model.typed} can't do {title}: {reasons[title.lower()]}", file=sys.stderr)
    if unable:
        able = [TASKS[name].title for name, reason in reasons.items() if not reason]
        advice = f"run it with --tasks {' '.join(able)}" if able else "choose another model"
        raise UsageError(f"{model.typed} can't do {', '.join(unable)}: {advice}")


def tokenize(
    model: Model,
    tasks: Sequence[Task],
    source: DataSource,
    encoder: TextEncoder,
    cache: FeatureCache,
    *,
    limit: int | None = None,
    overwrite: bool = False,
    num_proc: int = 1,
) -> None:
    """All splits of the tasks, as trials will ask for them; says of each whether it was in the cache."""
    start, made, splits = time.perf_counter(), 0, list(splits_of(tasks))
    with tqdm(splits, unit="split", file=sys.stderr, disable=None) as bar:
        for task, split in bar:
            bar.set_description(f"{task.title} {split}")
            lengths = dict(max_seq_length=task.max_seq_length, limit=limit)
            found = cache.holds(feature_key(task, split, source, encoder, **lengths)) and not overwrite
            begin = time.perf_counter()
            features = load_features(
                task, split, source, encoder, cache, overwrite=overwrite, num_proc=num_proc, **lengths
            )
            what = "found" if found else f"tokenized in {time.perf_counter() - begin:.1f} s"
            bar.write(f"{task.title} {split}: {len(features):,} examples, {what}", file=sys.stdout)
            made += not found
    seconds = time.perf_counter() - start
    print(
        f"{model.typed}: {made} splits tokenized, {len(splits) - made} found in the cache, {seconds:.1f} s", flush=True
    )


def splits_of(tasks: Sequence[Task]) -> Iterator[tuple[Task, str]]:
    """Every split a script may ask for: train, dev and all test sets."""
    for task in tasks:
        for split in ("train", "dev", *(test.split for test in task.test_sets)):
            yield task, split
