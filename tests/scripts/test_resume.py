"""Killed for real and started again: the run goes on bit by bit, or from the start where the checkpoint is not its own."""

import shutil
import signal
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from cluebench.records.dev_predictions import of_result
from cluebench.records.result import Result
from tests.scripts.conftest import start
from tests.scripts.running import Run, assert_same_curve, assert_same_weights, command, kill_after, losses

pytestmark = pytest.mark.slow

#: A task of every kind of loop, with what makes epochs of six to nine steps; all but TNEWS accumulate.
KINDS = {
    "tnews": ["--batch_size", 16, "--num_train_epochs", 8, "--save_steps", 10],
    "c3": ["--batch_size", 6, "--max_seq_length", 40, "--limit", 40, "--num_train_epochs", 4],
    "cmrc2018": ["--batch_size", 8, "--max_seq_length", 96, "--limit", 48, "--num_train_epochs", 4],
}
TRAINING = ["--learning_rate", 1e-3, "--dropout", 0.1, "--logging_steps", 1, "--checkpoint_steps", 5, "--do_train"]


@pytest.mark.parametrize("name", KINDS)
def test_resume_goes_on_bit_by_bit(name, demo, run, start_script, tmp_path):
    """Killed between two checkpoints, in the second epoch or later: same losses, same dev curve, same weights."""
    flags = [*KINDS[name], *TRAINING]
    kill_after(start_script(*command(demo, name, tmp_path / "cut", *flags, "--resume")), step=12)
    whole, resumed = run(name, "whole", *flags), run(name, "cut", *flags, "--resume")
    assert_goes_on(whole, resumed, done := len(whole.losses) - len(resumed.losses))
    a, b = whole.result, resumed.result
    assert len(whole.losses) == a.total_steps == b.total_steps and 10 <= done < a.total_steps and done % 5 == 0
    assert a.dev_curve[-1].step == a.total_steps and len(a.dev_curve) > 2
    kept = [ended.folder / "result.predictions" for ended in (whole, resumed)]
    assert kept[0].read_bytes() == kept[1].read_bytes() and of_result(b, resumed.folder / "result.json")
    assert not (resumed.folder / "checkpoint").exists()


def assert_goes_on(whole: Run, resumed: Run, done: int) -> None:
    """From the checkpoint after step ``done``."""
    assert resumed.lines[0] == f"going on from the checkpoint after step {done}/{whole.result.total_steps}"
    assert resumed.losses == whole.losses[done:]
    assert_same_curve(whole.result, resumed.result)
    assert_same_weights(whole.folder, resumed.folder)


@pytest.mark.parametrize("step", [7, 10])
def test_a_run_that_is_asked_to_end_loses_no_step(step, demo, run, start_script, tmp_path):
    """Between two evaluations, and while it evaluates, which the next process does again; asked several times."""
    flags = [*KINDS["tnews"], *TRAINING, "--checkpoint_steps", 1000, "--eval_batch_size", 1]
    process = start_script(*command(demo, "tnews", tmp_path / "cut", *flags, "--resume"))
    next(line for line in process.stdout if line.startswith(f"global step {step}/"))
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "asked to end: the checkpoint after step" in err
    done = step + len(losses(out.splitlines()))
    assert_goes_on(run("tnews", "whole", *flags), run("tnews", "cut", *flags, "--resume"), done)


