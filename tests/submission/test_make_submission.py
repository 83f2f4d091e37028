"""The command: from a run directory or prediction files to a zip, or to what is wrong."""

import csv
import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from cluebench import submission
from cluebench.benchmark.tasks import TASKS
from cluebench.data.rows import load_rows
from cluebench.data.source import DataSource, open_source
from cluebench.demo import synthetic
from cluebench.foundation import repository
from tests.conftest import ROOT
from tests.submission import independent
from tests.submission.made_up import kept, write_predictions

COMMAND = "grid_search_tools/make_submission.py"
SIZES = {name: synthetic.Sizes(8, 4, 7) for name in TASKS}


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clue") / "data"
    synthetic.write_synthetic(folder, sizes=SIZES)
    return folder


@pytest.fixture(scope="session")
def predictions(data, tmp_path_factory):
    """Sound prediction files for every test set."""
    folder = tmp_path_factory.mktemp("predictions")
    source = open_source(data)
    for name, (task, test) in submission.FILES.items():
        write_predictions(folder / name, task, load_rows(source, task, test.split))
    return folder


@pytest.fixture
def mine(predictions, tmp_path):
    """A copy to break."""
    return Path(shutil.copytree(predictions, tmp_path / "mine"))


@pytest.fixture
def run(tmp_path, data, monkeypatch, run_command):
    """run(folder, …) → (exit code, stdout, stderr), with scripts that predict without a model."""
    folder = tmp_path / "repository"
    for script in {task.script for task in TASKS.values()}:
        (folder / script).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "tests" / "submission" / "stand_in.py", folder / script)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the stand-in
    monkeypatch.setattr(repository, "ROOT", folder)
    monkeypatch.setenv("CLUE_DATA_DIR", str(tmp_path / "nowhere"))

    def call(*arguments):
        ended = run_command(COMMAND, *arguments)
        return ended.code, ended.out, ended.err

    return call


@pytest.fixture
def pack(run, data, tmp_path):
    """pack(folder, …): the same, from the made-up data into z.zip."""
    return lambda *arguments: run(*arguments, "--output", tmp_path / "z.zip", "--data_dir", data)


def calls(folder: Path) -> list[list[str]]:
    path = folder / "calls.txt"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# Prediction files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.1", "1.0", "all"])
def test_zip_of_all_ten_tasks(version, predictions, data, pack, tmp_path):
    names = independent.VERSIONS.get(version) or set(submission.FILES)
    code, out, err = pack(predictions, "--version", version)
    assert (code, err) == (0, "")
    assert independent.accept(tmp_path / "z.zip", data) == names
    assert out.count(" ok ") == len(names) and "left out" not in out
    assert f"{len(names)} file(s), checked but not for upload" in out


def test_missing_tasks_are_named(mine, data, pack, tmp_path):
    for name in ("cmnli_predict.json", "c311_predict.json"):
        (mine / name).unlink()
    code, out, err = pack(mine)
    assert (code, err) == (0, "")
    assert f"CMNLI        missing  cmnli_predict.json: no cmnli_predict.json in {mine}\n" in out
    assert "left out: CMNLI, C3; the leaderboard has no score for them" in out
    assert len(independent.accept(tmp_path / "z.zip", data)) == 8
    assert "c310_predict.json is not packed: --tasks or --version leaves it out" in out


def test_tasks_can_be_chosen(predictions, data, pack, tmp_path):
    assert pack(predictions, "--tasks", "CHID,tnews")[0] == 0
    assert independent.accept(tmp_path / "z.zip", data) == {"chid11_predict.json", "tnews11_predict.json"}


