"""Every file that is read back, broken in every way hypothesis thinks of: one line each, never a traceback."""

import fcntl
import gzip
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS, Setting
from cluebench.data import archive
from cluebench.features.cache import FeatureCache
from cluebench.foundation import atomic
from cluebench.foundation.file_facts import FileFacts
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import Configuration
from cluebench.records import dev_predictions, finished_trials, identity
from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.grid_file import read_grid
from cluebench.records.log import read_log
from cluebench.records.paths import TrialPaths
from cluebench.records.result import DevPoint, Result
from cluebench.records.run_flags import RunFlags, resolved
from cluebench.records.trial import Trial
from cluebench.report import grid_page, leaderboard, submitted, table
from cluebench.report.leaderboard import Leaderboard, measured_rows
from cluebench.report.run import Run
from cluebench.scheduler.allocation.promises import Promise, Promises
from cluebench.scheduler.plan.estimates import estimated_size
from cluebench.scheduler.plan.failures import Failure, FailureKind
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Attempt, Job, State, note_failures, recall_failures
from cluebench.scheduler.processes import launch
from cluebench.scheduler.processes.engine import orphan_of
from cluebench.scheduler.run.display import print_status
from cluebench.scheduler.run.planned_grid import PlannedGrid, RunDirectory
from cluebench.scheduler.run.recorder import Recorder
from cluebench.submission import kept, packing
from cluebench.training.checkpoint_format import CheckpointState, Generators
from cluebench.training.configure import refuse_other_settings
from tests.broken.mutations import NOWHERE, Outcome, broken_bytes, broken_json, for_all, outcome, paths, replaced

MODEL = "some-model"


@dataclass
class Broken:
    """A file that something reads: its content when it is sound, and what reads it."""

    path: Path
    sound: Any  # a JSON value; bytes of a file of another kind
    read: Callable[[], Any]
    undeclared: tuple = ()  # keys that nobody reads
    pack: Callable[[bytes], bytes] = bytes  # from the JSON text to the file


# A run of two tasks, as the scheduler leaves it -----------------------------------------------------------------------


def trial(task: str, rate: float = 3e-5) -> Trial:
    return Trial(Model.of(MODEL), task, Setting(rate, 32 if TASKS[task].is_classification else 24, 0.1))


def result(task: str, rate: float = 3e-5) -> Result:
    settings = {"task": task, "seed": 42, "learning_rate": rate, "limit": None, "trainer": {"optim": "adamw"}}
    made = Result(task, MODEL, settings, identity.configuration_hash(settings), "done", TASKS[task].metric)
    for step, score in ((100, 50.0), (200, 75.0)):
        made.add(DevPoint(step, 0, (score,) if made.metric == "accuracy" else (score, score + 5), 0.5))
    made.versions, made.finished, made.total_steps, made.error = {"paddlepaddle": "3"}, "2026-01-01", 200, "none"
    made.started, made.best_model, made.peak_memory_bytes = "2026-01-01", "somewhere", 1 << 30
    return made


def job(task: str, rate: float = 3e-5, state: State = State.DONE) -> Job:
    of = trial(task, rate)
    its = result(task, rate)
    made = Job(of, 0, TrialPaths(Path(task), of.name), Path("lock"), its.configuration_hash, its.configuration)
    made.state, made.result = state, its if state is State.DONE else None
    made.attempts = [Attempt(labels=["gpu 0"], started=0.0, finished=1.0, outcome="done")]
    made.failures = [Failure(FailureKind.KILLED, "ended by SIGKILL")]
    return made


