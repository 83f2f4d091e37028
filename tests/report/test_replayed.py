import json

import pytest

from cluebench.report import replayed
from cluebench.report.run import Run
from cluebench.search.replay import RULES
from tests import run_directories

#: (learning rate, dev scores after 100, 200, 300 and 400 steps); 3e-05 leads at half and ends second.
CURVES = [("1e-05", (50, 70, 71, 75.93)), ("2e-05", (50, 60, 61, 62)), ("3e-05", (50, 72, 73, 75.8))]


def write_result(folder, rate, curve, seed=42, limit=None):
    points = [(float(score),) for score in curve]
    more = {"total_steps": 400, "train_seconds": 80.0, "eval_seconds": 20.0, "settings": {"limit": limit}}
    run_directories.write_result(folder, "tnews", f"{rate}_32_0.1", max(points), seed, curve=points, **more)


def write_log(folder, rate, curve):
    """As the published tool leaves it, with a logger's prefix."""
    step = "global step {0}/400.0, epoch: 0, batch: 99, rank_id: 0, loss: 2.7, lr: 0.0000014993, speed: 5.0 step/s"
    lines = []
    for number, score in enumerate(curve, 1):
        lines += [step.format(100 * number), f"eval loss: 2.720359, acc: {score / 100:.5f}, eval done total : 5.0 s"]
    (folder / "tnews").mkdir(parents=True, exist_ok=True)
    text = "".join(f"[    INFO] - {line}\n" for line in [*lines, f"best_result: {max(curve):.2f}"])
    (folder / "tnews" / f"{rate}_32_0.1.log").write_text(text)


@pytest.fixture
def of_results(tmp_path):
    for rate, curve in CURVES:
        write_result(tmp_path / "results", rate, curve)
    return tmp_path / "results"


@pytest.fixture
def of_logs(tmp_path):
    for rate, curve in CURVES:
        write_log(tmp_path / "logs", rate, curve)
    return tmp_path / "logs"


def replay(folder):
    return replayed.replayed("m", (run := Run(folder)).trials, run.evidence)


def named(model, rule):
    return next(one for one in model.outcomes["tnews"] if str(one.rule) == rule)


def test_results_by_hand(of_results):
    found = replay(of_results)
    assert [one.rule for one in found.outcomes["tnews"]] == list(RULES)
    half, third = named(found, "half at 1/2"), named(found, "third at 1/2")
    assert (half.stopped, half.rank, half.lost) == (1, 1, 0)
    assert half.steps_saved == half.seconds_saved == pytest.approx(200 / 1200)
    assert (third.stopped, third.chosen.learning_rate, third.rank, third.lost) == (2, 3e-5, 2, 0.13)


def test_logs_of_the_published_tool_give_the_same(of_results, of_logs):
    assert replay(of_logs) == replay(of_results)


def test_the_error_is_of_the_official_dev_split_or_not_known(of_results, tmp_path):
    assert replay(of_results).errors["tnews"] == pytest.approx(100 * (0.7593 * 0.2407 / 10000) ** 0.5)
    for rate, curve in CURVES:
        write_result(tmp_path / "limited", rate, curve, limit=100)
    limited = replay(tmp_path / "limited")
    assert limited.errors["tnews"] is None and not any(one.safe for one in limited.outcomes["tnews"])


def test_further_seeds_of_the_best_settings_and_settings_that_lack_a_seed_are_left_out(of_results):
    before = replay(of_results).outcomes
    write_result(of_results, "1e-05", (50, 70, 71, 80), seed=43)
    assert replay(of_results).outcomes == before
    for rate, curve in CURVES[:2]:
        write_result(of_results, rate, curve, seed=43)
    assert named(replay(of_results), "half at 1/2").trials == 4


@pytest.mark.parametrize("has_result", [True, False], ids=["a curve of more steps than there are", "no curve"])
def test_a_task_with_a_trial_without_a_whole_curve_is_left_out(of_results, has_result):
    if has_result:
        write_result(of_results, "5e-05", (50, 60, 61, 62, 63))
    else:
        (of_results / "tnews" / "5e-05_32_0.1.log").write_text("best_result: 57.00\n")
    found = replay(of_results)
    assert not found.outcomes and found.left_out["tnews"].startswith("1 of 4 finished trials")


def test_text_says_what_is_recommended_and_what_safe_means(of_results):
    lines = replayed.rendered([replay(of_results)], "text").splitlines()
    assert lines[0] == "m, TNEWS: 3 trials, best 75.93 (±0.43)"
    assert "over 1 grids" in lines and "within one standard error" in lines[-1]
    # In both, 3e-05 leads 2e-05 by 12 points at the rung and 0.13 is less than 0.43.
    assert lines[lines.index("recommended") + 2].split() == "TNEWS third at 1/8 33 % 33 % 0.13 2".split()


def test_none_is_recommended_where_a_rule_loses_the_best(tmp_path):
    for rate, curve in [("1e-05", (50, 60, 70, 80)), ("2e-05", (50, 61, 62, 63)), ("3e-05", (50, 61, 62, 63))]:
        write_result(tmp_path / "m", rate, curve)
    text = replayed.rendered([replay(tmp_path / "m")], "text")
    assert "TNEWS  none" in text


def test_several_models_are_one_recommendation_a_task(of_results, of_logs):
    both = [replay(of_results), replay(of_logs)]
    assert replayed.recommendations(both)["tnews"].grids == 2


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(run_command):
    return lambda *arguments: run_command("grid_search_tools/replay_search.py", *arguments)


def test_the_command_prints_json_of_every_number(of_results, of_logs, command):
    ended = command(of_results, of_logs, "--format", "json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert [one["model"] for one in found["models"]] == [str(of_results), str(of_logs)]
    of_task = found["models"][0]["tasks"]["tnews"]
    assert len(of_task["outcomes"]) == len(found["rules"]) == len(RULES) and len(found["points"]) == len(RULES) + 1
    assert of_task["outcomes"][0]["rungs"] == [0.125] and of_task["outcomes"][0]["chosen"]["batch_size"] == 32
    assert found["recommended"]["tnews"]["rule"] == "third at 1/8"


def test_the_command_needs_finished_trials(of_results, tmp_path, command):
    (tmp_path / "empty" / "tnews").mkdir(parents=True)
    for arguments, reported in (
        ([], "arguments are required: models"),
        ([tmp_path / "empty"], "no finished trial"),
        ([of_results, "--tasks", "c3"], "no finished trial"),
    ):
        ended = command(*arguments)
        assert ended.code == 2 and reported in ended.err and ended.err.count("\n") == 1
