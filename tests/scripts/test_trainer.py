"""The Trainer script: the same losses, scores and files as the plain script, and what only the Trainer has."""

import json
import os
import pickle
import re

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.file_facts import facts_of
from cluebench.pretrained.model import Model
from cluebench.records.dev_predictions import of_result
from cluebench.records.log import read_log
from cluebench.records.result import Result
from cluebench.training.checkpoint_format import CheckpointOwner
from tests.scripts.conftest import check_interrupted
from tests.scripts.running import assert_scalars, common, losses, training, without_dropout

pytestmark = pytest.mark.slow

PLAIN = "classification/run_clue_classifier.py"
SCRIPT = "classification/run_clue_classifier_trainer.py"


@pytest.fixture
def run_trainer(run_script):
    """The script with parameters named as in a process of its own: checkpoints of the optimizer go by these names."""
    from paddle.utils import unique_name

    def run(*arguments):
        with unique_name.guard():
            return run_script(SCRIPT, *arguments)

    return run


# The plain script's equal ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout, padding", [(0, []), (0.1, []), (0.1, ["--padding"])])
def test_losses_are_the_plain_scripts(dropout, padding, demo, run_script, tmp_path):
    """Over 54 steps, nine epochs: row order, seeding, schedule, optimizer, padding; and dropout draws the same masks."""
    model = without_dropout(demo[0], tmp_path) if not dropout else demo[0]
    shared = f"--dropout {dropout} --learning_rate 1e-3 --num_train_epochs 9 --logging_steps 1 --save_steps 20".split()
    shared += ["--do_train", *padding]
    plain = run_script(
        PLAIN, *common((model, demo[1]), tmp_path / "a", "--task_name", "tnews", "--batch_size", 16), *shared
    )
    other = ["--dataset", "clue tnews", "--per_device_train_batch_size", 16]
    trained = run_script(SCRIPT, *common((model, demo[1]), tmp_path / "b"), *other, *shared)
    assert plain.code == trained.code == 0, trained.err
    a, b = training(plain.lines), training(trained.lines)
    assert len(a) == len(b) == 54
    assert [line[:4] + line[5:] for line in a] == [line[:4] + line[5:] for line in b]
    np.testing.assert_allclose(losses(trained.lines), losses(plain.lines), atol=2e-5)
    ours, theirs = Result.read(tmp_path / "a" / "result.json"), Result.read(tmp_path / "b" / "result.json")
    assert [(p.step, p.epoch, p.score) for p in ours.dev_curve] == [
        (p.step, p.epoch, p.score) for p in theirs.dev_curve
    ]
    assert [p.step for p in theirs.dev_curve] == [20, 40, 54]
    assert (ours.best_score, ours.best_step) == (theirs.best_score, theirs.best_step)
    assert theirs.status == "done" and theirs.total_steps == 54 and theirs.best_model == str(tmp_path / "b")
    np.testing.assert_allclose([p.loss for p in theirs.dev_curve], [p.loss for p in ours.dev_curve], atol=1e-4)
    files = [(tmp_path / name / "dev_predictions.jsonl").read_text(encoding="utf-8").splitlines() for name in "ab"]
    records = [[{**json.loads(line), "score": None} for line in lines] for lines in files]
    assert records[0] == records[1] and len(records[0]) == 48
    kept = [of_result(result, tmp_path / name / "result.json") for name, result in (("a", ours), ("b", theirs))]
    assert kept[0].predicted.tolist() == kept[1].predicted.tolist()
    assert [line for line in trained.lines if line.startswith("dev errors")] == [
        line for line in plain.lines if line.startswith("dev errors")
    ]


