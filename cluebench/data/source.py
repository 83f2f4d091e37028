"""Where the official files come from: folders, zips, a copy of them, or a download into the PaddleNLP data home.

What counts is the rows: a file whose bytes are not the official ones, but whose rows are, stands for the official file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from cluebench.benchmark.tasks import Task
from cluebench.data.archive import find_member, md5_of, open_member
from cluebench.data.copies import LOST, Copy, find_copy, is_lines, task_folders
from cluebench.data.download import data_home, fetch_archive
from cluebench.data.official import OfficialFile, fingerprint_of, official_files, split_files
from cluebench.data.rows import row_hash
from cluebench.foundation.errors import DataError
from cluebench.foundation.file_facts import visible
from cluebench.foundation.flags import why_no_text
from cluebench.foundation.notices import notice

#: Names the directory of the official files when no --data_dir is given.
DATA_DIR_VARIABLE = "CLUE_DATA_DIR"

#: Beside made-up data sets: they are known not to be the official ones, so nothing is said about their md5 sums.
SYNTHETIC_MARK = "synthetic.json"

#: Hugging Face's old download cache: archives are unpacked into folders called by a hash.
_HASH_FOLDER = re.compile("[0-9a-f]{40,64}")


class _Sum(NamedTuple):
    """md5 of what was read, and what counts: the official file's where the rows are its rows."""

    read: str
    counts: str


#: Of what was read in this process, by `_Place.version`, so that a file is hashed once.
_known_md5: dict[tuple, _Sum] = {}


