"""The Trainer script: the same losses, scores and files as the plain script, and what only the Trainer has."""

import json
import os
import pickle
import re
import shlex

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.file_facts import facts_of
from cluebench.pretrained.model import Model
from cluebench.records.dev_predictions import of_result
from cluebench.records.log import read_log
from cluebench.training.checkpoint_format import CheckpointOwner
from tests.scripts.conftest import check_interrupted
from tests.scripts.running import assert_same_curve, assert_scalars, command, kill_after, training, without_dropout

pytestmark = pytest.mark.slow

# The plain script's equal ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout, padding", [(0, []), (0.1, []), (0.1, ["--padding"])])
def test_losses_are_the_plain_scripts(dropout, padding, demo, run, tmp_path):
    """Over 54 steps, nine epochs: row order, seeding, schedule, optimizer, padding; and dropout draws the same masks."""
    shared = ["--model_name_or_path", demo[0] if dropout else without_dropout(demo[0], tmp_path), "--dropout", dropout]
    shared += "--learning_rate 1e-3 --num_train_epochs 9 --logging_steps 1 --save_steps 20 --do_train".split()
    plain = run("tnews", "a", "--batch_size", 16, *shared, *padding)
    other = ["--dataset", "clue tnews", "--per_device_train_batch_size", 16]
    trained = run("trainer", "b", *other, *shared, *padding)
    a, b, ours, theirs = plain.training, trained.training, plain.result, trained.result
    assert len(a) == len(b) == 54
    assert [line[:4] + line[5:] for line in a] == [line[:4] + line[5:] for line in b]
    np.testing.assert_allclose(trained.losses, plain.losses, atol=2e-5)
    points = [[(point.step, point.epoch, point.score) for point in result.dev_curve] for result in (ours, theirs)]
    assert points[0] == points[1] and [step for step, *_ in points[1]] == [20, 40, 54]
    assert (ours.best_score, ours.best_step) == (theirs.best_score, theirs.best_step)
    assert theirs.status == "done" and theirs.total_steps == 54 and theirs.best_model == str(trained.folder)
    np.testing.assert_allclose([p.loss for p in theirs.dev_curve], [p.loss for p in ours.dev_curve], atol=1e-4)
    runs = (plain, trained)
    files = [(ended.folder / "dev_predictions.jsonl").read_text(encoding="utf-8").splitlines() for ended in runs]
    records = [[{**json.loads(line), "score": None} for line in lines] for lines in files]
    assert records[0] == records[1] and len(records[0]) == 48
    kept = [of_result(ended.result, ended.folder / "result.json").predicted.tolist() for ended in runs]
    assert kept[0] == kept[1]
    errors = [[line for line in ended.lines if line.startswith("dev errors")] for ended in runs]
    assert errors[0] == errors[1]


def test_an_incomplete_accumulation_is_a_step(run):
    """96 rows in micro-batches of 5, four a step: each epoch ends in four, the last of one row."""
    shared = ["--learning_rate", 1e-3, "--num_train_epochs", 2, "--logging_steps", 1, "--do_train", "--limit", 41]
    shared += ["--gradient_accumulation_steps", 4]
    plain = run("csl", "a", "--batch_size", 20, *shared)
    trained = run("trainer", "b", "--dataset", "CLUE CSL", "--per_device_train_batch_size", 5, *shared)
    assert [line[:4] for line in trained.training] == [line[:4] for line in plain.training]
    # 41 rows: the third step has one micro-batch of one row
    assert [line[3] for line in trained.training] == ["3", "7", "8"] * 2
    np.testing.assert_allclose(trained.losses, plain.losses, atol=2e-5)


@pytest.mark.parametrize("name", ["tnews", "csl"])
def test_its_files_are_the_plain_scripts(name, demo, run):
    """Trained, evaluated, predicted; the saved model then predicts the same through the plain script."""
    task = TASKS[name]
    flags = ["--dataset", f"clue {name}", "--per_device_train_batch_size", 16, "--max_steps", 6]
    flags += ["--learning_rate", 2e-3, "--save_steps", 3, "--logging_steps", 2]
    trained = run("trainer", "out", *flags, "--do_train", "--do_eval", "--do_predict")
    out, lines = trained.folder, trained.err.splitlines()
    assert f"{demo[0]} on {task.title}, cpu: 96 examples, 6 steps, writing to {out}" in lines
    assert lines[-1].startswith(f"written to {out}: the best model, dev_predictions.jsonl")
    result = trained.result
    assert len(trained.losses) == 3 and trained.lines.count(f"best_result: {result.best_score[0]:.2f}") == 1
    again = out.with_name("again")
    flags = ["--model_name_or_path", out, "--do_eval", "--do_predict", "--result_json", again / "result.json"]
    assert run(name, again, *flags).result.best_score == result.best_score
    for test in task.test_sets:
        assert (out / test.submission).read_bytes() == (again / test.submission).read_bytes()
        assert len((out / test.submission).read_bytes().splitlines()) == 24


