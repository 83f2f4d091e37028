"""CLUE's diagnostic set: predictions by the best kept model of the task with the same labels, and their accuracy."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluebench.benchmark.tasks import DIAGNOSED, DIAGNOSTICS
from cluebench.data.rows import load_rows
from cluebench.data.source import DataSource
from cluebench.foundation import atomic
from cluebench.foundation.errors import ClueError
from cluebench.foundation.json_files import parse
from cluebench.records import finished_trials
from cluebench.report import scores
from cluebench.statistics.uncertainty import binomial_error
from cluebench.submission import kept
from cluebench.submission.packing import Entry

(_TEST,) = DIAGNOSTICS.test_sets
(_STANDS_FOR,) = DIAGNOSED.test_sets  # the script reads the diagnostic set in place of this one

#: A key with more values holds texts, not categories.
_MOST_CATEGORIES = 40


def entry_for(wanted: Iterable[Entry], source: DataSource) -> Entry | None:
    """An entry of the zip, if its task is wanted and the set is among the official files."""
    if DIAGNOSED not in {entry.task for entry in wanted} or not source.has(DIAGNOSTICS, _TEST.file):
        return None
    return Entry(DIAGNOSTICS, _TEST)


def take_model(entry: Entry, run: Path, source: DataSource, flags: kept.PredictionFlags) -> None:
    """Predicts the set with the best kept model, by its task's script, and points the entry to the file."""
    trials = finished_trials.finished_trials(run).get(DIAGNOSED.name, [])
    model = kept.best_kept_model(run, trials, scores.best_setting(trials))
    if model is None:
        entry.note = f"no model of {DIAGNOSED.title} was kept"
        return
    try:
        rows = load_rows(source, DIAGNOSTICS, _TEST.split)
    except ClueError as error:
        entry.problems.append(f"{_TEST.submission} can't be made: {error}")
        return
    print(f"{DIAGNOSTICS.title}: predicting with {model.folder}", flush=True)
    with tempfile.TemporaryDirectory(dir=model.folder) as folder:
        texts = ({"id": number, **dict(zip(DIAGNOSED.text_fields, row.texts))} for number, row in enumerate(rows))
        lines = "".join(json.dumps(text) + "\n" for text in texts)
        atomic.write_text(Path(folder) / f"{DIAGNOSED.name}_public" / _STANDS_FOR.file, lines)
        failure = kept.predict(model, replace(flags, data_dir=folder), Path(folder))
        made, path = Path(folder) / _STANDS_FOR.submission, model.folder / _TEST.submission
        if made.is_file():
            atomic.write_text(path, made.read_text(encoding="utf-8"))
            entry.path, entry.note = path, f"by {model.name}"
        else:
            entry.problems.append(f"{_TEST.submission} was not predicted: {failure.split(' (see ')[0]}")


def shares_right(content: bytes, source: DataSource) -> Iterator[str]:
    """Lines with the accuracy on the set, in all and by category; none if its file has no labels.

    ``content``: a submission file that has been checked. Every key with few values is a category.
    """
    lines = source.read(DIAGNOSTICS, _TEST.file).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    rows = [parse(line) for line in lines if line.strip()]
    labels = [parse(line)["label"] for line in content.split(b"\n") if line.strip()]
    scored = [
        (row, row["label"] == label) for row, label in zip(rows, labels) if row.get("label") in DIAGNOSTICS.labels
    ]
    if scored:
        yield f"{DIAGNOSTICS.title}: accuracy {_share([right for _, right in scored])}"
    for key in _categories([row for row, _ in scored]):
        for value in sorted({str(row.get(key)) for row, _ in scored}):
            yield f"    {key} {value}: {_share([right for row, right in scored if str(row.get(key)) == value])}"


def _categories(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for row in rows for key in row if key not in ("label", *DIAGNOSTICS.text_fields))
    values = {key: {str(row.get(key)) for row in rows} for key in keys}
    return [key for key in keys if 1 < len(values[key]) <= min(_MOST_CATEGORIES, len(rows) // 2)]


def _share(right: Sequence[bool]) -> str:
    share = sum(right) / len(right)
    return f"{100 * share:.2f} ±{100 * binomial_error(share, len(right)):.2f} of {len(right)} rows"
