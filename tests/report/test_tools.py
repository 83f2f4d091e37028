"""compare.py, extract_result.sh, leaderboard.py and the report on runs that kept their dev predictions."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data.official import fingerprint_of, official_md5s
from cluebench.data.source import DataSource
from cluebench.demo.synthetic import Sizes, write_synthetic
from cluebench.report import grid_page
from cluebench.report.run import Run
from tests.report.conftest import write_finished

COMPARE, EXTRACT, LEADERBOARD = (f"grid_search_tools/{n}.py" for n in ("compare", "extract_result", "leaderboard"))
CLUSTERS = np.arange(1000) // 4


def answers(share, seed):
    """Right or wrong [1000]; models of different seeds agree on most rows."""
    hard = np.random.default_rng(0).random(1000)
    return hard + 0.2 * np.random.default_rng(seed).normal(size=1000) < share


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for model, share, seed in (("alike", 0.60, 1), ("equal", 0.60, 2), ("better", 0.75, 3)):
        for name, task in TASKS.items():
            clusters = None if task.is_classification else CLUSTERS
            write_finished(folder, folder / "runs" / model, name, answers(share, seed), clusters, model=model)
    write_finished(folder, folder / "runs" / "old", "tnews", answers(0.6, 4), keeps=False, model="old")
    return folder / "runs"


@pytest.fixture
def runs(made_once, tmp_path):
    """A run root with two models that are alike and a better one, on all ten tasks, and an old run."""
    return Path(shutil.copytree(made_once, tmp_path / "runs"))


def test_compare_tells_apart_what_differs(runs, run_command):
    ended = run_command(COMPARE, "alike", "equal", "better", "--run_root", runs)
    assert (ended.code, ended.err) == (0, "")
    first, second = [line for line in ended.lines if line.startswith(("alike and", "better is"))]
    assert first.startswith("alike and equal do not differ clearly on any of the ten tasks; over the mean")
    assert second.startswith("better is better on AFQMC, TNEWS, ")
    assert "over the mean of the ten tasks better is" in second
    assert any(line.startswith("C3 ") and line.endswith("1000 in 250") for line in ended.lines)


def test_compare_takes_files_of_predictions(runs, run_command):
    files = [runs / model / "tnews" / "3e-05_32_0.1.predictions" for model in ("alike", "better")]
    ended = run_command(COMPARE, *files, "--format", "json")
    (found,) = json.loads(ended.out)
    assert [one["task"] for one in found["tasks"]] == ["TNEWS"] and found["tasks"][0]["significant"]


def test_published_scores_are_compared_with_runs_on_the_official_files_only(runs, finished, run_command):
    for name in ("tnews", "c3"):
        official = fingerprint_of(TASKS[name], official_md5s(TASKS[name]))
        finished(runs / "official", name, answers(0.6, 6), data=official, max_steps=9)
    published = ("published:ernie-3.0-base-zh", "--run_root", runs, "--tasks", "tnews,c3")
    (found,) = json.loads(run_command(COMPARE, "official", *published, "--format", "json").out)
    assert [(one["task"], one["test"]) for one in found["tasks"]] == [("TNEWS", "unpaired"), ("C3", "unpaired")]
    assert found["second"] == "ernie-3.0-base-zh (published)" and found["tasks"][0]["second"] == 58.26
    text = run_command(COMPARE, "official", *published).out
    assert "not as published: max_steps 9 (TNEWS and C3 of official)" in text
    ended = run_command(COMPARE, "official", *published, "--differences", "tnews")
    assert ended.code == 2 and "published scores have no rows" in ended.err
    ended = run_command(COMPARE, "alike", *published)
    assert ended.code == 2 and "published scores belong to the official files" in ended.err


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["alike"], "at least two different models"),
        (["alike", "alike"], "at least two different models"),
        (["alike", "nothing"], "nothing: no trials in"),
        (["alike", "published:nothing"], "published:nothing: no such scores were published"),
        (["alike", "old"], r"no task in common to compare them on \(old: its trial kept no dev predictions\)"),
        (["alike", "better", "--tasks", "sst2"], "unknown task 'sst2'"),
        (["alike", "better", "equal", "--differences", "tnews"], "name only two"),
    ],
)
def test_compare_refuses_in_one_line(runs, run_command, arguments, reason):
    ended = run_command(COMPARE, *arguments, "--run_root", runs)
    *repeated, error = ended.err.splitlines()
    assert (ended.code, ended.out, len(repeated)) == (2, "", arguments == ["alike", "alike"]), ended.err
    assert error.startswith("compare.py: error: ")
    assert re.search(reason, error)


def test_differences_are_shown_with_the_files_that_the_grids_used(tmp_path, finished, run_command):
    write_synthetic(tmp_path / "data", ["tnews"], {"tnews": Sizes(4, 3, 2)})
    data = DataSource(tmp_path / "data").fingerprint(TASKS["tnews"])
    for model, right in (("one", [1, 1, 0]), ("two", [1, 0, 0])):
        finished(tmp_path / model, "tnews", right, data=data)
        grid = {"format": 1, "model": model, "status": "done", "trials": [], "data_dir": str(tmp_path / "data")}
        (tmp_path / model / "grid.json").write_text(json.dumps(grid))
    files = [tmp_path / model / "tnews" / "3e-05_32_0.1.predictions" for model in ("one", "two")]
    for models in ([tmp_path / "one", tmp_path / "two"], files):
        ended = run_command(COMPARE, *models, "--differences", "tnews", "--format", "json")
        (found,) = json.loads(ended.out)
        assert (found["id"], found["right"]) == (1, "first") and found["sentence"]


def test_predictions_of_another_protocol_are_refused(runs, finished, run_command):
    finished(runs / "longer", "tnews", answers(0.6, 5), epochs=5)
    ended = run_command(COMPARE, "alike", "longer", "--run_root", runs)
    assert ended.code == 2 and "TNEWS: alike and longer can't be compared: they differ in epochs (3 and 5)" in ended.err


def test_the_table_keeps_its_form_and_errors_come_behind_it(runs, run_command):
    plain = run_command(EXTRACT, "alike", "--run_root", runs).out
    ended = run_command(EXTRACT, "alike", "--run_root", runs, "--stderr", "--budget", "1")
    assert ended.out.startswith(plain)
    heading, errors, average, budget, expected = ended.out[len(plain) :].splitlines()
    assert heading == "one standard error, in points:" and budget == "expected best of 1 trial:"
    cells = errors.split("\t")
    assert len(cells) == 10 and cells[0] == "±1.56" and cells[7].count("±") == 2
    assert average == "AVG\t±0.48"
    assert expected.split("\t")[0] == plain.splitlines()[1].split("\t")[0]


def test_a_trial_without_predictions_is_left_out_and_reported(runs, run_command):
    ended = run_command(EXTRACT, "old", "--run_root", runs, "--stderr", "--budget", "2")
    assert ended.lines[-3:] == ["\t".join("-" * 10), "expected best of 2 trials:", "\t".join("-" * 10)]
    assert "TNEWS: no standard error: its trial kept no dev predictions" in ended.err
    assert "fewer than 2 finished trials: TNEWS (1)" in ended.err


def test_a_report_is_written_on_request(runs, run_command):
    ended = run_command(EXTRACT, "old", "--run_root", runs, "--report")
    page = runs / "old" / "report.html"
    assert ended.code == 0 and f"report: {page}" in ended.err and "TNEWS" in page.read_text()


def test_errors_of_published_scores_are_marked(runs, run_command):
    (runs / "alike").rename(runs / "ernie-3.0-base-zh")
    ended = run_command(EXTRACT, "ernie-3.0-base-zh", "--run_root", runs, "--published", "--stderr")
    place = ended.lines.index("one standard error of the published scores, by the binomial approximation:")
    assert ended.lines[place + 1].split("\t")[5] == "±1.98"


def test_models_that_are_alike_share_a_rank(runs, run_command):
    lines = [line.split() for line in run_command(LEADERBOARD, runs, "--all_runs").lines]
    ranks = {line[1]: line[0] for line in lines[1:4]}
    assert ranks == {"better": "1", "alike": "2", "equal": "2"} and lines[5][:2] == ["-", "old"]
    assert lines[1][2] == "70.70±0.45" and lines[1][10] == "70.70/70.70"
    assert "share a rank" in run_command(LEADERBOARD, runs, "--all_runs", "--format", "markdown").out
    rows = csv.DictReader(run_command(LEADERBOARD, runs, "--format", "csv", "--all_runs").lines)
    alike = {row["model"]: row for row in rows}["alike"]
    assert (alike["rank"], alike["source"], alike["avg_error"]) == ("2", "measured", "0.48")


def test_what_is_not_comparable_is_ranked_only_when_asked_for(runs, run_command):
    lines = run_command(LEADERBOARD, runs, "--published").lines
    ranked = lines[1 : lines.index("not in the ranking:")]
    assert len(ranked) == 27 and all(" * " in line for line in ranked)
    assert any("not measured by this project" in line for line in lines)
    reasons = {line.split(":")[0]: line for line in lines if line.startswith(("better: ", "old: "))}
    assert "not on the official files" in reasons["better"] and "124 of the 134 trials missing" in reasons["better"]
    assert "its trial kept no dev predictions" in reasons["old"]
    found = json.loads(run_command(LEADERBOARD, runs, "--published", "--format", "json").out)["models"]
    better = next(one for one in found if one["model"] == "better")
    assert better["rank"] is None and {"reason": "warmup not known", "tasks": list(TASKS)} in better["not_as_published"]


def test_report_shows_errors_selection_and_budgets(tmp_path, finished):
    for number, rate in enumerate((1e-5, 2e-5, 3e-5, 5e-5)):
        finished(tmp_path, "tnews", answers(0.6, number), learning_rate=rate)
    page = grid_page.report(Run(tmp_path))
    assert "±1.5" in page
    sentence = r">The best trial scores (\S+) points more than the average trial. (\S+) of these"
    lead, by_selection = re.search(sentence, page).groups()
    assert 0 < float(by_selection) <= float(lead)
    (drawn,) = json.loads(re.search('id="data">(.*?)</script>', page)[1]).values()
    assert len(drawn["expected"]) == 4 and drawn["expected"] == sorted(set(drawn["expected"]))
