import errno
import io
import re
from types import SimpleNamespace

import pytest

from cluebench.benchmark.tasks import TASKS, Setting
from cluebench.pretrained.model import Model
from cluebench.records.grid_file import read_grid
from cluebench.records.paths import TrialPaths
from cluebench.records.result import Result
from cluebench.records.trial import Trial
from cluebench.scheduler.loop.grid_state import GridState
from cluebench.scheduler.plan import jobs as jobs_module
from cluebench.scheduler.plan.estimates import (
    DurationModel,
    Underway,
    estimated_bytes,
    estimated_size,
    seconds_left,
    time_left,
    workloads,
)
from cluebench.scheduler.plan.failures import Failure, FailureKind, classify
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Attempt, Job, LogReader, State
from cluebench.scheduler.plan.trials import build_plan
from cluebench.scheduler.run.display import Display, display_for, duration
from cluebench.scheduler.run.planned_grid import PlannedGrid, RunDirectory
from cluebench.scheduler.run.recorder import Recorder
from tests.grid.conftest import until
from tests.simulated import SimulatedTime, job_of

#: Ends of logs as Paddle, its launcher, the driver and the system write them.
OUT_OF_MEMORY = """\
ResourceExhaustedError: 

Out of memory error on GPU 0. Cannot allocate 96.000000MB memory on GPU 0, 15.769531GB memory has been allocated
Please check whether there is any other process using GPU 0.
""".splitlines()  # noqa: W291
LOST = ["OSError: (External) CUDA error(719), unspecified launch failure. ", "  [Hint: 'cudaErrorLaunchFailure']"]
BUSY_CARD = ["OSError: (External) CUDA error(46), all CUDA-capable devices are busy or unavailable."]
WORKER = [
    "LAUNCH ERROR 2026-01-01 00:00:00,000 Container failed !!!",
    "Container rank 1 status failed cmd ['python', '-u', 'run_c3.py'] code 4 log /w/workerlog.1",
]
CRASH = ["Traceback (most recent call last):", '  File "x.py", line 1, in <module>', "KeyError: 'sentence'"]


@pytest.mark.parametrize(
    "code, lines, kind",
    [
        (1, OUT_OF_MEMORY, FailureKind.OUT_OF_MEMORY),
        (1, ["MemoryError: Unable to allocate 3.00 GiB"], FailureKind.OUT_OF_MEMORY),
        (4, [], FailureKind.OUT_OF_MEMORY),
        (130, WORKER, FailureKind.OUT_OF_MEMORY),  # rank 0 was ended because rank 1 had failed
        (1, LOST, FailureKind.LOST_DEVICE),
        (1, BUSY_CARD, FailureKind.LOST_DEVICE),
        (1, ["OSError: [Errno 28] No space left on device: 'x'"], FailureKind.DISK_FULL),
        (1, ["requests.exceptions.ConnectionError: Max retries exceeded"], FailureKind.NETWORK),
        (5, ["error: every mirror failed"], FailureKind.NETWORK),
        (2, ["error: --task_name SST2: unknown"], FailureKind.BAD_SETTING),
        (3, ["error: loss is nan at step 7"], FailureKind.DIVERGED),
        (6, [], FailureKind.DISK_FULL),
        (-9, [], FailureKind.KILLED),
        (-15, [], FailureKind.INTERRUPTED),
        (130, ["interrupted"], FailureKind.INTERRUPTED),
        (None, ["global step 1/2"], FailureKind.KILLED),
        (0, ["best_result: 57.00"], FailureKind.NO_RESULT),
        (0, ["a sentence about out of memory"], FailureKind.NO_RESULT),
        (1, CRASH, FailureKind.CRASHED),
    ],
)
def test_failures_are_distinguished(code, lines, kind):
    assert classify(code, lines).kind is kind


def test_details_are_one_telling_line():
    assert classify(1, CRASH).detail == "KeyError: 'sentence'"
    assert classify(1, OUT_OF_MEMORY).detail.startswith(("ResourceExhaustedError", "Out of memory error on GPU 0"))
    assert classify(2, ["x"], "label '199' is unknown").detail == "label '199' is unknown"
    assert classify(-9).detail == "ended by SIGKILL"
    assert classify(7).detail == "exit code 7"
    assert classify(None, no_progress_seconds=60.0).detail == "no new log line in 60 s, ended"
    assert classify(1, CRASH, device_lost=True).kind is FailureKind.LOST_DEVICE


