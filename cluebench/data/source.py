"""Where the official files come from: folders, zips, a copy of them, or a download into the PaddleNLP data home.

A file with other bytes but the official rows counts as the official file.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cluebench
from cluebench.benchmark.tasks import Task
from cluebench.data.archive import find_member, open_member
from cluebench.data.copies import LOST, Copy, find_copy, is_lines, task_folders
from cluebench.data.download import data_home, fetch_archive
from cluebench.data.official import OfficialFile, fingerprint_of, official_file, split_files
from cluebench.data.rows import row_hash
from cluebench.foundation.errors import DataError
from cluebench.foundation.file_facts import remembered, version_of, visible
from cluebench.foundation.flags import why_no_text
from cluebench.foundation.notices import notice

#: Names the directory of the official files when no --data_dir is given.
DATA_DIR_VARIABLE = "CLUE_DATA_DIR"

#: A file in a directory of made-up data sets. There are no official md5 sums to compare these with.
SYNTHETIC_MARK = "synthetic.json"

#: Hugging Face's old download cache: archives are unpacked into folders called by a hash.
_HASH_FOLDER = re.compile("[0-9a-f]{40,64}")


#: Place, file and version → the md5, and the md5 that it counts as: the official one if the rows are the official ones.
_md5_sums: dict[tuple[str, str, str], tuple[str, str]] = {}


@dataclass(frozen=True)
class _Place:
    """A file on disk, or a member of a zip archive on disk."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}:{self.member}"

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.path,)

    def content(self) -> bytes:
        try:
            if self.member is None:
                return self.path.read_bytes()
            with open_member(self.path, self.member) as stream:
                return stream.read()
        except OSError as error:
            raise DataError(f"{self.path} can't be read: {error.strerror or error}") from error


