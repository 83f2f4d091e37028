"""Rows of the leaderboard: who a model is, how large, what it cost, and which of its trials count."""

import json
import shutil

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.records.result import STOPPED, ModelSize, Result
from cluebench.report.leaderboard import FORMATS, Leaderboard, measured_rows, published_rows, rendered
from tests.made_up_runs import write_run

SOME = [TASKS["afqmc"], TASKS["tnews"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run root with the whole grid of hfl/rbt3."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "hfl--rbt3", "hfl/rbt3", rows=60)
    return root


@pytest.fixture
def runs(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "runs")
    return tmp_path / "runs"


def results(folder, tasks=("*",)):
    return [path for task in tasks for path in sorted(folder.glob(f"{task}/*.json"))]


def changed(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_model_has_the_name_that_was_typed_and_the_size_that_was_measured(runs):
    changed(results(runs / "hfl--rbt3")[0], lambda content: content["model_size"].update(parameters=101_677_056))
    (row,) = measured_rows(runs)  # of a head without a pooler
    assert (row.model, row.marks, row.trials, row.size) == ("hfl/rbt3", (), 134, ModelSize(12, 768, 102_267_648))
    for path in results(runs / "hfl--rbt3"):
        changed(path, lambda content: content.pop("model_size"))
    (row,) = measured_rows(runs)
    assert row.size == ModelSize(3, 768, 38_476_800), "what is known of a published model"


def test_one_model_in_two_places_has_two_names(runs):
    shutil.copytree(runs / "hfl--rbt3", runs.parent / "theirs" / "hfl--rbt3")
    rows = measured_rows(runs) + measured_rows(runs.parent / "theirs") + published_rows()
    found = [row.model for row in Leaderboard.of(rows).rows if "rbt3" in row.model]
    assert sorted(found) == ["hfl/rbt3", "hfl/rbt3 (runs/hfl--rbt3)", "hfl/rbt3 (theirs/hfl--rbt3)"]
    shutil.copytree(runs, runs.parent / "again" / "runs")
    found = Leaderboard.of(measured_rows(runs) + measured_rows(runs.parent / "again" / "runs")).rows
    assert {row.model for row in found} == {f"hfl/rbt3 ({end}/runs/hfl--rbt3)" for end in (runs.parent.name, "again")}


def test_score_per_hour_orders_the_rows_and_leaves_the_ranks(runs):
    shutil.copytree(runs / "hfl--rbt3", runs / "cheap")
    for path in results(runs / "cheap"):
        changed(path, lambda content: content.update(train_seconds=1, eval_seconds=1, device_seconds=2))
        path.with_suffix(".predictions").unlink()  # it is in no ranking, for that
    write_run(runs / "good", "good", quality=3, rows=60)
    by_cost = Leaderboard.of(measured_rows(runs), all_runs=True, sort="score_per_hour").rows
    assert [(row.rank, row.model.split()[0]) for row in by_cost] == [(1, "good"), (2, "hfl/rbt3"), (None, "hfl/rbt3")]
    for path in results(runs / "good"):
        changed(path, lambda content: content.update(train_seconds=9e5))
    by_cost = Leaderboard.of(measured_rows(runs), sort="score_per_hour").rows
    assert [row.rank for row in by_cost] == [2, 1, None] and by_cost[0].score_per_hour > by_cost[1].score_per_hour


def test_trials_that_a_search_stopped_are_named(tmp_path):
    write_run(tmp_path / "m", "m", tasks=SOME, rows=60)
    for path in results(tmp_path / "m", ["tnews"])[:3]:
        result = Result.read(path)
        result.status = STOPPED
        result.write(path)
    (row,) = measured_rows(tmp_path)
    assert "halving: 3 of 24 trials stopped early" in row.why_marked
    assert "113 of the 134 trials missing" in row.why_marked


def test_seeds_that_confirm_the_best_settings_change_nothing(tmp_path):
    write_run(tmp_path / "m", "m", tasks=SOME, rows=60)
    (before,) = measured_rows(tmp_path)
    write_run(tmp_path / "more", "m", tasks=SOME, rows=60, settings=3, seeds=[43, 44])
    for path in results(tmp_path / "more"):
        shutil.copy(path, tmp_path / "m" / path.parent.name)
    shutil.rmtree(tmp_path / "more")
    (after,) = measured_rows(tmp_path)
    assert (after.bests, after.marks, after.trials) == (before.bests, before.marks, 24)


def test_json_has_everything(runs):
    (runs / "hfl--rbt3" / "report.html").touch()
    board = Leaderboard.of(measured_rows(runs) + published_rows(), baseline="ernie-3.0-base-zh")
    content = json.loads(rendered(board, "json"))
    mine = next(one for one in content["models"] if not one["published"])
    (theirs,) = [one for one in content["models"] if one["published"] and one["model"] == "hfl/rbt3"]
    assert theirs["size"] == {"layers": 3, "hidden_size": 768, "parameters": 38476800, "architecture": "3L768H"}
    assert content["baseline"] == "ernie-3.0-base-zh" and set(mine["tasks"]) == set(TASKS) == set(content["tasks"])
    assert mine["rank"] and mine["report"] == str(runs / "hfl--rbt3" / "report.html") and mine["device_hours"] > 1
    assert set(mine["tasks"]["cmrc2018"]) == {"score", "error", "test", "learning_rate", "batch_size", "dropout"}
    (exact, _), difference = mine["tasks"]["cmrc2018"]["score"], mine["difference"]["scores"]["cmrc2018"]
    assert difference == round(round(exact, 2) - 70.71, 2), "EM, as in AVG"
    assert len(mine["tasks"]["cmrc2018"]["error"]) == 2 and 0 <= mine["difference"]["p"] <= 1


def test_a_baseline_is_a_measured_row_unless_the_published_one_is_asked_for(runs):
    rows = measured_rows(runs) + published_rows()
    for asked, published in (("hfl/rbt3", False), ("published:hfl/rbt3", True), ("hfl/rbt4", True)):
        board = Leaderboard.of(rows, baseline=asked)
        assert (board.baseline.model, board.baseline.published) == (asked.removeprefix("published:"), published)
        assert [row.model for row in board.rows if board.difference(row) is None] == [board.baseline.model]


@pytest.mark.parametrize("style", FORMATS)
def test_one_row_whose_error_nobody_knows_is_shown_in_every_format(tmp_path, style):
    write_run(tmp_path / "m", "our/model", tasks=SOME, rows=1)
    assert "our/model" in rendered(Leaderboard.of(measured_rows(tmp_path)), style)