class RunFolder:
    """``runs/some-model`` with results, logs, predictions and grid.json."""

    def __init__(self, folder: Path):
        self.root = folder / "runs"
        self.directory = RunDirectory(self.root, Model.of(MODEL))
        for task in ("tnews", "cmrc2018"):
            for rate in (3e-5, 5e-5):
                result(task, rate).write(self.paths(task, rate).result)
                self.paths(task, rate).log.write_text("best_result: 75.00\n")
            self.predictions(task).write(self.directory.path / task / "3e-05_32_0.1.predictions", {"task": task}, 200)
        for name in ("tnews", "cmrc2018"):
            self.predictions(name).write(
                dev_predictions.beside(self.paths(name).result), result(name).configuration, 200
            )
        jobs = [job("tnews"), job("cmrc2018"), job("tnews", 1e-5, State.FAILED), job("c3", 1e-5, State.RUNNING)]
        grid = PlannedGrid(GridFlags(), [one.trial for one in jobs], {self.directory.model: self.directory})
        Recorder(grid, jobs).write_plan()

    def paths(self, task: str, rate: float = 3e-5) -> TrialPaths:
        return TrialPaths(self.directory.path / task, trial(task, rate).name)

    @staticmethod
    def predictions(task: str) -> DevPredictions:
        if task == "cmrc2018":
            answers = {"a": "甲", "b": "乙", "c": "丙", "d": "丁"}
            found = DevPredictions.of_spans(
                list(answers), answers, [1, 1, 1, 0], [1, 1, 1, 0.2], np.array([0, 0, 1, 1])
            )
            return found
        return DevPredictions.of_choices(range(4), np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5]))

    def everything(self) -> str:
        """All that reads a run folder: tables, report, leaderboard, status, what is to be done."""
        table.print_table(Run(self.directory.path), MODEL)
        print_status([self.directory], GridFlags())
        board = Leaderboard.of(measured_rows(self.root))
        for style in leaderboard.FORMATS:
            leaderboard.rendered(board, style)
        PlannedGrid(GridFlags(), [trial("tnews"), trial("c3", 1e-5)], {Model.of(MODEL): self.directory}).jobs()
        self.directory.refuse_other_model()
        packing.run_directory(self.root)
        page, _, scripts = grid_page.report(Run(self.directory.path)).partition('<script type="application/json"')
        assert "<script" not in page and "<" not in scripts[: scripts.index("</script>")]
        return page


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return RunFolder(tmp_path_factory.mktemp("run"))


@pytest.fixture(autouse=True)
def quiet(capsys, monkeypatch, tmp_path_factory):
    """No data: nothing is to be fetched or hashed."""
    monkeypatch.setenv("CLUE_DATA_DIR", str(tmp_path_factory.mktemp("no_data")))


def of_run(run: RunFolder) -> dict[str, Broken]:
    grid, paths_of = run.directory.grid_json, run.paths("tnews")
    predictions = dev_predictions.beside(paths_of.result)
    record = submitted.Submitted(
        MODEL, "z.zip", "0" * 64, "2026", ["a"], {"tnews": {"score": [5.0], "error": None}}, {}
    )
    atomic.write_json(run.directory.path / submitted.RECORD, asdict(record))
    (run.directory.path / "z.json").unlink(missing_ok=True)
    return {
        "result": Broken(paths_of.result, json.loads(paths_of.result.read_text()), run.everything),
        "result of spans": Broken(
            run.paths("cmrc2018").result, json.loads(run.paths("cmrc2018").result.read_text()), run.everything
        ),
        "grid.json": Broken(
            grid,
            json.loads(grid.read_text()),
            run.everything,
            undeclared=("scheduler", "devices", "score", "number", "cards", "accumulation", "started",
                        "finished", "outcome", "detail of attempt"),
        ),  # fmt: skip
        "predictions": Broken(predictions, json.loads(gzip.decompress(predictions.read_bytes())), run.everything,
                              pack=lambda text: gzip.compress(text, compresslevel=1)),
        "submit.json": Broken(run.directory.path / submitted.RECORD, asdict(record), run.everything),
    }  # fmt: skip


RUN_FILES = ("result", "result of spans", "grid.json", "predictions", "submit.json")


def read_broken(broken: Broken, content: bytes) -> Outcome:
    """What happens with other content; then the file is as it was."""
    whole = broken.path.read_bytes()
    broken.path.write_bytes(broken.pack(content))
    try:
        return outcome(broken.read)
    finally:
        broken.path.write_bytes(whole)


@pytest.mark.parametrize("name", RUN_FILES)
def test_sound_files_of_a_run_are_read_in_silence(name, run):
    found = outcome(of_run(run)[name].read)
    assert "warning" not in found.printed and not found.refused


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN_FILES)
def test_files_of_a_run_never_end_in_a_traceback(name, run):
    broken = of_run(run)[name]

    for_all(broken_json(broken.sound), lambda content: read_broken(broken, content))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN_FILES)
def test_what_a_file_of_a_run_may_not_hold_is_reported(name, run):
    broken = of_run(run)[name]
    first, *_ = places = [at for at in paths(broken.sound) if at]
    for text in ("NaN", "[" * 100_000):  # wherever they stand
        assert read_broken(broken, replaced(broken.sound, first, text).encode()).is_loud, text[:20]
    for at in places:
        if (
            not set((*broken.undeclared, "attempts")) & set(map(str, at)) and at[-1] != "spent"
        ):  # whose keys may be left out
            assert read_broken(broken, replaced(broken.sound, at, NOWHERE).encode()).is_loud, at


def test_logs_never_end_in_a_traceback(tmp_path):
    path = tmp_path / "tnews" / "3e-05_32_0.1.log"
    path.parent.mkdir()
    lines = b"global step %d00/900, epoch: 0, batch: 9, rank_id: 0, loss: 2.7, lr: 0.1, speed: 8.7 step/s\n"
    lines += b"eval loss: 2.7, acc: 0.08, eval done total : 1 s\nbest_result: 75.00\n"

    def check(content):
        path.write_bytes(content)
        read_log(path)
        for one in finished_trials.finished_trials(tmp_path).get("tnews", []):
            assert 0 <= one.score[0] <= 100

    for_all(broken_bytes(b"".join(lines % number for number in range(1, 9))), check)


