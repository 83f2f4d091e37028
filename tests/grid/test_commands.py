"""The commands trials are started by: by the scheduler, and by the shell scripts for one trial."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluebench.benchmark.tasks import Setting
from cluebench.machine.devices import cpu_slots
from cluebench.machine.nvidia import Device
from cluebench.pretrained.model import Model
from cluebench.records.paths import TrialPaths
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job
from cluebench.scheduler.plan.trials import trial_command
from tests.conftest import ROOT
from tests.run_directories import PUBLISHED_EXAMPLE, write_log

LEADERBOARD = "grid_search_tools/leaderboard.py"


def command(trial, devices, settings=None):
    job = Job(trial, 0, TrialPaths(Path("/runs/m") / trial.task, trial.name), Path("/a-trial.lock"), "h")
    return trial_command(job, devices, settings or GridFlags())


def cards(count):
    return [Device(f"GPU-{number}", f"gpu {number}", "gpu", joinable=True) for number in range(count)]


def test_classification_trial():
    settings = GridFlags(data_dir="/clue", limit=10, max_steps=5, num_train_epochs=2, amp="bf16", offline=True)
    assert command(Trial(Model.of("m"), "csl", Setting(3e-5, 32, 0.1), 43), cpu_slots(1), settings) == [
        sys.executable, "-u", str(ROOT / "classification/run_clue_classifier.py"), "--model_name_or_path", "m",
        "--learning_rate", "3e-05", "--batch_size", "32", "--dropout", "0.1", "--seed", "43", "--do_train", "--resume", "--overwrite_output_dir",
        "--save_best_model", "False", "--amp", "bf16", "--evaluation", "bounded", "--num_train_epochs", "2", "--max_steps", "5", "--limit", "10",
        "--data_dir", "/clue", "--offline", "--gradient_accumulation_steps", "2",
        "--output_dir", "/runs/m/csl/3e-05_32_0.1_seed43", "--result_json", "/runs/m/csl/3e-05_32_0.1_seed43.json",
        "--device", "cpu", "--task_name", "CSL",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "task, batch, count, per_card, accumulation",
    [("c3", 24, 1, 24, 12), ("c3", 24, 4, 6, 3), ("c3", 32, 4, 8, 4), ("chid", 24, 1, 24, 8), ("chid", 24, 4, 6, 2),
     ("cmrc2018", 32, 1, 32, 4), ("cmrc2018", 32, 2, 16, 2)],
)  # fmt: skip
def test_reading_trials_keep_the_total_batch_on_any_number_of_cards(task, batch, count, per_card, accumulation):
    words = command(Trial(Model.of("m"), task, Setting(2e-5, batch, 0.1)), cards(count))
    assert words[words.index("--batch_size") + 1] == str(per_card)
    assert words[words.index("--gradient_accumulation_steps") + 1] == str(accumulation)
    assert "--task_name" not in words and words[-2:] == ["--device", "gpu"]
    if count > 1:
        uuids = ",".join(f"GPU-{number}" for number in range(count))
        assert words[2:8] == ["-m", "paddle.distributed.launch", "--gpus", uuids, "--log_dir", "/a-trial.workers"]


@pytest.fixture
def by_hand(tmp_path):
    """Runs a shell script with a `python` that only says how it was called."""
    stand_in = tmp_path / "python"
    stand_in.write_text(
        f'#!/bin/sh\ncase "$1" in *trial_path.py) exec {sys.executable} "$@";; esac\nfor word in "$@"; do echo "$word"; done\n'
    )
    stand_in.chmod(0o755)

    def run(script, *arguments, **environment):
        variables = {"PATH": os.environ["PATH"], "PYTHON": str(stand_in), "RUN_ROOT": str(tmp_path / "runs")}
        path = ROOT / "grid_search_tools" / script
        command = ["bash", str(path), *arguments]
        return subprocess.run(command, env=variables | environment, capture_output=True, text=True)

    return run


def flags_of(words):
    """Flag → value of a command; the last one given wins, as for the scripts."""
    flags = {}
    for position, word in enumerate(words):
        if word.startswith("--"):
            following = words[position + 1] if position + 1 < len(words) else "--"
            flags[word] = None if following.startswith("--") else following
    return flags


def test_run_cls_starts_what_the_scheduler_starts(by_hand, tmp_path):
    result = by_hand("run_cls.sh", "m", "TNEWS", "3e-5", "32", "0.1", "--seed", "43")
    assert result.returncode == 0, result.stderr
    shell = flags_of(result.stdout.split())
    scheduler = flags_of(command(Trial(Model.of("m"), "tnews", Setting(3e-5, 32, 0.1), 43), cpu_slots(1)))
    place = str(tmp_path / "runs" / "m" / "tnews" / "3e-05_32_0.1_seed43")
    assert (shell.pop("--output_dir"), shell.pop("--result_json")) == (place, place + ".json")
    assert Path(place + ".log").read_text() == result.stdout
    assert float(shell.pop("--learning_rate")) == float(scheduler.pop("--learning_rate"))
    scheduler.pop("--overwrite_output_dir")  # a plan is carried out; who types a trial learns what is in the way
    assert scheduler.pop("--evaluation") == "bounded"  # whose trial by hand has a published line for every evaluation
    # what the shell script leaves out is the task's own
    for own in ("--output_dir", "--result_json", "--gradient_accumulation_steps", "--amp", "--device"):
        scheduler.pop(own)
    assert shell == scheduler


def test_several_cards_share_the_batch_of_a_trial_by_hand(by_hand):
    four = by_hand("run_mrc.sh", "m", "C3", "2e-5", "24", "0.1", CARDS="0,1,2,3").stdout.split()
    assert four[1:5] == ["-m", "paddle.distributed.launch", "--gpus", "0,1,2,3"]
    assert four[7].endswith("/mrc/run_c3.py") and flags_of(four)["--batch_size"] == "6"
    two = by_hand("run_cls.sh", "m", "TNEWS", "3e-5", "32", "0.1", CARDS="0,1").stdout.split()
    assert [flags_of(two)[name] for name in ("--gpus", "--batch_size", "--task_name")] == ["0,1", "16", "TNEWS"]
    uneven = by_hand("run_mrc.sh", "m", "C3", "2e-5", "24", "0.1", CARDS="0,1,2,3,4")
    assert (uneven.returncode, uneven.stdout) == (2, "") and "run_mrc.sh: error: batch size 24" in uneven.stderr


@pytest.mark.parametrize(
    "arguments",
    [["m"], ["m", "SST2", "3e-5", "32", "0.1"], ["m", "TNEWS", "fast", "32", "0.1"], ["./no", "TNEWS", "1", "1", "0"]],
)
def test_wrong_arguments_are_one_line_and_code_2(by_hand, arguments):
    result = by_hand("run_cls.sh", *arguments)
    assert (result.returncode, result.stderr.count("\n"), result.stdout) == (2, 1, "")


def test_trial_path_explains_itself(run_command):
    for arguments in (["--help"], ["-h", "m"]):
        ended = run_command("grid_search_tools/trial_path.py", *arguments)
        assert ended.code == 0 and "MODEL TASK LEARNING_RATE BATCH_SIZE DROPOUT" in ended.out
    for arguments in ([], ["m"], ["--lock"], ["m", "tnews", "3e-5", "32"]):
        ended = run_command("grid_search_tools/trial_path.py", *arguments)
        assert ended.code == 2 and ended.err.count("\n") == 1 and "--help" in ended.err


# The leaderboard ------------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path):
    for task, (score, name) in PUBLISHED_EXAMPLE.items():
        write_log(tmp_path / "good", task, name, score)
    write_log(tmp_path / "unfinished", "tnews", "3e-05_32_0.1", "99.00")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.fixture
def printed(run_command):
    def run(*arguments):
        ended = run_command(LEADERBOARD, *arguments)
        assert (ended.code, ended.err) == (0, "")
        return ended.out

    return run


def test_leaderboard_puts_whole_models_first_and_names_those_it_does_not_rank(runs, printed):
    lines = printed(runs).splitlines()
    assert lines[0].split()[:4] == ["rank", "model", "AVG", "AFQMC"]
    assert lines[1].split()[:4] == ["-", "good", "76.05", "75.93"]
    assert lines[2].split() == ["-", "unfinished", "-", "-", "99.00"] + ["-"] * 8
    assert lines[3].startswith("good: logs alone: data and settings not known; ") and len(lines) == 6
    assert lines[5].startswith("More in the other formats")
    assert lines[4].startswith("unfinished: ") and "133 of the 134 trials missing" in lines[4]


def test_leaderboard_shows_differences_to_a_baseline_in_every_format(runs, printed, run_command):
    asked = ["--published", "--baseline", "ernie-3.0-xbase-zh"]
    lines = printed(runs, *asked).splitlines()
    place = next(place for place, line in enumerate(lines) if " ernie-3.0-base-zh " in line)
    assert lines[place].split()[3:5] == ["76.05±0.29", "75.93"]
    assert lines[place + 1].split()[:3] == ["difference", "-2.66", "-0.92"]
    assert "75.93±0.65 (-0.92)" in printed(runs, *asked, "--format", "markdown")
    models = {one["model"]: one for one in json.loads(printed(runs, *asked, "--format", "json"))["models"]}
    found = models["ernie-3.0-base-zh"]["difference"]
    assert round(found["average"], 2) == -2.66 and found["p"] < 1e-6 and found["scores"]["afqmc"] == -0.92
    assert models["ernie-3.0-xbase-zh"]["difference"] is None and models["unfinished"]["difference"]["average"] is None
    rows = {row["model"]: row for row in csv.DictReader(printed(runs, *asked, "--format", "csv").splitlines())}
    assert rows["ernie-3.0-base-zh"]["avg_difference"] == "-2.66"
    ended = run_command(LEADERBOARD, runs, "--baseline", "nothing")
    assert ended.code == 2 and ended.err == "leaderboard.py: error: --baseline nothing: not among good, unfinished\n"


def test_leaderboard_writes_its_page_into_the_run_root_and_says_where(runs, printed):
    assert printed(runs, "--format", "html", "--published") == f"{runs / 'index.html'}\n"
    page = (runs / "index.html").read_text()
    assert "good" in page and "not measured by this project" in page
    assert len(printed(runs).splitlines()) == 6, "the page is no run"


def test_leaderboard_without_runs_is_one_line(tmp_path, run_command):
    for argument in (tmp_path, tmp_path / "nothing"):
        ended = run_command(LEADERBOARD, argument)
        assert ended.code == 2 and ended.err.startswith("leaderboard.py: error: ") and ended.err.count("\n") == 1
