"""--evaluation bounded, end to end: fewer rows of dev are computed, and all that a table reads is the same to the bit."""

import pytest

from cluebench.benchmark.tasks import CHOICE, SPAN, TASKS
from cluebench.records.log import read_log
from tests.scripts.running import assert_same, command, kill_after

pytestmark = pytest.mark.slow

#: Learning rates at which scores waver, so that many an evaluation can't be the best.
TRAINING = ["--dropout", 0.1, "--logging_steps", 1, "--eval_batch_size", 4, "--max_steps", 24, "--do_train"]
OF_KIND = {
    CHOICE: ["--batch_size", 6, "--max_seq_length", 40, "--learning_rate", 3e-3, "--save_steps", 2],
    SPAN: ["--batch_size", 8, "--max_seq_length", 96, "--learning_rate", 1e-3, "--save_steps", 6, "--limit", 24],
}
ROWS = ["--batch_size", 16, "--learning_rate", 5e-3, "--save_steps", 2]


@pytest.mark.parametrize("name, more", [("ocnli", ["--padding"]), ("c3", []), ("cmrc2018", [])])
def test_what_counts_is_the_same_to_the_bit(name, more, run, tmp_path):
    flags, spans = [*OF_KIND.get(TASKS[name].kind, ROWS), *TRAINING, *more], TASKS[name].kind == SPAN
    full, bounded = (run(name, way, *flags, "--evaluation", way) for way in ("full", "bounded"))
    assert full.losses == bounded.losses  # evaluation draws nothing at random
    assert full.lines[-1] == bounded.lines[-1]
    result = assert_same(full.folder, bounded.folder)
    cut = [point for point in result.dev_curve if point.cut_after is not None]
    assert ("every evaluation computes all of dev" in bounded.err) is spans is (not cut)
    cut_lines = [line for line in bounded.lines if line.startswith("dev cut after ")]
    assert len(cut_lines) == len(cut)
    assert not any(word in line for line in cut_lines for word in ("acc:", "loss", "best_result"))
    (tmp_path / "log").write_text(bounded.out)
    curve = read_log(tmp_path / "log").dev_curve
    assert [(p.step, p.cut_after) for p in curve] == [(p.step, p.cut_after) for p in result.dev_curve]


def test_a_run_that_is_resumed_has_the_same_best(demo, run, start_script, tmp_path):
    """Its first evaluation computes all rows again, to learn which are hard."""
    flags = [*ROWS, *TRAINING, "--checkpoint_steps", 5]
    run("tnews", "full", *flags)
    flags += ["--evaluation", "bounded", "--resume"]
    kill_after(start_script(*command(demo, "tnews", tmp_path / "cut", *flags)), step=12)
    resumed = run("tnews", "cut", *flags)
    assert resumed.lines[0].startswith("going on from the checkpoint after step "), resumed.err
    assert any(point.cut_after for point in assert_same(tmp_path / "full", resumed.folder).dev_curve)
