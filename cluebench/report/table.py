"""A model's run directory → the table of its best scores, printed."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cluebench.benchmark.published import ATTRIBUTION, PublishedModel, published_model
from cluebench.benchmark.tasks import TASKS, Task
from cluebench.foundation.errors import UsageError
from cluebench.foundation.flags import flag
from cluebench.records.finished_trials import of_whole_grid
from cluebench.report import evidence
from cluebench.report.evidence import Evidence, facts_of, floors_text, unseen
from cluebench.report.run import Run
from cluebench.report.scores import Best
from cluebench.statistics.grids import expected_best

_RULE = "=" * 68


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
    lines = [f"{model}:"] * among_others + best_score_table(bests)
    notes: list[str] = [f"({run.halving_mark})"] * bool(run.halving_mark)
    for (name, axis), edge in run.edges.items():
        value, other = getattr(bests[name].setting, axis), "smaller" if edge == "smallest" else "larger"
        best = f"{TASKS[name].title}: the best {axis.replace('_', ' ')}, {value}"
        notes.append(f"{best}, is the {edge} tried; a {other} one may do better")
    one_label = {name: of_task.predictions[0].one_label for name, of_task in found.items()}
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
        lines += [f"{ATTRIBUTION}, and the difference:", *published_comparison(bests, row)]
        if more.stderr:
            lines.append("one standard error of the published scores, by the binomial approximation:")
            lines += error_lines(evidence.of_published(row))
    if more.budget is not None:
        trials = f"{more.budget} trial{'s' * (more.budget > 1)}"
        lines += [f"expected best of {trials}:", budget_line(run, more.budget, notes)]
    print(*lines, sep="\n", flush=True)
    for note in notes:
        print(f"{model}: {note}" if among_others else note, file=sys.stderr)


def _line(cell: Callable[[Task], str]) -> str:
    """A cell for each task; ``-`` instead of an empty one."""
    return "\t".join(cell(task) or "-" for task in TASKS.values())


def best_score_table(bests: Mapping[str, Best]) -> list[str]:
    """The lines of the published table: tab-separated, ``-`` for a task without a finished trial."""
    texts = {name: best.text(TASKS[name]) for name, best in bests.items()}
    lines = [_line(lambda task: task.title), _line(lambda task: texts.get(task.name, ""))]
    lines += [_RULE, "Best hyper-parameters list:", _RULE, "TASK\tresult\t(lr, batch_size, dropout_p)"]
    for name, task in TASKS.items():
        setting = f"({','.join(map(str, bests[name].setting))})" if name in bests else "-"
        lines.append(f"{task.title}\t{texts.get(name, '-')}\t{setting}")
    return lines


def published_comparison(bests: Mapping[str, Best], published: PublishedModel) -> list[str]:
    """The published scores, and the user's minus the published (EM for spans)."""
    theirs = {name: score for name, task in TASKS.items() if (score := published.score(task))}

    def difference(task: Task) -> str:
        both = task.name in bests and task.name in theirs
        pairs = zip(bests[task.name].score, theirs[task.name], strict=True) if both else ()
        return "/".join(f"{round(ours - other, 2) + 0.0:+.2f}" for ours, other in pairs)

    return [_line(lambda task: task.format_score(theirs.get(task.name, ()))), _line(difference)]


def error_lines(found: Mapping[str, Evidence]) -> list[str]:
    """A line of the tasks' errors, and a line for AVG if all ten are known."""
    errors = {name: "/".join(f"±{error:.2f}" for error in of_task.error) for name, of_task in found.items()}
    average = evidence.error_of_avg(found)
    return [_line(lambda task: errors.get(task.name, ""))] + ([] if average is None else [f"AVG\t±{average:.2f}"])


def unseen_line(run: Run, notes: list[str]) -> str:
    """The scores without twins, if the rows are known; the rows left out and the floors are added to the notes."""
    found, facts, cells = run.evidence, facts_of(run.evidence, run, look=True), {}
    for name, own in facts.items():
        apart = unseen(found[name], own)
        cells[name] = TASKS[name].format_score(apart.score) if apart else ""
    for name, task in TASKS.items():
        if cells.get(name) and facts[name].twins:
            left_out = f"{len(facts[name].twins):,} of {facts[name].dev_rows:,} dev rows"
            notes.append(f"{task.title}: {left_out} are left out: their text is in train")
        elif name in found and name not in facts:
            why = "the data of its trials is not here, or a part of it was used: see inspect_data.py"
            notes.append(f"{task.title}: {why}")
    notes += filter(None, [floors_text(facts)])
    return _line(lambda task: cells.get(task.name, ""))


def budget_line(run: Run, budget: int, notes: list[str]) -> str:
    """The expected best scores (EM for spans); tasks with fewer trials are added to the notes."""
    curves = {
        name: expected_best([trial.score[0] for trial in of_whole_grid(trials)]) for name, trials in run.trials.items()
    }
    fewer = [
        f"{task.title} ({len(curves[name])})" for name, task in TASKS.items() if 0 < len(curves.get(name, ())) < budget
    ]
    notes += [f"fewer than {budget} finished trials: {', '.join(fewer)}"] * bool(fewer)
    return _line(
        lambda task: f"{curves[task.name][budget - 1]:.2f}" if budget <= len(curves.get(task.name, ())) else ""
    )
