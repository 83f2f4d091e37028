"""The rooms of the project: what lies where, and who may import what. CONTRIBUTING.md shows the same tables."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cluebench
from cluebench.benchmark.tasks import TASKS
from tests.sources import ROOT, sources

PADDLE = {"paddle", "paddlenlp", "safetensors"}

#: Room (a folder of cluebench, or the folders of commands) → the libraries beside numpy that it may import.
#: A room imports only from rooms above it. So whatever stands above models/ runs without Paddle.
ROOMS = {
    "foundation/": {"msgspec", "tqdm"},
    "benchmark/": set(),
    "machine/": {"psutil", "pynvml"},
    "statistics/": {"scipy"},
    "search/": set(),
    "data/": {"filelock", "pyarrow", "requests", "sklearn", "urllib3"},
    "features/": {"filelock"},
    "pretrained/": {"safetensors"},
    "records/": set(),
    "report/": {"jinja2", "markupsafe", "plotly"},
    "submission/": set(),
    "bundle/": set(),
    "scheduler/plan/": set(),
    "scheduler/processes/": {"psutil"},
    "scheduler/allocation/": set(),
    "scheduler/loop/": set(),
    "scheduler/run/": {"ray", "rich"},
    "diagnosis/": {"packaging", "psutil"},
    "models/": PADDLE | {"onnx", "onnxruntime", "paddle2onnx", "tokenizers"},
    "training/": PADDLE | {"visualdl"},
    "demo/": PADDLE,
    "classification/ mrc/ grid_search_tools/": PADDLE,
}
COMMANDS = list(ROOMS)[-1]

#: Modules that are in no folder: the package's own, and the map of the scheduler.
LOOSE = {"__init__", "scheduler/__init__"}

#: Libraries that only these modules import.
ONLY = {
    "jinja2": {"report/page"},
    "msgspec": {"foundation/json_files"},
    "pyarrow": {"data/copies"},
    "pynvml": {"machine/nvidia"},
    "ray": {"scheduler/run/ray_workers"},
    "requests": {"data/download"},
    "rich": {"scheduler/run/display"},
    "safetensors": {"pretrained/weights", "models/", "training/"},
    "scipy": {"statistics/paired"},
    "sklearn": {"data/row_facts"},
    "subprocess": {"foundation/repository", "scheduler/", "submission/", "diagnosis/"},
    "tokenizers": {"models/tokenizer", "models/export"},
    "tqdm": {"foundation/notices"},
    "visualdl": {"training/progress"},
}

#: Modules that open no file and know no path; of folders, those that are not named in FILES_IN.
WITHOUT_FILES = ("benchmark/tasks", "features/", "statistics/", "search/")
FILES_IN = {
    "features/__init__": "its own source is part of a cache entry's key",
    "features/cache": "it is the cache",
}
FILE_MODULES = {"glob", "io", "os", "pathlib", "shutil", "tempfile", "zipfile"}

#: Modules below models/ that run before Paddle is imported, so that wrong flags are reported at once.
BEFORE_PADDLE = (
    "training/checkpoint_format training/configure training/life training/progress demo/__main__ demo/synthetic"
).split()

#: Module → what it imports inside functions, and why that can't stand at its top.
_FLAGS_FIRST = "wrong flags are reported before Paddle is imported, which takes seconds"
INSIDE = {
    "foundation/environment": (
        {"paddlenlp"},
        "the only place that imports Paddle, after it has set Paddle's variables",
    ),
    "data/copies": ({"pyarrow"}, "slow to import and rarely needed"),
    "data/download": ({"requests", "urllib3"}, "slow to import and rarely needed"),
    "data/row_facts": ({"sklearn"}, "slow to import and rarely needed"),
    "demo/__main__": ({"cluebench.demo.embedded_model"}, _FLAGS_FIRST),
    "features/metrics": ({"paddlenlp"}, "EM and F1 are PaddleNLP's own, as published; Paddle is imported already"),
    "machine/nvidia": ({"pynvml"}, "may be broken on machines without an NVIDIA card"),
    "models/export": ({"onnx", "onnxruntime", "paddle2onnx"}, "slow to import and rarely needed"),
    "report/page": ({"jinja2", "markupsafe"}, "slow to import, and most commands write no page"),
    "scheduler/processes/launch": ({"ctypes"}, "needed on Linux only"),
    "scheduler/run/ray_workers": ({"ray"}, "Ray is an extra"),
    "scheduler/run/run_grid": ({"cluebench.scheduler.run.ray_workers"}, "Ray is an extra"),
    "training/life": ({"cluebench.training.run"}, _FLAGS_FIRST),
    "training/progress": ({"visualdl"}, "slow to import and rarely needed"),
    "classification/run_clue_classifier_trainer": ({"cluebench.models", "cluebench.training"}, _FLAGS_FIRST),
    "grid_search_tools/export_model": ({"cluebench.models"}, _FLAGS_FIRST),
    "grid_search_tools/grid_search": (
        {"cluebench.scheduler.run.run_grid"},
        "slow to import, and a plan needs none of it",
    ),
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
def imports(place: str, types: bool = False) -> tuple[Import, ...]:
    """``types``: also those under TYPE_CHECKING, which do not run."""
    return tuple(_imports(sources()[place], False, types))


def all_imports() -> Iterator[tuple[str, Import]]:
    return ((place, one) for place in sources() for one in imports(place))


def _imports(node: ast.AST, inside: bool, types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test) and not types:
            continue
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (Import(name, inside) for name in _names(child))
        within = inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from _imports(child, within, types)


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
    rooms = [room for room in ROOMS if belongs(place, room.split())]
    assert len(rooms) < 2, f"{place} is in {' and '.join(rooms)}"
    return rooms[0] if rooms else None


def belongs(place: str, modules: Iterable[str]) -> bool:
    return any(place.startswith(one) if one.endswith("/") else place == one for one in modules)


def test_every_module_has_a_room():
    assert [place for place in sources() if room_of(place) is None] == sorted(LOOSE)


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
        libraries = ROOMS.get(room_of(place), {one.library})
        if one.library not in free | libraries and not has_reason(place, one):
            wrong.append(f"{place} imports {one.name}")
    assert not wrong, "\n".join(wrong)


def test_a_python_without_these_libraries_names_the_one_to_use():
    """What is imported at the top of modules above models/ is what `cluebench.NEEDED` lists."""
    above = list(ROOMS)[: list(ROOMS).index("models/")]
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
    commands = {Path(place).name for place in sources() if room_of(place) == COMMANDS}
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


def test_no_modules_import_each_other_in_a_circle():
    """Imports under TYPE_CHECKING and inside functions count, too."""
    every = {place: imports(place, types=True) for place in sources()}
    imported = {place: {place_of(one.name) for one in found} & sources().keys() for place, found in every.items()}
    rest = {place: names - {place} for place, names in imported.items()}
    while free := {place for place, names in rest.items() if not names & rest.keys()}:
        rest = {place: names for place, names in rest.items() if place not in free}
    assert not rest, "; ".join(f"{place} imports {sorted(names & rest.keys())}" for place, names in rest.items())


def test_what_runs_before_paddle_imports_none_of_it():
    """Neither directly nor by what it imports at the top."""
    for start in BEFORE_PADDLE:
        seen, ahead = set(), [start]
        while ahead:
            place = ahead.pop()
            found = [one for one in imports(place) if not one.inside]
            assert not {one.library for one in found} & {"paddle", "paddlenlp"}, f"{start}, through {place}"
            ahead += [new for one in found if (new := place_of(one.name)) in sources() and new not in seen]
            seen.update(ahead)


def test_contributing_shows_these_rooms():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[\w/]+/`(?:, `\w+/`)*) \| (.*?) \| .* \|$", text, re.MULTILINE)
    shown = {" ".join(re.findall("`(.+?)`", room)): set(re.findall("`(.+?)`", libraries)) for room, libraries in rows}
    assert list(shown) == list(ROOMS)
    assert shown == ROOMS


def test_contributing_shows_these_exceptions():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for place, (names, reason) in INSIDE.items():
        assert f"| `{place}` | {', '.join(f'`{name}`' for name in sorted(names))} | {reason} |" in text
