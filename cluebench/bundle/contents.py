"""The members of a bundle, and how it is opened: the writer may be malicious.

A zip of ``manifest.json``, ``grid.json``, ``rows.json`` (see `cluebench.data.row_facts`) and, for each task,
``<task>/<trial>.json``, ``<task>/<trial>.predictions`` and, for its best setting, ``<task>/<trial>.log`` with the
published lines. Any other name is refused, so no file leaves the folder it is unpacked to, and no code is read.
"""

import hashlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from cluebench.benchmark.tasks import TASKS
from cluebench.data import archive
from cluebench.data.row_facts import RUN_FILE, RowFacts
from cluebench.foundation import json_files
from cluebench.foundation.errors import BadFile, DataError
from cluebench.foundation.json_files import Meta
from cluebench.records.dev_predictions import SUFFIX
from cluebench.records.grid_file import GRID_FILE, GridFile
from cluebench.records.log import PUBLISHED_LINE
from cluebench.records.paths import parse_trial_name, trial_name

MANIFEST = "manifest.json"

#: A grid of a thousand trials needs about a tenth of the second and the third.
MOST_BYTES_OF_ONE, MOST_BYTES, MOST_MEMBERS = 16 << 20, 512 << 20, 20_000

Sums = dict[str, str]  # name → hash


@dataclass
class BundledModel:
    """The model of the results."""

    name: Annotated[str, Meta(pattern=r"^[^\W_][\w.+-]{0,99}(/[^\W_][\w.+-]{0,99})?\Z")]
    identity: str  # as in every trial's configuration
    weights: Sums = field(default_factory=dict)  # SHA-256 of a published model's files, if they were there

    def __post_init__(self) -> None:
        if self.identity != self.name and not re.fullmatch("directory:[0-9a-f]{16}", self.identity):
            raise ValueError(f"it is of {self.name}, and this is {self.identity!r}")


@dataclass
class Manifest:
    """manifest.json."""

    format: Literal[1]
    model: BundledModel
    data: dict[str, Sums]  # task → md5 of its official files, of train and dev
    files: Sums  # SHA-256 of the other members
    kept: Sums  # <task>/<trial>/<file> → SHA-256 of kept weights
    versions: dict[str, str]
    devices: list[str] = field(default_factory=list)
    commit: str | None = None
    command: str | None = None
    search: str | None = None  # the number of trials that a cheaper search has stopped early, if any
    packed_by: str = ""


def unpack(bundle: Path, folder: Path) -> Manifest:
    """Writes the members into ``folder``. Raises DataError if anything is wrong."""
    with archive.opened(bundle) as members:
        infos = members.infolist()
        names = [info.orig_filename for info in infos]
        if len(set(names)) < len(names):
            _refuse(bundle, "holds a name twice")
        if len(names) > MOST_MEMBERS or sum(info.file_size for info in infos) > MOST_BYTES:
            _refuse(bundle, f"unpacks to more than {MOST_MEMBERS:,} files or {MOST_BYTES >> 20} MiB")
        for name, info in zip(names, infos):
            if not is_member(name):
                _refuse(bundle, f"holds {name!r}, which is not a file of a bundle")
            if info.file_size > MOST_BYTES_OF_ONE:
                _refuse(bundle, f"holds {name}, which unpacks to more than {MOST_BYTES_OF_ONE >> 20} MiB")
        archive.check_archive(bundle)
        members.extractall(folder)
    try:
        return _checked(bundle, folder, names)
    except BadFile as error:
        _refuse(bundle, f"holds a bad file: {str(error).removeprefix(f'{folder}/')}")
    except FileNotFoundError as error:
        _refuse(bundle, f"has no {Path(str(error)).name}")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def bare(grid: GridFile, model: BundledModel) -> GridFile:
    """A plan without any text by, or about, the machine that ran it."""
    trials = [replace(trial, attempts=[], failures=[]) for trial in grid.trials]
    of_model = replace(grid, model=model.name, model_identity=model.identity)
    return replace(of_model, data_dir=None, command=[], devices=[], trials=trials)


def is_member(name: str) -> bool:
    """Whether a bundle may hold a file of this name: one spelling for each trial of a CLUE task."""
    task, _, file = name.partition("/")
    trial, dot, suffix = file.rpartition(".")
    named = parse_trial_name(trial)
    of_trial = task in TASKS and named is not None and trial_name(*named) == trial
    return name in (MANIFEST, GRID_FILE, RUN_FILE) or (of_trial and dot + suffix in (".json", ".log", SUFFIX))


def _checked(bundle: Path, folder: Path, names: list[str]) -> Manifest:
    for name in names:
        if name.endswith(".json"):
            json_files.read(folder / name, dict)
        elif name.endswith(".log"):
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
            if not all(PUBLISHED_LINE.fullmatch(line) for line in lines):
                _refuse(bundle, f"holds {name}, which has lines that no run writes")
    if RUN_FILE in names:
        facts = json_files.read(folder / RUN_FILE, dict[str, RowFacts])
        if any(name not in TASKS or of_task.task != name for name, of_task in facts.items()):
            _refuse(bundle, f"holds a {RUN_FILE} with other tasks than it says")
    grid, manifest = json_files.read(folder / GRID_FILE, GridFile), json_files.read(folder / MANIFEST, Manifest)
    if grid != bare(grid, manifest.model) or not grid.status.isprintable():  # shown after a merge
        _refuse(bundle, f"holds a {GRID_FILE} of another model, or with texts that no bundle may hold")
    sums = {name: sha256((folder / name).read_bytes()) for name in names if name != MANIFEST}
    if differing := sorted(name for name in {*sums, *manifest.files} if sums.get(name) != manifest.files.get(name)):
        _refuse(bundle, f"holds other files than its manifest lists: {', '.join(map(repr, differing[:3]))}")
    return manifest


def _refuse(bundle: Path, reason: str) -> NoReturn:
    raise DataError(f"{bundle} {reason}; refused")
