"""Killed for real and started again: the run goes on bit by bit, or from the start where the checkpoint is not its own."""

import shutil
import signal
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.records.dev_predictions import of_result
from cluebench.records.result import Result
from tests.scripts.conftest import start
from tests.scripts.running import assert_same_weights, common, kill_after, losses

pytestmark = pytest.mark.slow

SCRIPT = "classification/run_clue_classifier.py"

#: A task of every kind of loop, with what makes epochs of six to nine steps; all but TNEWS accumulate.
KINDS = {
    "tnews": ["--task_name", "tnews", "--batch_size", 16, "--num_train_epochs", 8, "--save_steps", 10],
    "c3": ["--batch_size", 6, "--max_seq_length", 40, "--limit", 40],
    "cmrc2018": ["--batch_size", 8, "--max_seq_length", 96, "--limit", 48],
}
TRAINING = ["--learning_rate", 1e-3, "--dropout", 0.1, "--logging_steps", 1, "--checkpoint_steps", 5, "--do_train"]


@pytest.mark.parametrize("task", [TASKS[name] for name in KINDS], ids=lambda task: task.name)
def test_resume_goes_on_bit_by_bit(task, demo, run_script, start_script, tmp_path):
    """Killed between two checkpoints, in the second epoch or later: same losses, same dev curve, same weights."""
    arguments = [*KINDS[task.name], *TRAINING]
    if not task.is_classification:
        arguments += ["--num_train_epochs", 4]
    process = start_script(task.script, *common(demo, tmp_path / "cut"), *arguments, "--resume")
    kill_after(process, step=12)
    whole = run_script(task.script, *common(demo, tmp_path / "whole"), *arguments)
    assert whole.code == 0, whole.err
    resumed = run_script(task.script, *common(demo, tmp_path / "cut"), *arguments, "--resume")
    assert resumed.code == 0, resumed.err
    a, b = (Result.read(tmp_path / name / "result.json") for name in ("whole", "cut"))
    expected, seen = losses(whole.lines), losses(resumed.lines)
    done = len(expected) - len(seen)
    assert resumed.lines[0] == f"going on from the checkpoint after step {done}/{a.total_steps}"
    assert len(expected) == a.total_steps and 10 <= done < a.total_steps and done % 5 == 0
    assert seen == expected[done:]
    assert a.dev_curve == b.dev_curve and a.dev_curve[-1].step == a.total_steps and len(a.dev_curve) > 2
    kept = [tmp_path / name / "result.predictions" for name in ("whole", "cut")]
    assert kept[0].read_bytes() == kept[1].read_bytes() and of_result(b, tmp_path / "cut" / "result.json")
    assert (a.best_score, a.best_step, b.total_steps) == (b.best_score, b.best_step, a.total_steps)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")
    assert not (tmp_path / "cut" / "checkpoint").exists()


@pytest.mark.parametrize("step", [7, 10])
def test_a_run_that_is_asked_to_end_loses_no_step(step, demo, run_script, start_script, tmp_path):
    """Between two evaluations, and while it evaluates, which the next process does again; asked several times."""
    arguments = [*KINDS["tnews"], *TRAINING, "--checkpoint_steps", 1000, "--eval_batch_size", 1]
    process = start_script(SCRIPT, *common(demo, tmp_path / "cut"), *arguments, "--resume")
    next(line for line in process.stdout if line.startswith(f"global step {step}/"))
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "asked to end: the checkpoint after step" in err
    whole = run_script(SCRIPT, *common(demo, tmp_path / "whole"), *arguments)
    resumed = run_script(SCRIPT, *common(demo, tmp_path / "cut"), *arguments, "--resume")
    expected, seen = losses(whole.lines), losses(resumed.lines)
    done = len(expected) - len(seen)
    assert done == step + len(losses(out.splitlines())) and seen == expected[done:]
    assert resumed.lines[0].startswith(f"going on from the checkpoint after step {done}/")
    a, b = (Result.read(tmp_path / name / "result.json") for name in ("whole", "cut"))
    assert a.dev_curve == b.dev_curve and (a.best_score, a.best_step) == (b.best_score, b.best_step)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


def test_a_run_that_paused_goes_on_bit_by_bit(demo, run_script, start_script, tmp_path):
    """Twice, and once more after a kill behind a rung. No periodic checkpoint is asked for; a pause leaves no result."""
    arguments = [*KINDS["tnews"], *TRAINING, "--checkpoint_steps", 0]
    whole = run_script(SCRIPT, *common(demo, tmp_path / "whole"), *arguments)
    a, log, curve = Result.read(tmp_path / "whole" / "result.json"), [], []
    for rung in ("1/4", "1/2", "1"):
        out = tmp_path / "cut"
        command = [SCRIPT, *common(demo, out), *arguments, "--resume", "--pause_at", rung]
        if rung == "1/2":
            kill_after(start_script(*command), step=curve[-1].step + 2)
        ended = run_script(*command)
        assert ended.code == 0, ended.err
        b, log = Result.read(out / "result.json"), log + losses(ended.lines)
        if rung != "1":
            step = b.dev_curve[-1].step
            assert b.status == "paused" and a.dev_curve[: len(b.dev_curve)] == b.dev_curve != curve
            assert len(b.dev_curve) >= 2 and b.dev_curve[-2].step < max(b.total_steps * Fraction(rung), step) <= step
            assert f"paused after step {step}/{b.total_steps}" in ended.err and "best_result" not in ended.out
            assert not (out / "step.txt").exists() and Result.read_finished(out / "result.json") is None
            curve = b.dev_curve
    assert b.status == "done" and (a.dev_curve, a.best_score) == (b.dev_curve, b.best_score)
    assert log == losses(whole.lines) and len(log) == a.total_steps
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


