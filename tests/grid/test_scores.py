import json
import subprocess
import sys

import pytest

from cluebench.benchmark.published import published_model
from cluebench.benchmark.tasks import TASKS, Setting
from cluebench.records import finished_trials
from cluebench.records.finished_trials import OpenedRun
from cluebench.records.result import Result
from cluebench.report import grid_page, scores, table
from cluebench.report.run import Run
from tests.conftest import ROOT
from tests.run_directories import PUBLISHED_EXAMPLE, write_log, write_result

HEAD = "AFQMC\tTNEWS\tIFLYTEK\tCMNLI\tOCNLI\tCLUEWSC2020\tCSL\tCMRC2018\tCHID\tC3\n"
RULE = "====================================================================\n"


#: What every grid.json has.
GRID = {"format": 1, "model": "m", "status": "done", "trials": []}


EXTRACT = "grid_search_tools/extract_result.py"


@pytest.mark.parametrize(
    "prefix", ["", "\x1b[32m[2022-05-13 12:01:33,127] [    INFO]\x1b[0m - "], ids=["plain", "colours"]
)
def test_published_example_table_from_logs_byte_by_byte(tmp_path, prefix):
    for task, (score, name) in PUBLISHED_EXAMPLE.items():
        write_log(tmp_path / "ernie", task, name, score, prefix)
        worse = "9.99/99.99" if "/" in score else "9.99"  # as text it would sort above
        write_log(tmp_path / "ernie", task, "1e-05_64_0.1", worse, prefix)
        write_log(tmp_path / "ernie", task, "1e-05_8_0.1", None, prefix)  # not finished
    command = ["bash", str(ROOT / "grid_search_tools" / "extract_result.sh"), str(tmp_path / "ernie")]
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout == (
        HEAD
        + "75.93\t58.26\t61.56\t83.02\t80.10\t86.18\t82.63\t70.71/90.41\t84.26\t77.88\n"
        + RULE + "Best hyper-parameters list:\n" + RULE
        + "TASK\tresult\t(lr, batch_size, dropout_p)\n"
        + "AFQMC\t75.93\t(3e-05,16,0.1)\n"
        + "TNEWS\t58.26\t(3e-05,32,0.1)\n"
        + "IFLYTEK\t61.56\t(5e-05,32,0.0)\n"
        + "CMNLI\t83.02\t(3e-05,32,0.1)\n"
        + "OCNLI\t80.10\t(2e-05,64,0.1)\n"
        + "CLUEWSC2020\t86.18\t(2e-05,16,0.0)\n"
        + "CSL\t82.63\t(2e-05,32,0.1)\n"
        + "CMRC2018\t70.71/90.41\t(2e-05,24,0.1)\n"
        + "CHID\t84.26\t(3e-05,24,0.1)\n"
        + "C3\t77.88\t(2e-05,32,0.1)\n"
    )  # fmt: skip


def best(folder, task):
    return scores.best_setting(finished_trials.finished_trials(folder).get(task, []))


def test_ties_go_to_the_smaller_learning_rate_then_batch_then_dropout(tmp_path):
    for name in ("5e-05_16_0.1", "2e-05_64_0.1", "2e-05_32_0.1", "2e-05_32_0.0", "3e-05_8_0.1"):
        write_log(tmp_path, "tnews", name, "57.00")
    assert best(tmp_path, "tnews").setting == Setting(2e-5, 32, 0.0)
    write_result(tmp_path, "tnews", "5e-05_16_0.0", (57.0041,))  # as printed, the same
    assert best(tmp_path, "tnews").setting == Setting(2e-5, 32, 0.0)


@pytest.mark.parametrize("other", ["2e-05_32_0.1", "3e-05_16_0.1", "3e-05_32_0.0"])
def test_what_the_grid_varies_is_compared(other, tmp_path):
    """Whichever of the three it is, and whichever trial finished last."""
    write_result(tmp_path, "tnews", "3e-05_32_0.1", (57.0,), finished="2022-05-14")
    write_result(tmp_path, "tnews", other, (58.0,), finished="2022-05-13")
    assert best(tmp_path, "tnews").score == (58.0,)
    write_result(tmp_path, "tnews", "3e-05_32_0.1", (59.0,), finished="2022-05-14")
    assert best(tmp_path, "tnews").score == (59.0,)


