"""Two processes follow one, in every kind of loop. Paddle starts once for all of them, which takes longer than they do."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.records.result import Result
from tests.conftest import ROOT
from tests.grid.conftest import until
from tests.models.conftest import write_model
from tests.scripts.running import assert_same, command, losses, training, without_dropout

pytestmark = pytest.mark.slow

SHARED = ["--learning_rate", 1e-3, "--dropout", 0, "--logging_steps", 1, "--do_train"]


class Case(NamedTuple):
    """A run whose batch two processes share: the flags of both, those of one process, those of each of the two."""

    both: list[object]
    one: list[object]
    two: list[object]
    task: str
    steps: int = 8


def plain(name: str) -> Case:
    """Batch 6 accumulated over 2 on each of two ranks is batch 12 over 4 on one."""
    both = ["--max_steps", 8, "--max_seq_length", 64, "--save_steps", 4, "--do_eval", "--do_predict"]
    batches = [["--batch_size", 3 * count, "--gradient_accumulation_steps", count] for count in (4, 2)]
    return Case(both, *batches, name)


CASES = {
    "trainer": Case(
        ["--dataset", "ocnli", "--max_steps", 6, "--save_steps", 3, "--do_eval", "--do_predict",
         "--per_device_train_batch_size", 3, "--per_device_eval_batch_size", 5],
        ["--gradient_accumulation_steps", 4], ["--gradient_accumulation_steps", 2], "ocnli", 6,
    ),
    **{name: plain(name) for name in ("c3", "cmrc2018", "ocnli")},
}  # fmt: skip
BOUNDED = [
    "--batch_size", 16, "--learning_rate", 5e-3, "--save_steps", 2, "--dropout", 0.1,
    "--logging_steps", 1, "--eval_batch_size", 4, "--max_steps", 24, "--do_train",
]  # fmt: skip
RESUMED = [
    "--batch_size", 16, "--learning_rate", 1e-3, "--save_steps", 10, "--dropout", 0.1,
    "--logging_steps", 1, "--checkpoint_steps", 5, "--max_steps", 16, "--do_train",
]  # fmt: skip
TWO_RANKS = ("-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir")


def flags(models: dict[str, tuple[str, str]], name: str, out: Path) -> list[object]:
    return command(models.get(name, models["demo"]), name, out, *SHARED, *CASES[name].both)


@pytest.fixture(scope="module")
def models(demo, tmp_path_factory):
    """Model and data, of one case and of the others."""
    folder = tmp_path_factory.mktemp("models")
    # TinyBERT's layers for distillation have no gradient at all, and its pooler none in CMRC2018.
    tiny = write_model(folder / "TinyBERT", "TinyBert", attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    return {"cmrc2018": (str(tiny), demo[1]), "demo": (without_dropout(demo[0], folder), demo[1])}


@pytest.fixture(scope="module")
def two(models, demo, tmp_path_factory):
    """The folder with the output of every case by two processes, and the lines of their logs: (folder, {name: (lines, lines)})."""
    folder = tmp_path_factory.mktemp("two")
    commands = {name: [*flags(models, name, folder / name), *case.two] for name, case in CASES.items()}
    for way in ("full", "bounded"):
        commands[way] = command(models["demo"], "tnews", folder / way, *BOUNDED, "--evaluation", way)
    commands["whole"] = command(demo, "tnews", folder / "whole", *RESUMED)
    written = [[str(ROOT / script), *map(str, flags)] for script, *flags in commands.values()]
    (folder / "commands.json").write_text(json.dumps(written))
    script = str(Path(__file__).with_name("ranks.py"))
    ranks = [sys.executable, *TWO_RANKS, str(folder), script, str(folder / "commands.json")]
    ended = subprocess.run(ranks, capture_output=True, text=True, timeout=480)
    logs = [(folder / f"workerlog.{rank}").read_text() for rank in (0, 1)]
    assert ended.returncode == 0, ended.stderr[-2000:] + logs[0][-2000:]
    parts = [[part.splitlines() for part in log.split("ranks.py: ")[1:]] for log in logs]
    return folder, dict(zip(commands, zip(*parts), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_follow_the_losses_of_one(name, two, models, run_command, tmp_path):
    """The same total batch, the same losses and scores; rank 0 alone writes, and predictions are in order."""
    (folder, logs), case = two, CASES[name]
    one = run_command(*flags(models, name, tmp_path), *case.one)
    assert one.code == 0, one.err
    expected = losses(one.lines)
    assert len(expected) == case.steps
    np.testing.assert_allclose(losses(logs[name][0]), expected, atol=2e-4)
    assert not losses(logs[name][1])
    a, b = Result.read(tmp_path / "result.json"), Result.read(folder / name / "result.json")
    assert (b.cards, b.accumulation_steps) == (2, 2) and a.configuration_hash == b.configuration_hash
    assert [point.step for point in a.dev_curve] == [point.step for point in b.dev_curve]
    np.testing.assert_allclose([p.loss for p in a.dev_curve], [p.loss for p in b.dev_curve], atol=1e-3)
    for test in TASKS[case.task].test_sets:
        assert (folder / name / test.submission).stat().st_size == (tmp_path / test.submission).stat().st_size
    if name == "trainer":
        assert [point.score for point in a.dev_curve] == [point.score for point in b.dev_curve]
        file = TASKS[case.task].test_sets[0].submission
        assert (folder / name / file).read_bytes() == (tmp_path / file).read_bytes()


def test_bounded_evaluations_of_two_processes_are_cut_alike(two):
    """Gradients of two processes are added in another order, so two are compared with two."""
    folder, _ = two
    result = assert_same(folder / "full", folder / "bounded")
    assert result.cards == 2 and any(point.cut_after for point in result.dev_curve)


def test_two_ranks_that_are_asked_to_end_and_killed_go_on_bit_by_bit(two, demo, start_script, tmp_path):
    """Rows differ in length from rank to rank, so their dropout has drawn different numbers."""
    whole = training(two[1]["whole"][0])
    for end, after in {"asked": "global step 5/", "killed": "global step 12/", "done": ""}.items():
        log, launcher = tmp_path / end / "workerlog.0", (*TWO_RANKS, str(tmp_path / end))
        process = start_script(*command(demo, "tnews", tmp_path / "out", *RESUMED, "--resume"), launcher=launcher)
        until(lambda log=log, after=after: log.exists() and after in log.read_text(), 240)
        if end == "asked":
            process.terminate()
        elif end == "killed":
            for worker in [*psutil.Process(process.pid).children(recursive=True), process]:
                worker.kill()
        process.wait(240)
        assert ("asked to end" in log.read_text()) == (end == "asked"), log.read_text()[-2000:]
        lines = training(log.read_text().splitlines())
        assert 1 < len(lines) < 16 and lines == whole[int(lines[0][0]) - 1 :][: len(lines)]
    assert process.returncode == 0 and lines[-1] == whole[15]