def test_a_training_line_is_no_reason():
    training = "global step 300/1000, epoch: 0, batch: 99, rank_id: 0, loss: 2.7, lr: 0.00001, speed: 8.7969 step/s"
    evaluated = "eval loss: 2.720359, acc: 0.5612, eval done total : 25.71 s"
    assert classify(1, [training, evaluated]).detail == "exit code 1"
    assert classify(1, ["Segmentation fault", training]).detail == "Segmentation fault"
    assert classify(2, ["error: --limit 0: must be at least 1", training]).detail.startswith("error: --limit")


# Estimates ------------------------------------------------------------------------------------------------------------


def test_every_task_has_a_workload():
    assert set(workloads()) == {trial.task for trial in build_plan([Model.of("m")], GridFlags())}


def test_model_size_from_published_table_and_configurations(tmp_path):
    def shape(model):
        return estimated_size(Model.of(model)).layers, estimated_size(Model.of(model)).hidden_size

    assert shape("ernie-3.0-medium-zh") == (6, 768) and shape("nobody/knows") == (12, 768)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text('{"num_hidden_layers": 4, "hidden_size": 312, "vocab_size": 21128}')
    assert estimated_size(Model.of(tmp_path / "a")).parameters == 12 * 4 * 312**2 + 21128 * 312
    (tmp_path / "b").mkdir()  # old PaddleNLP layout
    text = '{"init_args": [{"vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 2}], "init_class": "BertForX"}'
    (tmp_path / "b" / "model_config.json").write_text(text)
    assert shape(tmp_path / "b") == (2, 64)


def test_memory_of_bert_base_worked_out_by_hand():
    trial = Trial(Model.of("bert-base-chinese"), "tnews", Setting(3e-5, 32, 0.1))
    parameters = 12 * 12 * 768**2 + 40_000 * 768
    activations = 32 * 128 * 12 * (768 * 34 + 5 * 12 * 128) * 2
    assert estimated_bytes(trial, 32, "off") == 16 * parameters + activations
    assert estimated_bytes(trial, 32, "bf16") == 16 * parameters + activations // 2


def test_durations_are_learnt_by_task_then_model_then_size():
    known, other_task = (Trial(Model.of("m"), task, Setting(3e-5, 32, 0.1)) for task in ("tnews", "afqmc"))
    other_model = Trial(Model.of("ernie-3.0-xbase-zh"), "tnews", Setting(3e-5, 32, 0.1))
    model = DurationModel(GridFlags())
    assert model.seconds(known) is None
    model.project(known, 50.0)
    assert model.seconds(known) == pytest.approx(50.0)  # a running trial's own projection
    model.observe(known, 100.0)
    model.observe(known, 200.0)
    assert model.seconds(known) == pytest.approx(150.0)
    assert model.seconds(other_task) is not None and model.seconds(other_model) > model.seconds(known)


def test_limit_and_steps_shorten_the_estimate():
    trial = Trial(Model.of("m"), "cmnli", Setting(3e-5, 32, 0.1))
    whole = DurationModel(GridFlags()).relative(trial)
    assert DurationModel(GridFlags(limit=1000)).relative(trial) < whole / 20
    assert DurationModel(GridFlags(max_steps=100)).relative(trial) < whole / 20
    assert DurationModel(GridFlags(num_train_epochs=1)).relative(trial) < 0.6 * whole


def test_time_left_on_several_devices():
    assert seconds_left([], [], 2) == 0
    assert seconds_left([10.0], [5.0, 5.0], 2) == 10.0
    assert seconds_left([10.0, 4.0], [9.0, 1.0], 2) == 13.0
    assert seconds_left([10.0, 8.0, 6.0], [], 2) == 14.0  # three that share two cards


def test_time_left_of_a_grid_worked_out_by_hand():
    """By what has finished and how far the others are, the same for the scheduler and for --status."""
    long, short = (Trial(Model.of("m"), task, Setting(3e-5, 32, 0.1)) for task in ("tnews", "afqmc"))
    durations = DurationModel(GridFlags())
    assert time_left(durations, [Underway(long, 1)], [short], 2) is None
    half_way = Underway(long, 1, step=(500, 1000), steps_per_second=10.0)  # 100 s in all, 50 of them done
    assert time_left(durations, [half_way], [], 1) == pytest.approx(50.0)
    durations.observe(long, 400.0)
    durations.observe(short, 30.0)
    assert time_left(durations, [half_way], [short], 1) == pytest.approx(230.0)
    assert time_left(durations, [half_way, Underway(short, 1, seconds=20.0)], [short, short], 2) == pytest.approx(200.0)
    assert time_left(durations, [Underway(long, 4, seconds=1000.0)], [], 4) == pytest.approx(5.0)  # it takes longer
    resumed = Underway(long, 2, seconds=3.0, step=(900, 1000))  # from its checkpoint
    assert time_left(durations, [resumed], [], 2) == pytest.approx(20.0)


