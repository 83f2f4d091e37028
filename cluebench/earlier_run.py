"""What an earlier run left in --output_dir: its checkpoint and its best model, and who may go on from or over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from cluebench import atomic, json_files, model_files
from cluebench.atomic import FileFacts
from cluebench.errors import BadFile, UsageError
from cluebench.identity import configuration_hash
from cluebench.json_files import FileName, Positive
from cluebench.run_flags import RunFlags
from cluebench.runlog import Progress, Result, Settings

#: The periodic checkpoint in --output_dir, and the file in it that says whose it is, written last.
CHECKPOINT, STATE_FILE = "checkpoint", "state.json"
#: Such a file in a checkpoint of PaddleNLP's Trainer.
COMPLETE_FILE = "complete.json"
#: Key in both of a hash over the others.
_DIGEST = "digest"

ANEW = "the checkpoint counts for nothing, training begins anew"

Owner = TypeVar("Owner", bound="CheckpointOwner")


@dataclass
class CheckpointOwner:
    """The run that a checkpoint belongs to, what that had gathered by it, and the files that it is made of."""

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
        """None where there is none, and where it or a file of the checkpoint is not what was written.

        That is said in one line, and what follows from it: ``otherwise``.
        """
        try:
            content = json_files.read_object(path, cls)
            if content.pop(_DIGEST, None) != configuration_hash(content):
                raise BadFile(f"{path} is not what was written")
            return json_files.declared(content, cls, path)
        except FileNotFoundError:
            return None
        except BadFile as error:
            json_files.tell_once(f"warning: {error}; {otherwise}")
            return None

    def is_whole(self, folder: Path, otherwise: str) -> bool:
        """Whether every file of the checkpoint is as it was written; a line says what is not."""
        for name, facts in self.files.items():
            try:
                if atomic.facts_of(folder / name) == facts:
                    continue
                reason = "is not what was written"
            except OSError as error:
                reason = str(error.strerror or error)
            json_files.tell_once(f"warning: {folder / name}: {reason}; {otherwise}")
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
    """A checkpoint of the scripts but for its arrays."""

    step: Positive
    schedule: dict[str, float | int | bool | str | None]  # as Paddle's schedules give it
    scaler: dict[str, float | int | bool | list[float]] | None  # of fp16; as Paddle's gives it
    generators: Generators


def refuse_other_settings(flags: RunFlags, result: Result) -> None:
    """Raises UsageError when training would write over the checkpoint or the finished model of a run of other settings.

    ``flags``: resolved; ``result``: the new run's. The same settings again are the same run, which may be repeated.
    """
    if not flags.do_train or flags.overwrite_output_dir:
        return
    folder = Path(flags.output_dir)
    state = CheckpointState.read(folder / CHECKPOINT / STATE_FILE, ANEW)
    if state and state.configuration_hash != result.configuration_hash:
        raise UsageError(_in_the_way(folder, f"the checkpoint after step {state.step}", state.configuration, result))
    for path in {flags.result_json or "", str(folder / "result.json")}:
        other = Result.read_finished(path)
        has_model = other and other.best_model and model_files.first_of(folder, model_files.WEIGHT_FILES)
        if other and has_model and other.configuration_hash != result.configuration_hash:
            score = "/".join(f"{number:.2f}" for number in other.best_score or ())
            raise UsageError(_in_the_way(folder, f"the finished model ({score} on dev)", other.configuration, result))


def _in_the_way(folder: Path, what: str, there: Settings, result: Result) -> str:
    different = differences(there, result.configuration)
    return (
        f"--output_dir {folder}: holds {what} of a run with other settings ({different}): "
        "give another directory, or --overwrite_output_dir to begin anew and write over it"
    )


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """``learning_rate 3e-05 there, 5e-05 here; …``"""
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    told = [f"{key} {there.get(key)} there, {here.get(key)} here" for key in keys[:4]]
    return "; ".join(told + ([f"{len(keys) - 4} more"] if len(keys) > 4 else [])) or "it does not say which"
