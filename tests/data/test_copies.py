"""Copies as three releases of `datasets` write them: the rows of the official files, or one line that says what is wrong."""

import hashlib
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from cluebench.benchmark.tasks import TASKS
from cluebench.data import copies
from cluebench.data import source as source_module
from cluebench.data.official import official_files
from cluebench.data.rows import load_rows
from cluebench.data.source import DataSource, open_source
from cluebench.foundation.errors import DataError

HERE = Path(__file__).resolve().parent / "copies"
WRITERS = sorted(path.stem for path in HERE.glob("datasets_*.zip"))
SPLITS = ("train", "dev", "test1.1")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copies")
    for path in HERE.glob("*.zip"):
        zipfile.ZipFile(path).extractall(folder / path.stem)
    return folder


def rows_in(folder, name, split):
    return load_rows(DataSource(folder), TASKS[name], split)


def without_lost_ids(task, split, rows):
    """Ids of train and dev of CLUEWSC2020 are in no copy."""
    return [replace(row, id=None) for row in rows] if task.marked_spans and split != "test1.1" else rows


@pytest.mark.parametrize("form", ["parquet", "saved", "lines"])
@pytest.mark.parametrize("writer", WRITERS)
def test_rows_of_a_copy_are_the_official_rows(unpacked, writer, form, capsys):
    assert len(WRITERS) == 3
    official, copy = DataSource(unpacked / "official"), DataSource(unpacked / writer / form)
    for task in TASKS.values():
        for split in SPLITS:
            expected = without_lost_ids(task, split, load_rows(official, task, split))
            assert load_rows(copy, task, split) == expected, (task.name, split)
        assert not copy.has(task, "labels.json") and not any(copy.has(task, test.file) for test in task.test_sets[1:])
    assert "other rows than the official file" in capsys.readouterr().err


def test_of_official_rows_a_copy_is_official(unpacked, monkeypatch, capsys):
    """Its fingerprint is exactly the one of the official files, so trials are the same."""
    official = DataSource(unpacked / "official")
    count_as_official(monkeypatch, official, *((task, file) for task in TASKS.values() for file in task.files))
    copy = DataSource(unpacked / WRITERS[0] / "parquet")
    for name in ("afqmc", "tnews", "iflytek", "ocnli", "cmnli", "cluewsc2020", "csl", "cmrc2018"):
        assert copy.fingerprint(TASKS[name]) == official.fingerprint(TASKS[name])
        assert all(copy.is_official(TASKS[name], file) for file in TASKS[name].train_files)
    assert capsys.readouterr().err == ""


def count_as_official(monkeypatch, source, *files):
    """From now on the (task, file) of this source are the official files."""
    known = dict(official_files())
    for task, file in files:
        if (task.name, file) in known and file != task.label_file:
            rows = None if file in task.answer_files.values() else source.row_hash(task, file)
            md5 = hashlib.md5(source._require(task, file).content()).hexdigest()
            known[task.name, file] = replace(known[task.name, file], md5=md5, row_hash=rows, rows=None)
    monkeypatch.setattr("cluebench.data.official.official_files", lambda: known)
    monkeypatch.setattr(source_module, "_md5_sums", {})


def test_a_copy_is_read_once_for_its_hash(unpacked, tmp_path, monkeypatch):
    """Later processes remember it until the copy changes."""
    shutil.copytree(unpacked / WRITERS[0] / "parquet" / "tnews", tmp_path / "tnews")
    task = TASKS["tnews"]
    first, read = DataSource(tmp_path).fingerprint(task), []
    plain = copies.Copy.content
    monkeypatch.setattr(copies.Copy, "content", lambda copy: read.append(copy.file) or plain(copy))
    monkeypatch.setattr(source_module, "_md5_sums", {})  # as in another process
    assert DataSource(tmp_path).fingerprint(task) == first and read == []
    path = tmp_path / "tnews" / "train-00000-of-00001.parquet"
    table = parquet.read_table(path)
    parquet.write_table(table.slice(1), path)
    assert DataSource(tmp_path).fingerprint(task) != first and set(read) == {"train.json"}


