import gzip
import json

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.errors import DataError
from cluebench.records import dev_predictions
from cluebench.records.dev_predictions import DevPredictions, rows_fingerprint
from cluebench.records.result import DevPoint, Result

CONFIGURATION = {"task": "ocnli", "learning_rate": 3e-05, "data": "0123456789abcdef"}

#: Dev rows that the metric counts, by task, of the official files.
ROWS = dict(
    afqmc=4316, tnews=10000, iflytek=2599, cmnli=12241, ocnli=2950, cluewsc2020=304, csl=3000, cmrc2018=3219, chid=23011, c3=3816
)  # fmt: skip


def choices(predicted=(1, 0, 2, 1), gold=(1, 1, 2, 0), clusters=None):
    return DevPredictions.of_choices(range(len(gold)), np.array(predicted), np.array(gold), clusters)


def spans():
    answers = {"q2": "光荣\n和他们", "q1": ""}
    return DevPredictions.of_spans(["q1", "q2"], answers, [0, 1], [0.25, 1.0], np.array([0, 0]))


def changed(path, **columns):
    """The file with some of its columns replaced; None takes one away."""
    content = json.loads(gzip.decompress(path.read_bytes())) | columns
    kept = {name: value for name, value in content.items() if value is not None}
    path.write_bytes(gzip.compress(json.dumps(kept, separators=(",", ":")).encode()))


def test_choices_come_back_as_they_went(tmp_path):
    path = tmp_path / "3e-05_32_0.1.predictions"
    choices(clusters=np.array([0, 0, 1, 1])).write(path, CONFIGURATION, 300)
    found = DevPredictions.read(path)
    assert (found.task, found.step, found.configuration) == ("ocnli", 300, CONFIGURATION)
    assert found.predicted.tolist() == [1, 0, 2, 1] and found.gold.tolist() == [1, 1, 2, 0]
    assert found.scores.tolist() == [[1], [0], [1], [0]] and found.score == (50,)
    assert found.clusters.tolist() == [0, 0, 1, 1]
    assert found.rows == rows_fingerprint([0, 1, 2, 3]) != rows_fingerprint([0, 1, 3, 2])
    assert list(tmp_path.iterdir()) == [path]


def test_spans_keep_texts_and_both_scores(tmp_path):
    spans().write(tmp_path / "x.predictions", {"task": "cmrc2018"}, 8)
    found = DevPredictions.read(tmp_path / "x.predictions")
    assert found.predicted.tolist() == ["", "光荣\n和他们"] and found.gold is None
    assert found.score == (50, 62.5)


@pytest.mark.parametrize("predictions", [choices(clusters=np.array([0, 0, 1, 1])), spans()], ids=["choices", "spans"])
def test_a_file_with_blanks_and_other_keys_reads_the_same(tmp_path, predictions):
    """Columns of a file as it is written are read as texts, other files as values."""
    path = tmp_path / "x.predictions"
    predictions.write(path, CONFIGURATION, 8)
    found, content = DevPredictions.read(path), json.loads(gzip.decompress(path.read_bytes()))
    path.write_bytes(gzip.compress(json.dumps(content | {"later": [1]}, indent=1).encode()))
    again = DevPredictions.read(path)
    for name, column in vars(found).items():
        other = getattr(again, name)
        assert type(column) is type(other) and np.array_equal(column, other), name
        assert getattr(column, "dtype", None) == getattr(other, "dtype", None), name


def test_the_same_predictions_are_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        choices().write(tmp_path / name, CONFIGURATION, 300)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_whole_grid_takes_less_than_two_megabytes(tmp_path):
    generator, total = np.random.default_rng(0), 0
    text = "人们光荣和他们一起在一九八四年的北京举行了第一次会议" * 40
    for task in TASKS.values():
        rows, shared = ROWS[task.name], None if task.is_classification else np.arange(ROWS[task.name]) // 4
        if task.metric == "em_f1":
            ids = [f"DEV_{number}_QUERY_{number % 4}" for number in range(rows)]
            cut = generator.integers(0, 1000, size=rows)
            answers = {name: text[start : start + 2 + start % 17] for name, start in zip(ids, cut)}
            exact = generator.random(rows) < 0.6
            found = DevPredictions.of_spans(ids, answers, exact, np.maximum(exact, generator.random(rows)), shared)
        else:
            gold = generator.integers(0, len(task.labels) or task.num_choices, size=rows)
            predicted = np.where(generator.random(rows) < 0.7, gold, generator.permutation(gold))
            found = DevPredictions.of_choices(range(rows), predicted, gold, shared)
        found.write(tmp_path / task.name, {"task": task.name}, 1)
        total += (tmp_path / task.name).stat().st_size * sum(1 for _ in task.grid.points())
    assert total < 2_000_000


