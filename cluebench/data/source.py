"""Where the official files come from: a directory of folders or zips, or a download into the PaddleNLP data home."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cluebench.benchmark.tasks import Task
from cluebench.data.archive import find_member, md5_of, open_member
from cluebench.data.download import data_home, fetch_archive
from cluebench.data.official import official_files
from cluebench.foundation.errors import DataError
from cluebench.foundation.notices import notice

#: Names the directory of the official files when no --data_dir is given.
DATA_DIR_VARIABLE = "CLUE_DATA_DIR"

#: Beside made-up data sets: they are known not to be the official ones, so nothing is said about their md5 sums.
SYNTHETIC_MARK = "synthetic.json"

#: md5 of what was read in this process, by `_Place.version`, so that a file is hashed once.
_known_md5: dict[tuple, str] = {}


def split_files(task: Task, split: str) -> tuple[str, ...]:
    """The official files behind a split, answers included: "train", "dev", or "test" and a version ("test1.1").

    Raises ValueError listing the task's splits.
    """
    files = {"train": task.train_files, "dev": task.dev_files}
    files.update({f"test{test.version}": (test.file,) for test in task.test_sets})
    if split not in files:
        raise ValueError(f"{task.title} has no split {split!r}; its splits are {', '.join(files)}")
    names = files[split]
    return names + tuple(task.answer_files[name] for name in names if name in task.answer_files)


def fingerprint_of(task: Task, md5s: Mapping[str, str]) -> str:
    """What `DataSource.fingerprint` says of files of these md5 sums, by name."""
    lines = [f"{file} {md5s[file]}\n" for file in sorted(md5s)]
    return hashlib.sha256("".join([f"{task.name}\n", *lines]).encode()).hexdigest()[:16]


def official_md5s(task: Task) -> dict[str, str] | None:
    """Of train's and dev's official files, by name; None where the sum of one has not been published."""
    names = split_files(task, "train") + split_files(task, "dev")
    sums = {name: known.md5 for name in names if (known := official_files().get((task.name, name))) and known.md5}
    return sums if len(sums) == len(set(names)) else None


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
    ``<directory>/<task>_public.zip``, at the root of the archive or inside one folder. ``fetch`` is called with a
    task of which a file is missing, and has to bring ``<task>_public.zip`` into the directory.
    """

    def __init__(self, directory: str | Path, *, fetch: Callable[[Task], object] | None = None, advice: str = ""):
        self.directory = Path(directory)
        self._fetch = fetch
        self._advice = advice
        self.is_synthetic = (self.directory / SYNTHETIC_MARK).is_file()
        self._told: dict[tuple[str, str], str] = {}  # (task name, file) → md5 last told
        self._said: set[str] = set()

    def read(self, task: Task, file: str) -> bytes:
        """A file's bytes. Raises DataError when it is missing or unreadable, NetworkError when fetching fails.

        Raised, too, when it is not what `md5` said, by which features are kept: someone has written to it since. When
        the file is not the official one, by its md5, one line on stderr says so, once in a process.
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

    def md5(self, task: Task, file: str) -> str:
        """32 hexadecimal digits; of a zip's member those of its unpacked content. Raises as `read` does."""
        place = self._require(task, file)
        version = place.version()
        if version not in _known_md5:
            with place.opened() as stream:
                self._learn_md5(task, file, place, version, md5_of(stream))
        self._told[task.name, file] = _known_md5[version]
        return _known_md5[version]

    def say_once(self, text: str) -> None:
        """A notice on what was read, for files that a run reads more than once."""
        if text not in self._said:
            notice(text)
        self._said.add(text)

    def is_official(self, task: Task, file: str) -> bool:
        """Whether the file is the one published, as far as its md5 was. Raises as `read` does."""
        known = official_files().get((task.name, file))
        return not self.is_synthetic and known is not None and known.md5 in (None, self.md5(task, file))

    def fingerprint(self, task: Task, files: Sequence[str] | None = None) -> str:
        """16 hexadecimal digits that change with the content of ``files``; without any, of train's and dev's.

        Zipped and unpacked files give the same. Raises as `read` does.
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

    def _find(self, task: Task, file: str) -> _Place | None:
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
        return None

    def _require(self, task: Task, file: str) -> _Place:
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
        return (
            f"{task.name}: {file} is missing: looked for {self._folder(task) / file} and in {inside}; "
            f"put the official archive{address} there as it is, or unpacked{self._advice}"
        )

    def _learn_md5(self, task: Task, file: str, place: _Place, version: tuple, md5: str) -> None:
        """Keeps it for the process; the first time, says so when it is not that of the official file."""
        known = official_files().get((task.name, file))
        if version not in _known_md5 and not self.is_synthetic and known and known.md5 not in (None, md5):
            notice(
                f"warning: {task.name}: {place} is not the official file (its md5 is {md5}, the official {known.md5}): "
                "scores on it can't be compared with published ones"
            )
        _known_md5[version] = md5


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
            return DataSource(home, advice=advice)
        return DataSource(home, fetch=lambda task: fetch_archive(task, home))
    directory = Path(given).expanduser()
    if not directory.is_dir():
        raise DataError(f"{origin} {directory} is not a directory: give the one that holds the official files")
    return DataSource(directory, advice=f", or leave out {origin} to have it downloaded")


def _read_all(stream: IO[bytes], place: _Place) -> bytes:
    try:
        return stream.read()
    except OSError as error:
        raise DataError(f"{place} can't be read: {error.strerror or error}") from error