# What an earlier run left ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("out"), result("tnews")
    generators = Generators((3, [1, 2], None), ("MT19937", [1], 1, 0, 0.0), [(-1, 1, 0, "1 2 3")])
    state = CheckpointState(
        "0" * 16, made.progress(), made.configuration, {"model.safetensors": FileFacts(1, 2)}, 500,
        {"last_epoch": 5, "last_lr": 0.1}, {"scale": [32768.0]}, generators,
    )  # fmt: skip
    state.write(folder / "checkpoint" / "state.json")
    path = folder / "checkpoint" / "state.json"
    flags = resolved(RunFlags(model_name_or_path="m", do_train=True, output_dir=str(folder)), TASKS["tnews"])
    return Broken(path, json.loads(path.read_text()), lambda: refuse_other_settings(flags, made))


def test_a_sound_checkpoint_of_another_run_is_in_the_way(checkpoint):
    assert "checkpoint after step 500" in outcome(checkpoint.read).refused


def test_checkpoints_never_end_in_a_traceback(checkpoint):
    for_all(broken_json(checkpoint.sound), lambda content: read_broken(checkpoint, content))


def test_what_a_checkpoint_may_not_hold_is_reported(checkpoint):
    for at in paths(checkpoint.sound):
        if at:
            assert read_broken(checkpoint, replaced(checkpoint.sound, at, NOWHERE).encode()).is_loud, at


# Locks ----------------------------------------------------------------------------------------------------------------


def test_settings_of_other_processes_never_end_in_a_traceback(run):
    """While nobody else is there they count for nothing; while someone is, they are compared."""
    path, ours = run.directory.private / "settings", {"tnews": {"epochs": 3}}
    other = RunDirectory(run.directory.path.parent, run.directory.model)
    assert other.join(ours)

    def check(content):
        path.write_bytes(content)
        outcome(lambda: run.directory.join(ours))

    for_all(broken_json({"tasks": ours}), check)
    other.release()
    run.directory.release()


def test_noted_failures_never_end_in_a_traceback(run):
    one = trial("tnews")
    failed = Job(one, 0, one.paths(run.directory.path), run.directory.trial_lock(one), "h")
    failed.failures = [Failure(FailureKind.CRASHED, "exit code 1")]
    failed.lock.parent.mkdir(exist_ok=True)
    note_failures(failed)
    sound = json.loads(failed.failure_notes.read_bytes())

    def check(content):
        failed.failure_notes.write_bytes(content)
        failed.failures = []
        outcome(lambda: recall_failures(failed))
        assert len(failed.failures) <= 1 and failed.accumulation() is not None

    for_all(broken_json(sound), check)
    failed.failure_notes.unlink()


@pytest.mark.parametrize("kind", ["trial", "directory"])
def test_locks_never_end_in_a_traceback(kind, run):
    run.directory.private.mkdir(exist_ok=True)
    path = run.directory.private / ("lock" if kind == "directory" else "tnews--x.lock")
    sound = "process 1 on host, since 2026" if kind == "directory" else asdict(Attempt(pid=1, start_time="boot:1"))
    read = run.directory.holder if kind == "directory" else lambda: orphan_of(path)

    def check(content):
        with open(path, "wb") as stream:
            stream.write(content)
            stream.flush()
            fcntl.flock(stream, fcntl.LOCK_EX)
            found = outcome(read).value
            assert found is not None  # someone holds it, whoever that is
            print_status([run.directory], GridFlags())

    try:
        for_all(broken_json(sound), check)
    finally:
        path.unlink()


# Promises -------------------------------------------------------------------------------------------------------------


def test_broken_promises_are_none_and_do_not_stay(tmp_path_factory):
    """What a living process has promised counts as it was written, or not at all."""
    promises = Promises(pytest.fail)
    promises._root = tmp_path_factory.mktemp("promises")
    promises._directory = promises._root / f"cluebench-promises-{os.getuid()}"
    promises._directory.mkdir()
    path = promises._directory / "0-abc.json"
    sound = asdict(Promise(os.getpid(), launch.start_time(os.getpid()), ["GPU-a"], 1 << 30))

    def others():
        with promises.locked() as found:
            return found

    path.write_text(json.dumps(sound))
    assert outcome(others).value == [Promise(**sound)]

    def check(content):
        path.write_bytes(content)
        found = outcome(others)
        assert not found.is_loud and path.exists() == bool(found.value)
        for one in found.value:
            assert one.pid == os.getpid() and one.bytes >= 0 and all(isinstance(name, str) for name in one.devices)

    for_all(broken_json(sound), check)
    for at in paths(sound):
        path.write_text(replaced(sound, at, NOWHERE))
        assert outcome(others).value == [] and not path.exists(), at


