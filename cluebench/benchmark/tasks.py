"""The ten CLUE tasks and their published hyper-parameter grids, as data.

This is the only module that knows a task's numbers. Everything that differs from one task to another is a field of
its row; no other module compares task names.

Sources: Xu et al. 2020, "CLUE: A Chinese Language Understanding Evaluation Benchmark" for the tasks and metrics; the
CLUE Benchmark document of PaddleNLP for epochs, lengths, warm-up, cards and grids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, NamedTuple

from cluebench.foundation.errors import UsageError

#: Seed of the published runs; trials with this seed carry no seed suffix in their file names.
DEFAULT_SEED = 42

#: Kinds of model input and decoding.
SINGLE, PAIR, CHOICE, IDIOM, SPAN = "single", "pair", "choice", "idiom", "span"

CLASSIFICATION_SCRIPT = "classification/run_clue_classifier.py"


class Setting(NamedTuple):
    """A point of a task's grid."""

    learning_rate: float
    batch_size: int  # over all cards
    dropout: float


def rank(score: Sequence[float], setting: Setting) -> tuple[float, ...]:
    """Sort key of a score: higher is better. Equal ones go to the smaller learning rate, then batch, then dropout."""
    return (round(score[0], 2), -setting.learning_rate, -setting.batch_size, -setting.dropout)


@dataclass(frozen=True)
class Grid:
    """The hyper-parameters tried for a task: the cross product of the three."""

    learning_rates: tuple[float, ...]
    batch_sizes: tuple[int, ...]
    dropouts: tuple[float, ...] = (0.1,)

    def points(self) -> Iterator[Setting]:
        """In table order."""
        return (Setting(*point) for point in product(self.learning_rates, self.batch_sizes, self.dropouts))


@dataclass(frozen=True)
class TestSet:
    """One official test set and the name its predictions carry on the leaderboard."""

    __test__ = False  # not a test case, whatever pytest thinks of the name

    version: str  # leaderboard version: "1.0" or "1.1"; tasks with one test set use it for both
    file: str  # official file name
    submission: str  # file name in an upload

    @property
    def split(self) -> str:
        """Its name beside "train" and "dev"."""
        return f"test{self.version}"