# What is shown and written --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seconds, text",
    [(None, "unknown"), (-1, "0 s"), (119, "119 s"), (720, "12 min"), (11_100, "3 h 05 min"), (187_200, "2 d 4 h")],
)
def test_durations_for_people(seconds, text):
    assert duration(seconds) == text


class Terminal(io.StringIO):
    def isatty(self):
        return True


def stage(jobs):
    """A running grid with five hours and ten minutes left, as the displays look at it."""
    trials, engine = SimpleNamespace(jobs=jobs, halving=None), SimpleNamespace(devices=[])
    grid = GridState(trials, engine, [], SimulatedTime(), GridFlags())
    grid.seconds_left = lambda: 18_600.0
    return grid


def jobs_on_stage(tmp_path):
    jobs = []
    for number, state in enumerate((State.DONE, State.RUNNING, State.WAITING)):
        trial = Trial(Model.of("m"), "tnews", Setting((1 + number) * 1e-5, 32, 0.1))
        job = Job(trial, number, TrialPaths(tmp_path / "tnews", trial.name), tmp_path / "lock", "h", state=state)
        job.attempts.append(Attempt(labels=["gpu 0"], started=0.0, finished=60.0))
        jobs.append(job)
    jobs[0].result = Result("tnews", "m", {}, "h", "done", best_score=(57.0,))
    jobs[1].paths.folder.mkdir()
    jobs[1].paths.log.write_text(
        "global step 300/1000, epoch: 0, batch: 99, rank_id: 0, loss: 2.7, lr: 0.00001, speed: 8.7969 step/s\n"
        "eval loss: 2.720359, acc: 0.5612, eval done total : 25.71 s\n"
    )
    return jobs


def test_plain_lines(tmp_path):
    stream, jobs = io.StringIO(), jobs_on_stage(tmp_path)
    display = display_for(stream)
    assert type(display) is Display
    display.attach(stage(jobs))
    display.hear(jobs[0].ending(), jobs[0])
    assert display.tick(0.0) == 15.0 and display.tick(14.0) == 15.0
    assert display.tick(15.0) == 75.0
    line = "1 done, 1 running, 1 waiting, 0 failed; time left about 5 h 10 min"
    assert stream.getvalue().splitlines() == [
        f"[1/3] m/tnews/1e-05_32_0.1 done: 57.00 (60 s); {line}",
        f"{line}: m/tnews/2e-05_32_0.1 30% 56.12",
    ]


