"""A task is a row: with one more in the table, every part of the benchmark knows it, published or not."""

import csv
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cluebench.benchmark import published, tasks
from cluebench.benchmark.tasks import TASKS
from cluebench.data.rows import load_rows
from cluebench.data.source import open_source
from cluebench.demo import synthetic
from cluebench.foundation.errors import UsageError
from cluebench.pretrained.model import Model
from cluebench.records import finished_trials
from cluebench.records.result import Result
from cluebench.report import grid_page, scores, table
from cluebench.report.run import Run
from cluebench.scheduler.plan.estimates import DurationModel, MemoryModel
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.trials import build_plan
from tests.run_directories import PUBLISHED_EXAMPLE, write_log, write_result

ROOT = Path(__file__).resolve().parents[1]

ROW = """Task(
    name="weibo",
    title="WEIBO",
    kind=PAIR,
    script=CLASSIFICATION_SCRIPT,
    train_files=("train.json",),
    dev_files=("dev.json",),
    test_sets=(TestSet("1.1", "test.json", "weibo_predict.json"),),
    text_fields=("post", "reply"),
    labels=("sad", "angry", "happy"),
    label_file="labels.json",
    epochs=3,
    max_seq_length=96,
    grid=Grid((2e-5, 3e-5), (16,)),
)"""


@pytest.fixture
def weibo(monkeypatch):
    """The row, in the table for as long as the test lasts."""
    row = eval(ROW, vars(tasks))
    monkeypatch.setitem(TASKS, row.name, row)
    published.published_models.cache_clear()
    yield row
    published.published_models.cache_clear()


def test_the_grid_plans_and_estimates_it(weibo):
    trials = build_plan([Model.of("m")], GridFlags())
    assert len(trials) == 134 + 2 and [trial.task for trial in trials[-2:]] == ["weibo", "weibo"]
    durations, memory = DurationModel(GridFlags()), MemoryModel()
    assert all(durations.relative(trial) > 0 and memory.needed_bytes(trial, 16) > 0 for trial in trials)
    # A usual classification task: neither the shortest of a grid nor anything like the longest.
    lengths = {trial.task: durations.relative(trial) for trial in trials}
    assert min(lengths.values()) < lengths["weibo"] < max(lengths.values()) / 10


def test_published_settings_of_it_there_are_none(weibo):
    assert (
        len(build_plan([Model.of("ernie-3.0-base-zh")], GridFlags(tasks=list(PUBLISHED_EXAMPLE), best_only=True))) == 10
    )
    with pytest.raises(UsageError, match="WEIBO has no published settings; .*--tasks AFQMC TNEWS .* C3$"):
        build_plan([Model.of("ernie-3.0-base-zh")], GridFlags(best_only=True))


def test_it_has_a_column_and_leaves_the_published_average_as_it_was(weibo, tmp_path):
    runs, model = tmp_path / "ernie-3.0-base-zh", published.published_model("ernie-3.0-base-zh")
    for task, (score, name) in PUBLISHED_EXAMPLE.items():
        write_log(runs, task, name, score)
    before = scores.average(scores.best_settings(finished_trials.finished_trials(runs)))
    write_result(runs, "weibo", "3e-05_16_0.1", (12.34,))
    bests = scores.best_settings(finished_trials.finished_trials(runs))
    assert scores.average(bests) == before == pytest.approx(float(model.average), abs=0.005)
    head, row = table.best_score_table(bests)[:2]
    assert head.endswith("\tC3\tWEIBO") and row.endswith("\t77.88\t12.34")
    theirs, differences = table.published_comparison(bests, model)
    assert theirs.split("\t")[-2:] == ["77.88", "-"] and differences.split("\t")[-2:] == ["+0.00", "-"]
    row = grid_page.report(Run(runs)).split('<a href="#weibo">WEIBO</a></td>')[1].split("</tr>")[0]
    assert re.findall(r'<td class="number.*?">(.*?)</td>', row)[:4] == ["12.34", "–", "–", "–"]


@pytest.mark.parametrize("joined_field", [None, "reply"])
def test_made_up_data_of_it_load(joined_field, weibo, monkeypatch, tmp_path, capsys):
    task = replace(weibo, joined_field=joined_field)
    monkeypatch.setitem(TASKS, task.name, task)
    synthetic.write_synthetic(tmp_path, ["weibo"], {"weibo": synthetic.Sizes(60, 30, 20)})
    source = open_source(tmp_path)
    sizes = [len(load_rows(source, task, split)) for split in ("train", "dev", "test1.1")]
    assert sizes == [60, 30, 20] and {row.label for row in load_rows(source, task, "train")} == set(range(3))
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_warm_up_trial_table_and_submission(tmp_path):
    """In a copy of the repository whose table has the row, by the commands a user types."""
    for folder in ("cluebench", "classification", "grid_search_tools"):
        # The commands' folders link to the package: to the copy of it, then.
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    with open(tmp_path / "cluebench" / "benchmark" / "tasks.py", "a", encoding="utf-8") as table:
        table.write(f'\nTASKS["weibo"] = {ROW}\n')

    def ran(command, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        arguments = [sys.executable, tmp_path / "grid_search_tools" / command, *map(str, arguments)]
        ended = subprocess.run(arguments, env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    printed = ran("grid_search.py", "--demo", "--tasks", "weibo", "--max_steps", 30, "--devices", "cpu")
    result = Result.read(tmp_path / "demo" / "runs" / "model" / "weibo" / "0.001_16_0.1.json")
    assert result.status == "done" and result.best_score[0] > 50  # a third would be chance
    score = f"{result.best_score[0]:.2f}"
    assert printed.splitlines()[:2] == ["\t".join([*map(str.upper, PUBLISHED_EXAMPLE), "WEIBO"]), "-\t" * 10 + score]
    assert printed.splitlines()[-1] == f"WEIBO\t{score}\t(0.001,16,0.1)"
    lines = ran("leaderboard.py", tmp_path / "demo" / "runs", "--published", "--format", "csv").splitlines()
    board = {row["model"]: row for row in csv.DictReader(lines)}
    assert (board["model"]["weibo"], board["model"]["avg"], board["model"]["source"]) == (score, "-", "measured")
    assert len(board) == 28 and {row["weibo"] for name, row in board.items() if name != "model"} == {"-"}
    assert board["ernie-3.0-base-zh"]["rank"] != "-" and board["ernie-3.0-base-zh"]["avg_error"] != "-"
    ran("make_submission.py", tmp_path / "demo" / "runs", "--output", "z.zip", "--data_dir", tmp_path / "demo" / "data",
        "--device", "cpu", "--offline")  # fmt: skip
    assert (tmp_path / "z.zip").stat().st_size > 0
