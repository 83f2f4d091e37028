"""The one reader of JSON: what it refuses, how it names it, and what it leaves out."""

import ast
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluebench.foundation import atomic, json_files
from cluebench.foundation.errors import BadFile, UsageError
from cluebench.foundation.json_files import Count, NotJson, Score, parse
from cluebench.foundation.notices import notice_once
from tests.sources import ROOT, sources


@dataclass
class Point:
    step: Count
    score: Score


@dataclass
class Curve:
    name: str
    points: list[Point] = field(default_factory=list)


@pytest.fixture(autouse=True)
def no_earlier_notices():
    notice_once.cache_clear()


REFUSED = {
    b"\xff": "is not UTF-8 text (byte 1)",
    b'{"a": ': "is broken JSON: Expecting value at column 7",
    b"Infinity": "holds Infinity, which is no finite number",
    b"[-Infinity]": "holds -Infinity as [0], which is no finite number",
    b'{"a": {"b": [1, NaN]}}': "holds NaN as a.b[1], which is no finite number",
    b'[{"loss": 0.5}, {"loss": 1e999}]': "holds 1e999 as [1].loss, which is no finite number",
    b'{"id": 9223372036854775808}': "holds 9223372036854775808 as id, which is beyond 64 bits",
    b'{"id": -1' + b"0" * 5000 + b"}": f"holds -1{'0' * 28}… as id, which is beyond 64 bits",
    b'{"a": NaN, "b": [1': "is broken JSON: Expecting ',' delimiter at column 19",
    b'{"a": {"b": 1, "b": 2}}': 'has the key "b" twice in one object, with different values',
    b"[" * 100_000: "is broken JSON: nested too deep",
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000: "is broken JSON: nested too deep",
    b'{"a": "\\ud83d"}': "holds half a character",
}


@pytest.mark.parametrize("content", REFUSED, ids=lambda content: content[:12])
def test_what_json_is_not(content):
    with pytest.raises(NotJson) as refused:
        parse(content)
    assert REFUSED[content] in str(refused.value) and "\n" not in str(refused.value)


def test_what_is_sound_json():
    assert parse(b'{"a": 1, "a": 1, "b": [1.5e3, "\\ud83d\\ude00"]}') == {"a": 1, "b": [1500.0, "😀"]}
    assert parse(b"[" * 64 + b"]" * 64)
    assert parse(b"[9223372036854775807, -9223372036854775808]") == [2**63 - 1, -(2**63)]
    no_limit = parse(b'{"model_max_length": 1000000000000000019884624838656}')  # Transformers' word for it
    assert no_limit == {"model_max_length": int(1e30)}
    with pytest.raises(NotJson) as refused:
        parse(b"[1,\n2,\n x]")
    assert refused.value.line == 3


def written(tmp_path, value):
    path = tmp_path / "curve.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_files_become_what_they_are_declared_to_be(tmp_path):
    point = {"step": 1, "score": [50, 60.5], "of a later version": True}
    read = json_files.read(written(tmp_path, {"name": "c", "points": [point], "more": 1}), Curve)
    assert read == Curve("c", [Point(1, (50.0, 60.5))])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "curve.json: Expected object, got array"),
        ({}, "curve.json: Object missing required field name"),
        ({"name": 1}, "curve.json: name: Expected str, got int"),
        ({"name": "c", "points": [{"step": "1", "score": [1]}]}, "curve.json: points[0].step: Expected int, got str"),
        (
            {"name": "c", "points": [{"step": 1, "score": [101]}]},
            "curve.json: points[0].score[0]: Expected float <= 100.0",
        ),
        ({"name": "c", "points": [{"step": True, "score": [1]}]}, "points[0].step: Expected int, got bool"),
        ('{"name":\n"c"', "curve.json, line 2: is broken JSON"),
        ('{"points": [{"step": NaN}]}', "curve.json: holds NaN as points[0].step, which is no finite number"),
    ],
)
def test_a_bad_file_is_named_with_its_key(tmp_path, value, reason):
    with pytest.raises(BadFile) as refused:
        json_files.read(written(tmp_path, value), Curve)
    assert reason in str(refused.value)


