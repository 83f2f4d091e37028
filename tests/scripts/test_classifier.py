"""The classification script end to end, on the tiny model."""

import json
import math
import random
import time

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.records import dev_predictions
from cluebench.records.result import Result
from tests.scripts.conftest import check_interrupted
from tests.scripts.running import LOSS, assert_scalars, common, losses, without_dropout

pytestmark = pytest.mark.slow

SCRIPT = "classification/run_clue_classifier.py"


@pytest.mark.parametrize(
    "task", [task for task in TASKS.values() if task.is_classification], ids=lambda task: task.name
)
def test_trains_evaluates_predicts(task, demo, run_script, tmp_path):
    """Every task: the loss falls, the saved model evaluates to the very same number, the submission is whole."""
    out = tmp_path / "out"
    arguments = common(
        demo, out, "--task_name", task.title, "--batch_size", 16, "--learning_rate", 2e-3, "--max_steps", 12
    )
    ended = run_script(SCRIPT, *arguments, "--save_steps", 6, "--logging_steps", 3, "--do_train", "--do_predict")
    assert ended.code == 0, ended.err
    seen = losses(ended.lines)
    assert len(seen) == 4 and seen[-1] < seen[0]
    result = Result.read(out / "result.json")
    assert result.status == "done" and result.total_steps == 12 and [p.step for p in result.dev_curve] == [6, 12]
    analysed = [json.loads(line) for line in (out / "dev_predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    right = sum(row["gold"] == row["predicted"] for row in analysed)
    assert 100 * right / len(analysed) == pytest.approx(result.best_score[0])
    assert (
        right == len(analysed)
        or f"dev errors of the best model: {len(analysed) - right} of {len(analysed)}" in ended.lines
    )
    kept = dev_predictions.of_result(result, out / "result.json")
    assert [task.labels[index] for index in kept.predicted] == [row["predicted"] for row in analysed]
    assert ended.lines.count(f"best_result: {result.best_score[0]:.2f}") == 1
    for test in task.test_sets:
        written = [json.loads(line) for line in (out / test.submission).read_text(encoding="utf-8").splitlines()]
        assert [row["id"] for row in written] == list(range(24))
        assert {row["label"] for row in written} <= set(task.labels)
    again = run_script(SCRIPT, *common((str(out), demo[1]), tmp_path / "eval", "--task_name", task.name, "--do_eval"),
                       "--result_json", tmp_path / "eval.json")  # fmt: skip
    assert again.code == 0, again.err
    assert Result.read(tmp_path / "eval.json").best_score == result.best_score


def test_losses_are_those_of_the_published_loop(demo, run_script, tmp_path):
    """Row order, seeding, schedule and optimizer: without dropout, the losses agree step by step up to rounding."""
    from tests.scripts.reference import published_losses

    model = without_dropout(demo[0], tmp_path)
    arguments = common((model, demo[1]), tmp_path / "out", "--task_name", "ocnli", "--batch_size", 16)
    ended = run_script(
        SCRIPT,
        *arguments,
        *"--learning_rate 1e-3 --num_train_epochs 4 --logging_steps 1 --dropout 0 --do_train".split(),
    )
    assert ended.code == 0, ended.err
    expected = published_losses(TASKS["ocnli"], model, demo[1], batch_size=16, learning_rate=1e-3, epochs=4)
    seen = losses(ended.lines)
    assert len(seen) == len(expected) == 24
    np.testing.assert_allclose(seen, expected, atol=2e-4)


def test_the_same_seed_gives_the_same_losses(demo, run_script, tmp_path):
    runs = []
    for seed, name in ((42, "a"), (42, "b"), (43, "c")):
        random.seed(time.time())
        arguments = common(demo, tmp_path / name, "--task_name", "tnews", "--batch_size", 16, "--logging_steps", 1)
        runs.append(losses(run_script(SCRIPT, *arguments, "--max_steps", 8, "--seed", seed, "--do_train").lines))
    assert runs[0] == runs[1] != runs[2] and len(runs[0]) == 8


def test_nan_ends_the_run_with_one_line(demo, run_script, tmp_path):
    arguments = common(demo, tmp_path / "out", "--task_name", "tnews", "--learning_rate", 1e30, "--max_grad_norm", 0)
    ended = run_script(
        SCRIPT, *arguments, "--logging_steps", 2, "--max_steps", 20, "--warmup_proportion", 0, "--do_train"
    )
    assert ended.code == 3
    assert ended.err.strip().splitlines()[-1].startswith("error: the loss became NaN")
    result = Result.read(tmp_path / "out" / "result.json")
    assert result.status == "failed" and "learning_rate" in result.error


def test_interrupted_it_leaves_no_half_written_file(demo, start_script, tmp_path):
    process = start_script(
        SCRIPT, *common(demo, tmp_path / "out"), "--task_name", "tnews", "--num_train_epochs", 500, "--logging_steps", 1,
        "--save_steps", 2, "--do_train",
    )  # fmt: skip
    check_interrupted(process, "global step 6/")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(".")]
    assert Result.read(tmp_path / "out" / "result.json").status == "running"


@pytest.mark.parametrize(
    "wrong, named",
    [
        (["--task_name", "cmrc2018", "--do_train"], "run mrc/run_cmrc2018.py"),
        (
            ["--task_name", "mnli", "--do_train"],
            "unknown task 'mnli'; this script does AFQMC, TNEWS, IFLYTEK, CMNLI, OCNLI, CLUEWSC2020, CSL\n",
        ),
        (["--task_name", "tnews"], "--do_train"),
        (["--task_name", "tnews", "--do_train", "--batch_size", "16", "--gradient_accumulation_steps", "3"], "equal"),
        (["--task_name", "tnews", "--do_train", "--device", "tpu"], "--device tpu"),
        (["--task_name", "tnews", "--do_train", "--data_dir", "nowhere"], "nowhere"),
        (["--task_name", "tnews", "--do_train", "--amp", "fp16"], "--amp fp16: Paddle has no float16 training"),
        (
            ["--task_name", "tnews", "--do_train", "--amp", "bf16"],
            "--amp bf16: PaddlePaddle has no bfloat16 kernels for CPUs; use --amp off",
        ),
        (["--task_name", "tnews", "--do_train", "--model_name_or_path", "./nowhere"], "./nowhere: no such directory"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_wrong_flags_get_one_line_and_exit_code_2(wrong, named, demo, run_script, tmp_path):
    ended = run_script(SCRIPT, *common(demo, tmp_path / "out"), *wrong)
    assert ended.code == 2
    assert ended.err.count("\n") == 1 and named in ended.err


def test_scalars_learning_rates_and_no_model_if_none_is_wanted(demo, run_script, tmp_path):
    """The learning rate of a line is of the next step."""
    arguments = common(demo, tmp_path / "out", "--task_name", "tnews", "--learning_rate", 3e-5, "--max_steps", 20)
    arguments += ["--logging_steps", 1, "--do_train", "--do_predict", "--save_best_model", "False"]
    ended = run_script(SCRIPT, *arguments, "--visualdl_dir", tmp_path / "vdl")
    assert ended.code == 0, ended.err
    assert_scalars(tmp_path / "vdl", list(range(1, 21)))
    rates = [match[6] for match in map(LOSS.match, ended.lines) if match]
    assert rates[0] == f"{3e-5 * 1 / 2:.10f}" and rates[1] == f"{3e-5:.10f}" and rates[-1] == "0.0000000000"
    assert math.isclose(float(rates[2]), 3e-5 * 17 / 18, abs_tol=1e-10)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "result.json", "result.predictions", "dev_predictions.jsonl", "tnews11_predict.json", "tnews10_predict.json",
    }  # fmt: skip


def test_predicts_where_there_is_only_a_test_set(demo, run_script, tmp_path):
    import shutil
    from pathlib import Path

    (tmp_path / "data" / "csl_public").mkdir(parents=True)
    shutil.copy(Path(demo[1]) / "csl_public" / "test.json", tmp_path / "data" / "csl_public")
    arguments = common(demo, tmp_path / "model", "--task_name", "csl", "--max_steps", 1, "--do_train")
    assert run_script(SCRIPT, *arguments).code == 0
    ended = run_script(
        SCRIPT, *common((tmp_path / "model", tmp_path / "data"), tmp_path / "out", "--task_name", "csl", "--do_predict")
    )
    assert ended.code == 0, ended.err
    assert len((tmp_path / "out" / "csl_predict.json").read_text().splitlines()) == 24
