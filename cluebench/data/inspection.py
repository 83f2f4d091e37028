"""What is in a task's data, in numbers that a reader of its scores needs: as values, as text or as a markdown table."""

import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field
from functools import cache
from typing import Any

import numpy as np

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, TASKS, Task
from cluebench.data import overlap, row_facts
from cluebench.data.official import official_file, split_files
from cluebench.data.overlap import Repeated, Units
from cluebench.data.row_facts import Floors, RowFacts, surface
from cluebench.data.rows import hash_of_rows, load_rows, stands
from cluebench.data.source import DataSource
from cluebench.foundation.text import Table, as_json

FORMATS = ("text", "markdown", "json")

#: Of twins: all texts of a row together.
WHOLE = "whole row"

#: A word of Latin letters or digits, or one other character: every tokenizer makes at least these tokens of a text.
_LEAST_TOKENS = re.compile(r"[A-Za-z0-9]+|[^\sA-Za-z0-9]")


@dataclass(frozen=True)
class Twins:
    """Rows of a split whose texts are in train."""

    exact: int
    normalised: int
    label_right: float | None = None  # percent of the exact ones for which train's most frequent label is right


@dataclass
class SplitFacts:
    """Facts about one split. repeated, groups: of whole rows, and of what rows share. odd: what → number of rows."""

    split: str
    rows: int
    row_hash: str  # see `cluebench.data.rows.hash_of_rows`
    unlabelled: int = 0  # rows of the file that are left out of ``rows``
    labels: dict[str, int] = field(default_factory=dict)
    repeated: Repeated | None = None
    groups: Repeated | None = None
    twins: dict[str, Twins] = field(default_factory=dict)  # of `WHOLE` rows and of each part
    cut: float | None = None  # percent of the rows that are surely longer than the task's length
    odd: dict[str, int] = field(default_factory=dict)
    pronouns: int | None = None  # distinct ones, where rows ask about them
    floors: Floors | None = None  # of dev


@dataclass
class TaskFacts:
    """Facts about one task. official: file → whether its rows are the official ones; None if this is unknown."""

    task: str
    surface: str | None
    splits: list[SplitFacts]
    official: dict[str, bool | None]


def inspect(source: DataSource, task: Task) -> TaskFacts:
    """Looks at train, dev and, if it is here, the 1.1 test set. Raises DataError if train or dev is missing.

    Scores without twins need some of the facts, which are therefore kept for other commands, see `row_facts`.
    """
    facts = TaskFacts(task.name, surface(task), [], {})
    train = None
    for split in ("train", "dev", *(test.split for test in task.test_sets if test.version == "1.1")):
        if split.startswith("test") and not source.has(task, split_files(task, split)[0]):
            continue
        rows = load_rows(source, task, split)
        units = overlap.units_of(task, rows)
        found = SplitFacts(split, len(units), hash_of_rows(task, rows))
        if task.labels:  # a row a line
            contents = (source.read(task, file) for file in split_files(task, split))
            lines = (line for content in contents for line in io.BytesIO(content))
            found.unlabelled = sum(not line.isspace() for line in lines) - len(rows)
        _describe(found, rows, units)
        facts.splits.append(found)
        if train is None:
            train = units
        else:
            found.twins = _twins(train, units)
        if split == "dev":
            hashes = (facts.splits[0].row_hash, found.row_hash)
            of_rows = RowFacts.of(source.fingerprint(task), hashes, train, units)
            row_facts.keep(of_rows)
            found.floors = of_rows.floors
        for file in split_files(task, split):
            if file not in task.answer_files.values():
                official = official_file(task, file)
                facts.official[file] = source.is_official(task, file) if official and official.md5 else None
    return facts


def _describe(found: SplitFacts, rows: Sequence[Any], units: Units) -> None:
    """What a split holds, whatever other splits hold."""
    task = units.task
    found.repeated = overlap.repeated(units.whole, units.labels)
    found.groups = overlap.repeated(units.groups, units.labels)
    found.cut = _cut(units)
    odd = found.odd
    odd["an empty text"] = sum(any(not text.strip() for text in texts) for texts in zip(*units.parts.values()))
    if task.kind in (CHOICE, IDIOM):
        odd["a repeated option"] = sum(len(set(options)) < len(options) for options in units.options)
    if task.kind == SPAN:
        odd["an answer that is not at its stated place"] = sum(
            not all(stands(row.context, *answer) for answer in zip(row.answers, row.answer_starts)) for row in rows
        )
    if task.marked_spans:
        texts, room = units.parts[task.text_fields[0]], task.max_seq_length - 2
        marked = [text[: max(map(text.rfind, "_]")) + 1] for text in texts]
        odd["marks cut off"] = sum(_least_tokens(text) > room for text in marked)
        found.pronouns = len({text.replace("_", "") for text in texts})
    if task.labels and not found.split.startswith("test"):
        found.labels = dict(sorted(Counter(label for label in units.labels if label is not None).items()))


