import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluebench.benchmark.tasks import Setting
from cluebench.records import result as result_module
from cluebench.records.log import GrowingLog, RunLog, TrainingLine, read_log, read_losses
from cluebench.records.paths import TrialPaths, parse_trial_name, trial_name
from cluebench.records.result import DevPoint, Result


def test_lines_to_the_letter():
    stream = io.StringIO()
    for log in (RunLog(stream), RunLog(stream, rank=1)):  # the second is silent
        log.train(TrainingLine(100, 20010, 0, 99, 2.73434, 1.49925e-6, 8.79694))
        log.evaluated(2.720359, (8.27,), 25.706)
        log.best("57.00")
    assert stream.getvalue().splitlines() == [
        "global step 100/20010, epoch: 0, batch: 99, rank_id: 0, loss: 2.734340, lr: 0.0000014993, speed: 8.7969 step/s",
        "eval loss: 2.720359, acc: 0.0827, eval done total : 25.71 s",
        "best_result: 57.00",
    ]


def test_reads_what_it_writes(tmp_path):
    path = tmp_path / "3e-05_32_0.1.log"
    with open(path, "w") as stream:
        log = RunLog(stream)
        log.train(TrainingLine(100, 300, 0, 99, 2.7, 1e-6, 8.5))
        log.evaluated(1.5, (65.83, 87.3), 3.0, (64.9, 86.1))
        log.best("65.83/87.30")
    facts = read_log(path)
    assert (facts.step, facts.total_steps, facts.steps_per_second) == (100, 300, 8.5)
    assert facts.last_score == (65.83, 87.3) and facts.best_score == (65.83, 87.3)


