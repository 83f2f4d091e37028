"""Prepares models and data before the first trial: downloads them if needed, tries the models, and fills the cache.

    python grid_search_tools/warmup_dataset_and_model.py ernie-3.0-base-zh

It uses the lengths and settings of the task table, so the trials find their token ids in the cache.
"""

import time
from dataclasses import dataclass

from cluebench.benchmark.tasks import tasks_named
from cluebench.data.source import open_source
from cluebench.diagnosis import warmup
from cluebench.features import FeatureCache, TextEncoder
from cluebench.foundation import command, environment
from cluebench.foundation.flags import cache_dir_flag, data_dir_flag, flag, offline_flag, parse, refuse_unwritable
from cluebench.foundation.notices import waiting
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model


@dataclass
class WarmupFlags:
    __doc__ = __doc__

    models: list[str] = flag(..., "model names or directories", positional=True)
    tasks: list[str] = flag([], "tasks to prepare", default_text="all ten")
    data_dir: str | None = data_dir_flag()
    cache_dir: str | None = cache_dir_flag()
    device: str | None = flag(None, "kind of device of the trials: refuse it if Paddle was not built for it")
    limit: int | None = flag(None, "only the first N rows of every split, as in the trials", minimum=1)
    num_proc: int = flag(1, "processes that tokenize", minimum=1)
    overwrite_cache: bool = flag(False, "tokenize again even if the cache has this data")
    offline: bool = offline_flag()


def main() -> None:
    flags = parse(WarmupFlags)
    refuse_unwritable(flags)
    tasks = tasks_named(flags.tasks)
    chosen = [Model.of(typed, "model") for typed in flags.models]
    for model in chosen:  # seconds, where the data can take minutes
        model_files.find(model, offline=flags.offline)
    source = open_source(flags.data_dir, offline=flags.offline)
    warmup.check_data(source, tasks)
    with waiting("importing Paddle"):  # only now: wrong flags, models and data are reported within seconds
        environment.import_paddle()
    import paddle

    from cluebench import models
    from cluebench.training.device import refuse_foreign

    refuse_foreign(flags.device or "cpu")
    paddle.set_device("cpu")  # the cards belong to the trials
    cache = FeatureCache(flags.cache_dir or environment.cache_home())
    for model in chosen:
        start = time.perf_counter()
        with waiting(f"trying {model.typed}"):
            reasons = models.preflight(model, tasks, offline=flags.offline)
        warmup.refuse_what_it_cannot_do(model, reasons)
        encoder = TextEncoder(models.load_tokenizer(model, offline=flags.offline))
        print(f"{model.typed}: tokenizer and weights tried in {time.perf_counter() - start:.1f} s", flush=True)
        requests = warmup.requests_of(tasks, source, encoder, flags.limit)
        warmup.tokenize(model.typed, requests, cache, overwrite=flags.overwrite_cache, num_proc=flags.num_proc)


if __name__ == "__main__":
    command.run(main)