def test_nothing_invalid_is_packed(mine, pack, tmp_path):
    """Every defect is reported, file by file, and no zip is written."""
    news = (mine / "tnews11_predict.json").read_text(encoding="utf-8")
    (mine / "tnews11_predict.json").write_text(news.replace('"label": "100"', '"label": 100'), encoding="utf-8")
    (mine / "csl_predict.json").write_bytes(b"\xff")
    (mine / "cmrc2018_predict.json").write_text("{}")
    code, out, err = pack(mine)
    assert code == 1 and not (tmp_path / "z.zip").exists()
    problem = 'label is 100 without quotation marks: labels are strings, write "100"'
    assert out.count(problem) == 5
    assert f"TNEWS        wrong    tnews11_predict.json, line 1: {problem}\n" in out
    assert "TNEWS        wrong    tnews11_predict.json: 2 more problems\n" in out
    assert "CSL          wrong    csl_predict.json, line 1: is not UTF-8 text" in out
    assert 'CMRC2018     wrong    cmrc2018_predict.json, key "' in out
    assert err == (
        f"make_submission.py: error: {tmp_path / 'z.zip'} was not written, because of tnews11_predict.json, "
        "csl_predict.json, cmrc2018_predict.json\n"
    )
    assert out.count(" ok ") == 7


def test_an_earlier_zip_is_left_alone(mine, pack, tmp_path):
    (tmp_path / "z.zip").write_bytes(b"earlier")
    (mine / "csl_predict.json").write_bytes(b"")
    code, _, err = pack(mine)
    assert code == 1 and "the one there is an earlier one" in err
    assert (tmp_path / "z.zip").read_bytes() == b"earlier"


def instead(make):
    """Makes something else in place of a file."""

    def change(mine):
        (mine / "csl_predict.json").unlink()
        make(mine / "csl_predict.json")

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # Right in shape, made for another test set: the ids tell.
        (lambda mine: shutil.copy(mine / "c310_predict.json", mine / "c311_predict.json"), "C3           wrong"),
        (lambda mine: shutil.copy(mine / "chid10_predict.json", mine / "chid11_predict.json"), "CHID         wrong"),
        (
            lambda mine: (mine / "tnews11_predict.json").rename(mine / "tnews_predict.json"),
            "tnews_predict.json: this is not the name of a submission file; rename it to tnews11_predict.json or tnews10",
        ),
        (instead(Path.mkdir), "csl_predict.json is no ordinary file"),
        (instead(os.mkfifo), "csl_predict.json is no ordinary file"),
        (instead(lambda path: path.symlink_to("/dev/zero")), "csl_predict.json is no ordinary file"),
        (lambda mine: os.truncate(mine / "csl_predict.json", 1 << 40), "csl_predict.json has 1,099,511,627,776 bytes"),
    ],
)
def test_a_file_that_is_no_submission(mine, pack, tmp_path, change, message):
    """It is neither waited for nor read in whole."""
    change(mine)
    code, out, err = pack(mine)
    assert code == 1 and message in out and "was not written, because of " in err and not (tmp_path / "z.zip").exists()


def test_files_beside_predictions_are_let_be(mine, data, pack, tmp_path):
    for name in ("result.json", "config.json", "model_state.pdparams", "dev_predictions.jsonl"):
        (mine / name).write_text("{}")
    assert pack(mine)[0] == 0
    assert independent.accept(tmp_path / "z.zip", data) == independent.VERSIONS["1.1"]


def test_predictions_that_cannot_be_checked_are_not_packed(mine, data, run, tmp_path):
    partial = shutil.copytree(data, tmp_path / "partial")
    shutil.rmtree(partial / "afqmc_public")
    code, out, _ = run(mine, "--output", tmp_path / "z.zip", "--data_dir", partial)
    assert code == 1 and not (tmp_path / "z.zip").exists()
    assert "AFQMC        wrong    afqmc_predict.json can't be checked: afqmc: test.json is missing" in out


# Wrong use ------------------------------------------------------------------------------------------------------------


def test_wrong_use_is_one_line(predictions, run, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([tmp_path / "nowhere"], "nowhere: no such directory"),
        ([tmp_path / "empty"], "empty holds neither runs of a model nor prediction files such as afqmc_predict.json"),
        ([predictions, "--output", tmp_path / "empty"], "empty: a directory; name another place"),
        ([predictions, "--tasks", "glue"], "--tasks: unknown task 'glue'"),
        ([predictions, "--version", "1.2"], "--version 1.2: choose from 1.1, 1.0, all"),
        ([predictions, "--data_dir", tmp_path / "nowhere"], "is not a directory"),
        ([], "the following arguments are required: directory"),
    ):
        code, _, err = run(*arguments)
        assert code == 2 and message in err and err.count("\n") == 1, err


