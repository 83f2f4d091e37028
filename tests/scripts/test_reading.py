"""The three reading-comprehension scripts end to end, on the tiny model."""

import json
import re

import numpy as np
import pytest

from cluebench.benchmark.tasks import CHOICE, IDIOM, TASKS
from cluebench.data.rows import load_rows
from cluebench.data.source import open_source
from cluebench.records import dev_predictions
from cluebench.records.result import Result
from cluebench.report.examples import examples_of
from tests.scripts.running import common, losses

pytestmark = pytest.mark.slow

READING = [task for task in TASKS.values() if not task.is_classification]


@pytest.mark.parametrize("task", READING, ids=lambda task: task.name)
def test_trains_evaluates_predicts(task, demo, run_script, tmp_path):
    """The loss falls, the saved model evaluates to the very same number, every test question is answered once."""
    out = tmp_path / "out"
    ended = run_script(
        task.script, *common(demo, out), "--batch_size", 8, "--learning_rate", 2e-3, "--num_train_epochs", 2,
        "--logging_steps", 2, "--max_seq_length", 64, "--do_train", "--do_predict",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    seen = losses(ended.lines)
    assert np.mean(seen[-3:]) < np.mean(seen[:3])
    result = Result.read(out / "result.json")
    assert result.status == "done" and [point.epoch for point in result.dev_curve] == [0, 1]
    assert f"best_result: {task.format_score(result.best_score)}" in ended.lines
    source = open_source(demo[1])
    kept = dev_predictions.of_result(result, out / "result.json")
    assert kept.step == result.best_step and len(np.unique(kept.clusters)) < len(kept.predicted)
    assert examples_of(task, load_rows(source, task, "dev"), kept)
    for test in task.test_sets:
        check_submission(task, out / test.submission, load_rows(source, task, test.split))
    again = run_script(
        task.script, *common((str(out), demo[1]), tmp_path / "eval"), "--max_seq_length", 64, "--do_eval",
        "--result_json", tmp_path / "eval.json",
    )  # fmt: skip
    assert again.code == 0, again.err
    assert Result.read(tmp_path / "eval.json").best_score == result.best_score


def test_rows_that_answers_are_compared_with_are_read_once_a_run(demo, run_script, tmp_path, monkeypatch):
    from cluebench.training import run

    read, load = [], run.load_rows
    monkeypatch.setattr(run, "load_rows", lambda *arguments: read.append(arguments[2]) or load(*arguments))
    ended = run_script(
        "mrc/run_cmrc2018.py", *common(demo, tmp_path / "out"), "--max_seq_length", 64, "--max_steps", 3,
        "--save_steps", 1, "--do_train", "--do_eval",
    )  # fmt: skip
    assert ended.out.count("eval loss") == 4 and read == ["dev"]


def check_submission(task, path, rows):
    text = path.read_text(encoding="utf-8")
    if task.kind == CHOICE:
        written = [json.loads(line) for line in text.splitlines()]
        assert [row["id"] for row in written] == [row.id for row in rows]
        assert all(0 <= row["label"] < len(question.options) for row, question in zip(written, rows))
        assert max(len(question.options) for question in rows) > 4 or "1.0" in path.name or "10_" in path.name
        return
    answers = json.loads(text)
    if task.kind == IDIOM:
        tags = [tag for record in rows for passage in record.passages for tag in re.findall(r"#idiom\d+#", passage)]
        assert sorted(answers) == sorted(tags) and set(answers.values()) <= set(range(10))
        for record in rows:
            of_record = [answers[tag] for passage in record.passages for tag in re.findall(r"#idiom\d+#", passage)]
            assert len(set(of_record)) == len(of_record)
    else:
        assert list(answers) == [row.id for row in rows]
        assert all(answers[row.id] in row.context for row in rows)


def test_every_flag_of_cmrc2018_takes_effect(demo, run_script, tmp_path):
    """Stride and lengths change what the model sees, the answer length what is decoded."""
    out, script = tmp_path / "out", TASKS["cmrc2018"].script
    first = run_script(script, *common(demo, out), "--max_steps", 2, "--batch_size", 8, "--max_seq_length", 64, "--do_train",
                       "--do_predict", "--max_answer_length", 3)  # fmt: skip
    assert first.code == 0, first.err
    answers = json.loads((out / "cmrc2018_predict.json").read_text(encoding="utf-8"))
    assert all(len(answer) <= 3 for answer in answers.values())
    steps = {}
    for name, more in {
        "plain": [], "stride": ["--doc_stride", 16], "query": ["--max_query_length", 4], "length": ["--max_seq_length", 48],
    }.items():  # fmt: skip
        arguments = "--batch_size 8 --max_seq_length 64 --num_train_epochs 1 --limit 24 --do_train".split()
        ended = run_script(script, *common(demo, tmp_path / name), *arguments, *more)
        assert ended.code == 0, ended.err
        steps[name] = Result.read(tmp_path / name / "result.json").total_steps
    assert steps["stride"] > steps["plain"] and steps["length"] > steps["plain"] >= steps["query"]
