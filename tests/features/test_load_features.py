import dataclasses
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import cluebench
from cluebench import features as features_module
from cluebench.benchmark.tasks import TASKS
from cluebench.data.rows import load_rows
from cluebench.data.source import DataSource
from cluebench.demo.synthetic import Sizes, write_synthetic
from cluebench.diagnosis import warmup
from cluebench.features import FeatureCache, FeatureRequest, TextEncoder, cache, load_features
from cluebench.foundation.errors import UsageError
from tests.features.standin import StandIn

LENGTH = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A few rows of every task in the official formats."""
    folder = tmp_path_factory.mktemp("data")
    write_synthetic(folder, TASKS, {name: Sizes(train=12, dev=8, test=5) for name in TASKS})
    return folder


@pytest.fixture
def source(folder):
    return DataSource(folder)


def splits(task):
    return ["train", "dev", *(test.split for test in task.test_sets)]


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_split_of_every_task(task, source, encoder, tmp_path):
    for split in splits(task):
        rows = load_rows(source, task, split)
        features = load_features(FeatureRequest(task, split, source, encoder, LENGTH), FeatureCache(tmp_path))
        assert len(features) >= len(rows) > 0
        assert features.lengths.shape == (len(features),)
        assert 0 < features.lengths.max() <= LENGTH
        batch = features.batch(np.arange(len(features))[::-1])
        assert batch["input_ids"].shape == batch["token_type_ids"].shape
        assert batch["input_ids"].shape[0] == len(features) and batch["input_ids"].shape[-1] == features.lengths.max()
        assert (batch["input_ids"] != encoder.pad_id).sum(-1).max() == features.lengths.max()
        labels = {"labels", "start_positions", "end_positions"} & set(batch)
        assert bool(labels) == (split in ("train", "dev"))


@pytest.mark.parametrize("form", ["parquet", "saved", "lines"])
def test_model_inputs_of_a_copy_are_those_of_the_official_files(form, encoder, tmp_path):
    """Batch by batch, of all tasks and splits, and with the same rows in one group."""
    copies = Path(__file__).resolve().parent.parent / "data" / "copies"
    for name in ("official", "datasets_5.2.0"):
        zipfile.ZipFile(copies / f"{name}.zip").extractall(tmp_path / name)
    sources = DataSource(tmp_path / "official"), DataSource(tmp_path / "datasets_5.2.0" / form)
    for task in TASKS.values():
        for split in ("train", "dev", "test1.1"):
            made = [load_features(FeatureRequest(task, split, source, encoder, LENGTH), None) for source in sources]
            one, other = (features.batch(np.arange(len(features))) for features in made)
            assert one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one), task.name
            if task.is_classification and split == "dev":
                assert np.array_equal(made[0].groups, made[1].groups) and len(made[0].groups) == len(made[0])


def test_rows_are_read_once(source, encoder, tmp_path, monkeypatch):
    task = TASKS["ocnli"]
    cold = load_features(FeatureRequest(task, "dev", source, encoder, LENGTH), FeatureCache(tmp_path))

    def no_reading(*arguments):
        raise AssertionError("rows were read although the cache has their features")

    monkeypatch.setattr(features_module, "load_rows", no_reading)
    warm = load_features(FeatureRequest(task, "dev", source, encoder, LENGTH), FeatureCache(tmp_path))
    assert warm.batch(range(8))["input_ids"].tolist() == cold.batch(range(8))["input_ids"].tolist()
    with pytest.raises(AssertionError):
        load_features(FeatureRequest(task, "dev", source, encoder, LENGTH), FeatureCache(tmp_path), overwrite=True)
    with pytest.raises(AssertionError):
        load_features(FeatureRequest(task, "dev", source, encoder, LENGTH), None)


def test_the_key_holds_whatever_decides_the_features(source, encoder, golden_tokens, folder, tmp_path, monkeypatch):
    task = TASKS["cmrc2018"]

    def key(task=task, split="dev", source=source, encoder=encoder, **settings):
        return str(FeatureRequest(task, split, source, encoder, **{"max_seq_length": LENGTH, **settings}).key)

    other_data = tmp_path / "data"
    write_synthetic(other_data, ["cmrc2018"], {"cmrc2018": Sizes(12, 8, 5)}, seed=1)
    keys = [
        key(),
        key(split="train"),
        key(task=TASKS["c3"]),
        key(source=DataSource(other_data)),
        key(encoder=TextEncoder(StandIn(golden_tokens, do_lower_case=False))),
        key(max_seq_length=LENGTH + 1),
        key(limit=3),
        key(doc_stride=64),
        key(max_query_length=10),
    ]
    monkeypatch.setattr(features_module, "_code_version", lambda: "newer")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    turned = dataclasses.replace(TASKS["ocnli"], labels=TASKS["ocnli"].labels[::-1])
    assert key(TASKS["ocnli"]) != key(turned)
    assert key() == key(doc_stride=task.doc_stride)  # a setting that is the task's own
    assert key(TASKS["tnews"]) == key(TASKS["tnews"], doc_stride=7, max_query_length=9)  # of another kind of task


def test_no_entry_of_other_code_is_used(tmp_path, monkeypatch):
    """Whatever lies between files and features, and nothing else, makes another version."""
    package = shutil.copytree(Path(cluebench.__file__).parent, tmp_path / "cluebench")
    monkeypatch.setattr(cluebench, "__file__", str(package / "__init__.py"))
    between = {*(package / "features").glob("*.py"), package / "data" / "rows.py"} - {
        package / "features" / "metrics.py"
    }
    version = features_module._code_version.__wrapped__
    versions = {version()}
    for number, changed in enumerate(sorted(between), start=2):
        changed.write_text(changed.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        versions.add(version())
        assert len(versions) == number, changed
    (package / "features" / "metrics.py").write_text("")
    assert version() in versions and len(between) > 8


def test_limit_takes_the_first_rows(source, encoder, tmp_path):
    task, cache = TASKS["tnews"], FeatureCache(tmp_path)
    few = load_features(FeatureRequest(task, "train", source, encoder, LENGTH, limit=3), cache)
    every = load_features(FeatureRequest(task, "train", source, encoder, LENGTH), cache)
    assert (len(few), len(every)) == (3, 12)
    assert few.batch(range(3))["input_ids"].tolist() == every.batch(range(3))["input_ids"].tolist()


def test_doc_stride_and_max_query_length_take_effect(source, encoder):
    task = TASKS["cmrc2018"]
    lengths = [
        load_features(FeatureRequest(task, "dev", source, encoder, 36, **settings), None).lengths.tolist()
        for settings in ({}, {"doc_stride": 8}, {"max_query_length": 2})
    ]
    assert len(lengths[1]) > len(lengths[0]) >= len(lengths[2])
    assert len({str(one) for one in lengths}) == 3


#: Special tokens and one token of every text; of CHID's window, two.
SHORTEST = {"single": 4, "pair": 5, "choice": 7, "idiom": 10, "span": 5}


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_a_length_without_room_is_refused(task, source, encoder):
    shortest = SHORTEST[task.kind]
    with pytest.raises(UsageError, match=f"--max_seq_length {shortest - 1}: {task.title} needs at least {shortest}"):
        load_features(FeatureRequest(task, "dev", source, encoder, shortest - 1), None)
    if task.doc_stride is None:  # what a question leaves room for depends on the question
        features = load_features(FeatureRequest(task, "dev", source, encoder, shortest), None)
        assert features.batch(range(len(features)))["input_ids"].shape[-1] <= shortest


def test_a_warm_cache_is_checked_once(source, encoder, tmp_path, monkeypatch, capsys):
    """Every split is read and compared with its checksum, and no more than once."""
    requests = warmup.requests_of([TASKS["tnews"], TASKS["chid"]], source, encoder)

    def tokenize():
        warmup.tokenize("m", requests, FeatureCache(tmp_path))

    tokenize()
    assert ": 8 splits tokenized, 0 found" in capsys.readouterr().out
    checked = []
    monkeypatch.setattr(cache, "_load", lambda path, key, load=cache._load: checked.append(path) or load(path, key))
    tokenize()
    assert ": 0 splits tokenized, 8 found" in capsys.readouterr().out
    assert sorted(checked) == sorted(tmp_path.glob("[!.]*"))