def _twins(train: Units, units: Units) -> dict[str, Twins]:
    """Counts twins of whole rows, and of each part where there are several."""
    exact, right = overlap.are_in(train.whole, units.whole), None
    if exact.any() and None not in units.labels:
        labels = overlap.label_by_text(train.whole, train.labels)
        right = 100 * float(np.mean([labels[units.whole[row]] == units.labels[row] for row in np.flatnonzero(exact)]))
    found = {WHOLE: Twins(int(exact.sum()), int(overlap.are_in(train.normal, units.normal).sum()), right)}
    for name in units.parts if len(units.parts) > 1 else ():
        pairs = ((train.parts, units.parts), (train.normal_parts, units.normal_parts))
        found[name] = Twins(*(int(overlap.are_in(of_train[name], own[name]).sum()) for of_train, own in pairs))
    return found


def _cut(units: Units) -> float | None:
    """Percent of the rows; None of blanks: their passages are cut to a window round the blank."""
    task = units.task
    if task.kind == IDIOM:
        return None
    room = task.max_seq_length - {SINGLE: 2, PAIR: 3, CHOICE: 4, SPAN: 3}[task.kind]
    count = cache(_least_tokens)
    # Each option is read by itself.
    parts = {name: [max(text.split("\n"), key=count) for text in texts] if name == "options" else texts
             for name, texts in units.parts.items()}  # fmt: skip
    rows = zip(*parts.values())
    return 100 * float(np.mean([sum(map(len, texts)) > room and sum(map(count, texts)) > room for texts in rows]))


def _least_tokens(text: str) -> int:
    return len(_LEAST_TOKENS.findall(text))


# Formats --------------------------------------------------------------------------------------------------------------


def rendered(found: Sequence[TaskFacts], style: str) -> str:
    """The facts in one of FORMATS."""
    if style == "json":
        return as_json([asdict(facts) for facts in found], indent=1)
    pairs = [(facts, split) for facts in found for split in facts.splits]
    rows = [(f"{TASKS[facts.task].title} {split.split}", _cells(facts, split)) for facts, split in pairs]
    if style == "markdown":
        head = ["task, split", "rows", "in train, whole row", "in train, by part", "groups", "floors", "odd, cut"]
        return "\n".join(Table(head, [[name, *cells] for name, cells in rows], words=head).markdown()) + "\n"
    heads = ("rows", "in train", "in train, by part", "groups", "floors", "odd")
    text = ""
    for name, cells in rows:
        text += f"{name}\n" + "".join(f"  {f'{h}:':<19}{cell}\n" for h, cell in zip(heads, cells) if cell != "–")
    return text


def _cells(task: TaskFacts, split: SplitFacts) -> list[str]:
    labels = f", {len(split.labels)} labels" if split.labels else ""
    unlabelled = f", {split.unlabelled} more without a label" if split.unlabelled else ""
    twins = {name: _twins_text(twins) for name, twins in split.twins.items()}
    whole, without_reading = twins.pop(WHOLE, ""), ""
    if split.floors and split.floors.best is not None:
        majority, twin, surface = astuple(split.floors)
        without_reading = f"majority {majority:.2f}, twin {twin:.2f}, {task.surface} {surface:.2f}"
    odd = [f"{number:,} with {what}" for what, number in split.odd.items() if number]
    if (split.cut or 0) >= 0.05:
        odd.append(f"{split.cut:.1f} % cut")
    by_part = "; ".join(f"{name} {text}" for name, text in twins.items())
    rows, groups = f"{split.rows:,}{labels}{unlabelled}", "; ".join(_group_texts(split))
    return [cell or "–" for cell in (rows, whole, by_part, groups, without_reading, "; ".join(odd))]


def _twins_text(twins: Twins) -> str:
    more = "" if twins.normalised == twins.exact else f" ({twins.normalised:,} normalised)"
    right = "" if twins.label_right is None else f", label right {twins.label_right:.2f} %"
    return f"{twins.exact:,}{more}{right}"


def _group_texts(split: SplitFacts) -> list[str]:
    found, groups, repeated = [], split.groups, split.repeated
    if groups and groups.rows:
        about = f"{split.pronouns:,} pronouns in " if split.pronouns else ""
        found.append(f"{about}{split.rows - groups.rows + groups.texts:,} groups of up to {groups.largest}")
    if repeated and repeated.rows:
        found.append(f"{repeated.rows:,} rows repeat {repeated.texts:,} texts")
        rows, texts = repeated.rows_of_several_labels, repeated.texts_of_several_labels
        if texts and split.split in ("train", "dev"):
            found.append(f"{rows:,} rows of {texts:,} with different labels")
    return found