def test_a_score_has_two_decimals(tmp_path):
    write_result(tmp_path, "tnews", "3e-05_32_0.1", (57.0049,))
    write_result(tmp_path, "tnews", "3e-05_32_0.1", (57.0051,), seed=43)
    assert [trial.score for trial in finished_trials.finished_trials(tmp_path)["tnews"]] == [(57.0,), (57.01,)]


def test_task_folders_in_any_case_and_other_files_do_no_harm(tmp_path):
    write_log(tmp_path, "TNEWS", "3e-5_32_0.1", "57.00")
    (tmp_path / "TNEWS" / "notes.log").write_text("best_result: 99.99\n")
    (tmp_path / "TNEWS" / "3e-05_32_0.1.attempt1.log").write_text("best_result: 99.99\n")
    (tmp_path / "other").mkdir()
    write_log(tmp_path, "afqmc", "3e-05_32_0.1", "57.00/60.00")  # two numbers are no accuracy
    assert finished_trials.finished_trials(tmp_path)["tnews"][0].score == (57.0,)
    assert best(tmp_path, "afqmc") is None


def test_a_result_that_is_not_done_hides_its_log(tmp_path):
    write_log(tmp_path, "tnews", "3e-05_32_0.1", "57.00")
    write_result(tmp_path, "tnews", "3e-05_32_0.1", None, status="failed")
    assert best(tmp_path, "tnews") is None
    (tmp_path / "tnews" / "3e-05_32_0.1.json").write_text('{"status": "do')  # half written by another program
    assert best(tmp_path, "tnews") is None


@pytest.mark.parametrize(
    "place, reported",
    [("tnews/5e-05_32_0.1", "learning_rate 3e-05"), ("tnews/3e-05_16_0.1", "batch_size 32"),
     ("tnews/3e-05_32_0.0", "dropout 0.1"), ("tnews/3e-05_32_0.1_seed43", "seed 42"), ("afqmc/3e-05_32_0.1", "task tnews"),
     ("afqmc/3e-05_32_0.1_seed7", "task tnews, seed 42")],
)  # fmt: skip
def test_a_result_whose_name_says_otherwise_is_reported_once_and_left_out(tmp_path, capsys, place, reported):
    write_result(tmp_path, "tnews", "3e-05_32_0.1", [58.0])
    moved = tmp_path / f"{place}.json"
    moved.parent.mkdir(exist_ok=True)
    (tmp_path / "tnews" / "3e-05_32_0.1.json").rename(moved)
    for _ in range(2):
        assert not any(finished_trials.finished_trials(tmp_path).values())
    line = f"warning: {moved}: its result says {reported}, its place says otherwise; left out\n"
    assert capsys.readouterr().err == line


def test_what_a_result_leaves_open_its_name_tells(tmp_path):
    """As the dropout of a run that kept its model's own."""
    write_result(tmp_path, "tnews", "3e-05_32_0.1", [58.0])
    path = tmp_path / "tnews" / "3e-05_32_0.1.json"
    written = json.loads(path.read_text())
    written["configuration"]["dropout"] = None
    path.write_text(json.dumps(written))
    (trial,) = finished_trials.finished_trials(tmp_path)["tnews"]
    assert (trial.setting, trial.seed, trial.name) == (Setting(3e-5, 32, 0.1), 42, "3e-05_32_0.1")


def test_no_trial_is_a_dash(tmp_path):
    (tmp_path / "tnews").mkdir()
    lines = table.best_score_table(scores.best_settings(finished_trials.finished_trials(tmp_path)))
    assert lines[1] == "\t".join(["-"] * 10) and lines[7] == "TNEWS\t-\t-"


def test_seeds_give_mean_and_deviation_and_single_seeds_do_not_win(tmp_path):
    for seed, score in ((42, 57.0), (43, 58.0), (44, 59.0)):
        write_result(tmp_path, "tnews", "3e-05_32_0.1", (score,), seed)
    write_result(tmp_path, "tnews", "5e-05_32_0.1", (99.0,), 42)
    found = best(tmp_path, "tnews")
    # sample deviation of 57, 58, 59 is 1
    assert (found.text(TASKS["tnews"]), found.setting.learning_rate, found.seeds) == ("99.00, 58.00±1.00 (3)", 3e-5, 3)
    assert finished_trials.of_whole_grid(finished_trials.finished_trials(tmp_path)["tnews"]) == [
        trial for trial in finished_trials.finished_trials(tmp_path)["tnews"] if trial.seed == 42
    ]
    (tmp_path / "tnews" / "5e-05_32_0.1.json").unlink()
    assert best(tmp_path, "tnews").text(TASKS["tnews"]) == "58.00±1.00"
    write_result(tmp_path, "cmrc2018", "3e-05_24_0.1", (60.0, 80.0), 42)
    write_result(tmp_path, "cmrc2018", "3e-05_24_0.1", (62.0, 84.0), 43)
    assert best(tmp_path, "cmrc2018").text(TASKS["cmrc2018"]) == "61.00±1.41/82.00±2.83"