@dataclass(eq=False)
class DataSource:
    """The official files of the tasks in one directory.

    A task's files are in ``<directory>/<task>_public/`` (or one folder deeper, as some programs unpack them), or in
    ``<directory>/<task>_public.zip``, at the root of the archive or inside one folder. Otherwise they are searched in
    folders named as the task, as official files (also under the names of PaddleNLP's loaders) or as a copy, see
    `cluebench.data.copies`. ``fetch`` is called with a task that lacks a file, and has to put ``<task>_public.zip``
    into the directory. ``also``: a directory that is searched after it.
    """

    directory: Path
    fetch: Callable[[Task], object] | None = None
    advice: str = ""
    also: Path | None = None
    _elsewhere: dict[Task, list[Path]] = field(default_factory=dict, init=False)
    _expected: dict[tuple[str, str], str] = field(default_factory=dict, init=False)  # what `md5` found last

    def __post_init__(self) -> None:
        self.directory = Path(self.directory)  # a text will do
        self.is_synthetic = (self.directory / SYNTHETIC_MARK).is_file()

    def read(self, task: Task, file: str) -> bytes:
        """A file's bytes. Raises DataError when it is missing or unreadable, NetworkError when fetching fails.

        It also raises DataError if the file has changed since `md5` was called: features are kept by that md5. If the
        rows are not the official ones, one line on stderr says so, once in a process.
        """
        place = self._require(task, file)
        expected = self._expected.get((task.name, file)) or self._sums(task, file, place)[0]
        content = place.content()
        if _md5(content) != expected:
            raise DataError(f"{task.name}: {place} was changed while it was being read: start again")
        return content

    def has(self, task: Task, file: str) -> bool:
        """Whether the file is there, without fetching anything."""
        return self._find(task, file) is not None

    def lacks(self, task: Task, file: str) -> bool:
        """Whether the task is read from a copy that can't have the file."""
        return self._find(task, file) is None and isinstance(self._find(task, task.dev_files[0]), Copy)

    def md5(self, task: Task, file: str) -> str:
        """32 hexadecimal digits; of a zip's member those of its unpacked content. Raises as `read` does.

        For a file with the official rows, the official md5; for another copy, the md5 of its rows in the official
        layout. The sum of an unchanged file is remembered between processes.
        """
        self._expected[task.name, file], counts_as = self._sums(task, file, self._require(task, file))
        return counts_as

    def is_official(self, task: Task, file: str) -> bool:
        """Whether its rows are the published ones; true if no md5 is published. Raises as `read` does."""
        official = official_file(task, file)
        return not self.is_synthetic and official is not None and official.md5 in (None, self.md5(task, file))

    def row_hash(self, task: Task, file: str) -> str:
        """See `cluebench.data.rows.row_hash`. Raises as `read` does, but does not compare md5 sums."""

        def read(name: str) -> tuple[str, bytes]:
            place = self._require(task, name)
            return f"{task.name}: {place}", place.content()

        return row_hash(task, file, read)

    def fingerprint(self, task: Task, files: Sequence[str] | None = None) -> str:
        """16 hexadecimal digits that change with the rows in ``files``; without any, of train's and dev's.

        Zipped and unpacked files give the same, and so does a copy of the official rows. Raises as `read` does.
        """
        if files is None:
            files = split_files(task, "train") + split_files(task, "dev")
        return fingerprint_of(task, {file: self.md5(task, file) for file in files})

    def describe(self, task: Task, file: str) -> str:
        """Where the file is, or would be: ``…/ocnli_public/dev.json`` or ``…/ocnli_public.zip:dev.json``."""
        return str(self._find(task, file) or self._stem(task) / file)

    def _stem(self, task: Task) -> Path:
        """The task's own folder; its archive has the suffix ``.zip``."""
        return self.directory / f"{task.name}_public"

    def _find(self, task: Task, file: str) -> _Place | Copy | None:
        folder, archive = self._stem(task), self._stem(task).with_suffix(".zip")
        paths = [path for path in (folder / file, *sorted(folder.glob(f"*/{file}"))) if path.is_file()]
        if len(paths) > 1 and paths[0].parent != folder:
            names = ", ".join(map(str, paths))
            raise DataError(f"{task.name}: {file} is in several folders ({names}): leave only the right one")
        if paths:
            return _Place(paths[0])
        if archive.is_file():
            member = find_member(archive, file)
            return None if member is None else _Place(archive, member)
        return self._find_elsewhere(task, file)

    def _find_elsewhere(self, task: Task, file: str) -> _Place | Copy | None:
        """The official file, also under PaddleNLP's names, or a copy, in folders named as the task."""
        if task not in self._elsewhere:
            directories = [self.directory, *([self.also] if self.also else [])]
            find = (task_folders, _hash_folders)
            self._elsewhere[task] = [path for search in find for top in directories for path in search(top, task)]
        for folder in self._elsewhere[task]:
            for name in (file, f"{task.name}-{file}", f"{task.name}_{file}"):
                for path in (folder / name, *visible(folder, f"*/{name}")):
                    if path.is_file() and not is_lines(path, task):
                        return _Place(path)
        return find_copy(self._elsewhere[task], task, file)

    def _require(self, task: Task, file: str) -> _Place | Copy:
        place = self._find(task, file)
        if place is None and self.fetch is not None:
            self.fetch(task)
            place = self._find(task, file)
        if place is None:
            raise DataError(self._missing(task, file))
        return place

    def _missing(self, task: Task, file: str) -> str:
        folder = self._stem(task)
        archive = folder.with_suffix(".zip")
        official = official_file(task, file)
        address = f" ({official.archive_url})" if official else ""
        advice = f"put the official archive{address} there as it is, or unpacked{self.advice}"
        if self.lacks(task, file):
            copy = self.describe(task, task.dev_files[0])
            return f"{task.name}: {file} is not in this copy ({copy}): copies have no {LOST}; {advice}"
        inside = f"{archive} (which has no such member)" if archive.is_file() else str(archive)
        top = [*self._elsewhere.get(task, []), self.directory][0]
        names = [path.name for path in visible(top)]
        holds = f" ({top} holds {', '.join(names[:6])}{', …' if len(names) > 6 else ''})" if names else ""
        searched = f"looked for {folder / file}, in {inside}, and for a copy in folders called {task.name}"
        return f"{task.name}: {file} is missing: {searched}{holds}; {advice}"

    def _sums(self, task: Task, file: str, place: _Place | Copy) -> tuple[str, str]:
        """See `_md5_sums`. The first time, a notice reports rows that are not the official ones."""
        key = str(place), file, version_of(*place.paths)
        if key not in _md5_sums:
            md5 = counts_as = _remembered(place, file, "md5", lambda: _md5(place.content()))
            official = official_file(task, file)
            if official and official.md5 not in (None, md5) and not self.is_synthetic:
                if self._has_official_rows(task, official, place):
                    counts_as = official.md5
                else:
                    notice(f"warning: {task.name}: {place} {_why_other(official, place, md5)}")
            _md5_sums[key] = md5, counts_as
        return _md5_sums[key]

    def _has_official_rows(self, task: Task, official: OfficialFile, place: _Place | Copy) -> bool:
        def rows() -> str:
            try:
                return self.row_hash(task, official.file)
            except DataError:  # reported when the rows are read
                return ""

        if isinstance(place, Copy):  # most official files end with a line end, which a copy does not show
            with_end = _remembered(place, official.file, "md5 with end", lambda: _md5(place.content() + b"\n"))
            if with_end == official.md5:
                return True
        return official.row_hash is not None and official.row_hash == _remembered(place, official.file, "rows", rows)


