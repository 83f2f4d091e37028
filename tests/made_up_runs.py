"""Made-up run directories, as grids leave them: for tests, screenshots and benchmarks.

    python -m tests.made_up_runs FOLDER --models 4 --state failures

writes FOLDER/model-0 … model-3, each with all 134 trials: results, curves, logs, dev predictions and grid.json. With
--seeds 8 it is 1,072 trials; --state is whole, failures (some trials failed for good), running, halving (every second
one stopped early), or small: three trials on made-up data, which lie in FOLDER/data.
"""

import argparse
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from cluebench.benchmark.published import published_models
from cluebench.benchmark.tasks import DEFAULT_SEED, TASKS, Setting, Task
from cluebench.data.official import fingerprint_of, official_files, official_md5s
from cluebench.data.rows import load_rows
from cluebench.data.source import DataSource
from cluebench.demo.synthetic import Sizes, write_synthetic
from cluebench.foundation import atomic
from cluebench.records import identity
from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.finished_trials import protocol_hash
from cluebench.records.log import RunLog, TrainingLine
from cluebench.records.paths import TrialPaths, trial_name
from cluebench.records.result import DevPoint, ModelSize, Result
from cluebench.records.run_flags import RunFlags, resolved

#: Rows that share a passage or a record.
SHARING = 4
STATES = ("whole", "failures", "running", "halving", "small")
MEMORY = "ResourceExhaustedError: Out of memory error on GPU 0. Cannot allocate 1.171875GB memory on GPU 0, 39.2GB memory has been allocated and available memory is only 341.75MB. Please check whether there is any other process using GPU 0"
CRASH = "OSError: [Errno 5] Input/output error: '/data/cache/cmnli/input_ids.npy'; its last lines stand in the log"


def write_run(
    folder: Path,
    model: str,
    *,
    quality: float = 0.0,
    tasks: Sequence[Task] = tuple(TASKS.values()),
    seeds: Sequence[int] = (DEFAULT_SEED,),
    settings: int | None = None,
    rows: int | None = None,
    state: str = "whole",
    data: Path | None = None,
    limit: int | None = None,
) -> None:
    """A model's run directory. quality: points that its scores lie above those of ernie-3.0-base-zh.

    settings: the first of each task's grid only. rows: of each dev split; those of the official files if None. data:
    the directory of the data sets, whose dev rows are then predicted (classification only).
    """
    source, trials, protocols = DataSource(data) if data else None, [], {}
    for task in tasks:
        fingerprint = source.fingerprint(task) if source else fingerprint_of(task, official_md5s(task) or {"": ""})
        for seed in seeds:
            for setting in list(task.grid.points())[:settings]:
                flags = RunFlags(model, do_train=True, **setting._asdict(), seed=seed, limit=limit)
                configuration = identity.configuration(task, resolved(flags, task), model, fingerprint)
                protocols[task.name] = protocol_hash(configuration)
                entry = {"task": task.name, "name": trial_name(setting, seed), **setting._asdict(), "seed": seed}
                entry |= {"configuration_hash": identity.configuration_hash(configuration)}
                entry |= _fate(state, len(trials))
                trials.append(entry)
                paths = TrialPaths(folder / task.name, entry["name"])
                if entry["state"] in ("done", "stopped"):
                    gold = _gold(task, source, rows)
                    result = write_trial(paths, task, configuration, _right(task, setting, seed, quality, gold), gold)
                    entry["score"] = list(result.best_score)
                    if entry["state"] == "stopped":
                        stop(result, paths)
                elif entry["state"] in ("running", "failed"):
                    score = (50.0, 50.0) if task.metric == "em_f1" else (50.0,)
                    write_log(paths.log, task, _curve(task, configuration, score)[:5], 9000)
    counts = {one: sum(trial["state"] == one for trial in trials) for one in ("done", "running", "waiting", "failed")}
    status = "running" if counts["running"] else "failed" if counts["failed"] else "done"
    grid = {
        "format": 1, "model": model, "model_identity": model, "status": status, "updated": "2026-11-28T09:30:00+00:00",
        "scheduler": {"pid": 1, "host": "gpu-node"}, "counts": counts,
        "command": ["grid_search_tools/grid_search.py", model, *(["--data_dir", str(data)] if data else [])],
        "data_dir": str(data) if data else None, "devices": ["gpu:0 NVIDIA A100-SXM4-40GB", "gpu:1 NVIDIA A100-SXM4-40GB"],
        "commit": "0123456789abcdef0123456789abcdef01234567", "protocols": protocols, "trials": trials,
    }  # fmt: skip
    atomic.write_json(folder / "grid.json", grid)