def test_results_of_other_settings_are_not_compared(tmp_path):
    write_result(tmp_path, "tnews", "3e-05_32_0.1", (90.0,), epochs=1, finished="2024-01-01T00:00:00+00:00")
    write_result(tmp_path, "tnews", "5e-05_32_0.1", (57.0,), epochs=3, finished="2024-01-02T00:00:00+00:00")
    assert best(tmp_path, "tnews").score == (57.0,)  # the latest finished
    result = Result.read(tmp_path / "tnews" / "3e-05_32_0.1.json")
    protocols = {"tnews": finished_trials.protocol_hash(result.configuration)}
    (tmp_path / "grid.json").write_text(json.dumps({**GRID, "protocols": protocols}))
    assert best(tmp_path, "tnews").score == (90.0,)  # what grid.json planned


@pytest.mark.parametrize(
    "batches, best_batch, edge",
    [((8, 16, 32), 8, "smallest"), ((8, 16, 32, 64), 32, None), ((8, 16, 32), 32, "largest"), ((8, 16), 8, None)],
)
def test_an_edge_is_at_either_end_of_three_or_more(batches, best_batch, edge, tmp_path):
    for batch in batches:
        write_log(tmp_path, "tnews", f"3e-05_{batch}_0.1", "60.00" if batch == best_batch else "50.00")
    trials = finished_trials.finished_trials(tmp_path)
    assert scores.edges(trials, scores.best_settings(trials)) == ({("tnews", "batch_size"): edge} if edge else {})


def test_average_is_the_published_one_and_no_difference_is_minus_nothing():
    row = published_model("ernie-3.0-base-zh")
    bests = {name: scores.Best(Setting(1e-5, 16, 0.1), row.score(task)) for name, task in TASKS.items()}
    assert f"{scores.average(bests):.2f}" == row.average == "76.05"
    assert scores.average({"tnews": bests["tnews"]}) is None
    before, theirs = scores.average(bests), bests["tnews"].score[0]
    bests["tnews"] = scores.Best(Setting(1e-5, 16, 0.1), (theirs - 0.0033,), (0.1,), seeds=3)  # a mean over seeds
    assert scores.average(bests) == before, "it is of the scores as they are printed"
    assert table.published_comparison(bests, row)[1].split("\t")[1] == "+0.00"


def test_published_row_and_difference(tmp_path, run_command):
    write_log(tmp_path / "ernie-3.0-base-zh", "tnews", "3e-05_32_0.1", "58.00")
    write_log(tmp_path / "ernie-3.0-base-zh", "cmrc2018", "3e-05_32_0.1", "71.00/90.41")
    lines = run_command(EXTRACT, "ernie-3.0-base-zh", "--run_root", tmp_path, "--published").lines
    assert lines[-3].startswith("published in PaddleNLP's CLUE Benchmark document, not measured by this project")
    assert lines[-2].split("\t")[:2] == ["75.93", "58.26"]
    assert lines[-1].split("\t") == ["-", "-0.26", "-", "-", "-", "-", "-", "+0.29/+0.00", "-", "-"]


def test_wrong_arguments_are_one_line(tmp_path, run_command):
    for arguments in (["nothing", "--run_root", tmp_path], []):
        ended = run_command(EXTRACT, *arguments)
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)