def test_where_copies_lie(unpacked, tmp_path):
    """A task's own folder, the folder above, names in any case, and PaddleNLP's own names of official files."""
    rows = rows_in(unpacked / "official", "tnews", "dev")
    parquet_folder = unpacked / WRITERS[0] / "parquet"
    for place in ("a/TNEWS", "b/CLUEdataset/tnews", "c/hub/clue/tnews/data"):
        shutil.copytree(parquet_folder / "tnews", tmp_path / place)
    for directory in ("a", "a/TNEWS", "b", "b/CLUEdataset", "c", "c/hub/clue/tnews"):
        assert rows_in(tmp_path / directory, "tnews", "dev") == rows
    shutil.copytree(unpacked / "official" / "tnews_public", tmp_path / "d" / "CLUEdataset" / "tnews")
    shutil.copytree(unpacked / "official" / "c3_public", tmp_path / "e" / "C3" / "train")
    for path in (tmp_path / "e" / "C3" / "train").iterdir():
        path.rename(path.with_name(f"c3-{path.name}"))
    assert rows_in(tmp_path / "d", "tnews", "dev") == rows
    assert rows_in(tmp_path / "e", "c3", "dev") == rows_in(unpacked / "official", "c3", "dev")


def test_caches_of_datasets_and_converted_branches(unpacked, tmp_path):
    """``tnews/1.0.0/<hash>/clue-train.arrow``, and ``tnews/train/0000.parquet`` and on."""
    rows = rows_in(unpacked / "official", "tnews", "train")
    saved = unpacked / WRITERS[0] / "saved" / "tnews" / "train"
    cache = tmp_path / "cache" / "clue" / "tnews" / "1.0.0" / "0123abcd"
    shutil.copytree(saved, cache)
    (cache / "data-00000-of-00001.arrow").rename(cache / "clue-train.arrow")
    assert rows_in(tmp_path / "cache", "tnews", "train") == rows
    table = parquet.read_table(unpacked / WRITERS[0] / "parquet" / "tnews" / "train-00000-of-00001.parquet")
    branch = tmp_path / "branch" / "tnews" / "train"
    branch.mkdir(parents=True)
    for number in range(3):
        parquet.write_table(table.slice(number * 8, 8), branch / f"000{number}.parquet")
    assert rows_in(tmp_path / "branch", "tnews", "train") == rows
    parquet.write_table(table, branch / "all.parquet")
    with pytest.raises(DataError, match="0000.parquet and 0001.parquet are of one split: leave only the right one"):
        rows_in(tmp_path / "branch", "tnews", "train")


def test_the_old_download_cache(unpacked, tmp_path, monkeypatch):
    """``downloads/extracted/<hash>/`` of one task each; which one, the md5 of its dev file says."""
    official = DataSource(unpacked / "official")
    for number, name in enumerate(("tnews", "csl")):
        folder = tmp_path / "downloads" / "extracted" / (f"{number}" * 64)
        shutil.copytree(unpacked / "official" / f"{name}_public", folder)
    count_as_official(monkeypatch, official, *((TASKS[name], "dev.json") for name in ("tnews", "csl")))
    for directory in (tmp_path, tmp_path / "downloads", tmp_path / "downloads" / "extracted"):
        source = DataSource(directory)
        assert load_rows(source, TASKS["csl"], "dev") == load_rows(official, TASKS["csl"], "dev")
        assert not source.has(TASKS["afqmc"], "dev.json")


def test_paddlenlps_cache_is_found_without_data_dir(unpacked, tmp_path, monkeypatch):
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path))
    shutil.copytree(unpacked / "official" / "afqmc_public", tmp_path / "datasets" / "Clue" / "afqmc_public")
    rows = load_rows(open_source(None), TASKS["afqmc"], "train")
    assert rows == rows_in(unpacked / "official", "afqmc", "train")


@pytest.fixture
def tnews(tmp_path, unpacked):
    """A copy of TNEWS as Parquet, and a function that writes its train split again from a changed table."""
    folder = tmp_path / "tnews"
    shutil.copytree(unpacked / WRITERS[-1] / "parquet" / "tnews", folder)
    path = folder / "train-00000-of-00001.parquet"

    def change(edit):
        parquet.write_table(edit(parquet.read_table(path)), path)
        return DataSource(tmp_path)

    return change


def changed(table, column, values):
    return table.set_column(column, table.schema.names[column], pa.array(values, pa.string()))


def labels_of(table, labels):
    return table.set_column(table.schema.get_field_index("label"), "label", pa.array(labels))


