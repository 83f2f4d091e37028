"""Whether a run may write over the files of an earlier run in --output_dir. No Paddle here."""

from pathlib import Path

from cluebench.foundation import atomic
from cluebench.foundation.errors import UsageError
from cluebench.pretrained import model_files
from cluebench.records import dev_predictions
from cluebench.records.identity import different_settings
from cluebench.records.paths import CHECKPOINT
from cluebench.records.result import Result, Settings
from cluebench.records.run_flags import RunFlags
from cluebench.training.checkpoint_format import RESTARTS, STATE_FILE, CheckpointState


def refuse_other_settings(flags: RunFlags, result: Result) -> None:
    """Raises UsageError when training would write over a run with other settings: its checkpoint or finished model.

    ``flags``: resolved; ``result``: the new run's. The same settings again are the same run, which may be repeated.
    """
    if not flags.do_train or flags.overwrite_output_dir:
        return
    folder = Path(flags.output_dir)
    state = CheckpointState.read(folder / CHECKPOINT / STATE_FILE, RESTARTS)
    if state and state.configuration_hash != result.configuration_hash:
        raise UsageError(_in_the_way(folder, f"the checkpoint after step {state.step}", state.configuration, result))
    for path in {flags.result_json or "", str(folder / "result.json")}:
        other = Result.read_finished(path)
        has_model = other and other.best_model and model_files.first_of(folder, model_files.WEIGHT_FILES)
        if other and has_model and other.configuration_hash != result.configuration_hash:
            score = "/".join(f"{number:.2f}" for number in other.best_score or ())
            raise UsageError(_in_the_way(folder, f"the finished model ({score} on dev)", other.configuration, result))


def remove_leftovers(flags: RunFlags) -> None:
    """Removes temporary files of a killed process of this run. On rank 0, before anything is written.

    Only one process may train into an output directory; in a grid the trial's lock ensures it.
    """
    atomic.remove_leftovers(flags.output_dir)
    if flags.result_json:
        for path in (Path(flags.result_json), dev_predictions.beside(flags.result_json)):
            atomic.remove_leftovers(path.parent, path.name)


def _in_the_way(folder: Path, what: str, there: Settings, result: Result) -> str:
    different = different_settings(there, result.configuration)
    return (
        f"--output_dir {folder}: holds {what} of a run with other settings ({different}): "
        "give another directory, or --overwrite_output_dir to start again and write over it"
    )
