"""--evaluation bounded, end to end: fewer rows of dev are computed, and all that a table reads is the same to the bit."""

import pytest

from cluebench.benchmark.tasks import CHOICE, SPAN, TASKS
from cluebench.records.log import read_log
from tests.scripts.running import assert_same, common, kill_after, losses

pytestmark = pytest.mark.slow

#: Learning rates at which scores waver, so that many an evaluation can't be the best.
TRAINING = ["--dropout", 0.1, "--logging_steps", 1, "--eval_batch_size", 4, "--max_steps", 24, "--do_train"]
OF_KIND = {
    CHOICE: ["--batch_size", 6, "--max_seq_length", 40, "--learning_rate", 3e-3, "--save_steps", 2],
    SPAN: ["--batch_size", 8, "--max_seq_length", 96, "--learning_rate", 1e-3, "--save_steps", 6, "--limit", 24],
}
ROWS = ["--batch_size", 16, "--learning_rate", 5e-3, "--save_steps", 2]


def flags(task, *more):
    named = ["--task_name", task.name] if task.is_classification else []
    return [*named, *OF_KIND.get(task.kind, ROWS), *TRAINING, *more]


@pytest.mark.parametrize("name, more", [("ocnli", ["--padding"]), ("c3", []), ("cmrc2018", [])])
def test_what_counts_is_the_same_to_the_bit(name, more, demo, run_script, tmp_path):
    task, ended = TASKS[name], {}
    for way in ("full", "bounded"):
        arguments = [*common(demo, tmp_path / way), *flags(task, *more, "--evaluation", way)]
        ended[way] = run_script(task.script, *arguments)
        assert ended[way].code == 0, ended[way].err
    assert losses(ended["full"].lines) == losses(ended["bounded"].lines)  # evaluation draws nothing at random
    assert ended["full"].lines[-1] == ended["bounded"].lines[-1]
    result = assert_same(tmp_path / "full", tmp_path / "bounded")
    cut = [point for point in result.dev_curve if point.cut_after is not None]
    assert ("every evaluation computes all of dev" in ended["bounded"].err) is (task.kind == SPAN) is (not cut)
    cut_lines = [line for line in ended["bounded"].lines if line.startswith("dev cut after ")]
    assert len(cut_lines) == len(cut) and not any(
        word in line for line in cut_lines for word in ("acc:", "loss", "best_result")
    )
    (tmp_path / "log").write_text(ended["bounded"].out)
    curve = read_log(tmp_path / "log").dev_curve
    assert [(point.step, point.cut_after) for point in curve] == [
        (point.step, point.cut_after) for point in result.dev_curve
    ]


def test_a_run_that_is_resumed_has_the_same_best(demo, run_script, start_script, tmp_path):
    """Its first evaluation computes all rows again, to learn which are hard."""
    task, more = TASKS["tnews"], ["--checkpoint_steps", 5]
    whole = run_script(task.script, *common(demo, tmp_path / "full"), *flags(task, *more))
    assert whole.code == 0, whole.err
    arguments = [*common(demo, tmp_path / "cut"), *flags(task, *more, "--evaluation", "bounded", "--resume")]
    kill_after(start_script(task.script, *arguments), step=12)
    resumed = run_script(task.script, *arguments)
    assert resumed.code == 0 and resumed.lines[0].startswith("going on from the checkpoint after step "), resumed.err
    result = assert_same(tmp_path / "full", tmp_path / "cut")
    assert any(point.cut_after for point in result.dev_curve)
