"""Facts about a task's rows: which dev rows have a twin in train, groups, and the floors.

They are kept in ``rows/<task>-<fingerprint of the data>.json`` in the cache directory, and in ``rows.json`` of a run
directory that came out of a bundle. Scores without twins need them.
"""

import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from cluebench.benchmark.tasks import Task
from cluebench.data import overlap
from cluebench.data.floors import Floors, floors
from cluebench.data.overlap import Units
from cluebench.data.rows import hash_of_rows, load_rows
from cluebench.data.source import DataSource
from cluebench.foundation import atomic, environment, json_files
from cluebench.foundation.file_facts import version_of
from cluebench.foundation.json_files import Count, Positive, matching
from cluebench.foundation.notices import notice

#: In a run directory: task name → its facts, as in a bundle.
RUN_FILE = "rows.json"

_HASH = re.compile("[0-9a-f]{16}")
Hash = Annotated[str, matching(f"^{_HASH.pattern}$")]


@dataclass
class RowFacts:
    """Facts about the data with this fingerprint. twins: numbers of the dev rows whose normalised texts are in train.

    groups: for each dev row the number of its group, see `cluebench.data.overlap.groups_of`.
    """

    format: Literal[1]
    task: str
    data: Hash  # see `DataSource.fingerprint`
    train: Hash  # see `cluebench.data.rows.hash_of_rows`
    dev: Hash
    dev_rows: Positive
    twins: list[Count]
    groups: list[Count]
    floors: Floors

    def __post_init__(self) -> None:
        if self.twins != sorted(set(self.twins)) or (self.twins and self.twins[-1] >= self.dev_rows):
            raise ValueError("'twins' lists something other than dev rows")
        if len(self.groups) != self.dev_rows:
            raise ValueError(f"'groups' is not a list of {self.dev_rows} numbers")

    @classmethod
    def of(cls, data: str, hashes: tuple[str, str], train: Units, dev: Units, of_task: Floors) -> "RowFacts":
        """``hashes``: of the rows of train and dev."""
        twins, groups = np.flatnonzero(overlap.twins(train, dev)).tolist(), overlap.numbered(dev.groups).tolist()
        return cls(1, train.task.name, data, *hashes, len(dev), twins, groups, of_task)

    def is_twin(self) -> np.ndarray:
        """bool [dev rows]."""
        return np.isin(np.arange(self.dev_rows), self.twins)


def found(task: Task, data: str, run: Path | None = None) -> RowFacts | None:
    """The facts about the data with this fingerprint, from a run directory or the cache; None if neither has them."""
    if not _HASH.fullmatch(data):  # it may come from a stranger's result
        return None
    own = _read_once(run / RUN_FILE, dict[str, RowFacts]) if run else None
    facts = (own or {}).get(task.name) or _read_once(_path(task.name, data), RowFacts)
    return facts if facts and (facts.task, facts.data) == (task.name, data) else None


def _read_once(path: Path, kind: Any) -> Any:
    """A sound file as ``kind``, or None. It is read once: every trial of a task asks for it, and it may be large."""
    with suppress(OSError):
        return _read(path, kind, version_of(path))


@lru_cache(maxsize=64)
def _read(path: Path, kind: Any, version: str) -> Any:
    return json_files.read_if_sound(path, kind)


def made(task: Task, source: DataSource) -> RowFacts:
    """Computes and keeps the facts about train and dev of a source, which takes seconds. Raises DataError."""
    rows = [load_rows(source, task, split) for split in ("train", "dev")]
    train, dev = (overlap.units_of(task, of_split) for of_split in rows)
    hashes = (hash_of_rows(task, rows[0]), hash_of_rows(task, rows[1]))
    facts = RowFacts.of(source.fingerprint(task), hashes, train, dev, floors(train, dev))
    keep(facts)
    return facts


def keep(facts: RowFacts) -> None:
    """Writes them to the cache directory; a notice says if that is not possible."""
    path = _path(facts.task, facts.data)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(path, asdict(facts))
    except OSError as error:
        notice(f"{path} can't be written ({error.strerror or error}): what rows share is computed again each time")


def same_rows(task: Task, data: str, other_data: str) -> bool:
    """Whether two fingerprints are of the same train and dev rows; False if this machine lacks the facts."""
    if data == other_data:
        return True
    first, second = found(task, data), found(task, other_data)
    return first is not None and second is not None and (first.train, first.dev) == (second.train, second.dev)


def _path(task: str, data: str) -> Path:
    return environment.cache_home() / "rows" / f"{task}-{data}.json"
