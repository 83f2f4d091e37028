"""The published CLUE scores of 27 models and their best hyper-parameters, as package data.

Every number here is published in PaddleNLP's CLUE Benchmark document and was not measured by this project, except the
parameters: they were counted in PaddleNLP's models. Scores are kept as text, as published: one has three decimals.
"""

import csv
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources

from cluebench.benchmark.tasks import TASKS, Setting, Task

ATTRIBUTION = "published in PaddleNLP's CLUE Benchmark document, not measured by this project"


@dataclass(frozen=True)
class PublishedModel:
    """One row of the published table, with the setting that reached each score."""

    name: str  # the model's PaddleNLP name, as users type it
    title: str  # as in the published table
    architecture: str  # layers and hidden size, such as "12L768H"
    parameters: int  # without a task's head
    average: str
    scores: dict[str, str]  # task name → score, EM/F1 for CMRC2018; the tasks of the published table only
    best_settings: dict[str, Setting]  # task name → setting

    def score(self, task: Task) -> tuple[float, ...] | None:
        """Percentages as `Task.parse_score` gives them; None for a task without a published score."""
        return task.parse_score(self.scores[task.name]) if task.name in self.scores else None

    @property
    def layers(self) -> int:
        return int(self.architecture.split("L")[0])

    @property
    def hidden_size(self) -> int:
        return int(self.architecture.split("L")[1].rstrip("H"))


@cache
def published_models() -> dict[str, PublishedModel]:
    """PaddleNLP name → row, in the order of the published table."""
    settings: dict[str, dict[str, Setting]] = {}
    for row in _rows("published_hyperparameters.csv"):
        setting = Setting(float(row["learning_rate"]), int(row["batch_size"]), float(row["dropout"]))
        settings.setdefault(row["paddlenlp_id"], {})[row["task"]] = setting
    return {
        row["paddlenlp_id"]: PublishedModel(
            name=row["paddlenlp_id"],
            title=row["model"],
            architecture=row["arch"],
            parameters=int(row["parameters"]),
            average=row["avg"],
            scores={task: row[task] for task in TASKS if task in row},
            best_settings=settings[row["paddlenlp_id"]],
        )
        for row in _rows("published_scores.csv")
    }


def published_model(name: str) -> PublishedModel | None:
    """The row of a model by its PaddleNLP name; None for any other model."""
    return published_models().get(name)


def unless_published(name: str) -> str:
    """The end of an error about a model's name; empty for a published model."""
    if name in published_models():
        return ""
    near = ", ".join(near_published(name))
    meant = f"; did you mean {near}?" if near else ""
    return f" (none of the {len(published_models())} published models, which README.md lists{meant})"


@cache
def averaged_tasks() -> frozenset[str]:
    """Names of the tasks in the published table; AVG is the mean of their scores."""
    return frozenset().union(*(model.scores for model in published_models().values()))


def _rows(file: str) -> list[dict[str, str]]:
    text = (resources.files("cluebench.benchmark") / "facts" / file).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def near_published(name: str) -> list[str]:
    """The published names that are most like an unpublished name, the nearest first."""
    return [] if name in published_models() else get_close_matches(name.lower(), published_models(), n=3)
