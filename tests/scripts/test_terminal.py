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
from tests.scripts.running import command

pytestmark = pytest.mark.slow
PUBLISHED = r"global step \d+/\d+, epoch: \d+, batch: \d+, rank_id: 0, loss: [\d.]+, lr: [\d.]+, speed: [\d.]+ step/s|eval loss: .*|best_result: .*"


def at_a_terminal(*program):
    """Everything a program writes to a terminal of 80 columns, and the longest silence in seconds."""
    leader, follower = pty.openpty()
    subprocess.run(["stty", "rows", "24", "cols", "80"], stdin=follower, check=True)
    started = [sys.executable, *map(str, program)]
    size = {**os.environ, "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(started, cwd=ROOT, env=size, stdin=follower, stdout=follower, stderr=follower)
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


def test_begin_and_end_are_printed_in_one_line_each(demo, run):
    flags = ["--max_steps", 4, "--save_steps", 2, "--logging_steps", 2]
    ended = run("tnews", "out", *flags, "--do_train", "--do_predict")
    out = ended.folder
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


@pytest.mark.parametrize("script, task", [("tnews", []), ("trainer", ["--dataset", "tnews"])])
def test_evaluation_alone_writes_its_own_dev_predictions(script, task, run, tmp_path):
    """Not those that another run has left there."""
    trained, out = run("tnews", "trained", "--max_steps", 2, "--do_train").folder, tmp_path / "out"
    out.mkdir()
    (out / "dev_predictions.jsonl").write_text("of another run\n")
    ended = run(script, "out", "--model_name_or_path", trained, *task, "--do_eval")
    rows = [json.loads(line) for line in (out / "dev_predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 48 and rows[0].keys() == {"id", "gold", "predicted", "score"}
    assert ended.err.splitlines()[-1] == f"written to {out}: dev_predictions.jsonl"
    assert f"{trained} on TNEWS, cpu: 48 examples, writing to {out}" in ended.err


def test_bars_with_time_left_at_a_terminal_that_leave_log_lines_alone(demo, tmp_path):
    flags = ["--num_train_epochs", 12, "--do_train", "--logging_steps", 10, "--save_steps", 20, "--learning_rate", 1e-3]
    shown, silence = at_a_terminal(*command(demo, "tnews", tmp_path / "out", *flags))
    lines = [line.split("\r")[-1] for line in re.sub(r"\x1b\[[A-Z]", "", shown).split("\r\n")]
    published = [line for line in lines if re.fullmatch(PUBLISHED, line)]
    assert [line.split(" ")[0] for line in published] == ["global", "global", "eval", "global", "eval", "best_result:"]
    assert re.search(r"TNEWS: +\d+%\|.*\| \d+/36 \[00:\d\d<00:\d\d, ", shown) and ", best " in shown
    assert "importing Paddle" in shown and "loading " in shown and "evaluating: " in shown
    assert max(len(line) for line in re.split(r"[\r\n]|\x1b\[[A-Z]", shown) if "|" in line) <= 80
    assert silence < 20