def test_what_goes_on_from_a_checkpoint_differs_from_what_is_tried_again(tmp_path):
    job, begins = jobs_on_stage(tmp_path)[0], "started on gpu 0, accumulation 1"
    assert job.beginning() == begins
    job.attempts.append(Attempt(labels=["gpu 0"], number=2))
    assert job.beginning() == f"{begins}, going on"
    job.failures.append(Failure(FailureKind.CRASHED, "exit code 1"))
    assert job.beginning() == f"{begins}, attempt 2"


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 80 columns and 24 lines."""
    for name, value in {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    return Terminal()


def picture(stream):
    """The lines of the last picture, without colours, and with blanks at their ends removed."""
    last = re.split(r"\x1b\[\d*A\x1b\[2K", stream.getvalue())[-1]
    return [re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", line).strip() for line in last.splitlines()]


def test_live_picture_of_the_grid_its_tasks_and_what_runs(tmp_path, terminal):
    jobs = jobs_on_stage(tmp_path)
    display = display_for(terminal)
    display.attach(stage(jobs))
    display.tick(0.0)
    display.note("gpu 1 is set aside")
    display.tick(2.0)
    summary, bar, task, heading, running = picture(terminal)[-5:]
    display.close()
    assert summary == "1 done, 1 running, 1 waiting, 0 failed; time left about 5 h 10 min"
    assert len(bar) == 80 and set(bar) <= set("━╸╺")
    assert re.fullmatch(r"TNEWS  1/3  [━╸╺]+ +best 57.00  1e-05_32_0.1", task)
    assert heading.split() == ["running", "on", "step", "last", "dev", "left"]
    assert re.split("  +", running) == ["tnews/2e-05_32_0.1", "gpu 0", "300/1000", "56.12", "80 s"]
    assert "gpu 1 is set aside" in terminal.getvalue()


def test_a_step_is_shown_before_the_first_log_line(tmp_path, terminal):
    jobs = jobs_on_stage(tmp_path)
    jobs[1].paths.log.write_text("m on TNEWS, cpu: 1,600 examples, 1,000 steps, writing to out\n")
    jobs[1].paths.output_dir.mkdir()
    (jobs[1].paths.output_dir / "step.txt").write_text("12/1000")
    display = display_for(terminal)
    display.attach(stage(jobs))
    display.tick(0.0)
    assert re.split("  +", picture(terminal)[-1])[:4] == ["tnews/2e-05_32_0.1", "gpu 0", "12/1000", "-"]
    for broken in ("", "12/", "x/y", "13/12", "1/0", "9" * 5000):
        (jobs[1].paths.output_dir / "step.txt").write_text(broken)
        assert LogReader().underway(jobs[1], jobs[1].attempt).step is None
    display.close()


def test_long_names_at_80_columns_give_way_to_numbers(tmp_path, terminal):
    jobs = []
    for name in ("hfl/a-model-of-a-name-that-goes-on-for-longer-than-any-line", "another"):
        for task in TASKS.values():
            trial = Trial(Model.of(name), task.name, Setting(3e-5, 32, 0.1), 43)
            paths = TrialPaths(tmp_path / trial.model.folder / task.name, trial.name)
            jobs.append(Job(trial, 0, paths, tmp_path / "lock", "h", state=State.RUNNING))
            jobs[-1].attempts.append(Attempt(labels=[f"gpu {card}" for card in range(task.cards)]))
            paths.folder.mkdir(parents=True)
            paths.log.write_text(
                "global step 19000/20010, epoch: 0, batch: 99, rank_id: 0, loss: 2.7, lr: 0.1, speed: 0.8 step/s\n"
                "eval loss: 2.7, exact: 65.8310, f1: 87.3012, eval done total : 25.71 s\n"
            )
    jobs = [job for job in jobs if job.trial.row.metric == "em_f1" or job.trial.task == "cluewsc2020"]
    display = display_for(terminal)
    display.attach(stage(jobs))
    display.tick(0.0)
    *_, wsc, cmrc, other_wsc, other_cmrc = lines = picture(terminal)
    assert max(map(len, lines)) <= 80
    for line, task, cards in ((cmrc, "cmrc2018", "0,1"), (wsc, "cluewsc2020", "0"), (other_cmrc, "cmrc2018", "0,1")):
        start = re.escape(f"{task}/3e-05_32_0.1_seed43")
        assert re.fullmatch(rf"{start}.*  gpu {cards} *  19000/20010  \S+ *  21 min", line), line
    assert "65.83/87.30" in cmrc and "anot" in other_wsc
    display.close()


RECORDER = "cluebench.scheduler.run.recorder"


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A recorder of a model's trials, the pages that it writes, and what it complains about."""
    found = SimpleNamespace(pages=[], complaints=[], jobs=jobs_on_stage(tmp_path))
    found.directory = RunDirectory(tmp_path, Model.of("m"))
    found.directory.path.mkdir()
    monkeypatch.setattr(
        f"{RECORDER}.write_report", lambda folder: found.pages.append((folder.name, (folder / "grid.json").is_file()))
    )
    grid = PlannedGrid(GridFlags(), [job.trial for job in found.jobs], {found.directory.model: found.directory})
    found.recorder = Recorder(grid, found.jobs, (), found.complaints.append)
    return found


def test_full_disk_is_reported_once_and_stops_nothing(recorded, monkeypatch):
    def write_text(path, text):
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"{RECORDER}.atomic.write_text", write_text)
    recorded.recorder.hear("done", recorded.jobs[0])
    # Between the second and the fourth writing it had been written.
    for now, is_full, complaints in ((0.0, True, 1), (1.0, True, 1), (2.0, False, 1), (3.0, True, 2)):
        full = is_full
        recorded.recorder.charged(recorded.jobs[0])
        recorded.recorder.write_due(now)
        assert len(recorded.complaints) == complaints
    problem = "grid.json can't be written: No space left on device; going on"
    assert recorded.complaints[0] == f"{recorded.directory.path}: {problem}"


