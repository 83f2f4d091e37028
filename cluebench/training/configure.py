"""From flags to a run: all checks before Paddle is imported."""

from dataclasses import dataclass
from typing import Any, Generic

from cluebench.benchmark.tasks import Task
from cluebench.data.source import DataSource, open_source
from cluebench.foundation import environment
from cluebench.foundation.flags import refuse_unwritable
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model
from cluebench.records import identity
from cluebench.records.result import Result
from cluebench.records.run_flags import F, resolved
from cluebench.training.overwriting import refuse_other_settings


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
