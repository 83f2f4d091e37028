"""The rooms of the project: what lies where, and who may import what. CONTRIBUTING.md shows the same tables."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cluebench
from cluebench.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
PADDLE = {"paddle", "paddlenlp", "safetensors"}

#: Room → its modules ("data/" is a folder of cluebench), and the libraries beside numpy that it may import.
#: A room imports only from rooms above it. So whatever stands above models/ runs without Paddle.
ROOMS = {
    "ground": (
        "__init__ tasks published errors flags environment paddlenlp_import notices atomic json_files repository",
        {"msgspec", "tqdm"},
    ),
    "data": ("data/", {"filelock", "requests", "urllib3"}),
    "features": ("features/ metrics", {"filelock"}),
    "statistics": ("statistics/", {"scipy"}),
    "search": ("search/", set()),
    "records": (
        "model model_files run_flags identity runlog grid_file earlier_run command analysis dev_predictions scalars",
        {"visualdl"},
    ),
    "report": ("report/", {"jinja2", "plotly"}),
    "submission": ("submission/", set()),
    "bundle": ("bundle/", set()),
    "scheduler": ("scheduler/", {"psutil", "pynvml", "ray", "rich"}),
    "readiness": ("diagnosis/ warmup", {"psutil"}),
    "configure": ("configure", set()),
    "models": ("models/", PADDLE),
    "training": ("training/", PADDLE),
    "commands": ("classification/ mrc/ grid_search_tools/ demo", PADDLE),
}

#: Libraries that only these modules import.
ONLY = {
    "jinja2": {"report/page"},
    "msgspec": {"json_files"},
    "pynvml": {"scheduler/devices"},
    "ray": {"scheduler/ray_engine"},
    "requests": {"data/download"},
    "rich": {"scheduler/progress"},
    "scipy": {"statistics/paired"},
    "subprocess": {"repository", "scheduler/", "submission/", "diagnosis/"},
    "tqdm": {"notices"},
    "visualdl": {"scalars"},
}

#: Modules that open no file and know no path; of folders, those that are not named in FILES_IN.
WITHOUT_FILES = ("tasks", "metrics", "features/", "statistics/", "search/")
FILES_IN = {
    "features/__init__": "its own source is part of a cache entry's key",
    "features/cache": "it is the cache",
}
FILE_MODULES = {"glob", "io", "os", "pathlib", "shutil", "tempfile", "zipfile"}

#: Module → what it imports inside functions, and why that can't stand at its top.
_FLAGS_FIRST = "wrong flags are told before Paddle is imported, which takes seconds"
INSIDE = {
    "environment": ({"paddlenlp"}, "the one place that imports Paddle, once what Paddle reads is set"),
    "configure": ({"cluebench.training.run"}, _FLAGS_FIRST),
    "demo": ({"cluebench.models"}, _FLAGS_FIRST),
    "data/download": ({"requests", "urllib3"}, "slow to import and rarely wanted"),
    "metrics": ({"paddlenlp"}, "EM and F1 are PaddleNLP's own, as published, and Paddle runs by then"),
    "report/page": ({"jinja2"}, "slow to import, and most commands write no page"),
    "scalars": ({"visualdl"}, "slow to import and rarely wanted"),
    "scheduler/devices": ({"pynvml"}, "may be broken where there is no NVIDIA card"),
    "scheduler/launch": ({"ctypes"}, "starts with every trial, and needs it on Linux only"),
    "scheduler/search": ({"cluebench.scheduler.ray_engine"}, "Ray is an extra"),
    "scheduler/ray_engine": ({"ray"}, "Ray is an extra"),
    "classification/run_clue_classifier_trainer": ({"cluebench.training"}, _FLAGS_FIRST),
    "grid_search_tools/show_features": ({"cluebench.models"}, _FLAGS_FIRST),
    "grid_search_tools/warmup_dataset_and_model": ({"cluebench.models", "cluebench.training", "paddle"}, _FLAGS_FIRST),
}


@dataclass(frozen=True)
class Import:
    """One module that a file imports."""

    name: str  # with dots; of the package down to its modules
    inside: bool  # in a function

    @property
    def library(self) -> str:
        return self.name.split(".")[0]


@cache
def sources() -> dict[str, ast.Module]:
    """Every product file, by its place without ``cluebench/`` and ``.py``."""
    files = [*ROOT.glob("cluebench/**/*.py")]
    files += [
        path for folder in ("classification", "mrc", "grid_search_tools") for path in (ROOT / folder).glob("*.py")
    ]
    places = {str(path.relative_to(ROOT)).removeprefix("cluebench/").removesuffix(".py"): path for path in files}
    return {place: ast.parse(path.read_text(encoding="utf-8")) for place, path in sorted(places.items())}


@cache
def imports(place: str) -> tuple[Import, ...]:
    return tuple(_imports(sources()[place], inside=False))


def all_imports() -> Iterator[tuple[str, Import]]:
    return ((place, one) for place in sources() for one in imports(place))


def _imports(node: ast.AST, inside: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (Import(name, inside) for name in _names(child))
        yield from _imports(child, inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))


def _names(node: ast.ImportFrom) -> set[str]:
    """The module, or of a package's names those that are modules."""
    assert node.level == 0, "relative imports hide which room is meant"
    below = {f"{node.module}.{alias.name}" for alias in node.names}
    modules = {name for name in below if place_of(name) in sources()}
    return modules | ({node.module} if below - modules else set())


