"""One fine-tuning run of a grid as one value: its name, key, files, flags and configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluebench.benchmark.tasks import DEFAULT_SEED, TASKS, Setting, Task
from cluebench.pretrained.model import Model
from cluebench.records import identity
from cluebench.records.paths import TrialPaths, trial_name
from cluebench.records.result import Result
from cluebench.records.run_flags import RunFlags, resolved


@dataclass(frozen=True)
class Trial:
    """A model, a task, a point of its grid and a seed."""

    model: Model
    task: str  # lower-case name
    setting: Setting
    seed: int = DEFAULT_SEED

    @property
    def name(self) -> str:
        """``3e-05_32_0.1``: the name of its files."""
        return trial_name(self.setting, self.seed)

    @property
    def key(self) -> str:
        """``<model folder>/<task>/<name>``: unique in a plan, and its place under the run root."""
        return f"{self.model.folder}/{self.task}/{self.name}"

    @property
    def row(self) -> Task:
        return TASKS[self.task]

    def paths(self, run_directory: Path) -> TrialPaths:
        """Its files; ``run_directory`` is its model's."""
        return TrialPaths(run_directory / self.task, self.name)

    def flags(self, shared: Mapping[str, Any]) -> dict[str, Any]:
        """The flags of its fine-tuning script on one card; ``shared``: the flags of all trials of its grid."""
        return {"model_name_or_path": self.model.name, **self.setting._asdict(), "seed": self.seed, **shared}

    def configuration(self, shared: Mapping[str, Any], data_fingerprint: str) -> dict[str, Any]:
        """The settings that decide its score, as its script will write them. Their hash is the trial's identity."""
        flags = resolved(RunFlags(**self.flags(shared)), self.row)
        return identity.configuration(self.row, flags, self.model.identity, data_fingerprint)

    def result_by_samples(self, found: Result, path: Path, configuration: Mapping[str, Any]) -> Result | None:
        """``found`` at ``path`` with today's ``configuration``, if it states the model's earlier `sampled_identity`.

        None if it is another trial's, or the model's weights have changed since.
        """
        earlier = dict(configuration) | {"model": self.model.sampled_identity}
        matches = earlier != configuration and found.configuration_hash == identity.configuration_hash(earlier)
        if not matches or self.model.has_changed_since(path):
            return None
        found.know_as(dict(configuration))
        return found