# Run directories ------------------------------------------------------------------------------------------------------


@pytest.fixture
def grid(tmp_path, data):
    """A run of all ten tasks, with one kept model each and the data directory in grid.json."""
    run_root = tmp_path / "runs"
    for task in TASKS.values():
        score = (60.0, 80.0) if task.metric == "em_f1" else 70.0
        kept(run_root, task.name, "3e-05_32_0.1", score)
    (run_root / "some-model" / "grid.json").write_text(
        json.dumps({"format": 1, "model": "m", "status": "done", "trials": [], "data_dir": str(data)})
    )
    return run_root


@pytest.mark.slow
def test_from_a_grid_to_a_zip(grid, data, run, tmp_path):
    code, out, err = run(grid / "some-model", "--output", tmp_path / "z.zip", "--device", "cpu", "--offline")
    assert (code, err) == (0, "")
    assert independent.accept(tmp_path / "z.zip", data) == independent.VERSIONS["1.1"]
    assert "CMRC2018     ok       cmrc2018_predict.json: by 3e-05_32_0.1 (60.00/80.00)\n" in out
    folder = grid / "some-model" / "tnews" / "3e-05_32_0.1"
    (call,) = calls(folder)
    assert call == [
        "--model_name_or_path", str(folder), "--do_predict", "--task_name", "TNEWS", "--output_dir", str(folder),
        "--data_dir", str(data), "--device", "cpu", "--max_seq_length", "64", "--offline",
    ]  # fmt: skip


def test_a_run_root_of_one_model_will_do(grid, run, tmp_path):
    assert run(grid, "--output", tmp_path / "z.zip", "--tasks", "tnews")[0] == 0
    (grid / "other-model" / "tnews").mkdir(parents=True)
    code, _, err = run(grid, "--output", tmp_path / "y.zip")
    assert code == 2 and err == (
        f"make_submission.py: error: {grid} holds runs of several models (other-model, some-model): "
        f"name one, such as {grid / 'other-model'}\n"
    )


def test_what_is_predicted_is_not_predicted_again(grid, data, run, tmp_path):
    folder = grid / "some-model" / "tnews" / "3e-05_32_0.1"
    arguments = [grid, "--output", tmp_path / "z.zip", "--tasks", "tnews"]
    for version in ("1.1", "1.0", "1.1"):
        code, out, _ = run(*arguments, "--version", version)
        assert code == 0
    assert len(calls(folder)) == 2 and "predicting" not in out  # the 1.0 file was not known to be from this data
    # other weights, then other data
    (folder / "model_state.pdparams").write_bytes(b"better weights")
    assert run(*arguments)[0] == 0 and len(calls(folder)) == 3
    other = shutil.copytree(data, tmp_path / "other")
    text = (other / "tnews_public" / "test.json").read_text(encoding="utf-8")
    (other / "tnews_public" / "test.json").write_text(text.replace("。", "！") + "\n", encoding="utf-8")
    assert run(*arguments, "--data_dir", other)[0] == 0 and len(calls(folder)) == 4
    # a file that does not name its origin may be from anywhere
    (folder / ".predictions.json").unlink()
    assert run(*arguments, "--data_dir", other)[0] == 0 and len(calls(folder)) == 5


def test_settings_of_the_trial_are_used(tmp_path, pack):
    folder = kept(tmp_path / "runs", "cmrc2018", "3e-05_32_0.1", (1.0, 2.0), doc_stride=64, do_lower_case=False)
    assert pack(tmp_path / "runs")[0] == 0
    (call,) = calls(folder)
    assert call[call.index("--doc_stride") + 1] == "64" and call[call.index("--do_lower_case") + 1] == "False"