def _remembered(place: _Place | Copy, file: str, what: str, compute: Callable[[], str]) -> str:
    """A hash of a file, by the code of this version."""
    return remembered(f"{cluebench.__version__} {file} {place} {what}", place.paths, compute)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _why_other(official: OfficialFile, place: _Place | Copy, md5: str) -> str:
    if isinstance(place, Copy) and official.row_hash is None:
        return "is a copy, and it is not known whether its rows are the official ones, so its scores are not ranked"
    what = "has other rows than" if isinstance(place, Copy) else "is not"
    sums = "" if isinstance(place, Copy) else f" (its md5 is {md5}, the official {official.md5})"
    return f"{what} the official file{sums}: scores on it can't be compared with published ones"


def _hash_folders(directory: Path, task: Task) -> Iterator[Path]:
    """Folders of Hugging Face's old download cache with the task's official files, recognised by their md5."""
    for place in (directory, directory / "extracted", directory / "downloads" / "extracted"):
        for folder in (path for path in sorted(place.glob("*")) if _HASH_FOLDER.fullmatch(path.name)):
            files = [folder / file for file in (*task.dev_files, *task.answer_files.values())]
            official = official_file(task, files[0].name)
            if official and all(map(Path.is_file, files)) and official.md5 in (None, _md5(_Place(files[0]).content())):
                yield folder


def open_source(data_dir: str | Path | None = None, *, offline: bool = False) -> DataSource:
    """The given directory, else CLUE_DATA_DIR, else the data home, which is filled by downloading.

    Nothing is written into a directory given in either way, and nothing is downloaded. ``offline`` uses only what the
    data home has. Raises DataError when the directory does not exist.
    """
    given, origin = (data_dir, "--data_dir") if data_dir else (os.environ.get(DATA_DIR_VARIABLE), DATA_DIR_VARIABLE)
    if not given:
        home = data_home()
        if offline:
            advice = f", name another place by --data_dir or {DATA_DIR_VARIABLE}, or leave out --offline to download it"
            return DataSource(home, advice=advice, also=home.parent)
        return DataSource(home, fetch=lambda task: fetch_archive(task, home), also=home.parent)
    if why := why_no_text(str(given)):
        raise DataError(f"{origin} {given}: {why}")
    directory = Path(given).expanduser()
    if not directory.is_dir():
        raise DataError(f"{origin} {directory} is not a directory: give the one that holds the official files")
    return DataSource(directory, advice=f", or leave out {origin} to have it downloaded")
