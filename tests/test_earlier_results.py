"""Results as people have them, written by the version of 29 November 2026: they stay the trials that they were.

``earlier_results/`` holds a grid of twelve trials on made-up rows: its plan, results and dev predictions, and the train
and dev files. Never write these again: a plan that no longer finds them done makes every finished trial run again.
"""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from cluebench.foundation import json_files
from cluebench.pretrained.model import Model
from cluebench.records import dev_predictions
from cluebench.records.dev_predictions import DevPredictions
from cluebench.records.finished_trials import protocol_hash
from cluebench.records.grid_file import read_grid
from cluebench.records.result import Result
from cluebench.report.comparison import compare, contender
from cluebench.report.grid_page import report
from cluebench.report.run import Run
from cluebench.scheduler.plan.grid_flags import GridFlags, completed
from cluebench.scheduler.plan.jobs import State
from cluebench.scheduler.run.forecast import writing_over
from cluebench.scheduler.run.planned_grid import PlannedGrid

EARLIER = Path(__file__).parent / "earlier_results"
HASHES = {
    "tnews": ["51ded015f1d81e58", "82f049b148b98e52"],
    "ocnli": ["924c1709877280a5", "d1130037c133409c"],
    "cluewsc2020": ["17910d318f5d289b", "53498924cd01ca58"],
    "cmrc2018": ["249c4c522e396922", "f6f38d92f8577b2d"],
    "chid": ["cc5cf3f46dffeba5", "9e485516d540b05d"],
    "c3": ["d5e823bcce14972e", "2209fdd330787be2"],
}


@pytest.fixture
def runs(tmp_path):
    """The run directory of the model, which is in ``tmp_path``."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return shutil.copytree(EARLIER / "model", tmp_path / "runs" / "model")


@pytest.fixture
def grid(runs, tmp_path, monkeypatch):
    """The grid as it was planned, its results under a run root."""
    monkeypatch.setattr(Model, "identity", "directory:f859e805cb290fde")
    return PlannedGrid.of(completed(flags_of(tmp_path)))


def flags_of(folder):
    """The grid's flags as they were, for what lies in ``folder``."""
    return GridFlags(
        [str(folder / "model")], tasks=list(HASHES), data_dir=str(EARLIER / "data"), run_root=str(folder / "runs"),
        learning_rates=[1e-3], batch_sizes=[16], dropouts=[0.1], seeds=[42, 43], max_steps=3, offline=True,
    )  # fmt: skip


def test_identities_are_unchanged_and_every_trial_is_done(grid):
    jobs = grid.jobs(require_data=True)
    found = {name: [job.configuration_hash for job in jobs if job.trial.task == name] for name in HASHES}
    assert found == HASHES
    for job in jobs:
        written = json.loads(job.paths.result.read_text(encoding="utf-8"))
        assert job.state is State.DONE and job.score == tuple(written["best_score"])
        assert job.configuration == written["configuration"]
        assert job.key == f"model/{job.trial.task}/{job.paths.result.stem}"


def test_the_plan_is_read_as_it_was_written(grid):
    (directory,) = grid.directories.values()
    plan, jobs = read_grid(directory.path), grid.jobs(require_data=True)
    assert [(one.task, one.name, one.configuration_hash) for one in plan.trials] == [
        (job.trial.task, job.trial.name, job.configuration_hash) for job in jobs
    ]
    assert plan.protocols == {job.trial.task: protocol_hash(job.configuration) for job in jobs}
    assert [job.spent for job in jobs] == [one.spent for one in plan.trials]


def test_tables_and_errors_are_made_of_them(grid):
    (directory,) = grid.directories.values()
    run = Run(directory.path)
    assert [len(run.trials[name]) for name in HASHES] == [2] * 6
    assert {*run.evidence} == {*HASHES} and not run.left_out