def test_the_best_kept_model_predicts(tmp_path, data, run):
    """As in the table: by score, then the smaller learning rate, then the smaller batch; only among kept models."""
    runs = tmp_path / "runs"
    kept(runs, "tnews", "5e-05_16_0.1", 58.0)
    kept(runs, "tnews", "1e-05_32_0.1", 58.26)
    best = kept(runs, "tnews", "1e-05_16_0.1", 58.26)
    kept(runs, "tnews", "2e-05_16_0.1", 58.26)
    arguments = [runs, "--output", tmp_path / "z.zip", "--data_dir", data, "--tasks", "tnews"]
    code, out, _ = run(*arguments)
    assert code == 0 and calls(best) and "has no model" not in out
    assert "TNEWS        ok       tnews11_predict.json: by 1e-05_16_0.1 (58.26)" in out
    shutil.rmtree(best)
    code, out, _ = run(*arguments)
    assert code == 0 and "by 1e-05_32_0.1 (58.26)" in out
    assert "TNEWS: the best trial (1e-05, 16, 0.1: 58.26) has no model on disk; taking 1e-05_32_0.1 (58.26)" in out


def test_of_several_seeds_the_best_of_the_best_setting_predicts(tmp_path, pack):
    runs = tmp_path / "runs"
    kept(runs, "csl", "3e-05_32_0.1", 80.0)
    kept(runs, "csl", "3e-05_32_0.1_seed43", 81.0)
    kept(runs, "csl", "5e-05_32_0.1", 79.0)
    kept(runs, "csl", "5e-05_32_0.1_seed43", 81.5)  # its mean is lower
    code, out, _ = pack(runs)
    assert code == 0 and "csl_predict.json: by 3e-05_32_0.1_seed43 (81.00)" in out


def test_without_a_kept_model_it_says_how_to_keep_one(tmp_path, pack):
    runs = tmp_path / "runs"
    kept(runs, "csl", "3e-05_32_0.1", 80.0, model=False)
    half = kept(runs, "afqmc", "3e-05_32_0.1", 70.0)
    (half / "model_state.pdparams").unlink()
    code, out, err = pack(runs)
    assert code == 1 and "there is nothing to pack" in err and not (tmp_path / "z.zip").exists()
    assert "CSL          missing  csl_predict.json: no model was kept\n" in out
    assert "AFQMC        missing  afqmc_predict.json: no model was kept\n" in out
    assert "C3           missing  c311_predict.json: no trial is done\n" in out
    how = "to keep the best models: python grid_search_tools/grid_search.py some-model --save_best_model True\n"
    assert out.count("--save_best_model") == 1 and how in out


def test_a_running_trial_does_not_count(tmp_path, data, run):
    folder = kept(tmp_path / "runs", "csl", "3e-05_32_0.1", 80.0)
    path = folder.with_name("3e-05_32_0.1.json")
    path.write_text(path.read_text().replace('"done"', '"running"'))
    assert "no trial is done" in run(tmp_path / "runs", "--data_dir", data, "--output", tmp_path / "z.zip")[1]


@pytest.mark.parametrize(
    "behaviour, message",
    [
        ("fail", "csl_predict.json was not predicted: error: out of memory: raise --gradient_accumulation_steps (see "),
        ("write nothing", "csl_predict.json was not predicted: the script wrote no such file; see "),
        ("drop one", "csl_predict.json, line 6: the file ends after 6 of 7 lines of the test set (the next id is 6)"),
    ],
)
def test_a_failed_prediction_leaves_no_zip(behaviour, message, tmp_path, pack):
    runs = tmp_path / "runs"
    folder = kept(runs, "csl", "3e-05_32_0.1", 80.0)
    kept(runs, "afqmc", "3e-05_32_0.1", 80.0)
    (folder / "behaviour").write_text(behaviour)
    (folder / "csl_predict.json").write_text("stale")
    code, out, err = pack(runs)
    assert code == 1 and f"CSL          wrong    {message}" in out and "AFQMC        ok" in out
    assert "was not written, because of csl_predict.json" in err and not (tmp_path / "z.zip").exists()


def test_models_trained_on_other_data_are_reported(tmp_path, data, pack):
    kept(tmp_path / "runs", "csl", "3e-05_32_0.1", 80.0, data="0123456789abcdef")
    code, out, _ = pack(tmp_path / "runs")
    assert code == 0 and f"CSL: 3e-05_32_0.1 was trained on other files than those in {data}" in out


