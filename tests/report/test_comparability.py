"""A run stands in the ranking only as far as it ran what was published: each departure is named, with its tasks."""

from dataclasses import replace

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data.official import fingerprint_of, official_md5s
from cluebench.records import identity
from cluebench.records.finished_trials import FinishedTrial, OpenedRun
from cluebench.records.grid_file import GridFile
from cluebench.records.result import Result
from cluebench.records.run_flags import RunFlags, resolved
from cluebench.report.comparability import is_official, marks, unlike_published

ROWS = {"chid": 84709}  # of which no sums were published


def trial(task, setting, seed=42, data=None, total_steps=None, **flags):
    """A finished trial that ran as published on the official files, but for the flags."""
    flags = resolved(RunFlags("hfl/rbt3", do_train=True, **setting._asdict(), seed=seed, **flags), task)
    sums = official_md5s(task)
    data = data or (fingerprint_of(task, sums) if sums else "chid's")
    settings = identity.configuration(task, flags, "hfl/rbt3", data)
    result = Result(task.name, "hfl/rbt3", settings, identity.configuration_hash(settings), "done", task.metric)
    result.total_steps = total_steps or task.epochs * ROWS.get(task.name, 10**6) * 7 // setting.batch_size
    return FinishedTrial(task.name, setting, seed, (70.0,), result)


def grid_of(names=TASKS, **changes):
    return {name: [trial(TASKS[name], setting, **changes) for setting in TASKS[name].grid.points()] for name in names}


@pytest.fixture
def grid():
    return grid_of()


def reasons(grid):
    return [mark.text(len(grid)) for mark in marks(grid)]


def test_the_published_grid_on_the_official_files_has_no_mark(grid):
    assert sum(map(len, grid.values())) == 134 and marks(grid) == ()


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"data": "0" * 16}, "not on the official files"),
        ({"limit": 1000}, "limit 1000"),
        ({"max_steps": 100}, "max_steps 100"),
        ({"num_train_epochs": 7}, "epochs 7"),
        ({"max_seq_length": 96}, "max_seq_length 96"),
        ({"save_steps": 10}, "eval_every_steps 10"),
        ({"seed": 43}, "seed 43"),
        ({"names": ["tnews", "c3"], "limit": 500}, "limit 500 (TNEWS, C3)"),
        ({"names": ["tnews"], "amp": "bf16", "padding": True}, None),  # other ways of computing the same
    ],
)
def test_another_protocol_is_named(grid, changes, reason):
    assert reasons(grid | grid_of(**changes)) == [reason] * bool(reason)


def test_missing_trials_are_counted_over_the_tasks(grid):
    grid["tnews"].pop()
    del grid["c3"]
    assert reasons(grid) == ["7 of the 134 trials missing (TNEWS, C3)"]


def test_more_settings_than_published_are_luckier(grid):
    grid["tnews"].append(trial(TASKS["tnews"], grid["tnews"][0].setting._replace(learning_rate=4e-5)))
    assert reasons(grid) == ["settings beyond the published grid (TNEWS)"]


def test_several_seeds_of_all_settings_are_named_but_not_those_that_confirm_the_best(grid):
    best = grid["tnews"][3].setting
    grid["tnews"] += [trial(TASKS["tnews"], best, seed=seed) for seed in (43, 44)]
    assert marks(grid) == ()
    grid["tnews"] += [trial(TASKS["tnews"], one, seed=43) for one in TASKS["tnews"].grid.points() if one != best]
    assert reasons(grid) == ["seeds 42, 43 (TNEWS)"]


def test_logs_alone_and_results_that_say_less_are_not_known(grid):
    grid["tnews"] = [replace(one, result=None) for one in grid["tnews"]]
    for one in grid["c3"]:
        del one.result.configuration["warmup"]
    assert reasons(grid) == ["logs alone: data and settings not known (TNEWS)", "warmup not known (C3)"]


def test_data_of_unpublished_sums_is_judged_by_its_rows_and_its_company(grid):
    few = trial(TASKS["chid"], grid["chid"][0].setting, total_steps=300)
    assert (is_official(TASKS["chid"], few.result), is_official(TASKS["chid"], grid["chid"][0].result)) == (False, None)
    assert is_official(TASKS["chid"], trial(TASKS["chid"], few.setting, max_steps=9, total_steps=9).result) is None
    grid["chid"] = [replace(few, setting=one.setting) for one in grid["chid"]]
    assert reasons(grid) == ["not on the official files (CHID)"]
    others = grid_of(data="0" * 16)
    assert marks(others)[0].tasks == tuple(TASKS), "CHID came with data that is not official"


def test_differences_say_both_values():
    one = trial(TASKS["tnews"], next(TASKS["tnews"].grid.points()), num_train_epochs=1, limit=5)
    assert unlike_published(TASKS["tnews"], one.result.configuration) == {"epochs": (1, 3), "limit": (5, None)}


def test_names_are_those_that_users_type(tmp_path):
    def named(folder, grid=None, model=None):
        run = OpenedRun(tmp_path / folder)
        found = trial(TASKS["tnews"], next(TASKS["tnews"].grid.points()))
        found.result.configuration["model"] = model
        vars(run).update(grid=grid, trials={"tnews": [found] if model else []})
        return run.name

    grid = GridFile(1, "/home/zhangsan/models/mine", "done", [])
    assert named("hfl--rbt3", model="hfl/rbt3") == named("hfl--rbt3") == "hfl/rbt3"
    assert named("elsewhere", grid, "directory:0123456789abcdef") == "mine"
    assert named("my--model", model="directory:0123456789abcdef") == "my--model"
