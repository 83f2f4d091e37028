"""The format of checkpoints, read without Paddle."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from cluebench.foundation import atomic, json_files
from cluebench.foundation.errors import BadFile
from cluebench.foundation.file_facts import FileFacts, facts_of
from cluebench.foundation.json_files import FileName, Positive
from cluebench.foundation.notices import notice_once
from cluebench.records.identity import configuration_hash
from cluebench.records.result import Progress, Settings

#: In a checkpoint, written last: the run that it belongs to.
STATE_FILE = "state.json"
#: The same in a checkpoint of PaddleNLP's Trainer.
COMPLETE_FILE = "complete.json"
#: Key in both: a hash over the other keys.
_DIGEST = "digest"

RESTARTS = "the checkpoint counts for nothing, training starts again"

Owner = TypeVar("Owner", bound="CheckpointOwner")


@dataclass
class CheckpointOwner:
    """The run that a checkpoint belongs to, the run's results up to it, and the files of the checkpoint."""

    configuration_hash: str
    result: Progress
    configuration: Settings
    files: dict[FileName, FileFacts]

    def write(self, path: Path) -> None:
        """The last file of a checkpoint. Raises OSError."""
        content = asdict(self)
        atomic.write_json(path, {**content, _DIGEST: configuration_hash(content)})

    @classmethod
    def read(cls: type[Owner], path: Path, otherwise: str) -> Owner | None:
        """None where there is no file, or it is not as written; a line reports that, with its effect ``otherwise``."""
        try:
            content = json_files.read_object(path, cls)
            if content.pop(_DIGEST, None) != configuration_hash(content):
                raise BadFile(f"{path} is not what was written")
            return json_files.declared(content, cls, path)
        except FileNotFoundError:
            return None
        except BadFile as error:
            notice_once(f"warning: {error}; {otherwise}")
            return None

    def is_whole(self, folder: Path, otherwise: str) -> bool:
        """Whether every file of the checkpoint is as written; a line reports a file that is not."""
        for name, facts in self.files.items():
            try:
                reason = "" if facts_of(folder / name) == facts else "is not what was written"
            except OSError as error:
                reason = str(error.strerror or error)
            if reason:
                notice_once(f"warning: {folder / name}: {reason}; {otherwise}")
                return False
        return True


@dataclass
class Generators:
    """The states of the random generators of python, numpy and Paddle."""

    python: tuple[int, list[int], float | None]
    numpy: tuple[str, list[int], int, int, float]
    paddle: list[tuple[int, int, int, str]]  # device, seed, offset, engine


@dataclass
class CheckpointState(CheckpointOwner):
    """A checkpoint of the scripts without its arrays."""

    step: Positive
    schedule: dict[str, float | int | bool | str | None]  # from Paddle's schedule
    scaler: dict[str, float | int | bool | list[float]] | None  # from Paddle's loss scaler, with fp16
    generators: Generators  # of rank 0
    of_other_ranks: list[Generators] = field(default_factory=list)  # ranks 1, 2, …: their dropout drew other numbers
