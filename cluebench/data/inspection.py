"""What is in a task's data, in numbers that a reader of its scores needs: as values, as text or as a markdown table."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task
from cluebench.data import overlap, row_facts
from cluebench.data.floors import Floors, floors, surface
from cluebench.data.official import official_files, split_files
from cluebench.data.overlap import Repeated, Units
from cluebench.data.row_facts import RowFacts
from cluebench.data.rows import hash_of_rows, load_rows, stands, unlabelled_rows
from cluebench.data.source import DataSource

FORMATS = ("text", "markdown", "json")

#: Of twins: all texts of a row together.
WHOLE = "whole row"

#: A word of Latin letters or digits, or one other character: no tokenizer makes fewer tokens of a text.
_LEAST_TOKENS = re.compile(r"[A-Za-z0-9]+|[^\sA-Za-z0-9]")


@dataclass(frozen=True)
class Twins:
    """Rows of a split whose texts are in train."""

    exact: int
    normalised: int
    label_right: float | None  # percent of the exact ones of which the most frequent label in train is right


@dataclass
class SplitFacts:
    """Of one split. repeated, groups: see `Repeated`; of whole rows, and of what rows share. odd: what → rows."""

    split: str
    rows: int
    row_hash: str = ""  # see `cluebench.data.rows.hash_of_rows`
    unlabelled: int = 0  # of the file, left out of rows
    labels: dict[str, int] = field(default_factory=dict)
    repeated: Repeated | None = None
    groups: Repeated | None = None
    twins: dict[str, Twins] = field(default_factory=dict)  # of `WHOLE` rows and of each part
    cut: float | None = None  # percent of the rows longer than the task's length, at the least
    odd: dict[str, int] = field(default_factory=dict)
    pronouns: int | None = None  # distinct ones, where rows ask about them
    floors: Floors | None = None  # of dev


@dataclass
class TaskFacts:
    """Of one task. official: of each split file whether its rows are the official ones; None where nobody knows."""

    task: str
    surface: str | None
    splits: list[SplitFacts]
    official: dict[str, bool | None]


def inspect(source: DataSource, task: Task) -> TaskFacts:
    """Of train, dev and the 1.1 test set, as far as they are here. Raises DataError where train or dev is not.

    What scores without twins need of it is kept for other commands, see `row_facts`.
    """
    splits = ["train", "dev", *(test.split for test in task.test_sets if test.version == "1.1")]
    splits = [split for split in splits if split in ("train", "dev") or source.has(task, split_files(task, split)[0])]
    facts = TaskFacts(task.name, surface(task), [], {})
    train = None
    for split in splits:
        rows = load_rows(source, task, split)
        units = overlap.units_of(task, rows)
        train = units if train is None else train
        found = _split(task, split, rows, units, None if units is train else train)
        found.unlabelled, found.row_hash = unlabelled_rows(source, task, split), hash_of_rows(task, rows)
        facts.splits.append(found)
        if found.floors:
            hashes = [one.row_hash for one in facts.splits]
            row_facts.keep(RowFacts.of(task, source.fingerprint(task), hashes, train, units, found.floors))
        for file in split_files(task, split):
            if file not in task.answer_files.values():
                known = official_files().get((task.name, file))
                facts.official[file] = source.is_official(task, file) if known and known.md5 else None
    return facts


def _split(task: Task, split: str, rows: Sequence[Any], units: Units, train: Units | None) -> SplitFacts:
    """``train``: None of train itself."""
    whole = units.whole
    found = SplitFacts(split, len(units), cut=_cut(task, units), odd=dict(_odd(task, rows, units)))
    found.repeated, found.groups = overlap.repeated(whole, units.labels), overlap.repeated(units.groups, units.labels)
    if task.marked_spans:
        found.pronouns = len({row.texts[0].replace("_", "") for row in rows})
    if task.labels and not split.startswith("test"):
        found.labels = dict(sorted(Counter(label for label in units.labels if label is not None).items()))
    if train is not None:
        found.twins = {WHOLE: _twins(train, units, train.whole, whole)}
        if len(units.parts) > 1:
            for name, texts in units.parts.items():
                exact = overlap.stand_in(train.parts[name], texts)
                alike = overlap.stand_in(train.normalised_part(name), units.normalised_part(name))
                found.twins[name] = Twins(int(exact.sum()), int(alike.sum()), None)
        if split == "dev":
            found.floors = floors(task, train, units)
    return found


def _twins(train: Units, units: Units, of_train: Sequence, whole: Sequence) -> Twins:
    exact = overlap.stand_in(of_train, whole)
    known, right = overlap.label_by_text(train, of_train, whole), None
    if exact.any() and None not in units.labels:
        right = 100 * float(np.mean([known[whole[row]] == units.labels[row] for row in np.flatnonzero(exact)]))
    return Twins(int(exact.sum()), int(overlap.twins(train, units).sum()), right)


def _cut(task: Task, units: Units) -> float | None:
    """Of blanks None: their passages are cut to a window round the blank."""
    if task.kind == IDIOM:
        return None
    special = {SINGLE: 2, PAIR: 3, CHOICE: 4, SPAN: 3}[task.kind]
    lengths = np.full(len(units), special)
    for name, texts in units.parts.items():
        known = {text: _least_tokens(text, by_line=name == "options") for text in set(texts)}
        lengths += [known[text] for text in texts]
    return 100 * float(np.mean(lengths > task.max_seq_length))


def _least_tokens(text: str, by_line: bool) -> int:
    """Of several lines the longest one's: they are options, of which each is read by itself."""
    return max(len(_LEAST_TOKENS.findall(line)) for line in (text.split("\n") if by_line else [text]))


