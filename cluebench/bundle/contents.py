"""What a bundle holds, and how it is opened: as if whoever wrote it meant harm.

A zip of ``manifest.json``, ``grid.json`` and, of each task, ``<task>/<trial>.json``, ``<task>/<trial>.predictions``
and, of its best setting, ``<task>/<trial>.log`` with the published lines. Any other name is refused, so nothing can lie
outside the folder it is unpacked to, and nothing that could hold code is read. The manifest:

    format   1
    model    "name", "identity" as in every trial's configuration, "weights": file name → SHA-256, if they were there
    data     task → official file name → md5, of train and dev
    files    name in the zip → SHA-256
    kept     ``<task>/<trial>/<file>`` → SHA-256 of the weights that the grid kept
    versions, devices, commit, command: of those that made it
    search   how many trials a cheaper search has stopped early, if any
"""

from __future__ import annotations

import hashlib
import re
import stat
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from cluebench import json_files
from cluebench.data import archive
from cluebench.errors import BadFile, DataError
from cluebench.grid_file import GRID_FILE, GridFile
from cluebench.runlog import PUBLISHED_LINE, parse_trial_name, trial_name
from cluebench.tasks import TASKS

FORMAT = 1
MANIFEST, GRID = "manifest.json", GRID_FILE

#: A grid of a thousand trials takes about a tenth of the second and third.
MOST_BYTES_OF_ONE, MOST_BYTES, MOST_MEMBERS = 16 << 20, 512 << 20, 20_000

_MEMBER = re.compile(r"(?P<task>[a-z0-9_]+)/(?P<trial>[0-9a-z.+_-]+)\.(?:json|predictions|log)", re.ASCII)
_MODEL_NAME = re.compile(r"[^\W_][\w.+-]{0,99}(?:/[^\W_][\w.+-]{0,99})?")
_SECTIONS = ("model", "data", "files", "kept", "versions")


def unpack(bundle: Path, folder: Path) -> dict[str, Any]:
    """Writes the members into ``folder`` and returns the manifest. Raises DataError when anything is amiss."""
    try:
        if bundle.stat().st_size > MOST_BYTES:
            _refuse(bundle, f"is larger than {MOST_BYTES >> 20} MiB")
    except OSError as error:
        raise DataError(f"{bundle} can't be read: {error.strerror or error}") from None
    with archive.opened(bundle) as members:
        _check_directory(bundle, members.infolist())
        content = {info.filename: _content(bundle, members, info) for info in members.infolist()}
    for name, value in content.items():
        _check_content(bundle, name, value)
    _check_grid(bundle, content[GRID])
    manifest = _checked_manifest(bundle, json_object(content.pop(MANIFEST)), content)
    for name, value in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value)
    return manifest


def _check_directory(bundle: Path, members: Iterable[zipfile.ZipInfo]) -> None:
    """Names, kinds and sizes, before any of it is unpacked."""
    members = list(members)
    names = [info.orig_filename for info in members]
    if len(set(names)) < len(names):
        _refuse(bundle, "holds a name twice")
    if len(names) > MOST_MEMBERS or sum(info.file_size for info in members) > MOST_BYTES:
        _refuse(bundle, f"unpacks to more than {MOST_MEMBERS:,} files or {MOST_BYTES >> 20} MiB")
    for info in members:
        if not is_member(info.orig_filename):
            _refuse(bundle, f"holds {info.orig_filename!r}, which is no file of a bundle")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            _refuse(bundle, f"holds {info.filename}, which is a link or a device")
        if info.file_size > MOST_BYTES_OF_ONE:
            _refuse(bundle, f"holds {info.filename}, which unpacks to more than {MOST_BYTES_OF_ONE >> 20} MiB")
    for name in (MANIFEST, GRID):
        if name not in names:
            _refuse(bundle, f"has no {name}")


def is_member(name: str) -> bool:
    """Whether a bundle may hold a file of this name: one spelling for each trial, of a task that there is."""
    found = _MEMBER.fullmatch(name)
    if found is None:
        return name in (MANIFEST, GRID)
    named = parse_trial_name(found["trial"])
    return found["task"] in TASKS and named is not None and trial_name(*named) == found["trial"]


def _content(bundle: Path, members: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Of one member; what lies behind the size it claims is not unpacked."""
    with members.open(info) as stream:
        value = stream.read(info.file_size + 1)
    if len(value) != info.file_size:
        _refuse(bundle, f"holds {info.filename}, whose size is another than it says")
    return value


def _check_content(bundle: Path, name: str, value: bytes) -> None:
    try:
        if name.endswith(".json"):
            json_object(value)
        elif name.endswith(".log"):
            if not all(PUBLISHED_LINE.fullmatch(line) for line in value.decode("ascii").split("\n")[:-1]):
                raise ValueError("has lines that are none of a run's")
    except ValueError as error:
        _refuse(bundle, f"holds {name}, which {error}")


def json_object(value: bytes) -> dict[str, Any]:
    """Raises ValueError when it is none."""
    found = json_files.parse(value)
    if not isinstance(found, dict):
        raise ValueError("is no JSON object")
    return found


def _check_grid(bundle: Path, content: bytes) -> None:
    try:
        grid = json_files.declared(json_object(content), GridFile, GRID)
    except BadFile as error:
        _refuse(bundle, f"has a {error}")
    for trial in grid.trials:
        if not is_member(f"{trial.task}/{trial.name}.json"):
            _refuse(bundle, f"has a {GRID} that lists something other than trials")


def _checked_manifest(bundle: Path, manifest: dict[str, Any], content: Mapping[str, bytes]) -> dict[str, Any]:
    if manifest.get("format") != FORMAT:
        _refuse(bundle, f"is not of format {FORMAT}")
    for name in _SECTIONS:
        if not isinstance(manifest.get(name), dict):
            _refuse(bundle, f"has a manifest without {name!r}")
    name, identity = manifest["model"].get("name"), manifest["model"].get("identity")
    if not isinstance(name, str) or not _MODEL_NAME.fullmatch(name) or not isinstance(identity, str):
        _refuse(bundle, "has a manifest that names no model")
    if identity != name and not re.fullmatch("directory:[0-9a-f]{16}", identity):
        _refuse(bundle, f"says it is of {name}, and that this is {identity!r}")
    sums = {name: hashlib.sha256(value).hexdigest() for name, value in content.items()}
    if differing := sorted(
        {*sums, *manifest["files"]} - {name for name in sums if manifest["files"].get(name) == sums[name]}
    ):
        _refuse(bundle, f"holds other files than its manifest lists: {', '.join(map(repr, differing[:3]))}")
    return manifest


def _refuse(bundle: Path, reason: str) -> NoReturn:
    raise DataError(f"{bundle} {reason}; refused")