def counted_reads(directory, monkeypatch) -> Counter:
    """How often each file of a run directory is read from now on."""
    read = Counter()

    def counting(content_of):
        def counted(path, *arguments):
            if Path(path).is_relative_to(directory.path):
                read[str(Path(path).relative_to(directory.path))] += 1
            return content_of(path, *arguments)

        return counted

    monkeypatch.setattr(json_files, "content_of", counting(json_files.content_of))
    monkeypatch.setattr(dev_predictions, "_unpacked", counting(dev_predictions._unpacked))
    return read


def test_a_start_reads_every_result_once_and_again_once_it_is_another(grid, monkeypatch):
    (directory,) = grid.directories.values()
    read = counted_reads(directory, monkeypatch)
    for _ in range(2):  # as before the warm-up and behind it
        jobs = grid.jobs(require_data=True)
        assert writing_over(jobs) is None and all(grid.on_disk(job) is job.result for job in jobs)
    names = [f"{name}/0.001_16_0.1{seed}.json" for name in HASHES for seed in ("", "_seed43")]
    assert {name: read[name] for name in names} == dict.fromkeys(names, 1)
    path = directory.path / names[0]
    path.write_text(path.read_text().replace("51ded015f1d81e58", "0" * 16))
    jobs = grid.jobs()
    assert [job.state is State.DONE for job in jobs] == [False] + [True] * 11
    assert f"1 finished trial of other settings (such as {jobs[0].key})" in writing_over(jobs)


def test_a_report_reads_every_file_once(grid, monkeypatch):
    (directory,) = grid.directories.values()
    read = counted_reads(directory, monkeypatch)
    report(Run(directory.path))
    names = [f"{name}/0.001_16_0.1{seed}{suffix}" for name in HASHES for seed in ("", "_seed43")
             for suffix in (".json", ".predictions")]  # fmt: skip
    assert {name: read[name] for name in ["grid.json", *names]} == dict.fromkeys(["grid.json", *names], 1)


@pytest.mark.parametrize("task", HASHES)
def test_their_predictions_are_read_and_compared(task):
    paths = [EARLIER / "model" / task / f"0.001_16_0.1{seed}.predictions" for seed in ("", "_seed43")]
    compared = compare(*(contender(str(path), "runs") for path in paths))
    assert compared.tasks[0].rows == len(DevPredictions.read(paths[0]).scores)


@pytest.fixture
def by_samples(runs, tmp_path):
    """The plan of a grid whose results know the model's large weights by samples, as results once did."""
    (tmp_path / "model" / "model.safetensors").write_bytes(bytes(5 << 20))
    sampled = Model.of(tmp_path / "model").sampled_identity
    for path in runs.glob("*/*.json"):
        result = Result.read_finished(path)
        predictions = dev_predictions.of_result(result, path)
        result.know_as(result.configuration | {"model": sampled})
        predictions.write(dev_predictions.beside(path), result.configuration, result.best_step)
        result.write(path)
    return lambda: PlannedGrid.of(completed(flags_of(tmp_path)))


def test_finished_trials_of_unchanged_weights_count_on(by_samples):
    grid = by_samples()
    assert {job.state for job in grid.jobs()} == {State.DONE}
    (directory,) = grid.directories.values()
    directory.adopt_results()
    again = by_samples()
    for job in again.jobs():
        result = Result.read_finished(job.paths.result, job.configuration_hash)
        assert result.configuration["model"] == job.trial.model.identity != job.trial.model.sampled_identity
        assert dev_predictions.of_result(result, job.paths.result) is not None
        assert not job.writes_over


def test_trials_of_weights_that_changed_between_the_samples_do_not(by_samples, tmp_path):
    (model,) = by_samples().directories
    sampled, whole = model.sampled_identity, model.identity
    with open(tmp_path / "model" / "model.safetensors", "r+b") as stream:
        stream.seek(70_000)
        stream.write(b"\1")
    grid = by_samples()
    (changed,) = grid.directories
    assert changed.sampled_identity == sampled and changed.identity != whole
    grid.directories[changed].adopt_results()
    assert {job.state for job in grid.jobs()} == {State.WAITING}
