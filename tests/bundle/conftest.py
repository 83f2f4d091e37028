"""A finished grid as runs leave it, on made-up data whose md5 sums count as the official ones."""

import csv
import io
import math

import numpy as np
import pytest

from cluebench.benchmark.tasks import DEFAULT_SEED, IDIOM, SPAN, TASKS, Setting
from cluebench.data import official
from cluebench.data.rows import load_rows
from cluebench.data.source import DataSource
from cluebench.demo.synthetic import Sizes, write_synthetic
from cluebench.foundation import atomic
from cluebench.records import dev_predictions, identity
from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.finished_trials import protocol_hash
from cluebench.records.log import RunLog, TrainingLine
from cluebench.records.paths import trial_name
from cluebench.records.result import DevPoint, Result
from cluebench.records.run_flags import RunFlags, resolved

SIZES = {
    "afqmc": Sizes(700, 200, 10),
    "c3": Sizes(60, 50, 10),
    "chid": Sizes(40, 30, 10),
    "cmrc2018": Sizes(40, 30, 10),
}
#: What must not get into a bundle: a person's, and the machine's.
SECRETS = ("/home/zhangsan", "zhangsan", "gpu-node-17")


@pytest.fixture(scope="session")
def _data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("official")
    write_synthetic(folder, SIZES, SIZES)
    (folder / "synthetic.json").unlink()
    rows = []
    source = DataSource(folder)
    for task in (TASKS[name] for name in SIZES):
        for file in (*task.train_files, *task.dev_files):
            is_published = file not in task.answer_files and task.kind != IDIOM  # those of CHID never were
            number = len(load_rows(source, task, "train")) if file in task.train_files[:1] else 0
            md5 = source.md5(task, file) if is_published else ""
            rows.append([task.name, file, number, number, md5, "https://example.org", ""])
    return folder, rows


@pytest.fixture
def data(_data, tmp_path, monkeypatch):
    """The directory of the official files, for as long as the test runs."""
    folder, rows = _data
    stream = io.StringIO()
    header = ["task", "file", "rows", "usable_rows", "md5", "archive_url", "archive_md5"]
    csv.writer(stream).writerows([header, *rows])
    (tmp_path / "facts.csv").write_text(stream.getvalue())
    monkeypatch.setattr(official, "FACTS_FILE", tmp_path / "facts.csv")
    official.official_files.cache_clear()
    yield folder
    official.official_files.cache_clear()


@pytest.fixture
def run(data, tmp_path):
    """runs/hfl--rbt3 with all settings of AFQMC and one of C3, CHID and CMRC2018 each."""
    folder, source = tmp_path / "runs" / "hfl--rbt3", DataSource(data)
    made = [write_trial(folder, TASKS["afqmc"], source, setting) for setting in TASKS["afqmc"].grid.points()]
    for name in ("c3", "chid", "cmrc2018"):
        made += [write_trial(folder, TASKS[name], source, Setting(2e-5, batch, 0.1)) for batch in (24, 32)]
    write_grid(folder, made)
    return folder


def write_grid(folder, results):
    trials = [
        {
            "task": one.task,
            "name": trial_name(Setting(*map(one.configuration.get, Setting._fields))),
            **{key: one.configuration[key] for key in ("learning_rate", "batch_size", "dropout", "seed")},
            "configuration_hash": one.configuration_hash,
            "state": "done",
            "score": list(one.best_score),
            "attempts": [{"devices": ["gpu:0"], "host": "gpu-node-17"}],
            "failures": [{"kind": "crash", "detail": "/home/zhangsan/x: it crashed"}],
        }
        for one in results
    ]
    grid = {
        "format": 1,
        "model": "hfl/rbt3",
        "status": "done",
        "scheduler": {"pid": 1, "host": "gpu-node-17"},
        "command": "/home/zhangsan/grid_search.py hfl/rbt3 --data_dir /home/zhangsan/data --tasks afqmc".split(),
        "data_dir": "/home/zhangsan/data",
        "devices": ["gpu-node-17 gpu 0 Test-80G"],  # as Ray's nodes are called
        "protocols": {one.task: protocol_hash(one.configuration) for one in results},
        "trials": trials,
    }
    atomic.write_json(folder / "grid.json", grid)