def test_data_that_is_not_there_is_reported_before_predicting(grid, data, run, tmp_path):
    partial = shutil.copytree(data, tmp_path / "partial")
    os.remove(partial / "tnews_public" / "test.json")
    arguments = ["--output", tmp_path / "z.zip", "--tasks", "tnews", "--data_dir", partial]
    code, out, _ = run(grid, *arguments)
    assert code == 1 and "TNEWS        wrong    tnews11_predict.json can't be made: tnews: test.json is missing" in out
    assert calls(grid / "some-model" / "tnews" / "3e-05_32_0.1") == []


# The diagnostic set ---------------------------------------------------------------------------------------------------

DIAGNOSED = [
    {"index": 0, "premise": "他在北京", "hypothesis": "他在中国", "label": "contradiction", "phenomenon": "常识"},
    {"index": 1, "premise": "他没有来", "hypothesis": "他来了", "label": "contradiction", "phenomenon": "否定"},
    {"index": 2, "premise": "他来了", "hypothesis": "他坐车来", "label": "neutral", "phenomenon": "常识"},
    {"index": 3, "premise": "猫在睡觉", "hypothesis": "动物在睡觉", "label": "entailment", "phenomenon": "否定"},
]


def with_diagnostics(data, folder, rows=DIAGNOSED) -> Path:
    """A copy of the data that has the diagnostic set too."""
    shutil.copytree(data, folder)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "clue_diagnostics_public").mkdir()
    (folder / "clue_diagnostics_public" / "diagnostics_test.json").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_the_diagnostic_set_is_predicted_by_the_best_model_of_its_task(data, run, tmp_path):
    whole = with_diagnostics(data, tmp_path / "data")
    folder = kept(tmp_path / "runs", "cmnli", "3e-05_32_0.1", 80.0)
    kept(tmp_path / "runs", "afqmc", "3e-05_32_0.1", 70.0)
    code, out, err = run(tmp_path / "runs", "--output", tmp_path / "z.zip", "--data_dir", whole)
    assert (code, err) == (0, ""), out
    assert "DIAGNOSTICS  ok       diagnostics_predict.json: by 3e-05_32_0.1 (80.00)" in out
    # The stand-in always says contradiction: right on two of four.
    assert "DIAGNOSTICS: accuracy 50.00 ±25.00 of 4 rows\n" in out
    assert "    phenomenon 否定: 50.00 ±35.36 of 2 rows\n    phenomenon 常识: 50.00 ±35.36 of 2 rows\n" in out
    with zipfile.ZipFile(tmp_path / "z.zip") as archive:
        assert set(archive.namelist()) == {"afqmc_predict.json", "cmnli_predict.json", "diagnostics_predict.json"}
        lines = archive.read("diagnostics_predict.json").decode().splitlines()
    assert [json.loads(line) for line in lines] == [{"id": number, "label": "contradiction"} for number in range(4)]
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == []  # nothing is left behind


def test_a_diagnostic_set_without_labels_is_predicted_all_the_same(data, run, tmp_path):
    rows = [{key: row[key] for key in ("index", "premise", "hypothesis")} for row in DIAGNOSED]
    whole = with_diagnostics(data, tmp_path / "data", rows)
    kept(tmp_path / "runs", "cmnli", "3e-05_32_0.1", 80.0)
    code, out, _ = run(tmp_path / "runs", "--output", tmp_path / "z.zip", "--data_dir", whole)
    assert code == 0 and "DIAGNOSTICS  ok" in out and "accuracy" not in out


def test_a_diagnostic_file_made_elsewhere_is_checked(mine, data, run, tmp_path):
    whole = with_diagnostics(data, tmp_path / "data")
    submission.write_labels(mine / "diagnostics_predict.json", range(3), ["neutral"] * 3)
    code, out, _ = run(mine, "--output", tmp_path / "z.zip", "--data_dir", whole)
    assert (
        code == 1 and "DIAGNOSTICS  wrong    diagnostics_predict.json, line 3: the file ends after 3 of 4 lines" in out
    )


# What is remembered ---------------------------------------------------------------------------------------------------


