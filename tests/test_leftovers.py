"""What killed processes leave in a trial's folders is gone at the trial's next start, or at the grid's if it is done."""

from pathlib import Path

from cluebench.records.paths import TrialPaths
from cluebench.records.run_flags import RunFlags
from cluebench.training.configure import remove_leftovers


def leave(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "model.safetensors").write_bytes(b"half")


def test_a_run_removes_its_own_and_no_others(tmp_path):
    out = tmp_path / "3e-05_32_0.1"
    leave(out, ".checkpoint.a1b2c3d4.tmp", ".model_state.pdparams.a1b2c3d4.tmp", ".dev_predictions.jsonl.a1b2c3d4.tmp")
    leave(tmp_path, ".3e-05_32_0.1.json.a1b2c3d4.tmp", ".3e-05_32_0.1.predictions.a1b2c3d4.tmp")
    others = [".3e-05_32_0.1_seed43.json.a1b2c3d4.tmp", ".5e-05_32_0.1.json.a1b2c3d4.tmp"]
    leave(tmp_path, *others)
    flags = RunFlags(model_name_or_path="m", output_dir=str(out), result_json=str(tmp_path / "3e-05_32_0.1.json"))
    remove_leftovers(flags)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*others, out.name] and not list(out.iterdir())


def test_what_was_moved_aside_goes_back_where_nothing_took_its_place(tmp_path):
    leave(tmp_path / ".checkpoint.a1b2c3d4.tmp", "replaced", "checkpoint")
    remove_leftovers(RunFlags(model_name_or_path="m", output_dir=str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_of_a_trial_that_is_done_the_checkpoint_goes_too_and_the_model_stays(tmp_path):
    paths = TrialPaths(tmp_path, "3e-05_32_0.1")
    leave(paths.output_dir, "checkpoint", ".checkpoint.a1b2c3d4.tmp")
    leave(tmp_path, ".3e-05_32_0.1.json.a1b2c3d4.tmp", ".3e-05_32_0.1.removed-12-34")
    paths.remove_leftovers()
    assert not list(tmp_path.iterdir())
    leave(paths.output_dir, "checkpoint")
    (paths.output_dir / "model_state.pdparams").touch()
    paths.remove_leftovers()
    assert [path.name for path in paths.output_dir.iterdir()] == ["model_state.pdparams"]