def write_trial(folder, task, source, setting):
    """A trial that was run as published: steps counted one by one, the schedule followed step by step."""
    flags = RunFlags("hfl/rbt3", *[True] * 3, **setting._asdict(), seed=DEFAULT_SEED)
    settings = identity.configuration(task, resolved(flags, task), "hfl/rbt3", source.fingerprint(task))
    result = Result(task.name, "/home/zhangsan/models/rbt3", settings, identity.configuration_hash(settings), "done")
    result.metric, result.best_model = task.metric, "/home/zhangsan/runs/x"
    result.versions = {"python": "3.11", "numpy": "1.26.4", "home": "/home/zhangsan"}
    result.started = result.finished = "2026-11-20T08:00:00+00:00"
    result.accumulation_steps = task.accumulation_steps(setting.batch_size)
    examples = examples_of(task, source)
    rng = np.random.default_rng(int(setting.learning_rate * 1e6) + setting.batch_size)
    steps = [(epoch, first) for epoch in range(task.epochs) for first in range(0, examples, setting.batch_size)]
    result.total_steps = len(steps)
    answers = gold_of(task, source)
    path = folder / task.name / f"{trial_name(setting)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".log"), "w") as stream:
        log = RunLog(stream)
        log.line("[2026-11-20 08:00:00,000] [    INFO] - Loading /home/zhangsan/models/rbt3 on gpu-node-17")
        warmup = math.floor(task.warmup_proportion * len(steps))
        for number, (epoch, first) in enumerate(steps, start=1):
            rate = number / warmup if number < warmup else (len(steps) - number) / (len(steps) - warmup)
            if number % 10 == 0:
                log.train(TrainingLine(number, len(steps), epoch, 0, 0.5, setting.learning_rate * rate, 8.8))
            ends = first + setting.batch_size >= examples
            if number == len(steps) or (number % task.eval_every_steps == 0 if task.eval_every_steps else ends):
                predictions = predicted(task, answers, rng)
                point = DevPoint(number, epoch, predictions.score, float(rng.random()))
                log.evaluated(point.loss, point.score, 1.5)
                if result.add(point):
                    predictions.write(dev_predictions.beside(path), settings, number)
        log.line("predictions for test.json: /home/zhangsan/out/afqmc_predict.json")
        log.best(task.format_score(result.best_score))
    result.write(path)
    return result


def examples_of(task, source):
    rows = load_rows(source, task, "train")
    if task.kind == IDIOM:
        return sum(len(row.answers) for row in rows)
    return len(rows) + 7 if task.kind == SPAN else len(rows)  # some contexts take two windows


def gold_of(task, source):
    rows = load_rows(source, task, "dev")
    if task.kind == SPAN:
        return {row.id: row.answers[0] for row in rows}
    if task.kind == IDIOM:
        return {tag: answer for row in rows for tag, answer in row.answers.items()}
    return dict(enumerate(row.label if task.is_classification else row.answer for row in rows))


def predicted(task, answers, rng):
    right = rng.random(len(answers)) < 0.7
    if task.kind == SPAN:
        given = {name: text if good else "错" for (name, text), good in zip(answers.items(), right)}
        return DevPredictions.of_spans(list(answers), given, right.astype(float), right.astype(float))
    gold = np.array(list(answers.values()))
    return DevPredictions.of_choices(list(answers), np.where(right, gold, (gold + 1) % 2), gold)


def spans_without_paddle(answers, rows):
    exact = [float(answers[row.id] in row.answers) for row in rows]
    return exact, exact


@pytest.fixture(autouse=True)
def without_paddle(monkeypatch):
    """EM and F1 of answers that are right or have nothing in common with the right one."""
    monkeypatch.setattr("cluebench.bundle.verifying.question_scores", spans_without_paddle)
    monkeypatch.setattr("cluebench.foundation.environment.import_paddle", lambda: None)


@pytest.fixture(scope="session")
def _packed():
    """What `bundle` packed first."""
    return []


@pytest.fixture
def bundle(_packed, request, data, run_command, tmp_path):
    path = tmp_path / "b.zip"
    if not _packed:
        run = request.getfixturevalue("run")
        ended = run_command("grid_search_tools/bundle.py", "pack", run, "--data_dir", data, "--output", path)
        assert (ended.code, ended.err) == (0, ""), ended.err
        _packed.append(path.read_bytes())
    path.write_bytes(_packed[0])
    return path