def test_defaults_are_the_published_settings(run):
    flags = ["--max_steps", 2, "--logging_steps", 1, "--do_train"]
    plain, trained = run("ocnli", "a", *flags), run("trainer", "b", "--dataset", "ocnli", *flags)
    assert plain.training == trained.training
    a, b = plain.result.configuration, trained.result.configuration
    assert {key: value for key, value in b.items() if key != "trainer"} == a


def test_loader_workers_change_nothing(demo, start_script, tmp_path):
    """In processes of their own: workers that fork from this one would keep its pipes to a browser open."""
    logs = []
    for workers in (0, 2):
        flags = ["--dataset", "csl", "--max_steps", 4, "--save_steps", 2, "--logging_steps", 1, "--do_train"]
        flags += ["--per_device_train_batch_size", 4, "--gradient_accumulation_steps", 3]
        flags += ["--padding"]  # which is computed always where other processes make the batches
        flags += ["--dataloader_num_workers", workers]
        process = start_script(*command(demo, "trainer", tmp_path / str(workers), *flags))
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        logs.append(training(out.splitlines()))
    assert logs[0] == logs[1] and len(logs[0]) == 4


# Export ---------------------------------------------------------------------------------------------------------------


def test_exported_graph_gives_the_models_logits(run):
    import paddle

    from cluebench import models

    trained = run("trainer", "out", "--dataset", "tnews", "--max_steps", 2, "--do_train", "--do_export")
    out, export = trained.folder, trained.folder / "export"
    assert f"static graph: {export / 'model'}" in trained.lines
    assert json.loads((export / "config.json").read_text())["id2label"]["2"] == "102"
    graph = paddle.jit.load(str(export / "model"))
    model = models.load_model(TASKS["tnews"], Model.of(out))
    model.eval()
    for rows, tokens in ((3, 9), (1, 128), (7, 2)):  # no size is fixed
        rng = np.random.default_rng(tokens)
        ids = rng.integers(5, 100, (rows, tokens))
        ids[0, tokens // 2 + 1 :] = 0  # padding
        types = rng.integers(0, 2, (rows, tokens))
        found, expected = (computes(paddle.to_tensor(ids), paddle.to_tensor(types)) for computes in (graph, model))
        assert found.shape == [rows, 15]
        np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)
    again = run("trainer", "again", "--model_name_or_path", out, "--dataset", "tnews", "--do_export").folder
    assert (again / "export" / "vocab.txt").is_file() and not (again / "result.json").exists()


# Checkpoints ----------------------------------------------------------------------------------------------------------


FLAGS = [
    "--dataset", "tnews", "--per_device_train_batch_size", 16, "--learning_rate", 1e-3, "--num_train_epochs", 12,
    "--logging_steps", 1, "--dropout", 0.1, "--do_train",
]  # fmt: skip


def checkpoints(folder) -> set[str]:
    return {path.name for path in folder.glob("checkpoint-*")}


@pytest.mark.parametrize("save_steps", [7, 6])
def test_killed_it_goes_on_from_its_last_checkpoint(save_steps, demo, run, start_script, tmp_path):
    """In the middle of an epoch of six steps, and at its end; to the same losses, scores and weights, dropout included."""
    flags = [*FLAGS, "--save_steps", save_steps]
    kill_after(start_script(*command(demo, "trainer", tmp_path / "cut", *flags)), step=32)
    whole, resumed = (run("trainer", name, *flags) for name in ("whole", "cut"))
    step = int(re.fullmatch(rf"going on from {tmp_path / 'cut'}/checkpoint-(\d+)", resumed.lines[0])[1])
    assert step % save_steps == 0 and 20 < step <= 32
    assert resumed.training == whole.training[step:] and len(whole.training) == 72
    assert_same_curve(whole.result, resumed.result)
    weights = [(ended.folder / "model_state.pdparams").read_bytes() for ended in (whole, resumed)]
    assert weights[0] == weights[1]
    # three checkpoints are kept, the best among them
    kept = checkpoints(whole.folder)
    assert len(kept) == 3 and kept >= {f"checkpoint-{whole.result.best_step}", "checkpoint-72"}