def test_a_bad_entry_of_a_list_is_left_out_with_a_line(tmp_path, capsys):
    good, bad = {"step": 1, "score": [50]}, {"step": None, "score": [50]}
    path = written(tmp_path, {"name": "c", "points": [good, bad, good, {}]})
    assert json_files.read(path, Curve, ["points"]).points == [Point(1, (50.0,))] * 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"warning: {path}: points[1].step: Expected int, got null; this entry is left out"
    assert "points[2]" in second
    written(tmp_path, {"name": "c", "points": [bad] * 10_000})
    with pytest.raises(BadFile, match="100 entries are bad"):
        json_files.read(path, Curve, ["points"])


def test_a_bad_file_is_reported_once_where_nothing_depends_on_it(tmp_path, capsys):
    path = written(tmp_path, "{")
    assert json_files.read_if_sound(tmp_path / "none.json", Curve) is None
    for _ in range(3):
        assert json_files.read_if_sound(path, Curve, otherwise="it counts for nothing") is None
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {path}, line 1: is broken JSON") and line.endswith("; it counts for nothing")


def test_only_ordinary_files_of_a_sane_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device", "."):
        with pytest.raises(BadFile, match="is no ordinary file"):
            json_files.content_of(tmp_path / name)
    with open(tmp_path / "large", "wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(BadFile, match="where 67,108,864 are more than enough"):
        json_files.content_of(tmp_path / "large")


# Pages, places -------------------------------------------------------------------------------------------------------


def test_pages_are_written_by_templates_alone():
    """No string of a program holds a tag, and no template takes what it is given for HTML but the charts' library."""
    wrong = [
        f"{place}, line {node.lineno}: a tag outside a template"
        for place, tree in sources().items()
        for node in ast.walk(tree)
        if place.startswith("report/") and isinstance(node, ast.Constant) and "</" in str(node.value)
    ]
    for template in (ROOT / "cluebench/report/templates").iterdir():
        text = template.read_text(encoding="utf-8").replace("charts_library()|safe", "")
        wrong += [
            f"{template.name}: {word}"
            for word in ("safe", "autoescape", "Markup")
            if f"|{word}" in text or f"% {word}" in text
        ]
    assert not wrong, "\n".join(wrong)


def test_json_has_one_reader():
    """json.loads and json.load stand where nothing is read back from a file."""
    allowed = {
        "foundation/json_files",
        "demo/synthetic",
        "diagnosis/probes",
        "scheduler/processes/launch",
    }  # a file of the package; what a process has printed; an argument
    wrong = [
        place
        for place, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.loads", "json.load") and place not in allowed
    ]
    assert [place for place in wrong if place != "submission/checks"] == []  # it says all that is wrong, not the first


def test_a_device_and_a_pipe_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("pipe", "null"):
        with pytest.raises(UsageError, match="is a device or a pipe"):
            atomic.write_text(tmp_path / name, "text")
    assert sorted(os.listdir(tmp_path)) == ["null", "pipe"] and not (tmp_path / "pipe").is_file()


def test_what_is_declared_is_left_alone_when_a_process_ends():
    """The collector took declarations apart then, and msgspec with them: SIGSEGV, in one process of five."""
    # What is registered first is done last.
    program = "import atexit, gc\natexit.register(lambda: print(gc.get_freeze_count()))\nimport cluebench.foundation.json_files"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0 and int(ended.stdout) > 1000


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
    max_leaves=20,
)


@given(
    JSON_VALUES, st.booleans(), st.tuples(st.integers(0), st.integers(0, 3)), st.sampled_from([b"", b'"a":1,', b":"])
)
def test_both_readers_find_the_same_value_or_the_same_fault(value, ascii, cut, more):
    content = json.dumps(value, ensure_ascii=ascii).encode(errors="surrogatepass")
    place = cut[0] % len(content)
    content = content[:place] + more + content[place + cut[1] :]
    found = []
    for read in (json_files.parse, json_files._parsed_with_care):
        try:
            found.append(repr(read(content)))
        except json_files.NotJson as error:
            found.append(str(error))
    assert found[0] == found[1]