def _odd(task: Task, rows: Sequence[Any], units: Units) -> Iterator[tuple[str, int]]:
    """What a row should not be, and how many are."""
    empty = sum(any(not text.strip() for text in texts) for texts in zip(*units.parts.values()))
    yield "an empty text", empty
    if task.kind in (CHOICE, IDIOM):
        yield "a repeated option", sum(len(set(options)) < len(options) for options in units.options)
    if task.kind == SPAN:
        yield (
            "an answer that is not at its stated place",
            sum(
                any(not stands(row.context, *answer) for answer in zip(row.answers, row.answer_starts)) for row in rows
            ),
        )
    if task.marked_spans:
        room = task.max_seq_length - 2
        yield (
            "marks cut off",
            sum(
                len(_LEAST_TOKENS.findall(row.texts[0][: max(map(row.texts[0].rfind, "_]")) + 1])) > room
                for row in rows
            ),
        )


# Formats --------------------------------------------------------------------------------------------------------------


def rendered(found: Sequence[TaskFacts], titles: Mapping[str, str], style: str) -> str:
    """In one of FORMATS. titles: by task name."""
    if style == "json":
        return json.dumps([asdict(one) for one in found], ensure_ascii=False, indent=1) + "\n"
    if style == "markdown":
        head = ["task, split", "rows", "in train, whole row", "in train, by part", "groups", "floors", "odd, cut"]
        lines = [_markdown(head), _markdown(["---"] * len(head))]
        lines += [
            _markdown([f"{titles[one.task]} {split.split}", *_cells(one, split)])
            for one in found
            for split in one.splits
        ]
        return "\n".join(lines) + "\n"
    lines = []
    for one in found:
        names = ("rows", "in train", "in train, by part", "groups", "floors", "odd")
        for split in one.splits:
            lines.append(f"{titles[one.task]} {split.split}")
            lines += [f"  {name + ':':<19}{text}" for name, text in zip(names, _cells(one, split)) if text != "–"]
    return "\n".join(lines) + "\n"


def _markdown(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(task: TaskFacts, split: SplitFacts) -> list[str]:
    shown = {name: _shown_twins(twins) for name, twins in split.twins.items()}
    whole = shown.pop(WHOLE, "–")
    share = "" if (split.cut or 0) < 0.05 else f"{split.cut:.1f} % cut"
    odd = [f"{number:,} with {what}" for what, number in split.odd.items() if number]
    labels = f", {len(split.labels)} labels" if split.labels else ""
    return [
        f"{split.rows:,}{labels}" + (f", {split.unlabelled} more without a label" if split.unlabelled else ""),
        whole,
        "; ".join(f"{name} {text}" for name, text in shown.items()) or "–",
        _shown_groups(split),
        _shown_floors(task, split.floors),
        "; ".join([*odd, *([share] if share else [])]) or "–",
    ]


def _shown_twins(twins: Twins) -> str:
    more = "" if twins.normalised == twins.exact else f" ({twins.normalised:,} normalised)"
    right = "" if twins.label_right is None else f", label right {twins.label_right:.2f} %"
    return f"{twins.exact:,}{more}{right}"


def _shown_groups(split: SplitFacts) -> str:
    found = []
    if split.groups and split.groups.rows:
        number = split.rows - split.groups.rows + split.groups.texts
        about = f"{split.pronouns:,} pronouns in " if split.pronouns else ""
        found.append(f"{about}{number:,} groups of up to {split.groups.largest}")
    if split.repeated and split.repeated.rows:
        found.append(f"{split.repeated.rows:,} rows repeat {split.repeated.texts:,} texts")
        if split.repeated.texts_of_several_labels and split.split in ("train", "dev"):
            apart = split.repeated
            found.append(
                f"{apart.rows_of_several_labels:,} rows of {apart.texts_of_several_labels:,} with different labels"
            )
    return "; ".join(found) or "–"


def _shown_floors(task: TaskFacts, floors: Floors | None) -> str:
    if floors is None or floors.best is None:
        return "–"
    return f"majority {floors.majority:.2f}, twin {floors.twin:.2f}, {task.surface} {floors.surface:.2f}"