def _fate(state: str, number: int) -> dict:
    """State, attempts and failures of a trial of a grid in ``state``."""
    found = {"state": "done", "attempts": [{"devices": [f"gpu:{number % 2}"]}], "failures": []}
    memory, crash = {"kind": "out of memory", "detail": MEMORY}, {"kind": "crash", "detail": CRASH}
    if state == "failures" and number % 27 == 11:
        found |= {"state": "failed", "failures": [memory] * 3}
    elif state == "failures" and number % 27 == 20:
        found |= {"failures": [crash]}
    elif state == "halving" and number % 2:
        found |= {"state": "stopped"}
    elif state == "running" and number % 5 == 3:
        found |= {"state": "running"} if number % 20 == 3 else {"state": "waiting", "attempts": []}
    return found


# Trials ---------------------------------------------------------------------------------------------------------------


def write_trial(paths: TrialPaths, task: Task, configuration: dict, right: np.ndarray, gold: np.ndarray) -> Result:
    """A finished trial: right bool [rows], what its best model got right; gold int [rows], the right indices."""
    clusters = None if task.is_classification else np.arange(len(right)) // SHARING
    if task.metric == "em_f1":
        ids = [str(number) for number in range(len(right))]
        f1 = np.where(right, 1.0, 0.6)
        predictions = DevPredictions.of_spans(ids, dict.fromkeys(ids, "光荣和他们"), right.astype(float), f1, clusters)
    else:
        options = len(task.labels) or task.num_choices
        far = np.random.default_rng(1).random(len(right)) < 0.3  # the others are mistaken for a neighbour
        other = np.where(far, gold * 7 + 3, gold + 1) % options
        other = np.where(other == gold, (gold + 1) % options, other)
        predictions = DevPredictions.of_choices(range(len(right)), np.where(right, gold, other), gold, clusters)
    hashed = identity.configuration_hash(configuration)
    result = Result(task.name, configuration["model"], configuration, hashed, "done")
    result.metric, result.total_steps = task.metric, _steps(task, configuration)
    for point in _curve(task, configuration, predictions.score):
        result.add(point)
    speed = 9.0 * 32 / configuration["batch_size"]
    result.train_seconds = round(result.total_steps / speed, 1)
    result.eval_seconds = round(len(result.dev_curve) * len(right) / 900, 1)
    result.peak_memory_bytes = (2 + configuration["batch_size"] * task.max_seq_length // 1024) << 30
    result.model_size = ModelSize(12, 768, 102_267_648)
    result.device, result.accumulation_steps = "gpu:0", task.accumulation_steps(configuration["batch_size"])
    result.versions = {"python": "3.11.7", "cluebench": "0.1.0", "paddlepaddle-gpu": "3.3.1", "paddlenlp": "3.0.0b4"}
    result.started, result.finished = "2026-11-28T08:00:00+00:00", "2026-11-28T09:00:00+00:00"
    predictions.write(paths.predictions, configuration, result.best_step or 0)
    result.write(paths.result)
    write_log(paths.log, task, result.dev_curve, result.total_steps, best=result.best_score)
    return result


def stop(result: Result, paths: TrialPaths) -> None:
    """Makes a finished trial one that was stopped at a third of its evaluations."""
    curve, result.dev_curve, result.best_score, result.status = result.dev_curve, [], None, "stopped"
    for point in curve[: len(curve) // 3 + 1]:
        result.add(point)
    result.write(paths.result)
    paths.predictions.unlink()
    write_log(paths.log, TASKS[result.task], result.dev_curve, result.total_steps)


def write_log(path: Path, task: Task, curve: Sequence[DevPoint], total: int, best: tuple | None = None) -> None:
    """The published lines of a run, as far as ``curve`` goes; ``best``: its score, where it has ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([total, int(100 * curve[-1].score[0])])
    start = math.log(max(2, len(task.labels) or task.num_choices or 300))
    with open(path, "w", encoding="utf-8") as stream:
        log = RunLog(stream)
        for before, point in zip([DevPoint(0, 0, ()), *curve], curve):
            for step in range(before.step + 100 - before.step % 100, point.step + 1, 100):
                loss = start * (0.25 + 0.75 * math.exp(-4 * step / total)) * generator.uniform(0.8, 1.2)
                log.train(TrainingLine(step, total, point.epoch, step, loss, 3e-5 * (1 - step / total), 9.0))
            log.evaluated(point.loss or 0.0, point.score, 1.5)
        if best:
            log.best(task.format_score(tuple(best)))


def _right(task: Task, setting: Setting, seed: int, quality: float, gold: np.ndarray) -> np.ndarray:
    """bool [rows]: the share of right rows follows from the setting, with luck."""
    rate, batch, dropout = setting
    generator = np.random.default_rng([seed, int(rate * 1e6), batch, int(10 * dropout)])
    score = published_models()["ernie-3.0-base-zh"].score(task)[0] + quality
    score -= 1.2 * math.log2(rate / 2.5e-5) ** 2 + 0.3 * abs(math.log2(batch / 32))
    score += 4 * (dropout - 0.1) + 0.35 * generator.normal()
    hard = np.random.default_rng(0).random(len(gold)) + 0.15 * generator.normal(size=len(gold))
    return hard <= np.quantile(hard, min(max(score / 100, 0.05), 0.99))


def _curve(task: Task, configuration: dict, score: Sequence[float]) -> list[DevPoint]:
    """Rising and levelling off at ``score``, which only the best point reaches."""
    total, generator = _steps(task, configuration), np.random.default_rng(configuration["seed"])
    an_epoch = total // task.epochs
    every = task.eval_every_steps or an_epoch
    steps = sorted({*range(every, total + 1, every), total})
    speed = 10 * configuration["learning_rate"] / 3e-5
    shares = [1 - 0.45 * math.exp(-speed * step / total) - 0.004 * generator.random() for step in steps]
    best = max(range(len(steps)), key=shares.__getitem__)
    shares = [1.0 if place == best else min(share / shares[best], 0.9995) for place, share in enumerate(shares)]
    return [
        DevPoint(step, (step - 1) // an_epoch, tuple(share * one for one in score), round(1.6 - share, 4))
        for step, share in zip(steps, shares)
    ]


def _steps(task: Task, configuration: dict) -> int:
    rows = sum(official_files()[task.name, file].usable_rows or 1000 for file in task.train_files)
    return task.epochs * math.ceil((configuration["limit"] or rows) / configuration["batch_size"])


@cache
def _gold(task: Task, source: DataSource | None, rows: int | None) -> np.ndarray:
    if source:
        return np.array([row.label for row in load_rows(source, task, "dev")])
    number = rows or sum(official_files()[task.name, file].usable_rows or 0 for file in task.dev_files)
    number *= 1 if rows or not task.answer_files else 7  # blanks of a record
    shares = np.random.default_rng(2).dirichlet(np.full(len(task.labels) or task.num_choices or 1, 3.0))
    return np.random.default_rng(3).choice(len(shares), number, p=shares)


# The command ----------------------------------------------------------------------------------------------------------


def write_small(folder: Path, model: str = "made-up/small") -> None:
    """Three trials of TNEWS on made-up data, which are written beside the run directory into ``data``."""
    data, tnews = folder.parent / "data", TASKS["tnews"]
    write_synthetic(data, ["tnews"], {"tnews": Sizes(600, 200, 20)})
    write_run(folder, model, tasks=[tnews], settings=3, data=data, limit=600)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--state", choices=STATES, default="whole")
    parser.add_argument("--rows", type=int, help="of each dev split; as many as in the official files if left out")
    flags = parser.parse_args()
    for number in range(flags.models):
        folder, seeds = flags.folder / f"model-{number}", range(DEFAULT_SEED, DEFAULT_SEED + flags.seeds)
        if flags.state == "small":
            write_small(folder)
        else:
            more = {"seeds": seeds, "rows": flags.rows, "state": flags.state}
            write_run(folder, f"made-up/model-{number}", quality=6 * number / flags.models - 3, **more)


if __name__ == "__main__":
    main()