def test_an_incomplete_accumulation_is_a_step(demo, run_script, tmp_path):
    """96 rows in micro-batches of 5, four a step: each epoch ends in four, the last of one row."""
    shared = ["--learning_rate", 1e-3, "--num_train_epochs", 2, "--logging_steps", 1, "--do_train", "--limit", 41]
    shared += ["--gradient_accumulation_steps", 4]
    plain = run_script(PLAIN, *common(demo, tmp_path / "a", "--task_name", "csl", "--batch_size", 20, *shared))
    arguments = common(demo, tmp_path / "b", "--dataset", "CLUE CSL", "--per_device_train_batch_size", 5, *shared)
    trained = run_script(SCRIPT, *arguments)
    assert trained.code == 0, trained.err
    a, b = training(plain.lines), training(trained.lines)
    assert [line[:4] for line in b] == [line[:4] for line in a]
    assert [line[3] for line in b] == ["3", "7", "8"] * 2  # 41 rows: the third step has one micro-batch of one row
    np.testing.assert_allclose(losses(trained.lines), losses(plain.lines), atol=2e-5)


@pytest.mark.parametrize("task", [TASKS["tnews"], TASKS["csl"]], ids=lambda task: task.name)
def test_its_files_are_the_plain_scripts(task, demo, run_script, tmp_path):
    """Trained, evaluated, predicted; the saved model then predicts the same through the plain script."""
    out = tmp_path / "out"
    arguments = common(
        demo, out, "--dataset", f"clue {task.name}", "--per_device_train_batch_size", 16, "--max_steps", 6
    )
    arguments += ["--learning_rate", 2e-3, "--save_steps", 3, "--logging_steps", 2]
    trained = run_script(SCRIPT, *arguments, "--do_train", "--do_eval", "--do_predict")
    assert trained.code == 0, trained.err
    begin, end = f"{demo[0]} on {task.title}, cpu: 96 examples, 6 steps, writing to {out}", trained.err.splitlines()[-1]
    assert begin in trained.err.splitlines() and end.startswith(
        f"written to {out}: the best model, dev_predictions.jsonl"
    )
    assert len(losses(trained.lines)) == 3
    result = Result.read(out / "result.json")
    assert trained.lines.count(f"best_result: {result.best_score[0]:.2f}") == 1
    again = run_script(
        PLAIN, *common((str(out), demo[1]), tmp_path / "again", "--task_name", task.name, "--do_eval", "--do_predict"),
        "--result_json", tmp_path / "again.json",
    )  # fmt: skip
    assert again.code == 0, again.err
    assert Result.read(tmp_path / "again.json").best_score == result.best_score
    for test in task.test_sets:
        assert (out / test.submission).read_bytes() == (tmp_path / "again" / test.submission).read_bytes()
        assert len((out / test.submission).read_bytes().splitlines()) == 24


def test_defaults_are_the_published_settings(demo, run_script, tmp_path):
    arguments = ["--max_steps", 2, "--logging_steps", 1, "--do_train"]
    plain = run_script(PLAIN, *common(demo, tmp_path / "a", "--task_name", "ocnli", *arguments))
    trained = run_script(SCRIPT, *common(demo, tmp_path / "b", "--dataset", "ocnli", *arguments))
    assert training(plain.lines) == training(trained.lines)
    a, b = (Result.read(tmp_path / name / "result.json").configuration for name in "ab")
    assert {key: value for key, value in b.items() if key != "trainer"} == a


def test_loader_workers_change_nothing(demo, start_script, tmp_path):
    """In processes of their own: workers that fork from this one would keep its pipes to a browser open."""
    logs = []
    for workers in (0, 2):
        arguments = ["--dataset", "csl", "--max_steps", 4, "--save_steps", 2, "--logging_steps", 1, "--do_train"]
        arguments += ["--per_device_train_batch_size", 4, "--gradient_accumulation_steps", 3]
        arguments += ["--padding"]  # which is computed always where other processes make the batches
        arguments += ["--dataloader_num_workers", workers]
        process = start_script(SCRIPT, *common(demo, tmp_path / str(workers)), *arguments)
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        logs.append(training(out.splitlines()))
    assert logs[0] == logs[1] and len(logs[0]) == 4