def test_a_submission_is_remembered_beside_the_zip_and_in_the_run(data, run, tmp_path):
    kept(tmp_path / "runs", "csl", "3e-05_32_0.1", 81.0)
    zip_file = tmp_path / "submit.zip"
    assert run(tmp_path / "runs", "--output", zip_file, "--data_dir", data)[0] == 0
    record = json.loads((tmp_path / "submit.json").read_text())
    assert record["model"] == "runs" and record["files"] == ["csl_predict.json"] and record["test"] == {}
    assert record["sha256"] == hashlib.sha256(zip_file.read_bytes()).hexdigest()
    assert record["dev"] == {"csl": {"score": [81.0], "error": None}}  # of a trial without dev predictions
    assert json.loads((tmp_path / "runs" / "some-model" / "submit.json").read_text()) == record
    arguments = [tmp_path / "runs", "--output", zip_file, "--score", "CSL=79.50"]
    code, out, err = run(*arguments)
    assert (code, err) == (0, "") and out == f"{tmp_path / 'submit.json'}: CSL 79.50\n"
    for place in (tmp_path, tmp_path / "runs" / "some-model"):
        assert json.loads((place / "submit.json").read_text())["test"] == {"csl": 79.5}
    # The same zip once more keeps what is known of it.
    assert run(tmp_path / "runs", "--output", zip_file, "--data_dir", data)[0] == 0
    assert json.loads((tmp_path / "submit.json").read_text())["test"] == {"csl": 79.5}


def test_a_name_that_was_used_before_is_warned_about(mine, data, run, tmp_path):
    arguments = [mine, "--output", tmp_path / "a.zip", "--data_dir", data, "--name", "my model"]
    assert run(*arguments)[2] == ""
    assert run(*arguments)[2] == ""  # the same zip
    (mine / "csl_predict.json").unlink()
    code, _, err = run(mine, "--output", tmp_path / "b.zip", "--data_dir", data, "--name", "my model")
    assert code == 0 and err.count("\n") == 1
    assert err.startswith("warning: a.zip was packed for my model on 20") and "a task that is missing now" in err
    assert run(mine, "--output", tmp_path / "b.zip", "--data_dir", data, "--name", "another")[2] == ""


@pytest.mark.parametrize(
    "given, reason", [("CSL", "give a task and its score"), ("SST2=80", "give a task and"), ("CSL=8o", "give a task")]
)
def test_scores_that_mean_nothing_are_refused(mine, pack, run, tmp_path, given, reason):
    assert "pack the zip first" in run(mine, "--output", tmp_path / "z.zip", "--score", "CSL=80")[2]
    pack(mine)
    code, out, err = run(mine, "--output", tmp_path / "z.zip", "--score", given)
    assert (code, out, err.count("\n")) == (2, "", 1) and reason in err


def test_the_leaderboard_shows_dev_beside_test(pack, run, run_command, tmp_path):
    kept(tmp_path / "runs", "csl", "3e-05_32_0.1", 81.0)
    pack(tmp_path / "runs")
    run(tmp_path / "runs", "--output", tmp_path / "z.zip", "--score", "CSL=79.50")
    leaderboard = "grid_search_tools/leaderboard.py"
    _, dev, test, *_ = run_command(leaderboard, tmp_path / "runs").lines
    assert (
        dev.split()[1] == "some-model" and "81.00" in dev and test.split()[-1] == "79.50" and "on the test set" in test
    )
    (row,) = csv.DictReader(run_command(leaderboard, tmp_path / "runs", "--format", "csv").lines)
    assert (row["csl_test"], row["c3_test"]) == ("79.50", "-")


# What must not hang, nor be read as something else --------------------------------------------------------------------


def test_an_output_that_is_a_device_or_a_pipe_is_not_replaced(mine, data, run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("pipe", "null"):
        code, _, err = run(mine, "--output", tmp_path / name, "--data_dir", data)
        assert code == 2 and "neither file nor directory" in err and not (tmp_path / name).is_file()


def test_official_test_sets_make_a_zip_ready_to_upload(mine, data, run, tmp_path, monkeypatch):
    monkeypatch.setattr(DataSource, "is_official", lambda self, task, file: task.name != "csl")
    arguments = ("--output", tmp_path / "z.zip", "--data_dir", data)
    _, out, _ = run(mine, *arguments)
    assert "checked but not for upload: the test sets of CSL are not the official ones" in out
    _, out, _ = run(mine, *arguments, "--tasks", "AFQMC")
    assert "1 file(s), checked and ready to upload" in out