def schema_of(table, schema):
    text = schema if isinstance(schema, str) else json.dumps(schema)
    return table.replace_schema_metadata({"huggingface": text} if schema else {})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda table: table.drop_columns(["sentence"]), "another schema: it has the columns label, idx, not sentence"),
        (lambda table: labels_of(table, [15] * len(table)), "row 1: label 15 is none of the 15 in its schema"),
        (lambda table: labels_of(table, [-1] * len(table)), "line 1: field 'label' is -1, not one of 100"),
        (lambda table: schema_of(table, None), "has integer labels, and nothing says what they mean"),
        (
            lambda table: schema_of(table, {"info": {"features": {"label": {"names": ["news_story"] * 15}}}}),
            "its label 'news_story' is none of the task's",
        ),
        (lambda table: schema_of(table, "{"), "its schema can't be read"),
        (lambda table: schema_of(table, {"info": [1]}), "its schema can't be read"),
        (lambda table: changed(table, 0, [None] * len(table)), "field 'sentence' is None, not a string"),
        (lambda table: changed(table, 2, ["a", None] * (len(table) // 2)), "of another schema"),
    ],
)
def test_what_is_wrong_with_a_copy(tnews, edit, message):
    with pytest.raises(DataError) as raised:
        load_rows(tnews(edit), TASKS["tnews"], "train")
    assert message in str(raised.value) and "train-00000-of-00001.parquet" in str(raised.value)


def test_labels_are_never_guessed(unpacked, tmp_path):
    """NLI's labels stand in another order in copies than in the task; lines without a schema are refused."""
    shutil.copytree(unpacked / WRITERS[0] / "lines" / "ocnli", tmp_path / "ocnli")
    assert rows_in(tmp_path, "ocnli", "train") == rows_in(unpacked / "official", "ocnli", "train")
    (tmp_path / "ocnli" / "dataset_info.json").unlink()
    with pytest.raises(DataError, match="integer labels, and nothing says what they mean"):
        rows_in(tmp_path, "ocnli", "train")
    assert rows_in(tmp_path, "ocnli", "test1.1")  # has no labels to mistake


def test_parts_and_broken_files(unpacked, tmp_path):
    folder = tmp_path / "c3"
    shutil.copytree(unpacked / WRITERS[0] / "parquet" / "c3", folder)
    whole = folder / "train-00000-of-00001.parquet"
    table = parquet.read_table(whole)
    for number, part in enumerate((table.slice(0, 10), table.slice(10))):
        parquet.write_table(part, folder / f"train-0000{number}-of-00002.parquet")
    whole.unlink()
    official = rows_in(unpacked / "official", "c3", "train")
    assert rows_in(tmp_path, "c3", "train") == official
    (folder / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(DataError, match="holds 1 parts such as train-00001-of-00002.parquet, not the 2 of one copy"):
        rows_in(tmp_path, "c3", "train")
    dev = folder / "validation-00000-of-00001.parquet"
    dev.write_bytes(dev.read_bytes()[:-100])
    with pytest.raises(DataError, match="validation-00000-of-00001.parquet can't be read"):
        rows_in(tmp_path, "c3", "dev")


def test_rows_stand_in_the_official_order(tnews, tmp_path):
    before = rows_in(tmp_path, "tnews", "train")
    assert load_rows(tnews(lambda table: table.take(list(range(len(table)))[::-1])), TASKS["tnews"], "train") == before


def test_what_a_copy_lacks_is_named(tmp_path, unpacked):
    source = DataSource(unpacked / WRITERS[0] / "parquet")
    assert source.lacks(TASKS["tnews"], "test1.0.json") and not source.lacks(TASKS["tnews"], "test.json")
    with pytest.raises(
        DataError, match="test1.0.json is not in this copy .*validation.*copies have no test sets of version 1.0"
    ):
        load_rows(source, TASKS["tnews"], "test1.0")
    (tmp_path / "tnews.csv").touch()
    with pytest.raises(DataError, match=r"train.json is missing: .* holds tnews.csv\)"):
        rows_in(tmp_path, "tnews", "train")


def test_the_same_rows_in_other_bytes_are_official(unpacked, tmp_path, monkeypatch, capsys):
    """Written with other spaces and an own key: the rows count. One other letter makes other rows."""
    official, task = DataSource(unpacked / "official"), TASKS["tnews"]
    count_as_official(monkeypatch, official, (task, "train.json"), (task, "dev.json"))
    folder = tmp_path / "tnews_public"
    folder.mkdir()
    for file in ("train.json", "dev.json"):
        rows = [json.loads(line) for line in (unpacked / "official" / "tnews_public" / file).open(encoding="utf-8")]
        (folder / file).write_text("\n".join(json.dumps({**row, "mine": 1}) for row in rows), encoding="utf-8")
    assert DataSource(tmp_path).fingerprint(task) == official.fingerprint(task)
    assert capsys.readouterr().err == ""
    rows[0]["sentence"] += "。"
    (folder / "dev.json").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert DataSource(tmp_path).fingerprint(task) != official.fingerprint(task)
    assert "is not the official file" in capsys.readouterr().err
