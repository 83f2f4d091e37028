"""A run directory as tables, pages and rankings show it: each file is read once, each number computed once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cluebench.benchmark.published import PublishedModel, published_model
from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.errors import UsageError
from cluebench.foundation.text import Phrase
from cluebench.pretrained.model import Model
from cluebench.records import cost
from cluebench.records.cost import Cost
from cluebench.records.finished_trials import FinishedTrial, OpenedRun, of_whole_grid
from cluebench.records.grid_file import PlannedTrial
from cluebench.report import evidence, scores
from cluebench.report.evidence import Evidence
from cluebench.report.scores import Best


@dataclass(frozen=True, eq=False)
class Run(OpenedRun):
    """A run directory. ``whole_grid``: further seeds of the best settings do not count, so that models compare."""

    whole_grid: bool = False

    @property
    def model(self) -> str:
        """As it was named to the grid search."""
        return self.grid.model if self.grid else self.folder.name.replace("--", "/")

    @property
    def is_running(self) -> bool:
        return self.grid is not None and self.grid.status == "running"

    @cached_property
    def planned(self) -> dict[str, list[PlannedTrial]]:
        """By task name."""
        found = defaultdict(list)
        for trial in self.grid.trials if self.grid else ():
            found[trial.task].append(trial)
        return dict(found)

    @cached_property
    def published(self) -> PublishedModel | None:
        return published_model(self.model)

    @cached_property
    def scored(self) -> Mapping[str, Sequence[FinishedTrial]]:
        """The trials that the scores are of."""
        if not self.whole_grid:
            return self.trials
        return {name: of_whole_grid(of_task) for name, of_task in self.trials.items()}

    @cached_property
    def bests(self) -> dict[str, Best]:
        return scores.best_settings(self.scored)

    @cached_property
    def _evidence(self) -> dict[str, Evidence | Phrase]:
        of_best = {name: [trial for trial in self.scored[name] if trial.setting == best.setting]
                   for name, best in self.bests.items()}  # fmt: skip
        return {name: evidence.of_setting(trials) for name, trials in of_best.items()}

    @cached_property
    def evidence(self) -> dict[str, Evidence]:
        """Task name → evidence of its best setting."""
        return {name: found for name, found in self._evidence.items() if isinstance(found, Evidence)}

    @property
    def left_out(self) -> dict[str, Phrase]:
        """Task name → why there is no evidence."""
        return {name: why for name, why in self._evidence.items() if isinstance(why, Phrase)}

    @cached_property
    def edges(self) -> dict[tuple[str, str], str]:
        errors = {name: found.error[0] for name, found in self.evidence.items()}
        return scores.edges(self.scored, self.bests, errors)

    @cached_property
    def costs(self) -> dict[str, Cost]:
        return cost.cost_by_task(self)


def run_directory(model: str, run_root: str) -> Path:
    """The directory of a model's trials: the given one if it holds folders of tasks, else the model's in the run root.

    Raises UsageError if there is neither.
    """
    given = Path(model).expanduser()
    if holds_tasks(given):
        return given
    try:
        folder = Path(run_root).expanduser() / Model.of(model).folder
    except UsageError:  # not a model, so it names a run directory
        folder = given
    if not folder.is_dir():
        places = " nor in ".join(dict.fromkeys([str(given), str(folder)]))
        raise UsageError(f"{model}: no trials in {places} (--run_root says where runs are)")
    return folder


def holds_tasks(folder: Path) -> bool:
    """Whether it is a directory with folders of tasks, whose names may be in any case."""
    return folder.is_dir() and any(path.is_dir() and path.name.lower() in TASKS for path in folder.iterdir())