def test_half_a_checkpoint_is_passed_over(run, tmp_path):
    flags = [*FLAGS, "--max_steps", 6, "--save_steps", 2]
    out = run("trainer", "out", *flags).folder
    for name in ("optimizer.pdopt", "complete.json"):
        (out / "checkpoint-6" / name).unlink()
    again = run("trainer", "out", *flags)
    assert again.lines[0] == f"going on from {out / 'checkpoint-4'}"
    assert [line[0] for line in again.training] == ["5", "6"]
    weights = out / "checkpoint-6" / "model_state.pdparams"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1  # another model, which no reader can tell
    weights.write_bytes(content)
    asked = run("trainer", "out", *flags, "--resume_from_checkpoint", weights.parent, code=2)
    assert f"{weights}: is not what was written" in asked.err and "give the checkpoint before" in asked.err
    assert run("trainer", "out", *flags).lines[0] == f"going on from {out / 'checkpoint-4'}"


def test_predictions_go_back_to_the_checkpoint_too(run):
    """Killed after an evaluation with a better score and before its checkpoint; the repeated step then scores lower."""
    flags = [*FLAGS, "--max_steps", 4, "--save_steps", 2, "--learning_rate", 0]
    first = run("trainer", "out", *flags)
    result, out = first.result, first.folder
    expected = (out / "dev_predictions.jsonl").read_bytes()
    assert result.best_step == 2
    (out / "checkpoint-4" / "complete.json").unlink()
    of_result(result, out / "result.json").write(out / "result.predictions", result.configuration, step=4)
    (out / "dev_predictions.jsonl").write_text("of step 4")
    again = run("trainer", "out", *flags)
    assert again.lines[0] == f"going on from {out / 'checkpoint-2'}", again.err
    assert again.result.best_step == 2 and of_result(again.result, out / "result.json").step == 2
    assert (out / "dev_predictions.jsonl").read_bytes() == expected


class Harm:
    def __reduce__(self):
        return os.mkdir, (os.environ["HARMED"],)


def test_no_code_in_a_checkpoint_is_run(run, tmp_path, monkeypatch):
    """Not even where whoever put it there knew of the sums in complete.json."""
    monkeypatch.setenv("HARMED", str(tmp_path / "harmed"))
    flags = [*FLAGS, "--max_steps", 4, "--save_steps", 2]
    last = run("trainer", "out", *flags).folder / "checkpoint-4"
    (last / "optimizer.pdopt").write_bytes(pickle.dumps({"moment": Harm()}))
    owner = CheckpointOwner.read(last / "complete.json", "")
    owner.files["optimizer.pdopt"] = facts_of(last / "optimizer.pdopt")
    owner.write(last / "complete.json")
    for given in ([], ["--resume_from_checkpoint", last]):
        ended = run("trainer", "out", *flags, *given, code=2)
        assert ended.err.count("\n") == 1 and not (tmp_path / "harmed").exists()
        assert "optimizer.pdopt: the pickle asks for posix.mkdir" in ended.err


def test_a_finished_run_started_again(run):
    """It trains nothing, except without --resume; other settings are refused, or all begins again."""
    flags = [*FLAGS, "--max_steps", 4, "--save_steps", 2, "--do_eval"]
    first, second = run("trainer", "out", *flags), run("trainer", "out", *flags)
    assert second.training == [] and second.lines[-1] == first.lines[-1]
    assert run("trainer", "out", *flags, "--resume", "False").training == first.training
    other = run("trainer", "out", *flags, "--learning_rate", 2e-3, code=2)
    assert other.err.count("\n") == 1
    assert "of a run with other settings (learning_rate" in other.err and "--overwrite_output_dir" in other.err
    again = run("trainer", "out", *flags, "--overwrite_output_dir", "--max_steps", 3)
    assert len(again.training) == 3 and checkpoints(again.folder) == {"checkpoint-2", "checkpoint-3"}


def test_only_so_many_checkpoints_are_kept(run):
    ended = run("trainer", "out", *FLAGS, "--max_steps", 10, "--save_steps", 1, "--save_total_limit", 2)
    kept = checkpoints(ended.folder)
    assert len(kept) == 2 and kept >= {f"checkpoint-{ended.result.best_step}", "checkpoint-10"}


