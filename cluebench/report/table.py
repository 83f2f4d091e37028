"""A model's run directory → the table of its best scores, printed."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from cluebench.benchmark.published import ATTRIBUTION, published_model
from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.errors import UsageError
from cluebench.foundation.flags import flag
from cluebench.records.finished_trials import of_whole_grid
from cluebench.report import evidence, scores
from cluebench.report.evidence import Evidence
from cluebench.report.run import Run
from cluebench.report.unseen import facts_of, floors_text, unseen
from cluebench.statistics.grids import expected_best


@dataclass
class Additions:
    """What is printed below the table."""

    published: bool = flag(False, f"also print the scores {ATTRIBUTION}, and the difference (yours minus published)")
    stderr: bool = flag(False, "also print the standard error of each score, from the dev predictions")
    without_twins: bool = flag(False, "also print the scores without dev rows whose text is also in train")
    budget: int | None = flag(
        None, "also print the expected best score of N trials, to compare models at equal budget", minimum=1
    )


def print_table(run: Run, model: str, more: Additions | None = None, *, among_others: bool = False) -> None:
    """The table and the `Additions` on stdout; notes, for example on the edges of the grid, on stderr.

    ``among_others``: tables of other models are printed too, so the model is named. Raises UsageError if no scores of
    the model were published.
    """
    more, bests, found = more or Additions(), run.bests, run.evidence
    lines = [f"{model}:"] * among_others + [scores.best_score_table(bests).rstrip("\n")]
    notes: list[str] = [f"({run.halving_mark})"] * bool(run.halving_mark)
    notes += scores.edge_notes(run.edges, bests)
    one_label = {name: known.predictions[0].one_label for name, known in found.items()}
    notes += [f"{TASKS[name].title}: the best trial predicts {text}" for name, text in one_label.items() if text]
    if more.stderr:
        lines += ["one standard error, in points:", *error_lines(found)]
        notes += [f"{TASKS[name].title}: no standard error: {reason}" for name, reason in run.left_out.items()]
    if more.without_twins:
        lines += ["on the dev rows whose text is not in train:", unseen_line(run, notes)]
    if more.published:
        # By the name that was typed; a directory by its grid's model, else by its own name.
        names = [model.strip("/"), run.grid.model if run.grid else "", run.folder.resolve().name.replace("--", "/")]
        row = next((row for row in map(published_model, names) if row), None)
        if row is None:
            raise UsageError(f"--published: no scores of {model} were published")
        lines += [f"{ATTRIBUTION}, and the difference:", *scores.published_comparison(bests, row)]
        if more.stderr:
            lines.append("one standard error of the published scores, by the binomial approximation:")
            lines += error_lines(evidence.of_published(row))
    if more.budget is not None:
        lines += [
            f"expected best of {more.budget} trial{'s' * (more.budget > 1)}:",
            budget_line(run, more.budget, notes),
        ]
    print(*lines, sep="\n", flush=True)
    for note in notes:
        print(f"{model}: {note}" if among_others else note, file=sys.stderr)


def error_lines(found: Mapping[str, Evidence]) -> list[str]:
    """A cell a task, ``-`` if its error is unknown, and a line for AVG if all ten are known."""
    cells = ["/".join(f"±{error:.2f}" for error in found[name].error) if name in found else "-" for name in TASKS]
    average = evidence.error_of_avg(found)
    return ["\t".join(cells)] + ([] if average is None else [f"AVG\t±{average:.2f}"])


def unseen_line(run: Run, notes: list[str]) -> str:
    """A cell a task, ``-`` if nothing is known; the rows left out and the floors are added to the notes."""
    found, facts, cells = run.evidence, facts_of(run.evidence, run, look=True), []
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
    return "\t".join(cells)


def budget_line(run: Run, budget: int, notes: list[str]) -> str:
    """A cell a task: the expected best score (EM for spans); tasks with fewer trials are added to the notes."""
    cells, fewer = [], []
    for name, task in TASKS.items():
        curve = expected_best([trial.score[0] for trial in of_whole_grid(run.trials.get(name, ()))])
        cells.append(f"{curve[budget - 1]:.2f}" if budget <= len(curve) else "-")
        fewer += [f"{task.title} ({len(curve)})"] if 0 < len(curve) < budget else []
    notes += [f"fewer than {budget} finished trials: {', '.join(fewer)}"] * bool(fewer)
    return "\t".join(cells)
