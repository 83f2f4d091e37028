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

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("task", [task for task in TASKS.values() if not task.is_classification], ids=lambda t: t.name)
def test_trains_evaluates_predicts(task, demo, run, tmp_path):
    """The loss falls, the saved model evaluates to the very same number, every test question is answered once."""
    flags = ["--batch_size", 8, "--learning_rate", 2e-3, "--num_train_epochs", 2, "--logging_steps", 2]
    ended = run(task.name, "out", *flags, "--max_seq_length", 64, "--do_train", "--do_predict")
    assert np.mean(ended.losses[-3:]) < np.mean(ended.losses[:3])
    result, out = ended.result, ended.folder
    assert result.status == "done" and [point.epoch for point in result.dev_curve] == [0, 1]
    assert f"best_result: {task.format_score(result.best_score)}" in ended.lines
    source = open_source(demo[1])
    kept = dev_predictions.of_result(result, out / "result.json")
    assert kept.step == result.best_step and len(np.unique(kept.clusters)) < len(kept.predicted)
    assert examples_of(task, load_rows(source, task, "dev"), kept)
    for test in task.test_sets:
        check_submission(task, out / test.submission, load_rows(source, task, test.split))
    again = ["--model_name_or_path", out, "--max_seq_length", 64, "--do_eval", "--result_json", tmp_path / "eval.json"]
    run(task.name, "eval", *again)
    assert Result.read(tmp_path / "eval.json").best_score == result.best_score


def test_rows_that_answers_are_compared_with_are_read_once_a_run(run, monkeypatch):
    from cluebench.training import run as training_run

    read, load = [], training_run.load_rows
    monkeypatch.setattr(training_run, "load_rows", lambda *asked: read.append(asked[2]) or load(*asked))
    flags = ["--max_seq_length", 64, "--max_steps", 3, "--save_steps", 1, "--do_train", "--do_eval"]
    assert run("cmrc2018", "out", *flags).out.count("eval loss") == 4 and read == ["dev"]


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


def test_every_flag_of_cmrc2018_takes_effect(run):
    """Stride and lengths change what the model sees, the answer length what is decoded."""
    flags = ["--batch_size", 8, "--max_seq_length", 64, "--do_train"]
    first = run("cmrc2018", "out", *flags, "--max_steps", 2, "--do_predict", "--max_answer_length", 3)
    answers = json.loads((first.folder / "cmrc2018_predict.json").read_text(encoding="utf-8"))
    assert all(len(answer) <= 3 for answer in answers.values())
    flags += ["--num_train_epochs", 1, "--limit", 24]
    changes = {"plain": [], "stride": ["--doc_stride", 16], "query": ["--max_query_length", 4]}
    changes["length"] = ["--max_seq_length", 48]
    steps = {name: run("cmrc2018", name, *flags, *more).result.total_steps for name, more in changes.items()}
    assert steps["stride"] > steps["plain"] and steps["length"] > steps["plain"] >= steps["query"]