def test_report_is_one_file_that_shows_what_was_found(tmp_path):
    write_result(tmp_path, "tnews", "3e-05_32_0.1", (57.0,), peak_memory_bytes=3 << 30, train_seconds=61.0)
    write_result(tmp_path, "tnews", "5e-05_32_0.1", (55.0,))
    failure = {"kind": "out of memory", "detail": "<script>alert(1)</script>"}
    entry = {
        "task": "tnews", "name": "5e-05_64_0.1", "learning_rate": 5e-5, "batch_size": 64, "dropout": 0.1, "seed": 42,
        "state": "failed", "failures": [failure], "attempts": [], "configuration_hash": "x",
    }  # fmt: skip
    (tmp_path / "grid.json").write_text(
        json.dumps({**GRID, "model": "ernie-3.0-base-zh", "status": "failed", "trials": [entry]})
    )
    page = grid_page.report(Run(tmp_path)).partition('<script type="application/json"')[0]
    assert "57.00" in page and "-1.26" in page and "not measured by this project" in page  # 58.26 is published
    assert "3.0</td>" in page and 'href="tnews/3e-05_32_0.1.json"' in page
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "http:" not in page and "https:" not in page


# Which model is meant -------------------------------------------------------------------------------------------------


def test_published_scores_beside_a_directorys(tmp_path, run_command):
    """A directory is called as its model is, or its grid.json says which it is of."""
    for folder, grid in (("hfl--rbt3", None), ("ernie-3.0-base-zh", None), ("copied", "ernie-3.0-base-zh")):
        write_log(tmp_path / folder, "tnews", "3e-05_32_0.1", "50.00")
        if grid:
            content = {"format": 1, "model": grid, "status": "done", "trials": []}
            (tmp_path / folder / "grid.json").write_text(json.dumps(content))
        shown = run_command(EXTRACT, tmp_path / folder, "--published")
        assert shown.code == 0 and shown.lines[-1].split("\t")[1] == {"hfl--rbt3": "-5.53"}.get(folder, "-8.26")
    write_log(tmp_path / "unknown", "tnews", "3e-05_32_0.1", "50.00")
    shown = run_command(EXTRACT, tmp_path / "unknown", "--published")
    assert shown.code == 2 and "--published: no scores of " in shown.err


def test_notes_name_the_model_where_there_are_several(tmp_path, run_command):
    for model in ("a", "b"):
        for rate in (1e-5, 2e-5, 3e-5):
            write_log(tmp_path / model, "tnews", f"{rate}_32_0.1", f"{rate * 1e6:.2f}")
    note = "TNEWS: the best learning rate, 3e-05, is the largest tried; a larger one may do better"
    command = (EXTRACT, "--run_root", tmp_path)
    assert run_command(*command, "a").err == f"{note}\n"
    both = run_command(*command, "a", "b")
    assert both.err == f"a: {note}\nb: {note}\n" and [line for line in both.lines if len(line) == 2] == ["a:", "b:"]


def test_trials_that_a_search_stopped_are_counted_in_the_mark_and_in_no_table(tmp_path, run_command):
    """Of the protocol of those that are finished only: what an earlier plan left says nothing of this table."""
    for setting, score in (("1e-05_32_0.1", 50), ("2e-05_32_0.1", 51), ("3e-05_32_0.1", 52)):
        write_result(tmp_path, "tnews", setting, [score])
    assert OpenedRun(tmp_path).halving_mark is None
    write_result(tmp_path, "tnews", "5e-05_32_0.1", [99], status="stopped")
    for status in ("paused", "failed"):  # a run that someone pauses is not stopped by a search
        write_result(tmp_path, "tnews", "5e-05_64_0.1", [99], status=status)
        write_result(tmp_path, "tnews", "5e-05_16_0.1", [99], status="stopped", epochs=9)
        assert OpenedRun(tmp_path).halving_mark == "halving: 1 of 4 trials stopped early"
    planned = {"configuration_hash": "0" * 16, "dropout": 0.1, "seed": 42, "task": "tnews", "state": "stopped"}
    entries = [
        {**planned, "name": "1e-05_32_0.1", "learning_rate": 1e-5, "batch_size": 32},  # done since
        {**planned, "name": "5e-05_64_0.1", "learning_rate": 5e-5, "batch_size": 64},  # without a result
    ]
    protocol = finished_trials.protocol_hash(finished_trials.finished_trials(tmp_path)["tnews"][0].result.configuration)
    (tmp_path / "grid.json").write_text(json.dumps({**GRID, "protocols": {"tnews": protocol}, "trials": entries}))
    assert OpenedRun(tmp_path).halving_mark == "halving: 2 of 5 trials stopped early"
    ended = run_command(EXTRACT, tmp_path)
    assert ended.lines[1].split("\t")[1] == "52.00"
    assert "(halving: 2 of 5 trials stopped early)\n" in ended.err and "halving" not in ended.out