# Other flags ----------------------------------------------------------------------------------------------------------


def test_the_best_model_is_the_one_that_goes_on(run):
    """Without --load_best_model_at_end the last model does."""
    flags = [*FLAGS, "--max_steps", 12, "--save_steps", 2, "--learning_rate", 5e-3, "--do_eval"]
    best, last = run("trainer", "best", *flags), run("trainer", "last", *flags, "--load_best_model_at_end", "False")
    evaluations = [
        [line.split(", eval done")[0] for line in ended.lines if line.startswith("eval loss")] for ended in (best, last)
    ]
    by_step = dict(zip((point.step for point in best.result.dev_curve), evaluations[0]))
    assert evaluations[0][-1] == by_step[best.result.best_step]
    assert evaluations[1][-1] == by_step[12] and last.result.best_model is None


def test_evaluation_every_epoch_in_log_and_scalars(run, tmp_path):
    flags = [*FLAGS, "--num_train_epochs", 2, "--logging_steps", 4, "--visualdl_dir", tmp_path / "vdl"]
    ended = run("trainer", "out", *flags, "--evaluation_strategy", "epoch", "--save_strategy", "epoch")
    (tmp_path / "log").write_text(ended.out)
    log, result = read_log(tmp_path / "log"), ended.result
    assert [point.step for point in result.dev_curve] == [6, 12]
    assert (log.step, log.total_steps, log.best_score) == (12, 12, (round(result.best_score[0], 2),))
    assert_scalars(tmp_path / "vdl", [4, 8, 12])


def test_nan_ends_the_run_with_one_line(run):
    flags = ["--dataset", "tnews", "--learning_rate", 1e30, "--max_grad_norm", 0, "--max_steps", 20, "--do_train"]
    ended = run("trainer", "out", *flags, "--warmup_ratio", 0, code=3)
    assert ended.err.strip().splitlines()[-1].startswith("error: the loss became NaN or infinite at ")
    assert ended.result.status == "failed"


def test_interrupted_it_says_so(demo, start_script, tmp_path):
    process = start_script(*command(demo, "trainer", tmp_path / "out", *FLAGS, "--num_train_epochs", 500))
    check_interrupted(process, "global step 6/")


@pytest.mark.parametrize(
    "wrong, named",
    [
        ("--dataset cmrc2018", "run mrc/run_cmrc2018.py"),
        ("--dataset mnli", "--dataset: unknown task 'mnli'"),
        ('--dataset "glue tnews"', '"clue tnews"'),
        ("--do_train False", "nothing to do"),
        ("--learning_rat 1", "unrecognized arguments: --learning_rat"),
        ("--learning_rate fast", "--learning_rate: invalid float value"),
        ("--per_device_train_batch_size 0", "must be at least 1"),
        ("--evaluation_strategy daily", "--evaluation_strategy: invalid choice"),
        ("--metric_for_best_model f1", "choose from eval_accuracy"),
        ("--dropout 1", "--dropout 1: must be at most 0.99"),
        ("--amp fp8", "--amp fp8: choose from off, fp16, bf16"),
        ("--amp fp16", "--amp fp16: Paddle has no float16 training on CPUs"),
        ("--bf16", "--amp bf16: PaddlePaddle has no bfloat16 kernels for CPUs; use --amp off"),
        ("--fp16", "--amp fp16: Paddle has no float16 training on CPUs; use --amp off"),
        ("--amp fp16 --bf16", "--amp fp16 contradicts --bf16"),
        ("--warmup_ratio 2", "warmup_ratio must lie in range [0,1]"),
        ("--load_best_model_at_end --eval_steps 3 --save_steps 4", "round multiple"),
        ("--data_dir nowhere", "nowhere"),
        ("--device tpu", "--device tpu"),
        ("--model_name_or_path ./nowhere", "./nowhere: no such directory"),
        ("--resume_from_checkpoint nowhere", "--resume_from_checkpoint nowhere"),
    ],
)
def test_wrong_flags_get_one_line_and_exit_code_2(wrong, named, run):
    ended = run("trainer", "out", "--dataset", "tnews", "--do_train", *shlex.split(wrong), code=2)
    assert ended.err.count("\n") == 1 and named in ended.err, ended.err


def test_the_data_set_is_required(run):
    assert "the following arguments are required: --dataset" in run("trainer", "out", "--do_train", code=2).err


def test_help_names_every_default(run):
    ended = run("trainer", "out", "--help")
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
