"""A model's run directory → the table of its best scores, printed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluebench.benchmark.published import ATTRIBUTION, PublishedModel, published_model
from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.errors import UsageError
from cluebench.pretrained.model import Model
from cluebench.records import finished_trials
from cluebench.records.finished_trials import FinishedTrial, OpenedRun
from cluebench.report import evidence, scores
from cluebench.report.evidence import Evidence
from cluebench.report.unseen import facts_of, floors_text, unseen
from cluebench.statistics.budget import expected_best


def run_directory(model: str, run_root: str) -> Path:
    """Where a model's trials are: the directory itself if it holds folders of tasks, else the model's run directory.

    Raises UsageError when there is neither.
    """
    given = Path(model).expanduser()
    if holds_tasks(given):
        return given
    try:
        folder = Path(run_root).expanduser() / Model.of(model).folder
    except UsageError:  # no model, so it is meant as a run directory
        folder = given
    if not folder.is_dir():
        places = " nor in ".join(dict.fromkeys([str(given), str(folder)]))
        raise UsageError(f"{model}: no trials in {places} (--run_root says where runs are)")
    return folder


def holds_tasks(folder: Path) -> bool:
    """Whether it is a directory with folders of tasks, their names in any case."""
    return folder.is_dir() and any(path.is_dir() and path.name.lower() in TASKS for path in folder.iterdir())


def print_table(
    run: OpenedRun,
    model: str,
    *,
    among_others: bool = False,
    published: bool = False,
    stderr: bool = False,
    without_twins: bool = False,
    budget: int | None = None,
) -> None:
    """The table on stdout, and what is asked for beside it; notes on the edges of the grid on stderr.

    ``among_others``: the tables of other models are printed with it, so it is named. Raises UsageError when nothing is
    published of the model.
    """
    if among_others:
        print(f"{model}:")
    trials = run.trials
    bests = scores.best_settings(trials)
    print(scores.best_score_table(bests), end="")
    found, left_out = evidence.of_run(trials)
    errors = {name: one.error[0] for name, one in found.items()}
    notes = [f"({run.halving_mark})"] * bool(run.halving_mark) + scores.edge_notes(trials, bests, errors)
    notes += [
        f"{TASKS[name].title}: the best trial says {one.predictions[0].one_label}"
        for name, one in found.items()
        if one.predictions[0].one_label
    ]
    if stderr:
        print("one standard error, in points:", *error_lines(found), sep="\n")
        notes += [f"{TASKS[name].title}: no standard error: {reason}" for name, reason in left_out.items()]
    if without_twins:
        print("on the dev rows whose text is not in train:", *unseen_lines(found, run, notes), sep="\n")
    if published:
        row = _published_row(run, model)
        if row is None:
            raise UsageError(f"--published: no scores of {model} were published")
        print(f"{ATTRIBUTION}, and the difference:")
        print(scores.published_comparison(bests, row), end="")
        if stderr:
            heading = "one standard error of the published scores, by the binomial approximation:"
            print(heading, *error_lines(evidence.of_published(row)), sep="\n")
    if budget is not None:
        best, fewer = expected_bests(trials, budget)
        print(f"expected best of {budget} trial{'s' if budget > 1 else ''}:", "\t".join(best), sep="\n")
        notes += [f"fewer than {budget} finished trials: {', '.join(fewer)}"] * bool(fewer)
    sys.stdout.flush()
    for note in notes:
        print(f"{model}: {note}" if among_others else note, file=sys.stderr)


def _published_row(run: OpenedRun, model: str) -> PublishedModel | None:
    """By the name that was typed; of a directory by its grid's, else by its own."""
    names = [model.strip("/"), run.grid.model if run.grid else "", run.folder.resolve().name.replace("--", "/")]
    return next((row for row in map(published_model, names) if row), None)


def error_lines(found: Mapping[str, Evidence]) -> list[str]:
    """A cell a task, ``-`` where nothing is known, and a line for AVG where all ten are."""
    cells = ["/".join(f"±{error:.2f}" for error in found[name].error) if name in found else "-" for name in TASKS]
    lines = ["\t".join(cells)]
    if (error := evidence.error_of_avg(found)) is not None:
        lines.append(f"AVG\t±{error:.2f}")
    return lines


def unseen_lines(found: Mapping[str, Evidence], run: OpenedRun, notes: list[str]) -> list[str]:
    """A cell a task, ``-`` where nothing is known; what that is of, and the floors, are added to the notes."""
    facts, cells = facts_of(found, run, look=True), []
    for name, task in TASKS.items():
        apart = unseen(found[name], facts[name]) if name in facts else None
        cells.append(task.format_score(apart.score) if apart else "-")
        if apart and facts[name].twins:
            left_out = f"{len(facts[name].twins):,} of {facts[name].dev_rows:,} dev rows"
            notes.append(f"{task.title}: {left_out} are left out: their text is in train")
        elif name in found and name not in facts:
            notes.append(
                f"{task.title}: the data of its trials is not here, or a part of it was used: see inspect_data.py"
            )
    floors = floors_text(facts)
    notes += [floors] if floors else []
    return ["\t".join(cells)]


def expected_bests(trials: Mapping[str, Sequence[FinishedTrial]], budget: int) -> tuple[list[str], list[str]]:
    """A cell a task: the best score to expect of so many of its trials, EM for spans; and tasks that have fewer."""
    cells, fewer = [], []
    for name, task in TASKS.items():
        curve = expected_best([trial.score[0] for trial in finished_trials.of_whole_grid(trials.get(name, ()))])
        cells.append(f"{curve[budget - 1]:.2f}" if budget <= len(curve) else "-")
        fewer += [f"{task.title} ({len(curve)})"] if 0 < len(curve) < budget else []
    return cells, fewer