@pytest.fixture(scope="module")
def stopped(demo, tmp_path_factory):
    """The --output_dir of a run that was killed behind a checkpoint, and its flags."""
    arguments = [*KINDS["tnews"], *TRAINING, "--max_steps", 40, "--cache_dir", tmp_path_factory.mktemp("cache")]
    folder = tmp_path_factory.mktemp("stopped")
    with start(SCRIPT, *common(demo, folder), *arguments) as process:
        kill_after(process, step=8)
    assert (folder / "checkpoint").is_dir()
    return folder, arguments


def test_a_checkpoint_of_other_settings_is_neither_resumed_nor_destroyed(stopped, demo, run_script, tmp_path):
    """With --overwrite_output_dir the run begins as if there had been none."""
    folder, arguments = stopped
    shutil.copytree(folder, tmp_path / "out")
    arguments = [*arguments, "--learning_rate", 2e-3, "--seed", 43]
    for resume in ([], ["--resume"]):
        refused = run_script(SCRIPT, *common(demo, tmp_path / "out"), *arguments, *resume)
        assert refused.code == 2 and refused.err.count("\n") == 1 and not refused.out
        assert "holds the checkpoint after step" in refused.err
        assert "learning_rate 0.001 there, 0.002 here; seed 42 there, 43 here" in refused.err
        assert "--overwrite_output_dir" in refused.err and (tmp_path / "out" / "checkpoint" / "state.json").exists()
    more = ["--resume", "--overwrite_output_dir"]
    ended = run_script(SCRIPT, *common(demo, tmp_path / "out"), *arguments, *more)
    fresh = run_script(SCRIPT, *common(demo, tmp_path / "fresh"), *arguments)
    assert ended.code == fresh.code == 0, ended.err
    assert "going on" not in ended.out and len(losses(ended.lines)) == 40
    assert losses(ended.lines) == losses(fresh.lines)
    a, b = (Result.read(tmp_path / name / "result.json") for name in ("out", "fresh"))
    assert a.dev_curve == b.dev_curve and (a.best_score, a.best_step) == (b.best_score, b.best_step)


def test_flags_that_move_no_score_do_not_make_it_another_run(stopped, demo, run_script, tmp_path):
    folder, arguments = stopped
    shutil.copytree(folder, tmp_path / "out")
    more = ["--logging_steps", 3, "--eval_batch_size", 7, "--gradient_accumulation_steps", 2, "--checkpoint_steps", 0]
    ended = run_script(SCRIPT, *common(demo, tmp_path / "out"), *arguments, *more, "--resume")
    assert ended.code == 0 and ended.lines[0].startswith("going on from the checkpoint after step ")


def test_without_resume_it_is_not_resumed(stopped, demo, run_script, tmp_path):
    folder, arguments = stopped
    shutil.copytree(folder, tmp_path / "out")
    ended = run_script(SCRIPT, *common(demo, tmp_path / "out"), *arguments)
    assert ended.code == 0 and "going on" not in ended.out and len(losses(ended.lines)) == 40


def test_a_damaged_checkpoint_is_not_resumed(stopped, demo, run_script, tmp_path):
    """Whichever of its files is damaged, the run begins as if there had been none; so does what it records."""
    folder, arguments = stopped
    expected = losses(run_script(SCRIPT, *common(demo, tmp_path / "fresh"), *arguments).lines)
    fresh = Result.read(tmp_path / "fresh" / "result.json")
    better = replace(fresh, status="running", best_score=(99.5,), best_step=30)  # of the process that was killed
    damages = {"model.safetensors": Path.unlink, "optimizer.safetensors": cut_short, "state.json": cut_short}
    assert {path.name for path in (folder / "checkpoint").iterdir()} == damages.keys()
    for file, damage in damages.items():
        out = shutil.copytree(folder, tmp_path / file)
        damage(out / "checkpoint" / file)
        better.write(out / "result.json")
        ended = run_script(SCRIPT, *common(demo, out), *arguments, "--resume")
        assert ended.code == 0 and "going on" not in ended.out and "training starts again" in ended.err, out.name
        assert losses(ended.lines) == expected, out.name
        result = Result.read(out / "result.json")
        assert (result.best_score, result.best_step) == (fresh.best_score, fresh.best_step), out.name
        assert result.dev_curve == fresh.dev_curve


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