def test_reads_published_logs_with_prefixes_colours_and_bad_bytes(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(
        b"\x1b[32m[2022-05-10 10:00:00,123] [    INFO]\x1b[0m - global step 100/20010.0, epoch: 0, batch: 99, rank_id: 0, "
        b"loss: 2.734340, lr: 0.0000014993, speed: 8.7969 step/s\x1b[0m\n\xff\xfe\n"
        b"[    INFO] - eval loss: 2.720359, acc: 0.0827, eval done total : 25.712125062942505 s\n"
        b"\x1b[34mbest_result: 100.00\x1b[0m\n"
    )
    facts = read_log(path)
    assert facts.step == 100 and facts.total_steps == 20010
    assert facts.last_score == pytest.approx((8.27,)) and facts.best_score == (100.0,)
    assert facts.last_lines[-1] == "best_result: 100.00"


def training(step, total="500", epoch=0, speed="10.0"):
    return f"global step {step}/{total}, epoch: {epoch}, batch: 9, rank_id: 0, loss: 2.0, lr: 0.0000014993, speed: {speed} step/s"


def test_the_curve_of_a_log_with_its_seconds(tmp_path):
    path = tmp_path / "a.log"
    lines = [training(100), training(200, speed="20.0")]
    lines += ["eval loss: 1.0, acc: 0.50000, eval done total : 2.5 s"]
    lines += [training(300, epoch=1), training(400, epoch=1)]
    lines += [
        "eval loss: 0.9, acc: 0.61234, eval done total : 1.5 s",
        "eval loss: 0.9, acc: 0.6, eval done total : 1 s",
    ]
    path.write_text("\n".join(lines))
    going = read_log(path)
    assert [(point.step, point.epoch) for point in going.dev_curve] == [(200, 0), (400, 1), (400, 1)]
    assert [point.score for point in going.dev_curve] == [(50.0,), (pytest.approx(61.234),), (60.0,)]
    assert (going.train_seconds, going.eval_seconds) == (10 + 5 + 10 + 10, 5.0)
    path.write_text("\n".join([*lines, "best_result: 61.23"]))
    ended = read_log(path)
    assert [point.step for point in ended.dev_curve] == [200, 400, 500]
    assert ended.train_seconds == 35 + 10  # the steps after the last training line, at its speed


def test_a_log_read_on_changes_no_facts_read_before(tmp_path):
    path = tmp_path / "a.log"
    path.write_text(f"{training(100)}\neval loss: 1.0, acc: 0.5000, eval done total : 1.00 s")
    log = GrowingLog(path)
    before = log.read()
    with path.open("a") as stream:
        stream.write("\nbest_result: 50.00\n")
    assert [point.step for point in log.read().dev_curve] == [500]
    assert [point.step for point in before.dev_curve] == [100] and before.eval_seconds == 1


def test_what_is_done_again_after_a_checkpoint_counts_once_in_the_curve(tmp_path):
    path = tmp_path / "a.log"
    evaluated = ["eval loss: 1.0, acc: 0.5000, eval done total : 1.00 s"]
    again = [training(200), *evaluated, training(300), *evaluated]
    path.write_text("\n".join([training(100), *evaluated, *again, "going on", *again]))
    facts = read_log(path)
    assert [point.step for point in facts.dev_curve] == [100, 200, 300]
    assert facts.train_seconds == 10 * 4 and facts.eval_seconds == 5


def test_names_and_paths_of_trials():
    assert trial_name(Setting(3e-5, 32, 0.1)) == "3e-05_32_0.1"
    assert trial_name(Setting(1e-5, 8, 0), 43) == "1e-05_8_0.0_seed43"
    assert parse_trial_name("3e-05_32_0.1") == (Setting(3e-5, 32, 0.1), 42)
    assert parse_trial_name("1e-05_8_0.0_seed43") == (Setting(1e-5, 8, 0.0), 43)
    assert parse_trial_name("3e-05_32_0.1.attempt1") is None and parse_trial_name("grid") is None
    paths = TrialPaths(Path("runs/hfl--rbt3/tnews"), "3e-05_32_0.1")
    assert str(paths.log) == "runs/hfl--rbt3/tnews/3e-05_32_0.1.log"
    assert str(paths.result) == "runs/hfl--rbt3/tnews/3e-05_32_0.1.json"
    assert str(paths.output_dir) == "runs/hfl--rbt3/tnews/3e-05_32_0.1"


def result() -> Result:
    return Result("tnews", "m", {"seed": 42}, "abc")


def test_the_first_of_equal_scores_is_the_best():
    made = result()
    assert made.add(DevPoint(100, 0, (50.0,)))
    assert not made.add(DevPoint(200, 0, (50.0,)))
    assert made.add(DevPoint(300, 1, (51.0,))) and made.best_step == 300


def test_result_is_read_as_written_and_nothing_else_is(tmp_path):
    path = tmp_path / "r.json"
    made = Result("cmrc2018", "m", {"seed": 42}, "abc", metric="em_f1")
    made.add(DevPoint(100, 0, (50.0, 60.0), 0.5, (49.0, 59.0)))
    made.write(path)
    read = Result.read(path)
    assert read.best_score == (50.0, 60.0) and read.dev_curve[0].score == (50.0, 60.0)
    whole = path.read_text()
    assert Result.read(tmp_path / "none.json") is None
    for broken in (whole[:50], "[]", "{}", whole.replace('"format": 1', '"format": 99')):
        path.write_text(broken)
        assert Result.read(path) is None, broken[:30]


# Logs that go on, and lines that are not ours -------------------------------------------------------------------------

TRAIN = "global step {0}/1000, epoch: 0, batch: 99, rank_id: 0, loss: 2.7, lr: 0.00001, speed: 8.5 step/s\n"


@pytest.mark.parametrize(
    "line",
    [
        "eval loss: 1.0, acc: -, eval done total : 1 s",
        "eval loss: 1.0, acc: 0.5.6, eval done total : 1 s",
        "eval loss: 1.0, exact: +, f1: e",
        "eval loss: 1.0, acc: 9e999, eval done total : 1 s",
        "eval loss: 1.0, acc: -1e999, eval done total : 1 s",
        "eval loss: 1.0, exact: 70.0, f1: 101.0, eval done total : 1 s",
        TRAIN.format("7" * 5000).strip(),
        TRAIN.format(9).replace("/1000", "/" + "9" * 400 + ".5").strip(),
        TRAIN.format(9).replace("8.5", "8.5.8.5").strip(),
        TRAIN.format(9)[:20] + TRAIN.format("x").strip(),
        "\x00\xff" * 5000,
        "best_result: ",
    ],
)
def test_lines_that_are_not_ours_are_passed_over(tmp_path, line):
    log = tmp_path / "t.log"
    log.write_text(TRAIN.format(8) + "eval loss: 1.0, acc: 0.5612, eval done\n" + line + "\n", errors="replace")
    facts = read_log(log)
    assert (facts.step, facts.total_steps, facts.best_score) == (8, 1000, None)
    assert facts.last_score == pytest.approx((56.12,)) and len(facts.dev_curve) == 1


def test_a_log_is_read_on_from_where_it_was_left(tmp_path):
    log = tmp_path / "t.log"
    text = "".join(TRAIN.format(step) + "eval loss: 1.0, acc: 0.5612, eval done\r\n" for step in range(1, 200))
    growing, written = GrowingLog(log), 0
    for size in (1, 13, 200, 5000, 7, len(text)):
        log.write_text(text[: written + size], newline="")
        written += size
        assert growing.read() == read_log(log)
    assert growing.read().step == 199
    log.unlink()  # another attempt's log
    log.write_text(TRAIN.format(3))
    assert growing.read().step == 3 and len(growing.read().last_lines) == 1


def test_only_the_end_of_a_long_log_is_read(tmp_path):
    log = tmp_path / "t.log"
    log.write_text(TRAIN.format(1) * 10_000 + "x" * 100_000 + "\n" + TRAIN.format(77))
    growing = GrowingLog(log, most=1 << 18)
    assert growing.read().step == 77 and max(map(len, growing.read().last_lines)) < 5000


def test_done_means_one_thing(tmp_path):
    path = tmp_path / "r.json"
    made = result()
    made.add(DevPoint(100, 0, (50.0,)))
    made.status = "done"
    made.write(path)
    whole = json.loads(path.read_text())
    for changed, done in (
        ({}, True),
        ({"of_a_later_version": [1]}, True),
        ({"configuration_hash": "other"}, False),
        ({"status": "failed"}, False),
        ({"best_score": None}, False),
        ({"best_score": [101.0]}, False),
        ({"best_score": [50.0, 60.0]}, False),
        ({"best_score": "50"}, False),
        ({"configuration": None}, False),
        ({"metric": "rank"}, False),
    ):
        path.write_text(json.dumps({**whole, **changed}))
        assert (Result.read_finished(path, "abc") is not None) == done, changed


def test_a_bad_point_of_the_curve_is_left_out(tmp_path, capsys):
    path, made = tmp_path / "r.json", result()
    made.dev_curve = [DevPoint(-1, 0, (50.0,)), DevPoint(200, 0, (60.0,))]
    made.write(path)
    assert [point.step for point in Result.read(path).dev_curve] == [200]
    assert "dev_curve[0].step" in capsys.readouterr().err


def test_what_a_run_has_cost_goes_on_from_its_checkpoint(monkeypatch):
    """Seconds of its processes up to the checkpoints that were used, times its cards."""
    now = result_module._BEGAN + 10.0
    monkeypatch.setattr(result_module.time, "perf_counter", lambda: now)
    first, second, third = (Result("tnews", "m", {}, "0" * 16, cards=2) for _ in range(3))
    first.train_seconds, first.eval_seconds = 4.0, 1.0
    kept = first.progress()
    assert kept.device_seconds == pytest.approx(20.0)
    now += 100.0  # behind the checkpoint
    first.spend()
    assert first.device_seconds == first.cost == pytest.approx(220.0)
    now = result_module._BEGAN + 3.0  # in another process
    second.take_up(kept)
    second.spend()
    assert second.device_seconds == pytest.approx(26.0)
    third.take_up(replace(kept, device_seconds=None))  # written when only steps and evaluations were counted
    assert third.device_seconds == third.cost == pytest.approx(10.0)


def test_a_best_score_of_an_earlier_process_comes_with_its_point(tmp_path):
    """Killed after its best evaluation, gone on from before it, killed again; on a card a step may not repeat itself."""
    path = tmp_path / "r.json"
    first = result()
    for step, score in ((100, 50.0), (200, 55.0), (300, 60.0)):
        first.add(DevPoint(step, 0, (score,), loss=1.0))
    first.write(path)
    second = result()
    second.add(first.dev_curve[0])  # up to the checkpoint
    second.adopt_newer_best(path)
    assert (second.best_score, second.best_step) == ((60.0,), 300)
    second.add(DevPoint(200, 0, (54.0,)))
    second.write(path)
    third = result()
    third.take_up(second.progress())
    third.adopt_newer_best(path)
    assert third.curve.up_to(200).steps == (100, 200)
    assert not third.add(DevPoint(300, 0, (59.0,)))  # the model that was kept is the better one
    assert third.evaluation_after(300) == first.dev_curve[2]
    third.add(DevPoint(400, 1, (58.0,)))
    assert [point.score[0] for point in third.dev_curve] == [50.0, 54.0, 60.0, 58.0] and third.best_step == 300
    assert third.add(DevPoint(200, 0, (60.0,))) and third.best_step == 200  # the first of equals


def test_a_best_score_that_no_curve_has_is_left(tmp_path):
    earlier, mine = result(), result()
    earlier.best_score, earlier.best_step = (60.0,), 300
    earlier.write(tmp_path / "r.json")
    mine.add(DevPoint(100, 0, (50.0,)))
    mine.adopt_newer_best(tmp_path / "r.json")
    assert (mine.best_score, mine.best_step) == ((50.0,), 100)


def test_losses_of_steps_that_were_done_again_count_once(tmp_path):
    stream = io.StringIO()
    log = RunLog(stream)
    for step, loss in ((100, 2.5), (200, float("nan")), (300, 2.0), (200, 2.2), (300, 1.9)):
        log.train(TrainingLine(step, 400, 0, step - 1, loss, 3e-5, 8.0))
        log.evaluated(loss, (50.0,), 1.0)
    path = tmp_path / "trial.log"
    path.write_text(
        stream.getvalue().replace("300/400", "\x1b[32m300\x1b[0m/400") + "loss: 1\rglobal step 350/4", encoding="utf-8"
    )
    assert read_losses(path) == [(100, 2.5), (200, 2.2), (300, 1.9)]
