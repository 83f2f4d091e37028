"""The command that a report offers for a trial, pasted into a shell, gives the trial's score again."""

import shlex
import subprocess
import sys

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.records import dev_predictions
from cluebench.records.result import Result
from cluebench.report.advice import rerun
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def test_a_command_gives_the_score_again(demo, run, tmp_path):
    flags = ["--do_train", "--batch_size", 16, "--learning_rate", 1e-3, "--dropout", 0.1, "--num_train_epochs", 2]
    trial = run("tnews", "out", *flags, "--save_steps", 5).result
    command = rerun(TASKS["tnews"], trial, *demo)
    typed = command.replace("python classification", f"{shlex.quote(sys.executable)} {ROOT}/classification", 1)
    subprocess.run(typed, shell=True, cwd=tmp_path, check=True, capture_output=True)
    again = Result.read(tmp_path / "reproduced" / "tnews" / "result.json")
    assert dev_predictions.of_result(again, tmp_path / "reproduced" / "tnews" / "result.json")
    assert again.configuration_hash == trial.configuration_hash and again.best_score == trial.best_score