@pytest.mark.parametrize(
    "columns, reason",
    [
        (dict(f1=[0.5, 1.5]), r"f1\[1\]: Expected float <= 1"),
        (dict(f1=[0.5, float("nan")]), r"holds NaN as f1\[1\], which is no finite number"),
        (dict(exact=None, f1=[0.5, 0.5]), "'exact' is not a list of 2 numbers"),
        (dict(format=2), "format: Invalid enum value 2"),
        (dict(configuration={}), "'configuration' is not a trial's"),
        (dict(configuration=CONFIGURATION | {"amp": "\x1b[2J"}), "configuration.*Expected str matching"),
        (dict(configuration=CONFIGURATION | {"\x1b[2J": 1}), "Expected str matching .* at key in .*configuration"),
        (dict(step="300"), "step: Expected int, got str"),
        (dict(rows=None), "required field rows"),
        (dict(predicted=[]), "'predicted' lists nothing"),
        (dict(predicted=[1, 0]), "'gold' is not a list of 2 numbers"),
        (dict(predicted=[1, 0, 2, 40000]), r"predicted\[\d\]: Expected int <= 32767"),
        (dict(gold=[1, 1, 2, -1]), r"gold\[\d\]: Expected int >= 0"),
        (dict(gold=[1, 1, 2, 0.5]), r"gold\[\d\]: Expected int, got float"),
        (dict(gold=[1, 1, 2, "0"]), r"gold\[\d\]: Expected int, got str"),
        (dict(predicted=[1, 0, 2, 3]), "OCNLI has 3 answers to choose from"),
        (dict(gold=[1, 1, 3, 0]), "OCNLI has 3 answers to choose from"),
        (dict(gold=None), r"predicted\[0\]: Expected str, got int"),
        (dict(clusters=[0, 1, 2, 4]), "'clusters' holds a number outside 0 to 3"),
    ],
)  # fmt: skip
def test_a_column_that_is_wrong_is_named(tmp_path, columns, reason):
    path, made = tmp_path / "x.predictions", spans() if "f1" in columns else choices()
    made.write(path, CONFIGURATION, 300)
    changed(path, **columns)
    with pytest.raises(DataError, match=reason) as raised:
        DevPredictions.read(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_what_is_no_such_file_is_one_line(tmp_path):
    path = tmp_path / "x.predictions"
    with pytest.raises(DataError, match="there is no such file"):
        DevPredictions.read(path)
    choices().write(path, CONFIGURATION, 300)
    whole = path.read_bytes()
    packed_list, packed_deep = gzip.compress(b"[1]"), gzip.compress(b"[" * 100_000)
    damaged = whole[:-20], whole[:-4], whole + b"x", whole[:20] + b"x" + whole[21:]
    for content in (b"", b"{}", *damaged, packed_list, packed_deep):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is not a whole file of dev predictions"):
            DevPredictions.read(path)


def test_a_file_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dev_predictions, "_MOST_BYTES", 1 << 20)
    (tmp_path / "x").write_bytes(gzip.compress(b" " * (1 << 24)))
    with pytest.raises(DataError, match="it holds more than 1 MiB"):
        DevPredictions.read(tmp_path / "x")


def test_predictions_count_only_for_the_result_they_were_made_with(tmp_path):
    path = tmp_path / "3e-05_32_0.1.json"
    result = Result("ocnli", "m", CONFIGURATION, "hash", status="done")
    result.add(DevPoint(300, 0, (50.0,)))
    assert dev_predictions.of_result(result, path) is None
    choices().write(dev_predictions.beside(path), CONFIGURATION, 300)
    assert dev_predictions.beside(path).name == "3e-05_32_0.1.predictions"
    assert dev_predictions.of_result(result, path).score == (50,)
    choices().write(dev_predictions.beside(path), CONFIGURATION, 200)
    assert dev_predictions.of_result(result, path) is None
    choices().write(dev_predictions.beside(path), CONFIGURATION | {"seed": 43}, 300)
    assert dev_predictions.of_result(result, path) is None
    choices(predicted=(1, 1, 2, 1)).write(dev_predictions.beside(path), CONFIGURATION, 300)
    assert dev_predictions.of_result(result, path) is None  # 75 %, where the result says 50
    dev_predictions.beside(path).write_bytes(b"broken")
    assert dev_predictions.of_result(result, path) is None
