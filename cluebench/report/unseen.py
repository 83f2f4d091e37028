"""Scores on the dev rows whose text is not in train, and the floors: scores that a model reaches without reading."""

from collections.abc import Mapping

from cluebench.benchmark.tasks import TASKS, Task
from cluebench.data import row_facts
from cluebench.data.download import data_home
from cluebench.data.row_facts import RowFacts
from cluebench.data.source import open_source
from cluebench.foundation.errors import ClueError
from cluebench.foundation.notices import waiting
from cluebench.foundation.text import Phrase
from cluebench.records.finished_trials import OpenedRun
from cluebench.report.evidence import Evidence, measured


def facts_of(found: Mapping[str, Evidence], run: OpenedRun | None, *, look: bool) -> dict[str, RowFacts]:
    """Task name → what is known of the rows that a model of this run was trained and evaluated on.

    Only of trials on all rows. ``look``: if nothing is known yet, read the files that the run's grid.json names, or the
    downloaded ones, which takes seconds a task.
    """
    facts = {name: _facts(TASKS[name], evidence, run, look) for name, evidence in found.items()}
    return {name: known for name, known in facts.items() if known is not None}


def _facts(task: Task, evidence: Evidence, run: OpenedRun | None, look: bool) -> RowFacts | None:
    configuration = evidence.predictions[0].configuration if evidence.predictions else {}
    data = configuration.get("data")
    if not isinstance(data, str) or configuration.get("limit"):
        return None
    facts = row_facts.found(task, data, run.folder if run else None)
    if facts is None and look:
        try:
            source = open_source(run and run.grid and run.grid.data_dir or data_home(), offline=True)
            if source.fingerprint(task) == data:
                with waiting(f"looking for dev rows of {task.title} in train"):
                    facts = row_facts.made(task, source)
        except ClueError:  # the data is not on this machine
            return None
    return facts if facts and facts.dev_rows == len(evidence.by_row) else None


def unseen(evidence: Evidence, facts: RowFacts) -> Evidence | None:
    """The evidence on the rows without a twin in train; None without such rows."""
    if not facts.twins:
        return evidence
    kept = ~facts.is_twin()
    return measured([predictions.only(kept) for predictions in evidence.predictions]) if kept.any() else None


def unseen_text(task: Task, evidence: Evidence, facts: RowFacts) -> Phrase | None:
    """``55.31 on the 8,885 rows whose text is not in train``; None if all rows are such rows."""
    apart = unseen(evidence, facts) if facts.twins else None
    if apart is None:
        return None
    score, rows = task.format_score(apart.score), f"{len(apart.by_row):,}"
    return Phrase("{score} on the {rows} rows whose text is not in train", score=score, rows=rows)


def floors_text(found: Mapping[str, RowFacts]) -> Phrase | None:
    """``floors, the best dev scores without reading: TNEWS 18.87, …``; None if none is known."""
    best = {name: found[name].floors.best for name in TASKS if name in found}
    parts = [f"{TASKS[name].title} {score:.2f}" for name, score in best.items() if score is not None]
    return Phrase("floors, the best dev scores without reading: {scores}", scores=", ".join(parts)) if parts else None
