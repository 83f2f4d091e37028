"""What a run says at its begin and its end, and shows at a terminal on the way."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow
SCRIPT, TRAINER = "classification/run_clue_classifier.py", "classification/run_clue_classifier_trainer.py"
PUBLISHED = r"global step \d+/\d+, epoch: \d+, batch: \d+, rank_id: 0, loss: [\d.]+, lr: [\d.]+, speed: [\d.]+ step/s|eval loss: .*|best_result: .*"


def arguments(demo, folder, *more):
    return ["--model_name_or_path", demo[0], "--data_dir", demo[1], "--output_dir", str(folder), "--offline", *more]


def at_a_terminal(*command, columns=80):
    """Everything a command writes to a terminal of 80 columns, and the longest silence in seconds."""
    leader, follower = pty.openpty()
    os.environ["COLUMNS"], os.environ["LINES"] = str(columns), "24"
    subprocess.run(["stty", "rows", "24", "cols", str(columns)], stdin=follower, check=True)
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=ROOT, stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    shown, silence, last = b"", 0.0, time.monotonic()
    while True:
        select.select([leader], [], [])
        try:
            piece = os.read(leader, 1 << 16)
        except OSError:  # the other end is closed
            break
        silence, last = max(silence, time.monotonic() - last), time.monotonic()
        shown += piece
    os.close(leader)
    assert process.wait() == 0, shown.decode(errors="replace")
    return shown.decode(errors="replace"), silence


def test_begin_and_end_are_printed_in_one_line_each(demo, run_script, tmp_path):
    out = tmp_path / "out"
    ended = run_script(
        SCRIPT, *arguments(demo, out, "--task_name", "tnews", "--max_steps", "4", "--save_steps", "2", "--logging_steps", "2"),
        "--do_train", "--do_predict", "--device", "cpu",
    )  # fmt: skip
    begin, *_, end = ended.err.splitlines()
    assert begin == f"{demo[0]} on TNEWS, cpu: 96 examples, 4 steps, writing to {out}"
    names = "dev_predictions.jsonl, result.predictions, tnews11_predict.json, tnews10_predict.json, result.json"
    assert end == f"written to {out}: the best model, {names}"
    assert len(ended.err.splitlines()) == 2  # no bars in logs
    assert [line for line in ended.lines if not re.fullmatch(PUBLISHED, line)][-2:] == [
        f"predictions for {file}: {out / name}"
        for file, name in (("test.json", "tnews11_predict.json"), ("test1.0.json", "tnews10_predict.json"))
    ]
    assert not (out / "step.txt").exists()


@pytest.mark.parametrize("script, task", [(SCRIPT, ["--task_name", "tnews"]), (TRAINER, ["--dataset", "tnews"])])
def test_evaluation_alone_writes_its_own_dev_predictions(script, task, demo, run_script, tmp_path):
    """Not those that another run has left there."""
    trained, out = tmp_path / "trained", tmp_path / "out"
    run_script(SCRIPT, *arguments(demo, trained, "--task_name", "tnews", "--max_steps", "2", "--do_train"))
    out.mkdir()
    (out / "dev_predictions.jsonl").write_text("of another run\n")
    ended = run_script(script, *arguments((str(trained), demo[1]), out, *task, "--do_eval"))
    rows = [json.loads(line) for line in (out / "dev_predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 48 and rows[0].keys() == {"id", "gold", "predicted", "score"}
    assert ended.err.splitlines()[-1] == f"written to {out}: dev_predictions.jsonl"
    assert f"{trained} on TNEWS, cpu: 48 examples, writing to {out}" in ended.err


def test_bars_with_time_left_at_a_terminal_that_leave_log_lines_alone(demo, tmp_path):
    shown, silence = at_a_terminal(
        SCRIPT, *arguments(demo, tmp_path / "out", "--task_name", "tnews", "--num_train_epochs", "12", "--do_train"),
        "--logging_steps", "10", "--save_steps", "20", "--learning_rate", "1e-3",
    )  # fmt: skip
    lines = [line.split("\r")[-1] for line in re.sub(r"\x1b\[[A-Z]", "", shown).split("\r\n")]
    published = [line for line in lines if re.fullmatch(PUBLISHED, line)]
    assert [line.split(" ")[0] for line in published] == ["global", "global", "eval", "global", "eval", "best_result:"]
    assert re.search(r"TNEWS: +\d+%\|.*\| \d+/36 \[00:\d\d<00:\d\d, ", shown) and ", best " in shown
    assert "importing Paddle" in shown and "loading " in shown and "evaluating: " in shown
    assert max(len(line) for line in re.split(r"[\r\n]|\x1b\[[A-Z]", shown) if "|" in line) <= 80
    assert silence < 20
