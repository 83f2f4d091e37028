"""What to do next with a grid: pieces of advice with their reasons, and commands to type."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluebench.benchmark.tasks import SPAN, TASKS, Task
from cluebench.foundation.text import Phrase
from cluebench.records.finished_trials import FinishedTrial
from cluebench.records.grid_file import GridFile
from cluebench.records.identity import VARIED
from cluebench.records.result import Result
from cluebench.report.comparability import unlike_published
from cluebench.report.evidence import Choice
from cluebench.report.run import Run
from cluebench.report.scores import Best
from cluebench.search.replay import Outcome, recommended

#: Of the advice to confirm a choice with more seeds.
_SEEDS, _SETTINGS = 5, 3


@dataclass(frozen=True)
class Advice:
    """``command``: to type at the root of the repository."""

    text: Phrase
    command: str | None = None
    by_task: tuple[Phrase, ...] = ()


def changed(command: Sequence[str], **flags: str | None) -> str:
    """The grid's command with other flags: a value replaces the typed one, None removes the flag. Empty without one."""
    words: list[str] = []
    is_removed = False
    for word in command:
        if word.startswith("--"):
            is_removed = word[2:].partition("=")[0] in {*flags, "dry_run", "status", "worker"}
        if not is_removed:
            words.append(word)
    more = [f"--{name} {value}" for name, value in flags.items() if value is not None]
    return " ".join([shlex.join(["python", *words]), *more]) if command else ""


def advice(run: Run, choices: Mapping[str, Choice], outcomes: Mapping[str, Sequence[Outcome]]) -> list[Advice]:
    """For a grid that does not run; failures come first. By task name: how certain its best trial is, and the rules."""
    if run.grid is None or run.is_running:
        return []
    found = [*_rest(run.grid)]
    if run.bests:
        found += _edges(run.grid, run.bests, run.edges)
        found += [*_choices(run.grid, choices), *_cheaper(run.grid, outcomes), *_models(run.grid, run.trials)]
    return found


def _rest(grid: GridFile) -> Iterator[Advice]:
    """Failed trials, and trials that were not run."""
    states, command = Counter(trial.state for trial in grid.trials), changed(grid.command)
    if states["failed"]:
        failures = [trial.failures[-1].kind for trial in grid.trials if trial.state == "failed" and trial.failures]
        text = Phrase("{number} trials failed ({kinds}). When the cause is gone, the same command tries them again:",
                      number=states["failed"], kinds=", ".join(dict.fromkeys(failures)))  # fmt: skip
        yield Advice(text, command)
    if left := len(grid.trials) - states["done"] - states["failed"] - states["stopped"]:
        text = Phrase("The grid stopped with {number} trials left. The same command continues it:", number=left)
        yield Advice(text, command)


def _edges(grid: GridFile, bests: Mapping[str, Best], edges: Mapping[tuple[str, str], str]) -> Iterator[Advice]:
    """A command for each edge, because their settings differ."""
    for (name, axis), edge in edges.items():
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
        flags = dict(zip(("learning_rates", "batch_sizes", "dropouts"), map(str, further)))
        yield Advice(text, changed(grid.command, best_only=None, tasks=name, **flags))


def _choices(grid: GridFile, choices: Mapping[str, Choice]) -> Iterator[Advice]:
    """Tasks whose best setting may be another one; none after further seeds have been run."""
    unsure = {name: choice for name, choice in choices.items() if choice.as_good}
    if not unsure or any("--confirm_seeds" in word for word in grid.command):
        return
    by_task = tuple(
        Phrase(
            "{task}: {number} of {others} other settings; the whole lead over the average is selection"
            if choice.selection.lead and choice.selection.by_selection >= choice.selection.lead
            else "{task}: {number} of {others} other settings",
            task=TASKS[name].title, number=choice.as_good, others=choice.others,
        )
        for name, choice in unsure.items()
    )  # fmt: skip
    text = Phrase("Some settings do not differ significantly from the best (paired test, 5 % level). More seeds of the "
                  "best settings show which one to use:")  # fmt: skip
    seeds = {"tasks": " ".join(unsure), "confirm_seeds": str(_SEEDS), "top_k": str(_SETTINGS)}
    yield Advice(text, changed(grid.command, **seeds), by_task)


def _cheaper(grid: GridFile, outcomes: Mapping[str, Sequence[Outcome]]) -> Iterator[Advice]:
    """The halving rule that was safe on every task of this grid, for the next model."""
    if grid.search or not outcomes or all(of_task[0].trials < 3 for of_task in outcomes.values()):
        return
    best = recommended(list(outcomes.values()))
    if best is None:
        text = Phrase("No halving rule was safe on every task of this grid: the next model needs the whole grid.")
        yield Advice(text)
        return
    rungs = ", ".join(map(str, best.rule.rungs))
    rule = Phrase("1 setting in {keep} goes on at {rungs} of the steps", keep=best.rule.keep, rungs=rungs)
    text = Phrase("For the next model of this kind: halving ({rule}) was safe on every task of this grid, saved "
                  "{saved} % of the time and lost at most {lost} points. Put its name in place of this one's:",
                  rule=rule, saved=round(100 * best.saved), lost=f"{best.most_lost:.2f}")  # fmt: skip
    flags = {"search": "halving", "keep": str(best.rule.keep), "rungs": rungs.replace(" ", "")}
    yield Advice(text, changed(grid.command, **flags))


def _models(grid: GridFile, trials: Mapping[str, Sequence[FinishedTrial]]) -> Iterator[Advice]:
    kept = any(trial.result and trial.result.best_model for of_task in trials.values() for trial in of_task)
    if grid.command and not kept:
        text = "No model was kept. To make a submission or to use the models, run each task's best trial once more:"
        yield Advice(Phrase(text), changed(grid.command, save_best_model="True"))


#: Settings whose flags have other names.
_FLAG_OF = {"epochs": "num_train_epochs", "eval_every_steps": "save_steps"}


def rerun(task: Task, result: Result, model: str, data_dir: str | None) -> str | None:
    """One line to type at the repository's root. Its run has the same configuration, and uses one device.

    None if settings are missing, or are not flags of the task's script, like those of PaddleNLP's Trainer.
    """
    settings: dict[str, Any] = result.configuration
    if not {*VARIED, "amp"} <= settings.keys():
        return None
    flags: dict[str, Any] = {"task_name": task.title} if task.is_classification else {}
    flags |= {"model_name_or_path": model, "do_train": True}
    flags |= {name: settings[name] for name in VARIED}
    flags["gradient_accumulation_steps"] = result.accumulation_steps * result.cards
    flags["padding"] = (task.kind != SPAN and "padding" not in settings) or None
    flags["amp"] = settings["amp"] if settings["amp"] != "off" else None
    for name, (value, _) in unlike_published(task, settings).items():
        warmup = "warmup_steps" if isinstance(value, int) else "warmup_proportion"
        flags[warmup if name == "warmup" else _FLAG_OF.get(name, name)] = value
    if any(isinstance(value, dict) for value in flags.values()):
        return None
    flags |= {"data_dir": data_dir, "output_dir": f"reproduced/{task.name}"}
    words = ["python", task.script]
    for name, value in flags.items():
        if value is not None:
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return shlex.join(words)
