"""The version has one place, and what the package needs is declared, with the least versions that were tested."""

import ast
import re
from importlib import metadata

import cluebench
from tests.conftest import ROOT
from tests.test_rooms import ROOMS

PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
DECLARED = re.findall(r'^    "([\w.-]+)([^"]*)",', PROJECT.split("dependencies = [")[1].split("\n]")[0], re.MULTILINE)
PINNED = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))

#: What is imported under another name than it is installed by; Paddle comes with the requirements files,
#: the others with PaddleNLP.
INSTALLED_AS = {"pynvml": "nvidia-ml-py", "sklearn": "scikit-learn"}
WITH_OTHERS = {"paddle", "visualdl", "onnx", "paddle2onnx"}
#: Of the extras, those for developers among them.
EXTRA = set(re.findall(r'"([\w.-]+)[^"]*"', PROJECT.split("[project.optional-dependencies]")[1].split("[tool.")[0]))


def test_the_version_has_one_place():
    assert 'dynamic = ["version"]' in PROJECT and 'version = { attr = "cluebench.__version__" }' in PROJECT
    assert not re.search(r'^version = "', PROJECT, re.MULTILINE)
    source = ast.parse((ROOT / "cluebench" / "__init__.py").read_text(encoding="utf-8"))
    found = [
        node.value.value for node in source.body if isinstance(node, ast.Assign) and node.targets[0].id == "__version__"
    ]
    assert found == [cluebench.__version__] and re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", cluebench.__version__)
    for path in (ROOT / "cluebench").rglob("*.py"):
        if path.parent.name != "cluebench":
            assert cluebench.__version__ not in path.read_text(encoding="utf-8"), path


def test_every_library_that_is_imported_is_declared_with_the_least_version_that_was_tested():
    names = [name for name, _ in DECLARED]
    imported = {INSTALLED_AS.get(one, one) for libraries in ROOMS.values() for one in libraries} - WITH_OTHERS
    assert imported <= {*names} | EXTRA, imported - {*names} - EXTRA
    for name, bounds in DECLARED:
        least = re.search(r"[>=]=([\w.]+)", bounds)
        assert least, name
        pinned = PINNED[name]
        assert numbers(least[1]) <= numbers(pinned), (name, least[1], pinned)
        assert numbers(metadata.version(name)) >= numbers(least[1]), name


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