@dataclass(frozen=True)
class Task:
    """One row of the benchmark.

    ``accumulation`` and ``micro_batch`` say how the batch is reached on one card: by a fixed number of micro-batches,
    or by micro-batches of a fixed size (exactly one of them is set).
    """

    name: str  # lower case, as in paths and flags
    title: str  # upper case, as in tables
    kind: str  # SINGLE, PAIR, CHOICE, IDIOM or SPAN
    script: str  # the fine-tuning script, relative to the repository
    train_files: tuple[str, ...]
    dev_files: tuple[str, ...]
    test_sets: tuple[TestSet, ...]
    epochs: int
    max_seq_length: int  # tokens, special tokens included
    grid: Grid
    text_fields: tuple[str, ...] = ()  # classification: row keys of the first and second segment
    joined_field: str | None = None  # a list-valued text field, joined by one space
    marked_spans: bool = False  # mark the noun and the pronoun in the text (CLUEWSC2020)
    group_segment: int = 0  # classification: which text rows share that are no independent evidence, as of one premise
    line_ids: bool = False  # ids of train and dev are the lines' numbers, which copies keep
    labels: tuple[str, ...] = ()  # classification: label strings in index order
    label_file: str | None = None  # official list of the labels, one JSON object a line
    answer_files: dict[str, str] = field(default_factory=dict, hash=False)  # official file → file with its answers
    num_choices: int = 0  # choice and idiom: options scored together in training; 0 elsewhere
    metric: str = "accuracy"  # "accuracy" or "em_f1"
    warmup_proportion: float = 0.1  # share of the optimizer steps
    max_grad_norm: float | None = 1.0  # global norm; None: not clipped
    eval_every_steps: int | None = 100  # optimizer steps between dev evaluations; None: after every epoch
    cards: int = 1  # cards of the published runs
    accumulation: int | None = 1  # micro-batches per optimizer step on one card
    micro_batch: int | None = None  # rows per micro-batch
    doc_stride: int | None = None  # span: tokens a window advances by
    max_query_length: int | None = None  # span: tokens of the question kept; None: all, as published
    max_answer_length: int | None = None  # span: longest answer decoded, in tokens
    n_best_size: int | None = None  # span: best starts and ends combined

    @property
    def files(self) -> tuple[str, ...]:
        """Every official file the benchmark reads for this task."""
        tests = tuple(test.file for test in self.test_sets)
        answers = tuple(self.answer_files.values())
        return self.train_files + self.dev_files + tests + answers + ((self.label_file,) if self.label_file else ())

    @property
    def is_classification(self) -> bool:
        return self.kind in (SINGLE, PAIR)

    def accumulation_steps(self, batch_size: int, cards: int = 1) -> int:
        """Micro-batches per optimizer step and card, so that ``cards`` cards together take ``batch_size`` rows a step.

        Raises ValueError when the batch can't be split evenly, naming the task and the numbers.
        """
        steps = batch_size // self.micro_batch if self.micro_batch else self.accumulation or 1
        if cards > 1:
            if batch_size % cards or steps % cards and steps != 1:
                raise ValueError(
                    f"{self.title}: batch size {batch_size} in {steps} micro-batches can't be split over {cards} cards"
                )
            steps = max(1, steps // cards)
        if steps < 1 or (batch_size // cards) % steps:
            raise ValueError(
                f"{self.title}: batch size {batch_size} can't be split into {steps} equal micro-batches on "
                f"{cards} card(s)"
            )
        return steps

    def parse_score(self, text: str) -> tuple[float, ...]:
        """``"57.00"`` → (57.0,), ``"65.83/87.30"`` → (65.83, 87.3); the first number ranks trials."""
        numbers = tuple(float(part) for part in text.split("/"))
        if len(numbers) != (2 if self.metric == "em_f1" else 1):
            raise ValueError(f"{self.title}: {text!r} is not a score of metric {self.metric}")
        return numbers

    def format_score(self, score: tuple[float, ...]) -> str:
        """Percentages with two decimals, EM and F1 joined by a slash, as in published tables."""
        return "/".join(f"{number:.2f}" for number in score)


_CLASSIFICATION_RATES = (1e-5, 2e-5, 3e-5, 5e-5)
_READING_GRID = Grid((1e-5, 2e-5, 3e-5), (24, 32))
_BOOLEAN = ("0", "1")


def _classification(
    name: str, kind: str, fields: tuple[str, ...], labels: tuple[str, ...], epochs: int, **more: Any
) -> Task:
    """A classification row with the settings most of the seven share."""
    settings: dict[str, Any] = dict(
        script=CLASSIFICATION_SCRIPT,
        train_files=("train.json",),
        dev_files=("dev.json",),
        test_sets=(TestSet("1.1", "test.json", f"{name}_predict.json"),),
        max_seq_length=128,
        grid=Grid(_CLASSIFICATION_RATES, (16, 32, 64)),
    )
    settings.update(more)
    return Task(name=name, title=name.upper(), kind=kind, text_fields=fields, labels=labels, epochs=epochs, **settings)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _classification("afqmc", PAIR, ("sentence1", "sentence2"), _BOOLEAN, epochs=3),
        _classification(
            "tnews",
            SINGLE,
            ("sentence",),
            tuple(str(code) for code in (100, 101, 102, 103, 104, 106, 107, 108, 109, 110, 112, 113, 114, 115, 116)),
            epochs=3,
            test_sets=(
                TestSet("1.1", "test.json", "tnews11_predict.json"),
                TestSet("1.0", "test1.0.json", "tnews10_predict.json"),
            ),
            label_file="labels.json",
        ),
        _classification(
            "iflytek",
            SINGLE,
            ("sentence",),
            tuple(str(code) for code in range(119)),
            epochs=3,
            grid=Grid(_CLASSIFICATION_RATES, (16, 32, 64), (0.1, 0.0)),
            label_file="labels.json",
        ),
        _classification(
            "cmnli", PAIR, ("sentence1", "sentence2"), ("contradiction", "entailment", "neutral"), epochs=2
        ),
        _classification(
            "ocnli",
            PAIR,
            ("sentence1", "sentence2"),
            ("entailment", "contradiction", "neutral"),
            epochs=5,
            train_files=("train.50k.json",),
            test_sets=(TestSet("1.1", "test.json", "ocnli_50k_predict.json"),),
            line_ids=True,
        ),
        _classification(
            "cluewsc2020",
            SINGLE,
            ("text",),
            ("true", "false"),
            epochs=50,
            marked_spans=True,
            test_sets=(
                TestSet("1.1", "test.json", "cluewsc11_predict.json"),
                TestSet("1.0", "test1.0.json", "cluewsc10_predict.json"),
            ),
            grid=Grid(_CLASSIFICATION_RATES, (8, 16, 32, 64), (0.1, 0.0)),
        ),
        _classification(
            "csl",
            PAIR,
            ("keyword", "abst"),
            _BOOLEAN,
            epochs=5,
            joined_field="keyword",
            group_segment=1,
            max_seq_length=256,
            accumulation=2,
        ),
        Task(
            name="cmrc2018",
            title="CMRC2018",
            kind=SPAN,
            script="mrc/run_cmrc2018.py",
            train_files=("train.json",),
            dev_files=("dev.json",),
            test_sets=(TestSet("1.1", "test.json", "cmrc2018_predict.json"),),
            metric="em_f1",
            epochs=2,
            max_seq_length=512,
            max_grad_norm=None,
            eval_every_steps=None,
            cards=2,
            accumulation=4,
            doc_stride=128,
            max_answer_length=50,
            n_best_size=20,
            grid=_READING_GRID,
        ),
        Task(
            name="chid",
            title="CHID",
            kind=IDIOM,
            script="mrc/run_chid.py",
            train_files=("train.json",),
            dev_files=("dev.json",),
            test_sets=(
                TestSet("1.1", "test1.1.json", "chid11_predict.json"),
                TestSet("1.0", "test1.0.json", "chid10_predict.json"),
            ),
            answer_files={"train.json": "train_answer.json", "dev.json": "dev_answer.json"},
            num_choices=10,
            epochs=3,
            max_seq_length=64,
            warmup_proportion=0.06,
            eval_every_steps=None,
            cards=4,
            accumulation=8,
            grid=_READING_GRID,
        ),
        Task(
            name="c3",
            title="C3",
            kind=CHOICE,
            script="mrc/run_c3.py",
            train_files=("d-train.json", "m-train.json"),
            dev_files=("d-dev.json", "m-dev.json"),
            test_sets=(
                TestSet("1.1", "test1.1.json", "c311_predict.json"),
                TestSet("1.0", "test1.0.json", "c310_predict.json"),
            ),
            num_choices=4,
            epochs=8,
            max_seq_length=512,
            eval_every_steps=None,
            cards=4,
            accumulation=None,
            micro_batch=2,
            grid=_READING_GRID,
        ),
    )
}

#: The organisers' set of linguistic phenomena: no task of the grid, but predicted by a model of the task it is like.
DIAGNOSED = TASKS["cmnli"]
DIAGNOSTICS = replace(
    DIAGNOSED,
    name="clue_diagnostics",
    title="DIAGNOSTICS",
    text_fields=("premise", "hypothesis"),
    train_files=(),
    dev_files=(),
    test_sets=(TestSet("1.1", "diagnostics_test.json", "diagnostics_predict.json"),),
)


def task_named(name: str) -> Task:
    """The row of a task, its name in any case. Raises ValueError listing the known names."""
    try:
        return TASKS[name.strip().lower()]
    except KeyError:
        raise ValueError(f"unknown task {name!r}; the tasks are {', '.join(TASKS)}") from None


def tasks_named(names: Iterable[str]) -> list[Task]:
    """The rows behind --tasks, in the order of the names; all ten without any. Raises UsageError."""
    try:
        return list(dict.fromkeys(map(task_named, names))) or list(TASKS.values())
    except ValueError as error:
        raise UsageError(f"--tasks: {error}") from None