@dataclass(frozen=True)
class _Place:
    """A file on disk, or a member of a zip archive on disk."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}:{self.member}"

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        if self.member is not None:
            with open_member(self.path, self.member) as stream:
                yield stream
            return
        try:
            with open(self.path, "rb") as stream:
                yield stream
        except OSError as error:
            raise DataError(f"{self.path} can't be read: {error.strerror or error}") from error

    def version(self) -> tuple:
        """Changes whenever the bytes may have changed, though size and time of writing were made the same."""
        status = self.path.stat()
        times = status.st_mtime_ns, status.st_ctime_ns
        return str(self.path), self.member, status.st_ino, status.st_size, *times


class DataSource:
    """The official files of the tasks in one directory.

    A task's files stand in ``<directory>/<task>_public/`` (or one folder deeper, as some programs unpack them), or in
    ``<directory>/<task>_public.zip``, at the root of the archive or inside one folder. Else they are looked for in
    folders called by the task, as official files (also as PaddleNLP's loaders call them) or as a copy, see
    `cluebench.data.copies`. ``fetch`` is called with a task of which a file is missing, and has to bring
    ``<task>_public.zip`` into the directory. ``also``: a directory that is looked into after it.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        fetch: Callable[[Task], object] | None = None,
        advice: str = "",
        also: Path | None = None,
    ):
        self.directory = Path(directory)
        self._fetch = fetch
        self._advice = advice
        self._also = [also] if also else []
        self.is_synthetic = (self.directory / SYNTHETIC_MARK).is_file()
        self._elsewhere: dict[Task, list[Path]] = {}
        self._told: dict[tuple[str, str], str] = {}  # (task name, file) → md5 last told
        self._said: set[str] = set()

    def read(self, task: Task, file: str) -> bytes:
        """A file's bytes. Raises DataError when it is missing or unreadable, NetworkError when fetching fails.

        Raised, too, when it is not what `md5` was taken of, by which features are kept: someone has written to it
        since. Where its rows are not the official ones, one line on stderr says so, once in a process.
        """
        place = self._require(task, file)
        version = place.version()
        with place.opened() as stream:
            content = _read_all(stream, place)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if self._told.get((task.name, file), md5) != md5:
            raise DataError(f"{task.name}: {place} was changed while it was being read: start again")
        self._learn_md5(task, file, place, version, md5)
        return content

    def has(self, task: Task, file: str) -> bool:
        """Whether the file is there, without fetching anything."""
        return self._find(task, file) is not None

    def lacks(self, task: Task, file: str) -> bool:
        """Whether the task is read from a copy that can't have the file."""
        return self._find(task, file) is None and isinstance(self._find(task, task.dev_files[0]), Copy)

    def md5(self, task: Task, file: str) -> str:
        """32 hexadecimal digits; of a zip's member those of its unpacked content. Raises as `read` does.

        Of a file with the official rows, the official md5; of another copy, that of the official layout.
        """
        place = self._require(task, file)
        version = place.version()
        if version not in _known_md5:
            with place.opened() as stream:
                self._learn_md5(task, file, place, version, md5_of(stream))
        self._told[task.name, file] = _known_md5[version].read
        return _known_md5[version].counts

    def say_once(self, text: str) -> None:
        """A notice on what was read, for files that a run reads more than once."""
        if text not in self._said:
            notice(text)
        self._said.add(text)

    def is_official(self, task: Task, file: str) -> bool:
        """Whether its rows are those published, as far as that is known. Raises as `read` does."""
        known = official_files().get((task.name, file))
        return not self.is_synthetic and known is not None and known.md5 in (None, self.md5(task, file))

    def row_hash(self, task: Task, file: str) -> str:
        """See `cluebench.data.rows.row_hash`; whatever the bytes are. Raises as `read` does."""
        return row_hash(_Unchecked(self), task, file)

    def fingerprint(self, task: Task, files: Sequence[str] | None = None) -> str:
        """16 hexadecimal digits that change with the rows in ``files``; without any, of train's and dev's.

        Zipped and unpacked files give the same, and so does a copy of the official rows. Raises as `read` does.
        """
        if files is None:
            files = split_files(task, "train") + split_files(task, "dev")
        return fingerprint_of(task, {file: self.md5(task, file) for file in files})

    def describe(self, task: Task, file: str) -> str:
        """Where the file is, or would be: ``…/ocnli_public/dev.json`` or ``…/ocnli_public.zip:dev.json``."""
        place = self._find(task, file)
        return str(place) if place else str(self._folder(task) / file)

    def _folder(self, task: Task) -> Path:
        return self.directory / f"{task.name}_public"

    def _archive(self, task: Task) -> Path:
        return self.directory / f"{task.name}_public.zip"

    def _find(self, task: Task, file: str) -> _Place | Copy | None:
        folder, archive = self._folder(task), self._archive(task)
        if (folder / file).is_file():
            return _Place(folder / file)
        deeper = [path for path in sorted(folder.glob(f"*/{file}")) if path.is_file()]
        if len(deeper) > 1:
            names = ", ".join(map(str, deeper))
            raise DataError(f"{task.name}: {file} stands in several folders ({names}): leave only the right one")
        if deeper:
            return _Place(deeper[0])
        if archive.is_file():
            member = find_member(archive, file)
            return None if member is None else _Place(archive, member)
        return self._find_elsewhere(task, file)

    def _find_elsewhere(self, task: Task, file: str) -> _Place | Copy | None:
        """In folders called by the task: as the official file, under PaddleNLP's names, or of a copy."""
        if task not in self._elsewhere:
            places = [self.directory, *self._also]
            folders = [folder for place in places for folder in task_folders(place, task)]
            self._elsewhere[task] = folders + [one for place in places for one in _hash_folders(place, task)]
        for folder in self._elsewhere[task]:
            for name in (file, f"{task.name}-{file}", f"{task.name}_{file}"):
                for path in (folder / name, *visible(folder, f"*/{name}")):
                    if path.is_file() and not is_lines(path, task):
                        return _Place(path)
        return find_copy(self._elsewhere[task], task, file)

    def _require(self, task: Task, file: str) -> _Place | Copy:
        place = self._find(task, file)
        if place is None and self._fetch is not None:
            self._fetch(task)
            place = self._find(task, file)
        if place is None:
            raise DataError(self._missing(task, file))
        return place

    def _missing(self, task: Task, file: str) -> str:
        archive = self._archive(task)
        inside = f"{archive} (which has no such member)" if archive.is_file() else str(archive)
        known = official_files().get((task.name, file))
        address = f" ({known.archive_url})" if known else ""
        advice = f"put the official archive{address} there as it is, or unpacked{self._advice}"
        if self.lacks(task, file):
            copy = self.describe(task, task.dev_files[0])
            return f"{task.name}: {file} is not in this copy ({copy}): copies have no {LOST}; {advice}"
        looked = f"looked for {self._folder(task) / file}, in {inside}, and for a copy in folders called {task.name}"
        return f"{task.name}: {file} is missing: {looked}{self._seen(task)}; {advice}"

    def _seen(self, task: Task) -> str:
        """What lies where the file was looked for."""
        folders = self._elsewhere.get(task) or [self.directory]
        names = [path.name for folder in folders[:1] for path in visible(folder)]
        return f" ({folders[0]} holds {', '.join(names[:6])}{', …' if len(names) > 6 else ''})" if names else ""

    def _learn_md5(self, task: Task, file: str, place: _Place | Copy, version: tuple, md5: str) -> None:
        """Keeps it for the process; the first time, says so when the rows are not those of the official file."""
        if version in _known_md5:
            return
        known, counts = official_files().get((task.name, file)), md5
        if known and known.md5 not in (None, md5) and not self.is_synthetic:
            if self._has_official_rows(task, known, place):
                counts = known.md5 or md5
            else:
                notice(f"warning: {task.name}: {place} {_why_other(known, place, md5)}")
        _known_md5[version] = _Sum(md5, counts)

    def _has_official_rows(self, task: Task, known: OfficialFile, place: _Place | Copy) -> bool:
        if isinstance(place, Copy):  # the official bytes, but for a last line end that most of the files have
            whole = hashlib.md5(place.content() + b"\n", usedforsecurity=False).hexdigest()
            if whole == known.md5:
                return True
        try:
            return known.row_hash is not None and self.row_hash(task, known.file) == known.row_hash
        except DataError:  # said when the rows are read
            return False