# Models, as far as they are looked at before Paddle is imported -------------------------------------------------------

CONFIG = {
    "architectures": ["BertModel"], "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64, "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "layer_norm_eps": 1e-12, "pad_token_id": 0,
    "cluebench": {"first_position": 0},
}  # fmt: skip


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    files = {
        "config.json": json.dumps(CONFIG),
        "tokenizer_config.json": json.dumps({"do_lower_case": True, "unk_token": "[UNK]"}),
        "model.safetensors.index.json": json.dumps({"metadata": {}, "weight_map": {"a": "a.safetensors"}}),
        "a.safetensors": "",
        "vocab.txt": "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"一二三四五六七八九十"]),
    }
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def look_at(folder: Path) -> None:
    files = model_files.find(Model.of(folder))
    files.read_config()
    files.check_tokenizer()
    estimated_size.cache_clear()
    assert estimated_size(Model.of(folder)).parameters > 0


MODEL_FILES = ("config.json", "tokenizer_config.json", "model.safetensors.index.json", "vocab.txt")


@pytest.mark.parametrize("name", MODEL_FILES)
def test_files_of_a_model_never_end_in_a_traceback(name, model_folder):
    content = (model_folder / name).read_bytes()
    broken = Broken(model_folder / name, content, lambda: look_at(model_folder))

    for_all(
        broken_bytes(content) if name == "vocab.txt" else broken_json(json.loads(content)),
        lambda content: read_broken(broken, content),
    )


def test_no_setting_of_a_model_may_be_anything(model_folder):
    broken = Broken(model_folder / "config.json", CONFIG, lambda: look_at(model_folder))
    for key in Configuration.__annotations__:
        if key not in ("init_args", "cluebench"):  # a list of anything, and a group of its own
            for text in (NOWHERE, '"128x"' if "class" not in key else "1", "NaN", "[128]", "true"):
                declared_text = str(Configuration.__annotations__[key])
                if not (text.startswith('"') and "str" in declared_text) and not (
                    text == "true" and "bool" in declared_text
                ):
                    content = json.dumps({**CONFIG, key: 0}).replace(f'"{key}": 0', f'"{key}": {text}')
                    assert read_broken(broken, content.encode()).refused, (key, text)


# Cache ----------------------------------------------------------------------------------------------------------------

KEY = {"task": "tnews", "split": "dev", "limit": None}
ARRAYS = {"tokens": np.arange(50, dtype=np.int32), "texts": np.arange(6).reshape(2, 3)}


def test_a_broken_cache_entry_gives_the_right_arrays(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.get(KEY, lambda: ARRAYS)
    path = cache.path(KEY)
    whole = path.read_bytes()

    def check(content):
        path.write_bytes(content)
        found = outcome(lambda: cache.get(KEY, lambda: ARRAYS))
        assert found.value.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found.value[name], array)
        assert found.is_loud == (content != whole)
        assert path.read_bytes() == whole

    for_all(broken_bytes(whole), check)


# Archives -------------------------------------------------------------------------------------------------------------


def test_archives_never_end_in_a_traceback(tmp_path_factory):
    path = tmp_path_factory.mktemp("zip") / "afqmc_public.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("train.json", "甲" * 500)
        packed.writestr("dev.json", os.urandom(100))
    whole = path.read_bytes()

    def read() -> bytes | None:
        archive.check_archive(path)
        member = archive.find_member(path, "train.json")
        if member is None:
            return None
        with archive.open_member(path, member) as stream:
            return stream.read()

    def check(content):
        path.write_bytes(content)
        found = outcome(read)
        assert found.refused or found.value in (None, ("甲" * 500).encode())

    for_all(broken_bytes(whole), check)


# Small files ----------------------------------------------------------------------------------------------------------


def test_notes_of_predictions_never_end_in_a_traceback(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")

    def check(content):
        (folder / ".predictions.json").write_bytes(content)
        assert isinstance(outcome(lambda: kept._read_notes(folder)).value, dict)

    for_all(broken_json({"tnews11_predict.json": "0" * 16}), check)


def test_a_grid_is_read_back_as_it_was_written(run):
    grid = read_grid(run.directory.path)
    assert [(one.task, one.state) for one in grid.trials] == [
        ("tnews", "done"), ("cmrc2018", "done"), ("tnews", "failed"), ("c3", "running")
    ]  # fmt: skip
    assert grid.trials[0].attempts[0].devices == ["gpu 0"] and grid.trials[2].failures[0].kind == "killed"
