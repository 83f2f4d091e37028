"""What to do next with a grid: each piece of advice with the reason, and the command that follows it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.phrases import Phrase
from cluebench.records.finished_trials import FinishedTrial
from cluebench.records.grid_file import GridFile
from cluebench.report import scores
from cluebench.report.evidence import Choice
from cluebench.report.scores import Best
from cluebench.search.replay import Outcome, recommended

#: Seeds and settings of the advice to confirm a choice.
_SEEDS, _SETTINGS = 5, 3


@dataclass(frozen=True)
class Advice:
    """``command`` is to be typed at the root of the repository."""

    text: Phrase
    command: str | None = None
    by_task: tuple[Phrase, ...] = ()


def changed(command: Sequence[str], **flags: str | None) -> str:
    """The grid's command with other flags: a value replaces what was typed, None takes the flag away."""
    words: list[str] = []
    taken_out = False
    for word in command:
        if word.startswith("--"):
            taken_out = word[2:].partition("=")[0] in {*flags, "dry_run", "status", "worker"}
        if not taken_out:
            words.append(word)
    more = [f"--{name} {value}" for name, value in flags.items() if value is not None]
    return " ".join([shlex.join(["python", *words]), *more])


def advice(
    grid: GridFile,
    trials: Mapping[str, Sequence[FinishedTrial]],
    bests: Mapping[str, Best],
    errors: Mapping[str, float],
    choices: Mapping[str, Choice],
    outcomes: Mapping[str, Sequence[Outcome]],
) -> list[Advice]:
    """Of a grid that does not run, what went wrong first. ``errors``: task → one standard error of its best score."""
    found = [*_what_is_left(grid)]
    if not bests:
        return found
    found += _edges(grid, trials, bests, errors)
    found += _choices(grid, choices)
    found += _cheaper(grid, outcomes)
    return found + _models(grid, trials)


def _what_is_left(grid: GridFile) -> list[Advice]:
    states, command = Counter(trial.state for trial in grid.trials), changed(grid.command) if grid.command else None
    found = []
    if states["failed"]:
        failed = [trial for trial in grid.trials if trial.state == "failed"]
        kinds = ", ".join(dict.fromkeys(trial.failures[-1].kind for trial in failed if trial.failures))
        text = Phrase("{number} trials failed ({kinds}). When the cause is gone, the same command tries them again:",
                      number=len(failed), kinds=kinds)  # fmt: skip
        found.append(Advice(text, command))
    if left := states["waiting"] + states["running"] + states["held"]:
        text = Phrase("The grid stopped with {number} trials left. The same command goes on:", number=left)
        found.append(Advice(text, command))
    return found


def _edges(
    grid: GridFile,
    trials: Mapping[str, Sequence[FinishedTrial]],
    bests: Mapping[str, Best],
    errors: Mapping[str, float],
) -> list[Advice]:
    """A command for each, as they differ in the setting."""
    found = []
    for (name, axis), edge in scores.edges(trials, bests, errors).items():
        setting = bests[name].setting
        value = getattr(setting, axis)
        beyond = value * (2 if edge == "largest" else 0.5)
        further = setting._replace(**{axis: type(value)(float(f"{beyond:.1g}") if axis == "learning_rate" else beyond)})
        if further.batch_size < 1:
            continue
        text = Phrase(
            "{task}: the best {axis}, {value}, is the {edge} tried, and every setting between the edges scores lower "
            "by more than one standard error. Try one beyond it (with it the run is not in the ranking):",
            task=TASKS[name].title, axis=Phrase(axis.replace("_", " ")), value=value, edge=Phrase(edge),
        )  # fmt: skip
        one = {"learning_rates": further.learning_rate, "batch_sizes": further.batch_size, "dropouts": further.dropout}
        flags = {"tasks": name, **{flag: str(number) for flag, number in one.items()}}
        found.append(Advice(text, changed(grid.command, best_only=None, **flags) if grid.command else None))
    return found


def _choices(grid: GridFile, choices: Mapping[str, Choice]) -> list[Advice]:
    """Tasks whose best setting may well be another; none once further seeds have been run."""
    if any("--confirm_seeds" in word for word in grid.command):
        return []
    unsure = {name: one for name, one in choices.items() if one.as_good}
    by_task = []
    for name, one in unsure.items():
        lead, by_selection = one.selection.lead, one.selection.by_selection
        by_task.append(
            Phrase(
                "{task}: {number} of {others} other settings; the whole lead over the average is selection"
                if lead and by_selection >= lead
                else "{task}: {number} of {others} other settings",
                task=TASKS[name].title,
                number=one.as_good,
                others=one.others,
            )  # fmt: skip
        )
    if not unsure:
        return []
    text = Phrase("Some settings can't be told from the best (paired test, 5 % level). More seeds of the best settings "
                  "show which one to take:")  # fmt: skip
    seeds = {"tasks": " ".join(unsure), "confirm_seeds": str(_SEEDS), "top_k": str(_SETTINGS)}
    return [Advice(text, changed(grid.command, **seeds) if grid.command else None, tuple(by_task))]


def _cheaper(grid: GridFile, outcomes: Mapping[str, Sequence[Outcome]]) -> list[Advice]:
    """The halving rule that was safe on every task of this grid, for the next model."""
    if grid.search or not outcomes or all(one[0].trials < 3 for one in outcomes.values()):
        return []
    best = recommended(list(outcomes.values()))
    if best is None:
        return [
            Advice(Phrase("No halving rule was safe on every task of this grid: the next model needs the whole grid."))
        ]
    rungs = ", ".join(map(str, best.rule.rungs))
    rule = Phrase("1 setting in {keep} goes on at {rungs} of the steps", keep=best.rule.keep, rungs=rungs)
    text = Phrase("For the next model of this kind: halving ({rule}) was safe on every task of this grid, saved "
                  "{saved} % of the time and lost at most {lost} points. Put its name in place of this one's:",
                  rule=rule, saved=round(100 * best.saved), lost=f"{best.most_lost:.2f}")  # fmt: skip
    flags = {"search": "halving", "keep": str(best.rule.keep), "rungs": rungs.replace(" ", "")}
    return [Advice(text, changed(grid.command, **flags) if grid.command else None)]


def _models(grid: GridFile, trials: Mapping[str, Sequence[FinishedTrial]]) -> list[Advice]:
    if not grid.command:
        return []
    if any(trial.result and trial.result.best_model for of_task in trials.values() for trial in of_task):
        return []
    text = Phrase("No model was kept. To make a submission or to use the models, run each task's best trial once more:")
    return [Advice(text, changed(grid.command, save_best_model="True"))]