def test_a_report_that_cannot_be_made_is_reported_and_ends_no_grid(recorded, monkeypatch):
    def report(folder):
        raise IndexError("of an odd\nfile")

    monkeypatch.setattr(f"{RECORDER}.write_report", report)
    recorded.recorder.finish()
    problem = f"report.html can't be written: {IndexError('of an odd' + chr(10) + 'file')!r}; going on"
    assert recorded.complaints == [f"{recorded.directory.path}: {problem}"]
    assert recorded.directory.grid_json.is_file()


def test_the_page_is_written_once_there_is_a_plan_and_while_anything_runs(recorded):
    for job in recorded.jobs:
        job.state = State.RUNNING
    recorded.recorder.write_due(0.0)
    assert recorded.pages == [("m", True)], "at once, and not before the plan"
    for now in range(1, 96):
        recorded.recorder.write_due(now)
    assert len(recorded.pages) == 4, "every 30 seconds, though nothing changed"
    for job in recorded.jobs:
        job.state = State.WAITING
        recorded.recorder.charged(job)
    for now in range(96, 1000):
        recorded.recorder.write_due(now)
    assert len(recorded.pages) == 5


def test_a_recorder_writes_until_it_is_closed_and_then_how_it_ended(recorded, monkeypatch):
    monkeypatch.setattr(f"{RECORDER}._STATE_EVERY", 0.01)

    def states():
        found = read_grid(recorded.directory.path)
        return found and (found.status, [trial.state for trial in found.trials])

    with recorded.recorder:
        until(lambda: states() == ("running", ["done", "running", "waiting"]))
        recorded.jobs[2].state = State.FAILED
        recorded.recorder.charged(recorded.jobs[2])
        until(lambda: states() == ("running", ["done", "running", "failed"]))
        recorded.jobs[1].state = State.STOPPED
    assert states() == ("failed", ["done", "stopped", "failed"]) and recorded.pages[-1] == ("m", True)


def test_reports_of_several_models_are_written_one_at_a_time_the_oldest_first(tmp_path, recorded):
    directories = {model: RunDirectory(tmp_path / "several", model) for model in map(Model.of, "abc")}
    jobs = [job_of(trial) for trial in build_plan([*directories], GridFlags(tasks=["c3"]))]
    for job in jobs:
        job.state = State.RUNNING
    recorder = Recorder(PlannedGrid(GridFlags(), [job.trial for job in jobs], directories), jobs)
    for now in range(1, 61):
        recorder.write_due(now)
        assert now != 30 or sorted(recorded.pages) == [("a", True), ("b", True), ("c", True)], "each once in 30 seconds"
    assert recorded.pages[3:] == recorded.pages[:3]


def test_the_start_of_a_trial_is_not_mistaken_for_steps(tmp_path, monkeypatch):
    """A minute until the first step, then ten a second: no estimate at first, and a right one from step 20 on."""
    now = [1000.0]
    monkeypatch.setattr(jobs_module.time, "monotonic", lambda: now[0])
    one = Trial(Model.of("m"), "tnews", Setting(3e-5, 32, 0.1))
    job = SimpleNamespace(trial=one, paths=TrialPaths(tmp_path, "3e-05_32_0.1"))
    logs, durations, attempt = LogReader(), DurationModel(GridFlags()), Attempt()
    job.paths.output_dir.mkdir()
    for step, seconds in ((1, 60.0), (11, 61.0), (21, 62.0)):
        now[0] = 1000.0 + seconds
        (job.paths.output_dir / "step.txt").write_text(f"{step}/1000")
        underway = logs.underway(job, attempt)
        left = time_left(durations, [underway], [], 1)
        assert left == (pytest.approx(97.9) if step == 21 else None)
        assert underway.seconds_left == (left and pytest.approx(left))
    (job.paths.output_dir / "step.txt").unlink()
    job.paths.log.write_text(
        "global step 19/1000, epoch: 0, batch: 18, rank_id: 0, loss: 2.7, lr: 0.1, speed: 10.0 step/s\n"
    )
    early = LogReader().underway(job, attempt)
    assert early.step == (19, 1000) and early.seconds_left is None
