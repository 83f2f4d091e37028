"""Whether a model's scores may be ranked with others': what differs from the published grid."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cluebench.benchmark.published import averaged_tasks
from cluebench.benchmark.tasks import DEFAULT_SEED, TASKS, Task
from cluebench.data import row_facts
from cluebench.data.official import fingerprint_of, official_md5s, usable_rows
from cluebench.foundation.text import Phrase
from cluebench.records import identity
from cluebench.records.finished_trials import FinishedTrial, of_whole_grid
from cluebench.records.result import Result
from cluebench.records.run_flags import RunFlags, resolved


@dataclass(frozen=True)
class Mark:
    """A reason why a run is not in the ranking."""

    reason: Phrase
    tasks: tuple[str, ...]  # those that it applies to

    def text(self, tasks: int) -> Phrase:
        """The reason; the tasks follow it, unless it applies to all of the ``tasks``."""
        named = ", ".join(TASKS[name].title for name in self.tasks)
        is_of_some = 0 < len(self.tasks) < tasks
        return Phrase("{reason} ({tasks})", reason=self.reason, tasks=named) if is_of_some else self.reason


def marks(trials: Mapping[str, Sequence[FinishedTrial]]) -> tuple[Mark, ...]:
    """The reasons in a model's finished trials; none if everything is as published. Further seeds do not count.

    The tasks of AVG are judged: their data, settings and seeds, and whether trials are missing.
    """
    whole = {name: of_whole_grid(trials.get(name, ())) for name in TASKS if name in averaged_tasks()}
    official = {name: is_official(TASKS[name], own[0].result) for name, own in whole.items() if own and own[0].result}
    found = []
    if False in official.values():  # then files without published sums came with other files
        others = tuple(name for name, is_known in official.items() if not is_known)
        found.append(Mark(Phrase("not on the official files"), others))
    found += protocol_marks(whole)
    points = {name: set(TASKS[name].grid.points()) for name in whole}
    lacking = {name: len(points[name] - {trial.setting for trial in own}) for name, own in whole.items()}
    missing, planned = sum(lacking.values()), sum(map(len, points.values()))
    if missing:
        reason = Phrase("{missing} of the {planned} trials missing", missing=missing, planned=planned)
        if missing == planned:
            reason = Phrase("none of the published settings was run")
        found.append(Mark(reason, tuple(name for name, number in lacking.items() if number)))
    return tuple(found)


def protocol_marks(trials: Mapping[str, Sequence[FinishedTrial]]) -> tuple[Mark, ...]:
    """The settings of each task's trials that differ from the published ones; missing trials do not matter."""
    found: dict[Phrase, list[str]] = defaultdict(list)
    for name, own in trials.items():
        for reason in _reasons(TASKS[name], own):
            found[reason].append(name)
    return tuple(Mark(reason, tuple(names)) for reason, names in found.items())


def _reasons(task: Task, trials: Sequence[FinishedTrial]) -> Iterator[Phrase]:
    results = [trial.result for trial in trials if trial.result]
    if len(results) < len(trials):
        yield Phrase("logs alone: data and settings not known")
    for name, (value, _) in unlike_published(task, results[0].configuration).items() if results else ():
        # The trials share one protocol, so the first speaks for all.
        yield Phrase("{name} not known" if value is None else "{name} {value}", name=name, value=value)
    if (seeds := {trial.seed for trial in trials}) - {DEFAULT_SEED}:
        yield Phrase("seeds {seeds}" if len(seeds) > 1 else "seed {seeds}", seeds=", ".join(map(str, sorted(seeds))))
    if {trial.setting for trial in trials} - set(task.grid.points()):
        yield Phrase("settings beyond the published grid")


def unlike_published(task: Task, configuration: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Setting → (its value, the published value), if a trial's configuration differs from the published protocol.

    A value that is not stated is None. Model, data and the settings that a grid varies are not compared.
    """
    published = _published(task)
    pairs = {name: (configuration.get(name), published.get(name)) for name in sorted({*configuration, *published})}
    return {name: pair for name, pair in pairs.items() if name not in identity.BESIDE_PUBLISHED and pair[0] != pair[1]}


@cache
def _published(task: Task) -> dict[str, Any]:
    return identity.configuration(task, resolved(RunFlags("", do_train=True), task), "", "")


def is_official(task: Task, result: Result) -> bool | None:
    """Whether a trial ran on the official train and dev files, by their md5 sums; None if unknown.

    If no sums were published, a trial with fewer training examples than the official rows ran on other files.
    """
    settings: Mapping[str, Any] = result.configuration
    by_sums = has_official_sums(task, settings)
    if by_sums is not None:
        return by_sums
    rows = usable_rows(task, task.train_files) or 0
    batch, epochs = settings.get("batch_size"), settings.get("epochs")
    if settings.get("max_steps") or settings.get("limit") or not isinstance(batch, int) or not isinstance(epochs, int):
        return None
    return False if result.total_steps * batch < epochs * rows else None


def has_official_sums(task: Task, configuration: Mapping[str, Any]) -> bool | None:
    """Whether a trial's data files are the official ones by their md5 sums; None for a task without published sums."""
    sums = official_md5s(task)
    return row_facts.same_rows(task, str(configuration.get("data")), fingerprint_of(task, sums)) if sums else None
