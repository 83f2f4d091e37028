import pytest

from cluebench.foundation import atomic


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "a" / "file"
    atomic.write_text(path, "old\n")
    with pytest.raises(RuntimeError):
        with atomic.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError
    assert path.read_text() == "old\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_directory_is_replaced_whole(tmp_path):
    for content in ("old", "new"):
        with atomic.replacing(tmp_path / "model") as temporary:
            temporary.mkdir()
            (temporary / content).touch()
    assert [entry.name for entry in (tmp_path / "model").iterdir()] == ["new"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
