"""macOS lays ._name beside each file on foreign disks. Such files never count as the real files, and are never named."""

from cluebench.benchmark.tasks import TASKS
from cluebench.data.copies import find_copy
from cluebench.foundation.file_facts import visible
from cluebench.pretrained import model_files
from cluebench.records.finished_trials import OpenedRun
from cluebench.submission.packing import run_directory, take_predictions, wanted_entries


def test_hidden_entries_are_left_out(tmp_path):
    for name in ("b.json", "._a.json", ".hidden", "a.json"):
        (tmp_path / name).touch()
    assert [path.name for path in visible(tmp_path)] == ["a.json", "b.json"]
    assert visible(tmp_path / "none") == [] and [path.name for path in visible(tmp_path, "*.json")] == [
        "a.json",
        "b.json",
    ]


def test_beside_submission_files(tmp_path, capsys):
    """The advice was to rename one, over the good file."""
    for name in ("afqmc_predict.json", "._afqmc_predict.json", "._tnews_predict.json"):
        (tmp_path / name).write_text("{}")
    entries = wanted_entries(["afqmc"], "1.1")
    assert take_predictions(tmp_path, entries) == [] and entries[0].path.name == "afqmc_predict.json"
    (tmp_path / "afqmc_predict.json").unlink()
    try:
        run_directory(tmp_path)
        raise AssertionError("there are no predictions")
    except Exception as error:
        assert "holds neither" in str(error)


def test_beside_models_logs_and_copies(tmp_path):
    (tmp_path / "tnews").mkdir()
    for name in ("._model_state.pdparams", "._vocab.txt", "tnews/._3e-05_32_0.1.log", "._train.parquet"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    assert model_files.kept_weights(tmp_path) == [] and OpenedRun(tmp_path).files == {"tnews": {}}
    assert find_copy([tmp_path], TASKS["tnews"], "train.json") is None
