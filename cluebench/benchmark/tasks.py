"""The ten CLUE tasks and their published hyper-parameter grids, as data.

Only this module holds a task's numbers. Everything that differs between tasks is a field of their rows; no other module
compares task names.

Sources: Xu et al. 2020, "CLUE: A Chinese Language Understanding Evaluation Benchmark" for the tasks and metrics; the
CLUE Benchmark document of PaddleNLP for epochs, lengths, warm-up, cards and grids.
"""

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
    """Sort key of a score: higher is better; then the smaller learning rate, then batch size, then dropout."""
    return (round(score[0], 2), -setting.learning_rate, -setting.batch_size, -setting.dropout)


@dataclass(frozen=True)
class Grid:
    """The hyper-parameters of a task's trials: the cross product of the three."""

    learning_rates: tuple[float, ...]
    batch_sizes: tuple[int, ...]
    dropouts: tuple[float, ...] = (0.1,)

    def points(self) -> Iterator[Setting]:
        """The settings, in the order of the tables."""
        return (Setting(*point) for point in product(self.learning_rates, self.batch_sizes, self.dropouts))


@dataclass(frozen=True)
class TestSet:
    """One official test set and the name of its predictions on the leaderboard."""

    __test__ = False  # so that pytest does not collect it

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

    Exactly one of ``accumulation`` and ``micro_batch`` is set: the number or the size of a batch's micro-batches on one
    card.
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
    group_segment: int = 0  # classification: rows with the same text in this segment are not independent
    line_ids: bool = False  # ids of train and dev are line numbers, which copies keep
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
        """Every official file of this task."""
        tests, labels = (test.file for test in self.test_sets), [self.label_file] if self.label_file else []
        return (*self.train_files, *self.dev_files, *tests, *self.answer_files.values(), *labels)

    @property
    def is_classification(self) -> bool:
        return self.kind in (SINGLE, PAIR)

    def accumulation_steps(self, batch_size: int, cards: int = 1) -> int:
        """Micro-batches per optimizer step and card, if ``cards`` cards together process ``batch_size`` rows per step.

        Raises ValueError if the batch can't be split evenly, naming the task and the numbers.
        """
        steps = self.accumulation or batch_size // (self.micro_batch or 1)
        batch = f"{self.title}: batch size {batch_size}"
        if cards > 1:
            if batch_size % cards or steps % cards and steps != 1:
                raise ValueError(f"{batch} in {steps} micro-batches can't be split over {cards} cards")
            steps = max(1, steps // cards)
        if steps < 1 or (batch_size // cards) % steps:
            raise ValueError(f"{batch} can't be split into {steps} equal micro-batches on {cards} card(s)")
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


_RATES = (1e-5, 2e-5, 3e-5, 5e-5)
_READING_GRID = Grid((1e-5, 2e-5, 3e-5), (24, 32))
_SCRIPTS = {SPAN: "mrc/run_cmrc2018.py", IDIOM: "mrc/run_chid.py", CHOICE: "mrc/run_c3.py"}


def _tests(new: str, old: str = "", file: str = "test.json") -> tuple[TestSet, ...]:
    """Version 1.1, and version 1.0 if it has a test set of its own; ``new``, ``old``: names of their submissions."""
    tests = (TestSet("1.1", file, f"{new}_predict.json"),)
    return (*tests, TestSet("1.0", "test1.0.json", f"{old}_predict.json")) if old else tests


def _task(name: str, kind: str, epochs: int, **more: Any) -> Task:
    """A row; most of the seven classification tasks share the settings that ``more`` does not name."""
    settings: dict[str, Any] = dict(
        title=name.upper(),
        script=_SCRIPTS.get(kind, CLASSIFICATION_SCRIPT),
        train_files=("train.json",),
        dev_files=("dev.json",),
        test_sets=_tests(name),
        max_seq_length=128,
        grid=Grid(_RATES, (16, 32, 64)),
    )
    return Task(name=name, kind=kind, epochs=epochs, **settings | more)


def _codes(*numbers: int) -> tuple[str, ...]:
    return tuple(map(str, numbers))


# fmt: off
_ROWS = (
    _task("afqmc", PAIR, 3, text_fields=("sentence1", "sentence2"), labels=_codes(0, 1)),
    _task("tnews", SINGLE, 3, text_fields=("sentence",), label_file="labels.json",
          test_sets=_tests("tnews11", "tnews10"),
          labels=_codes(100, 101, 102, 103, 104, 106, 107, 108, 109, 110, 112, 113, 114, 115, 116)),
    _task("iflytek", SINGLE, 3, text_fields=("sentence",), label_file="labels.json", labels=_codes(*range(119)),
          grid=Grid(_RATES, (16, 32, 64), (0.1, 0.0))),
    _task("cmnli", PAIR, 2, text_fields=("sentence1", "sentence2"), labels=("contradiction", "entailment", "neutral")),
    _task("ocnli", PAIR, 5, text_fields=("sentence1", "sentence2"), labels=("entailment", "contradiction", "neutral"),
          train_files=("train.50k.json",), test_sets=_tests("ocnli_50k"), line_ids=True),
    _task("cluewsc2020", SINGLE, 50, text_fields=("text",), labels=("true", "false"), marked_spans=True,
          test_sets=_tests("cluewsc11", "cluewsc10"), grid=Grid(_RATES, (8, 16, 32, 64), (0.1, 0.0))),
    _task("csl", PAIR, 5, text_fields=("keyword", "abst"), labels=_codes(0, 1), joined_field="keyword", group_segment=1,
          max_seq_length=256, accumulation=2),
    _task("cmrc2018", SPAN, 2, metric="em_f1", max_seq_length=512, max_grad_norm=None, eval_every_steps=None, cards=2,
          accumulation=4, doc_stride=128, max_answer_length=50, n_best_size=20, grid=_READING_GRID),
    _task("chid", IDIOM, 3, test_sets=_tests("chid11", "chid10", file="test1.1.json"), num_choices=10,
          answer_files={"train.json": "train_answer.json", "dev.json": "dev_answer.json"}, max_seq_length=64,
          warmup_proportion=0.06, eval_every_steps=None, cards=4, accumulation=8, grid=_READING_GRID),
    _task("c3", CHOICE, 8, train_files=("d-train.json", "m-train.json"), dev_files=("d-dev.json", "m-dev.json"),
          test_sets=_tests("c311", "c310", file="test1.1.json"), num_choices=4, max_seq_length=512,
          eval_every_steps=None, cards=4, accumulation=None, micro_batch=2, grid=_READING_GRID),
)
# fmt: on

#: Name → task, in the order of the tables.
TASKS: dict[str, Task] = {task.name: task for task in _ROWS}

#: The organisers' set of linguistic phenomena. It is no task of the grid: models of a task with its labels predict it.
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


def task_named(name: str, flag: str = "--task") -> Task:
    """The row of a task, its name in any case. Raises UsageError with the flag and the names of all tasks."""
    try:
        return TASKS[name.strip().lower()]
    except KeyError:
        raise UsageError(f"{flag}: unknown task {name!r}; the tasks are {', '.join(TASKS)}") from None


def tasks_named(names: Iterable[str]) -> list[Task]:
    """The rows behind --tasks, in the order of the names; all ten without any. Raises UsageError."""
    return list(dict.fromkeys(task_named(name, "--tasks") for name in names)) or list(TASKS.values())