def place_of(name: str) -> str:
    """``cluebench.data.rows`` → ``data/rows``, ``cluebench.data`` → ``data/__init__``."""
    place = name.replace(".", "/").removeprefix("cluebench/")
    return f"{place}/__init__" if f"{place}/__init__" in sources() else place


def has_reason(place: str, one: Import) -> bool:
    """Whether an import inside a function is on the list, itself or what it is part of."""
    names, _ = INSIDE.get(place, (set(), ""))
    return one.inside and any(f"{one.name}.".startswith(f"{name}.") for name in names)


def room_of(place: str) -> str | None:
    rooms = [room for room, (modules, _) in ROOMS.items() if belongs(place, modules.split())]
    assert len(rooms) < 2, f"{place} is in {' and '.join(rooms)}"
    return rooms[0] if rooms else None


def belongs(place: str, modules: Iterable[str]) -> bool:
    return any(place.startswith(one) if one.endswith("/") else place == one for one in modules)


def test_every_module_has_a_room():
    wrong = [place for place in sources() if room_of(place) is None]
    assert not wrong, "\n".join(wrong)


def test_a_room_imports_only_from_rooms_above_it():
    order = list(ROOMS)
    wrong = []
    for place, one in all_imports():
        if one.library == "cluebench" and one.name != "cluebench" and not has_reason(place, one):
            room = room_of(place_of(one.name))
            if None not in (room, room_of(place)) and order.index(room) > order.index(room_of(place)):
                wrong.append(f"{place} imports {one.name}")
    assert not wrong, "\n".join(wrong)


def test_a_room_imports_only_its_libraries():
    free = sys.stdlib_module_names | {"cluebench", "numpy"}
    wrong = []
    for place, one in all_imports():
        _, libraries = ROOMS.get(room_of(place), ("", {one.library}))
        if one.library not in free | libraries and not has_reason(place, one):
            wrong.append(f"{place} imports {one.name}")
    assert not wrong, "\n".join(wrong)


def test_a_python_without_these_libraries_is_told_which_one_to_take():
    """What is imported at the top of modules above models/ is what `cluebench.NEEDED` lists."""
    above = list(ROOMS)[: list(ROOMS).index("models")]
    found = {one.library for place, one in all_imports() if not one.inside and room_of(place) in above}
    assert found - sys.stdlib_module_names - {"cluebench"} <= set(cluebench.NEEDED)


def test_some_libraries_have_one_place():
    wrong = [
        f"{place}: {one.name}" for place, one in all_imports() if not belongs(place, ONLY.get(one.library, {place}))
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_imported_inside_a_function_without_a_reason():
    inside = [(place, one) for place, one in all_imports() if one.inside]
    wrong = [f"{place} imports {one.name} in a function" for place, one in inside if not has_reason(place, one)]
    wrong += [f"{place} needs no reason any more" for place in set(INSIDE) - {place for place, _ in inside}]
    assert not wrong, "\n".join(wrong)


def test_no_command_is_imported():
    commands = {Path(place).name for place in sources() if room_of(place) == "commands"}
    wrong = [f"{place}: {one.name}" for place, one in all_imports() if one.name.removeprefix("cluebench.") in commands]
    assert not wrong, "\n".join(wrong)


def test_rooms_without_files_open_none():
    wrong = []
    for place, tree in sources().items():
        if belongs(place, WITHOUT_FILES) and place not in FILES_IN:
            calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
            wrong += [place for one in imports(place) if one.library in FILE_MODULES] + [
                place for _ in calls & {"open"}
            ]
    assert not wrong, "\n".join(wrong)


def test_search_paths_are_left_alone():
    wrong = []
    for place, tree in sources().items():
        for node in ast.walk(tree):
            path = isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"
            if path or (isinstance(node, ast.Constant) and node.value == "PYTHONPATH"):
                wrong.append(f"{place}, line {node.lineno}")
    assert not wrong, "\n".join(wrong)


def test_no_task_is_treated_by_its_name():
    """What differs between tasks is a field of their rows."""
    names = set(TASKS) | {task.title for task in TASKS.values()}
    wrong = []
    for place, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                values = {value.value for value in ast.walk(node) if isinstance(value, ast.Constant)}
                wrong += [f"{place}, line {node.lineno}" for name in names if name in values]
    assert not wrong, "\n".join(wrong)


def test_contributing_shows_these_rooms():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = {
        room: (set(re.findall("`(.+?)`", modules)), set(re.findall("`(.+?)`", libraries)))
        for room, modules, libraries in re.findall(r"^\| (\w+) \| (`.*?) \| (.*?) \| .* \|$", text, re.MULTILINE)
    }
    assert list(shown) == list(ROOMS)
    assert shown == {room: (set(modules.split()), libraries) for room, (modules, libraries) in ROOMS.items()}


def test_contributing_shows_these_exceptions():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for place, (names, reason) in INSIDE.items():
        assert f"| `{place}` | {', '.join(f'`{name}`' for name in sorted(names))} | {reason} |" in text
