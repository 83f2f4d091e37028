"""Fetches or finds models and data, and fills the feature cache, so that no trial waits for any of it.

    python grid_search_tools/warmup_dataset_and_model.py ernie-3.0-base-zh

Lengths and settings are the task table's, so training hits exactly these entries. A second run finds everything.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from cluebench import command, environment, model_files
from cluebench.data.source import DataSource, open_source
from cluebench.errors import UsageError
from cluebench.features import FeatureCache, TextEncoder, feature_key, load_features
from cluebench.flags import flag, parse
from cluebench.tasks import TASKS, Task, task_named


@dataclass
class WarmupFlags:
    __doc__ = __doc__

    models: list[str] = flag([], "model names or directories", positional=True)
    tasks: list[str] = flag([], "tasks to prepare", default_text="all ten")
    data_dir: str | None = flag(None, "official CLUE files", default_text="CLUE_DATA_DIR, else they are downloaded")
    cache_dir: str | None = flag(None, "where token ids are kept", default_text="~/.cache/cluebench")
    limit: int | None = flag(None, "only the first N rows of every split, as the trials will be run with", minimum=1)
    num_proc: int = flag(1, "processes that tokenize", minimum=1)
    overwrite_cache: bool = flag(False, "tokenize again even if the cache has this data")
    offline: bool = flag(False, "never touch the network")


def main() -> None:
    flags = parse(WarmupFlags)
    if not flags.models:
        raise UsageError("name at least one model or model directory")
    try:
        tasks = [task_named(name) for name in flags.tasks] or list(TASKS.values())
    except ValueError as error:
        raise UsageError(f"--tasks: {error}") from None
    for model in flags.models:  # seconds, where the data can take minutes
        model_files.find(model, offline=flags.offline)
    source = open_source(flags.data_dir, offline=flags.offline)
    check_data(source, tasks)
    for model in flags.models:
        warm_up(model, tasks, source, flags)


def check_data(source: DataSource, tasks: Sequence[Task]) -> None:
    """Finds every file of every task, downloading what may be downloaded. Raises DataError or NetworkError."""
    for task in tasks:
        source.fingerprint(task, task.files)
    print(f"data: {', '.join(task.title for task in tasks)} found", flush=True)


def warm_up(model: str, tasks: Sequence[Task], source: DataSource, flags: WarmupFlags) -> None:
    """One model: its tokenizer, weights and the head of each kind of task tried, all splits of all tasks tokenized."""
    environment.import_paddle()
    import paddle

    from cluebench import models

    paddle.set_device("cpu")  # the cards belong to the trials
    start = time.perf_counter()
    refuse_what_it_cannot_do(model, models.preflight(model, tasks, offline=flags.offline))
    encoder = TextEncoder(models.load_tokenizer(model, offline=flags.offline))
    print(f"{model}: tokenizer and weights tried in {time.perf_counter() - start:.1f} s", flush=True)
    cache, start, made = FeatureCache(flags.cache_dir or environment.cache_home()), time.perf_counter(), 0
    splits = list(splits_of(tasks))
    with tqdm(splits, unit="split", file=sys.stderr, disable=None) as bar:
        for task, split in bar:
            bar.set_description(f"{task.title} {split}")
            made += warm_up_split(task, split, source, encoder, cache, flags, bar)
    seconds = time.perf_counter() - start
    print(f"{model}: {made} splits tokenized, {len(splits) - made} found in the cache, {seconds:.1f} s", flush=True)


def refuse_what_it_cannot_do(model: str, reasons: Mapping[str, str | None]) -> None:
    """One line for each task that the preflight found impossible, then UsageError."""
    unable = [TASKS[name].title for name, reason in reasons.items() if reason]
    for title in unable:
        print(f"{model} can't do {title}: {reasons[title.lower()]}", file=sys.stderr)
    if unable:
        able = [TASKS[name].title for name, reason in reasons.items() if not reason]
        advice = f"run it with --tasks {' '.join(able)}" if able else "choose another model"
        raise UsageError(f"{model} can't do {', '.join(unable)}: {advice}")


def splits_of(tasks: Sequence[Task]) -> Iterator[tuple[Task, str]]:
    """Every split a script may ask for: train, dev and all test sets."""
    for task in tasks:
        for split in ("train", "dev", *(test.split for test in task.test_sets)):
            yield task, split


def warm_up_split(
    task: Task, split: str, source: DataSource, encoder: TextEncoder, cache: FeatureCache, flags: WarmupFlags, bar: tqdm
) -> bool:
    """Whether the split had to be tokenized; says what it did."""
    settings = dict(max_seq_length=task.max_seq_length, limit=flags.limit)
    key = feature_key(task, split, source, encoder, **settings)
    found = cache.holds(key) and not flags.overwrite_cache
    start = time.perf_counter()
    features = load_features(
        task, split, source, encoder, cache, overwrite=flags.overwrite_cache, num_proc=flags.num_proc, **settings
    )
    what = "found" if found else f"tokenized in {time.perf_counter() - start:.1f} s"
    bar.write(f"{task.title} {split}: {len(features):,} examples, {what}", file=sys.stdout)
    return not found


if __name__ == "__main__":
    command.run(main)