def test_a_run_that_paused_goes_on_bit_by_bit(demo, run, start_script, tmp_path):
    """Twice, and once more after a kill behind a rung. No periodic checkpoint is asked for; a pause leaves no result."""
    flags = [*KINDS["tnews"], *TRAINING, "--checkpoint_steps", 0]
    whole, log, curve, out = run("tnews", "whole", *flags), [], [], tmp_path / "cut"
    a = whole.result
    for rung in ("1/4", "1/2", "1"):
        more = [*flags, "--resume", "--pause_at", rung]
        if rung == "1/2":
            kill_after(start_script(*command(demo, "tnews", out, *more)), step=curve[-1].step + 2)
        ended = run("tnews", out, *more)
        b, log = ended.result, log + ended.losses
        if rung != "1":
            step = b.dev_curve[-1].step
            assert b.status == "paused" and a.dev_curve[: len(b.dev_curve)] == b.dev_curve != curve
            assert len(b.dev_curve) >= 2 and b.dev_curve[-2].step < max(b.total_steps * Fraction(rung), step) <= step
            assert f"paused after step {step}/{b.total_steps}" in ended.err and "best_result" not in ended.out
            assert not (out / "step.txt").exists() and Result.read_finished(out / "result.json") is None
            curve = b.dev_curve
    assert b.status == "done" and log == whole.losses and len(log) == a.total_steps
    assert_same_curve(a, b)
    assert_same_weights(tmp_path / "whole", out)


@pytest.fixture(scope="module")
def killed(demo, tmp_path_factory):
    """The --output_dir of a run that was killed behind a checkpoint, and its flags."""
    flags = [*KINDS["tnews"], *TRAINING, "--max_steps", 40, "--cache_dir", tmp_path_factory.mktemp("cache")]
    folder = tmp_path_factory.mktemp("stopped")
    with start(*command(demo, "tnews", folder, *flags)) as process:
        kill_after(process, step=8)
    assert (folder / "checkpoint").is_dir()
    return folder, flags


@pytest.fixture
def stopped(killed, tmp_path):
    """The flags of that run, with a copy of its --output_dir in tmp_path / "out"."""
    shutil.copytree(killed[0], tmp_path / "out")
    return killed[1]


def test_a_checkpoint_of_other_settings_is_neither_resumed_nor_destroyed(stopped, run):
    """With --overwrite_output_dir the run begins as if there had been none."""
    flags = [*stopped, "--learning_rate", 2e-3, "--seed", 43]
    for resume in ([], ["--resume"]):
        refused = run("tnews", "out", *flags, *resume, code=2)
        assert refused.err.count("\n") == 1 and not refused.out
        assert "holds the checkpoint after step" in refused.err
        assert "learning_rate 0.001 there, 0.002 here; seed 42 there, 43 here" in refused.err
        assert "--overwrite_output_dir" in refused.err and (refused.folder / "checkpoint" / "state.json").exists()
    ended, fresh = run("tnews", "out", *flags, "--resume", "--overwrite_output_dir"), run("tnews", "fresh", *flags)
    assert "going on" not in ended.out and len(ended.losses) == 40
    assert ended.losses == fresh.losses
    assert_same_curve(ended.result, fresh.result)


def test_flags_that_move_no_score_do_not_make_it_another_run(stopped, run):
    more = ["--logging_steps", 3, "--eval_batch_size", 7, "--gradient_accumulation_steps", 2, "--checkpoint_steps", 0]
    ended = run("tnews", "out", *stopped, *more, "--resume")
    assert ended.lines[0].startswith("going on from the checkpoint after step ")


def test_without_resume_it_is_not_resumed(stopped, run):
    ended = run("tnews", "out", *stopped)
    assert "going on" not in ended.out and len(ended.losses) == 40


def test_a_damaged_checkpoint_is_not_resumed(killed, run, tmp_path):
    """Whichever of its files is damaged, the run begins as if there had been none; so does what it records."""
    folder, flags = killed
    fresh = run("tnews", "fresh", *flags)
    better = replace(fresh.result, status="running", best_score=(99.5,), best_step=30)  # of the process that was killed
    damages = {"model.safetensors": Path.unlink, "optimizer.safetensors": cut_short, "state.json": cut_short}
    assert {path.name for path in (folder / "checkpoint").iterdir()} == damages.keys()
    for file, damage in damages.items():
        out = shutil.copytree(folder, tmp_path / file)
        damage(out / "checkpoint" / file)
        better.write(out / "result.json")
        ended = run("tnews", out, *flags, "--resume")
        assert "going on" not in ended.out and "training starts again" in ended.err, file
        assert ended.losses == fresh.losses, file
        assert_same_curve(ended.result, fresh.result)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
