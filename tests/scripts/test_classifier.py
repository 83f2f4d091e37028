"""The classification script end to end, on the tiny model."""

import json
import math
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.records import dev_predictions
from cluebench.records.result import Result
from tests.scripts.conftest import check_interrupted
from tests.scripts.running import assert_scalars, command, without_dropout

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", [task.name for task in TASKS.values() if task.is_classification])
def test_trains_evaluates_predicts(name, run):
    """Every task: the loss falls, the saved model evaluates to the very same number, the submission is whole."""
    task = TASKS[name]
    flags = ["--task_name", task.title, "--batch_size", 16, "--learning_rate", 2e-3, "--max_steps", 12]
    ended = run(name, "out", *flags, "--save_steps", 6, "--logging_steps", 3, "--do_train", "--do_predict")
    assert len(ended.losses) == 4 and ended.losses[-1] < ended.losses[0]
    result, out = ended.result, ended.folder
    assert result.status == "done" and result.total_steps == 12 and [p.step for p in result.dev_curve] == [6, 12]
    analysed = [json.loads(line) for line in (out / "dev_predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    wrong = sum(row["gold"] != row["predicted"] for row in analysed)
    assert 100 * (1 - wrong / len(analysed)) == pytest.approx(result.best_score[0])
    assert not wrong or f"dev errors of the best model: {wrong} of {len(analysed)}" in ended.lines
    kept = dev_predictions.of_result(result, out / "result.json")
    assert [task.labels[index] for index in kept.predicted] == [row["predicted"] for row in analysed]
    assert ended.lines.count(f"best_result: {result.best_score[0]:.2f}") == 1
    for test in task.test_sets:
        written = [json.loads(line) for line in (out / test.submission).read_text(encoding="utf-8").splitlines()]
        assert [row["id"] for row in written] == list(range(24))
        assert {row["label"] for row in written} <= set(task.labels)
    again = out.parent / "eval.json"
    run(name, "eval", "--model_name_or_path", out, "--do_eval", "--result_json", again)
    assert Result.read(again).best_score == result.best_score


def test_losses_are_those_of_the_published_loop(demo, run, tmp_path):
    """Row order, seeding, schedule and optimizer: without dropout, the losses agree step by step up to rounding."""
    from tests.scripts.reference import published_losses

    model = without_dropout(demo[0], tmp_path)
    flags = "--batch_size 16 --learning_rate 1e-3 --num_train_epochs 4 --logging_steps 1 --dropout 0 --do_train"
    ended = run("ocnli", "out", "--model_name_or_path", model, *flags.split())
    expected = published_losses(TASKS["ocnli"], model, demo[1], batch_size=16, learning_rate=1e-3, epochs=4)
    assert len(ended.losses) == len(expected) == 24
    np.testing.assert_allclose(ended.losses, expected, atol=2e-4)


def test_the_same_seed_gives_the_same_losses(run):
    runs = []
    for seed, name in ((42, "a"), (42, "b"), (43, "c")):
        random.seed(time.time())
        flags = ["--batch_size", 16, "--logging_steps", 1, "--max_steps", 8, "--seed", seed, "--do_train"]
        runs.append(run("tnews", name, *flags).losses)
    assert runs[0] == runs[1] != runs[2] and len(runs[0]) == 8


def test_nan_ends_the_run_with_one_line(run):
    flags = ["--learning_rate", 1e30, "--max_grad_norm", 0, "--warmup_proportion", 0, "--do_train"]
    ended = run("tnews", "out", *flags, "--logging_steps", 2, "--max_steps", 20, code=3)
    assert ended.err.strip().splitlines()[-1].startswith("error: the loss became NaN")
    assert ended.result.status == "failed" and "learning_rate" in ended.result.error


def test_interrupted_it_leaves_no_half_written_file(demo, start_script, tmp_path):
    flags = ["--num_train_epochs", 500, "--logging_steps", 1, "--save_steps", 2, "--do_train"]
    check_interrupted(start_script(*command(demo, "tnews", tmp_path / "out", *flags)), "global step 6/")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(".")]
    assert Result.read(tmp_path / "out" / "result.json").status == "running"


@pytest.mark.parametrize(
    "wrong, named",
    [
        ("--do_train --task_name cmrc2018", "run mrc/run_cmrc2018.py"),
        ("--do_train --task_name mnli", "unknown task 'mnli'; this script does AFQMC, TNEWS, IFLYTEK, CMNLI, OCNLI, CLUEWSC2020, CSL\n"),
        ("", "--do_train"),
        ("--do_train --batch_size 16 --gradient_accumulation_steps 3", "equal"),
        ("--do_train --device tpu", "--device tpu"),
        ("--do_train --data_dir nowhere", "nowhere"),
        ("--do_train --amp fp16", "--amp fp16: Paddle has no float16 training"),
        ("--do_train --amp bf16", "--amp bf16: PaddlePaddle has no bfloat16 kernels for CPUs; use --amp off"),
        ("--do_train --model_name_or_path ./nowhere", "./nowhere: no such directory"),
    ],
)  # fmt: skip
def test_wrong_flags_get_one_line_and_exit_code_2(wrong, named, run):
    ended = run("tnews", "out", *wrong.split(), code=2)
    assert ended.err.count("\n") == 1 and named in ended.err


def test_scalars_learning_rates_and_no_model_if_none_is_wanted(run, tmp_path):
    """The learning rate of a line is of the next step."""
    flags = ["--learning_rate", 3e-5, "--max_steps", 20, "--logging_steps", 1, "--save_best_model", "False"]
    ended = run("tnews", "out", *flags, "--do_train", "--do_predict", "--visualdl_dir", tmp_path / "vdl")
    assert_scalars(tmp_path / "vdl", list(range(1, 21)))
    rates = [line[5] for line in ended.training]
    assert rates[0] == f"{3e-5 * 1 / 2:.10f}" and rates[1] == f"{3e-5:.10f}" and rates[-1] == "0.0000000000"
    assert math.isclose(float(rates[2]), 3e-5 * 17 / 18, abs_tol=1e-10)
    assert {path.name for path in ended.folder.iterdir()} == {
        "result.json", "result.predictions", "dev_predictions.jsonl", "tnews11_predict.json", "tnews10_predict.json",
    }  # fmt: skip


def test_predicts_where_there_is_only_a_test_set(demo, run, tmp_path):
    (tmp_path / "data" / "csl_public").mkdir(parents=True)
    shutil.copy(Path(demo[1]) / "csl_public" / "test.json", tmp_path / "data" / "csl_public")
    run("csl", "model", "--max_steps", 1, "--do_train")
    places = ["--model_name_or_path", tmp_path / "model", "--data_dir", tmp_path / "data"]
    ended = run("csl", "out", *places, "--do_predict")
    assert len((ended.folder / "csl_predict.json").read_text().splitlines()) == 24
