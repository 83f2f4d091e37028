"""What a run directory has cost, worked out by hand from results and grid.json."""

import json

import pytest

from cluebench.records.cost import Cost, cost_by_task, shown
from cluebench.records.finished_trials import OpenedRun
from tests import run_directories

HOUR = 3600.0


def total(folder):
    return sum(cost_by_task(OpenedRun(folder)).values(), Cost())


def write_result(folder, task, name="3e-05_32_0.1", **more):
    run_directories.write_result(folder, task, name, (57.0,), **more)


def write_grid(folder, *entries):
    """Entries: (task, name, state, device seconds)."""
    trials = []
    for task, name, state, seconds in entries:
        rate, batch, dropout = name.split("_")
        point = {"learning_rate": float(rate), "batch_size": int(batch), "dropout": float(dropout), "seed": 42}
        spent = {"device_seconds": seconds, "held_seconds": seconds}
        known = {"configuration_hash": "0" * 16, "spent": spent}
        trials.append({"task": task, "name": name, "state": state, **point, **known})
    grid = {"format": 1, "model": "m", "status": "stopped", "trials": trials}
    (folder / "grid.json").write_text(json.dumps(grid))


def test_results_carry_what_they_cost_and_older_ones_their_steps_and_evaluations(tmp_path):
    write_result(tmp_path, "tnews", device_seconds=2 * HOUR, train_seconds=HOUR)
    write_result(tmp_path, "tnews", "1e-05_32_0.1", train_seconds=HOUR, eval_seconds=HOUR / 2, cards=2)
    write_result(tmp_path, "afqmc", device_seconds=HOUR)
    assert cost_by_task(OpenedRun(tmp_path)) == {
        "afqmc": Cost(HOUR),
        "tnews": Cost(2 * HOUR + 2 * 1.5 * HOUR),
    }
    assert str(total(tmp_path)) == "6 device hours"


def test_failed_attempts_are_the_grids_and_not_the_trials(tmp_path):
    write_result(tmp_path, "tnews", device_seconds=HOUR)
    write_grid(
        tmp_path,
        ("tnews", "3e-05_32_0.1", "done", 1.5 * HOUR),  # half an hour of it in an attempt that crashed
        ("tnews", "1e-05_32_0.1", "failed", 2 * HOUR),
        ("afqmc", "1e-05_32_0.1", "waiting", 0.25 * HOUR),  # interrupted: goes on from its checkpoint
        ("afqmc", "3e-05_32_0.1", "waiting", 0.0),
    )
    by_task = cost_by_task(OpenedRun(tmp_path))
    assert by_task["tnews"] == Cost(HOUR, 2.5 * HOUR)
    assert by_task["afqmc"] == Cost(0.25 * HOUR)
    assert str(total(tmp_path)) == "3.75 device hours (2.5 of them in vain)"
    assert by_task["tnews"].score_per_hour(57.0) == pytest.approx(57.0)  # what was lost says nothing of the model


def test_what_others_ran_counts_by_its_result(tmp_path):
    """A worker's trial, or one resumed after grid.json was lost: the grid saw less of it than the result knows."""
    write_result(tmp_path, "tnews", device_seconds=HOUR)
    write_grid(tmp_path, ("tnews", "3e-05_32_0.1", "done", 60.0))
    assert total(tmp_path) == Cost(HOUR)


def test_a_log_alone_says_no_cost(tmp_path):
    write_result(tmp_path, "tnews", device_seconds=HOUR)
    (tmp_path / "tnews" / "1e-05_32_0.1.log").write_text("best_result: 57.00\n")
    cost = total(tmp_path)
    assert (cost.device_seconds, cost.unknown, cost.score_per_hour(57.0)) == (HOUR, 1, None)
    assert str(cost) == "1 device hours; unknown for 1 more trial"
    assert str(Cost(unknown=2)) == "device hours unknown for 2 trials"


def test_score_per_hour_needs_both():
    assert Cost(2 * HOUR).score_per_hour(76.0) == 38.0
    assert Cost(2 * HOUR).score_per_hour(None) is None
    assert Cost().score_per_hour(76.0) is None


@pytest.mark.parametrize("amount, text", [(0.0027778, "0.00278"), (3.456, "3.46"), (1286.4, "1,286"), (99.96, "100")])
def test_three_digits(amount, text):
    assert shown(amount) == text