# Export ---------------------------------------------------------------------------------------------------------------


def test_exported_graph_gives_the_models_logits(demo, run_script, tmp_path):
    import paddle

    from cluebench import models

    out = tmp_path / "out"
    trained = run_script(
        SCRIPT, *common(demo, out, "--dataset", "tnews", "--max_steps", 2, "--do_train", "--do_export")
    )
    assert trained.code == 0, trained.err
    assert f"static graph: {out / 'export' / 'model'}" in trained.lines
    assert json.loads((out / "export" / "config.json").read_text())["id2label"]["2"] == "102"
    graph = paddle.jit.load(str(out / "export" / "model"))
    model = models.load_model(TASKS["tnews"], Model.of(out))
    model.eval()
    for rows, tokens in ((3, 9), (1, 128), (7, 2)):  # no size is fixed
        rng = np.random.default_rng(tokens)
        ids = rng.integers(5, 100, (rows, tokens))
        ids[0, tokens // 2 + 1 :] = 0  # padding
        types = rng.integers(0, 2, (rows, tokens))
        logits = [one(paddle.to_tensor(ids), paddle.to_tensor(types)) for one in (graph, model)]
        assert logits[0].shape == [rows, 15]
        np.testing.assert_allclose(logits[0].numpy(), logits[1].numpy(), atol=1e-5)
    again = run_script(SCRIPT, *common((str(out), demo[1]), tmp_path / "again", "--dataset", "tnews", "--do_export"))
    assert again.code == 0 and (tmp_path / "again" / "export" / "vocab.txt").is_file()
    assert not (tmp_path / "again" / "result.json").exists()


# Checkpoints ----------------------------------------------------------------------------------------------------------


ARGUMENTS = [
    "--dataset", "tnews", "--per_device_train_batch_size", 16, "--learning_rate", 1e-3, "--num_train_epochs", 12,
    "--logging_steps", 1, "--dropout", 0.1, "--do_train",
]  # fmt: skip


@pytest.mark.parametrize("save_steps", [7, 6])
def test_killed_it_goes_on_from_its_last_checkpoint(save_steps, demo, run_trainer, start_script, tmp_path):
    """In the middle of an epoch of six steps, and at its end; to the same losses, scores and weights, dropout included."""
    arguments = [*ARGUMENTS, "--save_steps", save_steps]
    cut = start_script(SCRIPT, *common(demo, tmp_path / "cut"), *arguments)
    for line in cut.stdout:
        if line.startswith("global step 32/"):
            cut.kill()
            break
    cut.wait()
    whole, resumed = (run_trainer(*common(demo, tmp_path / name), *arguments) for name in ("whole", "cut"))
    assert whole.code == resumed.code == 0, whole.err + resumed.err
    step = int(re.fullmatch(rf"going on from {tmp_path / 'cut'}/checkpoint-(\d+)", resumed.lines[0])[1])
    assert step % save_steps == 0 and 20 < step <= 32
    lines = training(resumed.lines)
    assert lines == training(whole.lines)[step:] and len(lines) == 72 - step
    a, b = (Result.read(tmp_path / name / "result.json") for name in ("whole", "cut"))
    assert a.dev_curve == b.dev_curve and (a.best_score, a.best_step) == (b.best_score, b.best_step)
    weights = [(tmp_path / name / "model_state.pdparams").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    # three checkpoints are kept, the best among them
    kept = {path.name for path in (tmp_path / "whole").glob("checkpoint-*")}
    assert len(kept) == 3 and f"checkpoint-{a.best_step}" in kept and "checkpoint-72" in kept


def test_half_a_checkpoint_is_passed_over(demo, run_trainer, tmp_path):
    arguments = [*common(demo, tmp_path / "out"), *ARGUMENTS, "--max_steps", 6, "--save_steps", 2]
    assert run_trainer(*arguments).code == 0
    for name in ("optimizer.pdopt", "complete.json"):
        (tmp_path / "out" / "checkpoint-6" / name).unlink()
    again = run_trainer(*arguments)
    assert again.code == 0, again.err
    assert again.lines[0] == f"going on from {tmp_path / 'out' / 'checkpoint-4'}"
    assert [line[0] for line in training(again.lines)] == ["5", "6"]
    weights = tmp_path / "out" / "checkpoint-6" / "model_state.pdparams"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1  # another model, which no reader can tell
    weights.write_bytes(content)
    asked = run_trainer(*arguments, "--resume_from_checkpoint", weights.parent)
    assert (
        asked.code == 2
        and f"{weights}: is not what was written" in asked.err
        and "give the checkpoint before" in asked.err
    )
    assert run_trainer(*arguments).lines[0] == f"going on from {tmp_path / 'out' / 'checkpoint-4'}"


def test_predictions_go_back_to_the_checkpoint_too(demo, run_trainer, tmp_path):
    """Killed after an evaluation with a better score and before its checkpoint; the repeated step then scores lower."""
    out = tmp_path / "out"
    arguments = [*common(demo, out), *ARGUMENTS, "--max_steps", 4, "--save_steps", 2, "--learning_rate", 0]
    assert run_trainer(*arguments).code == 0
    result, expected = Result.read(out / "result.json"), (out / "dev_predictions.jsonl").read_bytes()
    assert result.best_step == 2
    (out / "checkpoint-4" / "complete.json").unlink()
    of_result(result, out / "result.json").write(out / "result.predictions", result.configuration, step=4)
    (out / "dev_predictions.jsonl").write_text("of step 4")
    again = run_trainer(*arguments)
    assert again.code == 0 and again.lines[0] == f"going on from {out / 'checkpoint-2'}", again.err
    result = Result.read(out / "result.json")
    assert result.best_step == 2 and of_result(result, out / "result.json").step == 2
    assert (out / "dev_predictions.jsonl").read_bytes() == expected


class Harm:
    def __reduce__(self):
        return os.mkdir, (os.environ["HARMED"],)


@pytest.mark.parametrize("given", [True, False])
def test_no_code_in_a_checkpoint_is_run(given, demo, run_trainer, tmp_path, monkeypatch):
    """Not even where whoever put it there knew of the sums in complete.json."""
    monkeypatch.setenv("HARMED", str(tmp_path / "harmed"))
    arguments = [*common(demo, tmp_path / "out"), *ARGUMENTS, "--max_steps", 4, "--save_steps", 2]
    assert run_trainer(*arguments).code == 0
    last = tmp_path / "out" / "checkpoint-4"
    (last / "optimizer.pdopt").write_bytes(pickle.dumps({"moment": Harm()}))
    owner = CheckpointOwner.read(last / "complete.json", "")
    owner.files["optimizer.pdopt"] = facts_of(last / "optimizer.pdopt")
    owner.write(last / "complete.json")
    ended = run_trainer(*arguments, *(["--resume_from_checkpoint", last] if given else []))
    assert ended.code == 2 and ended.err.count("\n") == 1
    assert "optimizer.pdopt: the pickle asks for posix.mkdir" in ended.err and not (tmp_path / "harmed").exists()


def test_a_finished_run_started_again_trains_nothing(demo, run_trainer, tmp_path):
    arguments = [*common(demo, tmp_path / "out"), *ARGUMENTS, "--max_steps", 4, "--save_steps", 2, "--do_eval"]
    first, second = run_trainer(*arguments), run_trainer(*arguments)
    assert second.code == 0, second.err
    assert training(second.lines) == [] and second.lines[-1] == first.lines[-1]
    again = run_trainer(*arguments, "--resume", "False")
    assert training(again.lines) == training(first.lines)
    again = run_trainer(*arguments, "--overwrite_output_dir", "--max_steps", 3)
    assert again.code == 0 and len(training(again.lines)) == 3
    assert {path.name for path in (tmp_path / "out").glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-3"}


def test_checkpoints_of_another_run_are_not_resumed(demo, run_trainer, tmp_path):
    arguments = [*common(demo, tmp_path / "out"), *ARGUMENTS, "--max_steps", 2, "--save_steps", 2]
    assert run_trainer(*arguments).code == 0
    other = run_trainer(*arguments, "--learning_rate", 2e-3)
    assert other.code == 2 and other.err.count("\n") == 1
    assert "of a run with other settings (learning_rate" in other.err and "--overwrite_output_dir" in other.err


def test_only_so_many_checkpoints_are_kept(demo, run_trainer, tmp_path):
    arguments = [*common(demo, tmp_path / "out"), *ARGUMENTS, "--max_steps", 10, "--save_steps", 1]
    assert run_trainer(*arguments, "--save_total_limit", 2).code == 0
    best = Result.read(tmp_path / "out" / "result.json").best_step
    kept = {path.name for path in (tmp_path / "out").glob("checkpoint-*")}
    assert kept >= {f"checkpoint-{best}", "checkpoint-10"} and len(kept) == 2


# Other flags ----------------------------------------------------------------------------------------------------------


def test_the_best_model_is_the_one_that_goes_on(demo, run_script, tmp_path):
    """Without --load_best_model_at_end the last model does."""
    arguments = [*ARGUMENTS, "--max_steps", 12, "--save_steps", 2, "--learning_rate", 5e-3, "--do_eval"]
    best = run_script(SCRIPT, *common(demo, tmp_path / "best"), *arguments)
    last = run_script(SCRIPT, *common(demo, tmp_path / "last"), *arguments, "--load_best_model_at_end", "False")
    result = Result.read(tmp_path / "best" / "result.json")
    evaluations = [line for line in best.lines if line.startswith("eval loss")]
    by_step = dict(zip((point.step for point in result.dev_curve), evaluations))
    assert without_time(evaluations[-1]) == without_time(by_step[result.best_step])
    evaluations = [line for line in last.lines if line.startswith("eval loss")]
    assert without_time(evaluations[-1]) == without_time(by_step[12])
    assert Result.read(tmp_path / "last" / "result.json").best_model is None


def without_time(line):
    return line.split(", eval done")[0]


def test_evaluation_every_epoch_in_log_and_scalars(demo, run_script, tmp_path):
    arguments = common(demo, tmp_path / "out", *ARGUMENTS, "--num_train_epochs", 2, "--logging_steps", 4)
    arguments += ["--evaluation_strategy", "epoch", "--save_strategy", "epoch", "--visualdl_dir", tmp_path / "vdl"]
    ended = run_script(SCRIPT, *arguments)
    assert ended.code == 0, ended.err
    (tmp_path / "log").write_text(ended.out)
    log, result = read_log(tmp_path / "log"), Result.read(tmp_path / "out" / "result.json")
    assert [point.step for point in result.dev_curve] == [6, 12]
    assert (log.step, log.total_steps, log.best_score) == (12, 12, (round(result.best_score[0], 2),))
    assert_scalars(tmp_path / "vdl", [4, 8, 12])


def test_nan_ends_the_run_with_one_line(demo, run_script, tmp_path):
    arguments = common(demo, tmp_path / "out", "--dataset", "tnews", "--learning_rate", 1e30, "--max_grad_norm", 0)
    ended = run_script(SCRIPT, *arguments, "--max_steps", 20, "--warmup_ratio", 0, "--do_train")
    assert ended.code == 3 and ended.err.strip().splitlines()[-1].startswith(
        "error: the loss became NaN or infinite at "
    )
    assert Result.read(tmp_path / "out" / "result.json").status == "failed"


def test_interrupted_it_says_so(demo, start_script, tmp_path):
    process = start_script(SCRIPT, *common(demo, tmp_path / "out"), *ARGUMENTS, "--num_train_epochs", 500)
    check_interrupted(process, "global step 6/")


@pytest.mark.parametrize(
    "wrong, named",
    [
        (["--dataset", "clue cmrc2018", "--do_train"], "run mrc/run_cmrc2018.py"),
        (["--dataset", "clue mnli", "--do_train"], "--dataset: unknown task 'mnli'"),
        (["--dataset", "glue tnews", "--do_train"], '"clue tnews"'),
        (["--dataset", "tnews"], "nothing to do"),
        (["--dataset", "tnews", "--do_train", "--learning_rat", "1"], "unrecognized arguments: --learning_rat"),
        (["--dataset", "tnews", "--do_train", "--learning_rate", "fast"], "--learning_rate: invalid float value"),
        (["--dataset", "tnews", "--do_train", "--per_device_train_batch_size", "0"], "must be at least 1"),
        (["--dataset", "tnews", "--do_train", "--evaluation_strategy", "daily"], "--evaluation_strategy: invalid choice"),
        (["--dataset", "tnews", "--do_train", "--metric_for_best_model", "f1"], "choose from eval_accuracy"),
        (["--dataset", "tnews", "--do_train", "--dropout", "1"], "--dropout 1: must be at most 0.99"),
        (["--dataset", "tnews", "--do_train", "--amp", "fp8"], "--amp fp8: choose from off, fp16, bf16"),
        (["--dataset", "tnews", "--do_train", "--amp", "fp16"], "--amp fp16: Paddle has no float16 training on CPUs"),
        (["--dataset", "tnews", "--do_train", "--bf16"], "--amp bf16: PaddlePaddle has no bfloat16 kernels for CPUs; use --amp off"),
        (["--dataset", "tnews", "--do_train", "--fp16"], "--amp fp16: Paddle has no float16 training on CPUs; use --amp off"),
        (["--dataset", "tnews", "--do_train", "--amp", "fp16", "--bf16"], "--amp fp16 contradicts --bf16"),
        (["--dataset", "tnews", "--do_train", "--warmup_ratio", "2"], "warmup_ratio must lie in range [0,1]"),
        (["--dataset", "tnews", "--do_train", "--load_best_model_at_end", "--eval_steps", "3", "--save_steps", "4"], "round multiple"),
        (["--dataset", "tnews", "--do_train", "--data_dir", "nowhere"], "nowhere"),
        (["--dataset", "tnews", "--do_train", "--device", "tpu"], "--device tpu"),
        (["--dataset", "tnews", "--do_train", "--model_name_or_path", "./nowhere"], "./nowhere: no such directory"),
        (["--dataset", "tnews", "--do_train", "--resume_from_checkpoint", "nowhere"], "--resume_from_checkpoint nowhere"),
        (["--do_train"], "the following arguments are required: --dataset"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_wrong_flags_get_one_line_and_exit_code_2(wrong, named, demo, run_script, tmp_path):
    ended = run_script(SCRIPT, *common(demo, tmp_path / "out"), *wrong)
    assert ended.code == 2, ended.err
    assert ended.err.count("\n") == 1 and named in ended.err, ended.err


def test_help_names_every_default(demo, run_script):
    ended = run_script(SCRIPT, "--help")
    text = " ".join(ended.out.split())
    for flag, default in (
        ("per_device_train_batch_size", "32"), ("learning_rate", "3e-05"), ("weight_decay", "0.01"),
        ("num_train_epochs", "the task's"), ("warmup_ratio", "the task's"), ("save_total_limit", "3"),
        ("metric_for_best_model", "eval_accuracy"), ("max_seq_length", "the task's"), ("eval_steps", "save_steps"),
    ):  # fmt: skip
        assert re.search(rf"--{flag} [A-Z_]+ [^(]*(\([^)]*\)[^(]*)*\(default: {re.escape(default)}\)", text), flag
    assert "None" not in "".join(
        re.findall(r"\(default: .*?\)", text.split("--model_name_or_path")[1].split("--output_dir")[0])
    )
