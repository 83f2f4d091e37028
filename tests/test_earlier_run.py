"""A run in --output_dir is resumed, repeated, or in the way of another: reported before Paddle is imported."""

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.errors import UsageError
from cluebench.records import identity
from cluebench.records.identity import different_settings
from cluebench.records.result import Result
from cluebench.records.run_flags import RunFlags, resolved
from cluebench.training.checkpoint_format import CheckpointState, Generators
from cluebench.training.configure import refuse_other_settings

TASK = TASKS["tnews"]


def new_run(folder, **flags):
    """The resolved flags and the empty result of a run of training into ``folder``."""
    given = resolved(RunFlags(model_name_or_path="m", do_train=True, output_dir=str(folder), **flags), TASK)
    settings = identity.configuration(TASK, given, "m", "data")
    return given, Result("tnews", "m", settings, identity.configuration_hash(settings))


def finish(folder, *, model=True, status="done", path=None, **flags):
    """Leaves what a run with these flags leaves when it has ended."""
    given, result = new_run(folder, **flags)
    result.status, result.best_score, result.best_step = status, (57.0,), 100
    result.best_model = str(folder) if model else None
    result.write(path or given.result_json)
    if model:
        folder.mkdir(exist_ok=True)
        (folder / "model_state.pdparams").write_bytes(b"weights")


def leave_checkpoint(folder, **flags):
    _, result = new_run(folder, **flags)
    state = CheckpointState(
        result.configuration_hash, result.progress(), result.configuration, files={}, step=500,
        schedule={"last_epoch": 500}, scaler=None, generators=Generators((3, [1], None), ("MT19937", [1], 1, 0, 0.0), []),
    )  # fmt: skip
    state.write(folder / "checkpoint" / "state.json")


def test_a_finished_model_of_other_settings_is_in_the_way(tmp_path):
    finish(tmp_path, learning_rate=3e-5)
    with pytest.raises(UsageError) as refused:
        refuse_other_settings(*new_run(tmp_path, learning_rate=1e-5, resume=True))
    assert "the finished model (57.00 on dev)" in str(refused.value)
    assert "(learning_rate 3e-05 there, 1e-05 here)" in str(refused.value)
    assert "--overwrite_output_dir" in str(refused.value)
    refuse_other_settings(*new_run(tmp_path, learning_rate=1e-5, overwrite_output_dir=True))


def test_the_finished_model_is_found_by_a_result_beside_the_directory(tmp_path):
    """As run_cls.sh and the scheduler have them."""
    out = tmp_path / "3e-05_32_0.1"
    finish(out, path=tmp_path / "3e-05_32_0.1.json")
    given = dict(result_json=str(tmp_path / "3e-05_32_0.1.json"))
    refuse_other_settings(*new_run(out, **given))
    with pytest.raises(UsageError, match="max_steps 0 there, 5 here"):
        refuse_other_settings(*new_run(out, max_steps=5, **given))


def test_the_same_command_may_be_repeated(tmp_path):
    finish(tmp_path)
    leave_checkpoint(tmp_path)
    for flags in ({}, {"resume": True}, {"logging_steps": 5, "eval_batch_size": 8, "checkpoint_steps": 0}):
        refuse_other_settings(*new_run(tmp_path, **flags))


def test_what_holds_no_model_is_written_over(tmp_path):
    """Such as a trial of a grid, which keeps its score only, or a run that failed."""
    finish(tmp_path, model=False)
    refuse_other_settings(*new_run(tmp_path, learning_rate=1e-5))
    finish(tmp_path, status="failed")
    refuse_other_settings(*new_run(tmp_path, learning_rate=1e-5))
    finish(tmp_path)
    flags, result = new_run(tmp_path, learning_rate=1e-5)
    flags.do_train, flags.do_eval = False, True
    refuse_other_settings(flags, result)


@pytest.mark.parametrize("resume", [False, True])
def test_a_checkpoint_of_other_settings_is_in_the_way(tmp_path, resume):
    leave_checkpoint(tmp_path, seed=43)
    with pytest.raises(UsageError, match=r"the checkpoint after step 500 .*\(seed 43 there, 42 here\)"):
        refuse_other_settings(*new_run(tmp_path, resume=resume))


def test_differences_are_listed_by_key():
    assert (
        different_settings({"a": 1, "b": 2}, {"b": 3, "c": 4})
        == "a 1 there, None here; b 2 there, 3 here; c None there, 4 here"
    )
    assert different_settings(dict.fromkeys("abcdef", 1), {}).endswith("; 2 more")
    assert different_settings({}, {}) == "it does not say which"
