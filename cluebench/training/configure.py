"""From flags to a run, before Paddle is imported: all checks, and what an earlier run left in --output_dir."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from cluebench.benchmark.tasks import Task
from cluebench.data.source import DataSource, open_source
from cluebench.foundation import atomic, environment
from cluebench.foundation.errors import UsageError
from cluebench.foundation.flags import refuse_unwritable
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model
from cluebench.records import dev_predictions, identity
from cluebench.records.paths import CHECKPOINT
from cluebench.records.result import Result
from cluebench.records.run_flags import F, RunFlags, resolved
from cluebench.training.checkpoint_format import RESTARTS, STATE_FILE, CheckpointState


@dataclass(frozen=True)
class RunConfig(Generic[F]):
    """A run that can start: its flags, model and data are checked."""

    task: Task
    flags: F  # resolved
    model: Model
    source: DataSource
    result: Result  # empty, with the trial's identity


def configure(flags: F, task: Task, **more: Any) -> RunConfig[F]:
    """Checks flags, model and data directory, and computes the trial's identity. Takes well under a second.

    ``more``: settings beside the flags that change the score. Raises UsageError, DataError and NetworkError.
    """
    refuse_unwritable(flags)
    cards = environment.world_size()
    flags = resolved(flags, task, cards)
    model = Model.of(flags.model_name_or_path)
    if files := model_files.find(model, offline=flags.offline):
        files.check_length(flags.max_seq_length, files.read_config().get("max_position_embeddings"))
        files.check_tokenizer()
    source = open_source(flags.data_dir, offline=flags.offline)
    data = source.fingerprint(task) if flags.do_train else ""  # a model can predict where there is no train split
    settings = identity.configuration(task, flags, model.identity, data, cards=cards, **more)
    result = Result(
        task=task.name,
        model=model.typed,
        configuration=settings,
        configuration_hash=identity.configuration_hash(settings),
        metric=task.metric,
        cards=cards,
        accumulation_steps=flags.gradient_accumulation_steps,
    )
    refuse_other_settings(flags, result)
    return RunConfig(task, flags, model, source, result)


def refuse_other_settings(flags: RunFlags, result: Result) -> None:
    """Raises UsageError when training would write over a run with other settings: its checkpoint or finished model.

    ``flags``: resolved; ``result``: the new run's. The same settings again are the same run, which may be repeated.
    """
    if not flags.do_train or flags.overwrite_output_dir:
        return
    folder, found = Path(flags.output_dir), []
    if state := CheckpointState.read(folder / CHECKPOINT / STATE_FILE, RESTARTS):
        found.append((f"the checkpoint after step {state.step}", state.configuration_hash, state.configuration))
    for path in {flags.result_json or "", str(folder / "result.json")}:
        other = Result.read_finished(path)
        if other and other.best_model and model_files.first_of(folder, model_files.WEIGHT_FILES):
            score = "/".join(f"{number:.2f}" for number in other.best_score or ())
            found.append((f"the finished model ({score} on dev)", other.configuration_hash, other.configuration))
    for what, hash_there, there in found:
        if hash_there != result.configuration_hash:
            different = identity.different_settings(there, result.configuration)
            raise UsageError(
                f"--output_dir {folder}: holds {what} of a run with other settings ({different}): "
                "give another directory, or --overwrite_output_dir to start again and write over it"
            )


def remove_leftovers(flags: RunFlags) -> None:
    """Removes temporary files of a killed process of this run. On rank 0, before anything is written.

    Only one process may train into an output directory; in a grid the trial's lock ensures it.
    """
    atomic.remove_leftovers(flags.output_dir)
    if flags.result_json:
        for path in (Path(flags.result_json), dev_predictions.beside(flags.result_json)):
            atomic.remove_leftovers(path.parent, path.name)