class _Unchecked:
    """The files of a source, read without looking at their sums."""

    def __init__(self, source: DataSource):
        self._source = source

    def read(self, task: Task, file: str) -> bytes:
        place = self._source._require(task, file)
        with place.opened() as stream:
            return _read_all(stream, place)

    def describe(self, task: Task, file: str) -> str:
        return self._source.describe(task, file)

    def is_official(self, task: Task, file: str) -> bool:
        return False

    def say_once(self, text: str) -> None: ...


def _why_other(known: OfficialFile, place: _Place | Copy, md5: str) -> str:
    if isinstance(place, Copy) and known.row_hash is None:
        return "is a copy, and it is not known whether its rows are the official ones, so its scores are not ranked"
    what = "has other rows than" if isinstance(place, Copy) else "is not"
    sums = "" if isinstance(place, Copy) else f" (its md5 is {md5}, the official {known.md5})"
    return f"{what} the official file{sums}: scores on it can't be compared with published ones"


def _hash_folders(directory: Path, task: Task) -> list[Path]:
    """Folders of Hugging Face's old download cache that hold the task's official files, which are told by their md5."""
    places = (directory, directory / "extracted", directory / "downloads" / "extracted")
    found = []
    for folder in (path for place in places for path in sorted(place.glob("*")) if _HASH_FOLDER.fullmatch(path.name)):
        named = [folder / file for file in (*task.dev_files, *task.answer_files.values())]
        if all(path.is_file() for path in named):
            known = official_files().get((task.name, named[0].name))
            if known and known.md5 in (None, hashlib.md5(named[0].read_bytes(), usedforsecurity=False).hexdigest()):
                found.append(folder)
    return found


def open_source(data_dir: str | Path | None = None, *, offline: bool = False) -> DataSource:
    """The directory given, else that named by CLUE_DATA_DIR, else the data home, which is filled by downloading.

    A directory given in either way is never added to, and the network is not touched then. Nor is it with ``offline``,
    which leaves what is in the data home. Raises DataError when the directory does not exist.
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


def _read_all(stream: IO[bytes], place: _Place | Copy) -> bytes:
    try:
        return stream.read()
    except OSError as error:
        raise DataError(f"{place} can't be read: {error.strerror or error}") from error
