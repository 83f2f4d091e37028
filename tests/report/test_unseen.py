"""Scores on the dev rows whose text is not in train: whose rows, by whose mask, and what is not known is not shown."""

from dataclasses import asdict

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data import row_facts
from cluebench.data.row_facts import Floors, RowFacts
from cluebench.foundation import atomic
from cluebench.records.dev_predictions import DevPredictions, of_result
from cluebench.records.finished_trials import OpenedRun, finished_trials
from cluebench.records.result import Result
from cluebench.report.evidence import facts_of, incomparable, unseen, unseen_text
from cluebench.report.run import Run
from cluebench.submission.checks import one_label
from tests.made_up_runs import write_run
from tests.report.conftest import PROTOCOL

TNEWS = TASKS["tnews"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLUEBENCH_CACHE", str(tmp_path / "cache"))


def facts(twins=(), rows=4, task="tnews", data=PROTOCOL["data"], **more):
    more = {"groups": [*range(rows)], **more}
    return RowFacts(1, task, data, "a" * 16, "b" * 16, rows, list(twins), floors=Floors(10.0, 25.0, 15.0), **more)


def test_the_score_and_its_error_are_of_the_other_rows(evidence):
    known = evidence("tnews", [1, 1, 0, 1, 0], np.array([0, 0, 1, 2, 2]))
    apart = unseen(known, facts([0, 3], 5))
    assert apart.score == pytest.approx((100 / 3,)) and len(apart.by_row) == 3
    assert apart.clusters.tolist() == [0, 1, 2]
    assert unseen_text(TNEWS, known, facts([0, 3], 5)) == "33.33 on the 3 rows whose text is not in train"
    assert unseen(known, facts([], 5)) is known and unseen_text(TNEWS, known, facts([], 5)) is None
    assert unseen(known, facts(range(5), 5)) is None


def test_of_spans(evidence):
    apart = unseen(evidence("cmrc2018", [1, 0, 1], f1=[1, 0.5, 1]), facts([0], 3, "cmrc2018"))
    assert apart.score == pytest.approx((50, 75)) and apart.predictions[0].predicted.tolist() == ["光荣", "光荣"]


def test_only_facts_of_the_same_data_and_rows_count(evidence, tmp_path):
    known = {"tnews": evidence("tnews", [1, 1, 0, 1])}
    assert facts_of(known, None, look=False) == {}
    row_facts.keep(facts([1]))
    assert facts_of(known, None, look=False) == {"tnews": facts([1])}
    assert facts_of({"tnews": evidence("tnews", [1, 1, 0])}, None, look=False) == {}  # fewer rows
    assert facts_of({"tnews": evidence("tnews", [1, 1, 0, 1], limit=4)}, None, look=False) == {}
    assert facts_of({"tnews": evidence("tnews", [1, 1, 0, 1], data="c" * 16)}, None, look=False) == {}
    own = facts([0, 2])
    atomic.write_json(tmp_path / "run" / "rows.json", {"tnews": asdict(own)})
    assert facts_of(known, OpenedRun(tmp_path / "run"), look=False) == {"tnews": own}  # a bundle's own


@pytest.mark.parametrize("twins", ["[4]", "[1, 1]", "[-1]", "true"])
def test_broken_facts_count_for_nothing(tmp_path, twins, capsys):
    row_facts.keep(facts([1]))
    (path,) = (tmp_path / "cache" / "rows").iterdir()
    path.write_text(path.read_text().replace("[\n    1\n  ]", twins))
    assert row_facts.found(TNEWS, PROTOCOL["data"]) is None
    assert str(path) in capsys.readouterr().err
    assert row_facts.found(TNEWS, "../../etc/passwd") is None, "a stranger's hash names no path"


def test_runs_on_the_same_rows_are_compared_whatever_the_files(evidence):
    first, other = (evidence("tnews", [1, 0, 1, 1], data=letter * 16).predictions[0] for letter in "cd")
    assert "data" in incomparable(first, other)
    for letter in "cd":
        row_facts.keep(facts(data=letter * 16))
    assert incomparable(first, other) == ""


@pytest.fixture
def runs(tmp_path):
    """Two runs of TNEWS on made-up data of which every second dev row stands in train."""
    folder = tmp_path / "data" / "tnews_public"
    folder.mkdir(parents=True)
    row = '{{"label": "{}", "sentence": "第{}条！"}}\n'
    for file, numbers in (("train.json", range(0, 80, 2)), ("dev.json", range(60))):
        rows = (row.format(TNEWS.labels[place % 15], number) for place, number in enumerate(numbers))
        (folder / file).write_text("".join(rows), encoding="utf-8")
    for name, quality in (("one", 0), ("two", 20)):
        write_run(tmp_path / "runs" / name, name, tasks=[TNEWS], settings=2, data=tmp_path / "data", quality=quality)
    return tmp_path / "runs"


def test_the_table_the_leaderboard_and_the_comparison(runs, run_command):
    table = run_command("grid_search_tools/extract_result.py", runs / "one", "--without_twins")
    known = Run(runs / "one").evidence
    mask = np.arange(60) % 2 == 1
    expected = f"{known['tnews'].by_row[mask].mean():.2f}"
    assert table.lines[-2:] == ["on the dev rows whose text is not in train:", f"-\t{expected}" + "\t-" * 8]
    assert "TNEWS: 30 of 60 dev rows are left out: their text is in train" in table.err
    assert "floors, the best dev scores without reading: TNEWS" in table.err
    board = run_command("grid_search_tools/leaderboard.py", runs, "--without_twins").out
    assert f" {expected} " in board and "Scores are on the dev rows whose text is not in train" in board
    assert "floors, the best dev scores" in run_command("grid_search_tools/leaderboard.py", runs).out
    compared = run_command("grid_search_tools/compare.py", runs / "one", runs / "two").out
    assert f"{expected} on the 30 rows whose text is not in train" in compared
    report = run_command("grid_search_tools/extract_result.py", runs / "one", "--report")
    page = (runs / "one" / "report.html").read_text(encoding="utf-8")
    assert report.code == 0 and f"{expected} on the 30 rows whose text is not in train" in page
    refused = run_command("grid_search_tools/leaderboard.py", runs, "--without_twins", "--published")
    assert refused.code == 2 and "published scores have none" in refused.err


def test_older_predictions_get_their_groups_from_what_is_known_of_the_rows(finished, tmp_path):
    finished(tmp_path, "tnews", [1, 1, 0, 1], learning_rate=1e-5)
    (trial,) = finished_trials(tmp_path)["tnews"]
    assert of_result(trial.result, trial.path).clusters is None
    row_facts.keep(facts(groups=[0, 0, 1, 2]))
    assert of_result(trial.result, trial.path).clusters.tolist() == [0, 0, 1, 2]


def test_one_label_for_all_rows_is_named(finished, tmp_path, run_command):
    finished(tmp_path / "run", "tnews", [0] * 2000, learning_rate=1e-5)
    message = "one label (100) for all 2,000 rows"
    table = run_command("grid_search_tools/extract_result.py", tmp_path / "run", "--report")
    assert f"TNEWS: the best trial predicts {message}" in table.err
    assert message in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    finished(tmp_path / "other", "tnews", [0] * 1999 + [1], learning_rate=1e-5)
    assert "one label" not in run_command("grid_search_tools/extract_result.py", tmp_path / "other").err


def test_status_names_one_label_for_all_rows(runs, run_command):
    """Of the best trial of the task, not of a lower one."""
    lower, best = sorted((runs / "one" / "tnews").glob("*.json"), key=lambda path: Result.read(path).best_score)
    status = ("grid_search_tools/grid_search.py", "one", "--run_root", runs, "--status")
    says_the_same(lower, share=0.1)
    assert "one label" not in run_command(*status).out
    says_the_same(best, share=0.9)
    message = f"tnews/{best.stem}: the best trial of the task predicts one label (100) for all 60 rows"
    assert message in run_command(*status).out


def says_the_same(path, share):
    """Makes a trial's best model say the first label of all 60 rows, and be right on a share of them."""
    result, gold = Result.read(path), np.where(np.arange(60) < 60 * share, 0, 1)
    predictions = DevPredictions.of_choices(range(60), np.zeros(60, int), gold)
    result.best_score = predictions.score
    result.write(path)
    predictions.write(path.with_suffix(".predictions"), result.configuration, result.best_step)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["102"] * 3, "one label (102) for all 3 rows"), (["102", "101"], None), (["102"], None)],
)
def test_a_submission_of_one_label(labels, message):
    content = "".join(f'{{"id": {number}, "label": "{label}"}}\n' for number, label in enumerate(labels)).encode()
    assert one_label(content, TNEWS) == message and one_label(content, TASKS["c3"]) is None


def test_only_files_that_the_runs_name_are_read(runs, finished, tmp_path, monkeypatch, run_command):
    """CLUE_DATA_DIR names other files than these runs used: no line about them."""
    monkeypatch.setenv("CLUE_DATA_DIR", str(tmp_path / "data"))
    for name in "ab":
        finished(tmp_path / name, "tnews", [1, 0, 1, 1])
    compared = run_command("grid_search_tools/compare.py", tmp_path / "a", tmp_path / "b")
    assert compared.code == 0 and compared.err == ""
