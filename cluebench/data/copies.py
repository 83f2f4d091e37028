"""Copies of the data sets, such as Hugging Face's, read and written again in the layout of the official files.

Hugging Face's ``clue`` comes as Parquet, as `save_to_disk` writes it (Arrow), or as `to_json` does (one object a line).
Only pyarrow reads the files, because a release of `datasets` can't always open what a later release wrote. The file's
own schema says what an integer label means; it is never guessed. These copies lack rows whose label is ``-`` and a few
fields (see `LOST`), but nothing that a model or a score sees.
"""

import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from cluebench.benchmark.tasks import CHOICE, IDIOM, SPAN, Task
from cluebench.data.official import official_file, split_files
from cluebench.data.rows import IDIOM_TAG
from cluebench.foundation import json_files
from cluebench.foundation.errors import BadFile, DataError
from cluebench.foundation.file_facts import visible

#: What no copy has, in words.
LOST = "test sets of version 1.0 and lists of labels, nor the keywords of TNEWS, nor the levels and genres of OCNLI"

_FORMATS = ("parquet", "arrow", "json")  # the first that is there is read
_PARTS = re.compile(r"-(\d{5})-of-(\d{5})\.")
_COLUMNS = {
    CHOICE: ("id", "context", "question", "choice", "answer"),
    IDIOM: ("candidates", "content", "answers"),
    SPAN: ("id", "context", "question", "answers"),
}
_TASK_FOLDERS = 3  # levels below the data directory that are searched for a task's folder
_MOST_FOLDERS = 2000  # that are searched

Row = dict[str, Any]
_Read = tuple[list[str], bytes | None, Iterable[Row]]  # columns, what `datasets` wrote of the schema, rows


def task_folders(directory: Path, task: Task) -> list[Path]:
    """Folders named as the task, with or without ``_public``, in any case: the directory itself and those below it."""
    names = {task.name, f"{task.name}_public"}
    found = [directory] if directory.resolve().name.lower() in names else []
    level, seen = [directory], 0
    for _ in range(_TASK_FOLDERS):
        below: list[Path] = []
        for folder in level:
            with suppress(OSError):
                below += [path for path in visible(folder) if path.is_dir()]
        found += [path for path in below if path.name.lower() in names]
        level = [path for path in below if path.name.lower() not in names]
        seen += len(below)
        if seen > _MOST_FOLDERS:
            break
    return found


@dataclass(frozen=True)
class Copy:
    """A split of a copy, in place of an official file."""

    task: Task
    file: str  # the official one
    split: str  # "train", "dev" or "test1.1"
    paths: tuple[Path, ...]  # its parts, in order

    def __str__(self) -> str:
        return str(self.paths[0])

    def content(self) -> bytes:
        """The rows as the official file would have them. Raises DataError."""
        rows = [row for path in self.paths for row in _rows_of(path, self.task)]
        try:
            if rows and "idx" in rows[0]:
                rows.sort(key=lambda row: row["idx"])  # the number of the official line
            return _WRITERS.get(self.task.kind, _text_lines)(self, rows).encode()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            reason = f"of another schema: a row has other values ({type(error).__name__}: {error})"
            raise DataError(f"{self.task.name}: found {self} {reason}") from None


def find_copy(folders: Sequence[Path], task: Task, file: str) -> Copy | None:
    """The split of a copy that has the rows of an official file. Raises DataError if parts of it are missing."""
    splits = ("train", "dev", *(test.split for test in task.test_sets if test.version == "1.1"))
    split = next((split for split in splits if file in split_files(task, split)), None)
    if split is None:
        return None
    for folder in folders:
        versions = sorted(folder.glob("*.*.*/*"))  # tnews/1.0.0/<hash>, as in the cache of `datasets`
        for place in (folder, folder / "data", *versions):
            paths = _parts(place, split)
            for kind in _FORMATS:
                found = [path for path in paths if path.suffix.lower().startswith(f".{kind}")]
                if found := [path for path in found if kind != "json" or is_lines(path, task)]:
                    return Copy(task, file, split, _whole(found))
    return None


def _parts(folder: Path, split: str) -> list[Path]:
    """The files of a split in a folder: by their own name, or in a folder named as the split."""
    names = {"train": ("train",), "dev": ("validation", "dev"), "test1.1": ("test",)}[split]
    pattern = rf"(?:[\w.]+[-_])?(?:{'|'.join(names)})(?:-\d{{5}}-of-\d{{5}})?\.(?:parquet|arrow|jsonl?)"
    own = re.compile(pattern, re.IGNORECASE)
    paths = [path for path in visible(folder) if own.fullmatch(path.name) and path.is_file()]
    for name in names:
        paths += sorted([*visible(folder / name, "data-*.arrow"), *visible(folder / name, "*.parquet")])
    return paths


def _whole(paths: list[Path]) -> tuple[Path, ...]:
    """The parts of a split, in order. Raises DataError where parts are missing, or a file of another copy is there."""
    numbered = [match for path in paths if (match := _PARTS.search(path.name))]
    folder, first = paths[0].parent, paths[0].name
    if numbered:
        number = int(numbered[0][2])
        if [int(match[1]) for match in numbered] != list(range(number)) or len(numbered) < len(paths):
            raise DataError(f"{folder} holds {len(paths)} parts such as {first}, not the {number} of one copy")
    elif len(paths) > 1 and not all(path.stem.isdigit() for path in paths):
        raise DataError(f"{folder}: {first} and {paths[1].name} are of one split: leave only the right one")
    return tuple(paths)


# Reading --------------------------------------------------------------------------------------------------------------


def _rows_of(path: Path, task: Task) -> Iterator[Row]:
    """Every row, its label as the official files write it. Raises DataError."""
    import pyarrow  # slow to import, and most people have the official files

    try:
        columns, metadata, rows = (_lines if path.suffix in (".json", ".jsonl") else _table)(path)
        needed = _COLUMNS.get(task.kind) or (*_text_columns(task), "label")
        if lacking := [name for name in needed if name not in columns]:
            has = f"it has the columns {', '.join(columns)}, not {', '.join(lacking)}"
            raise DataError(f"{task.name}: found {path} of another schema: {has}")
        names = _label_names(path, task, metadata) if task.labels else None
        for number, row in enumerate(rows, start=1):
            label = row.get("label")
            if task.labels and type(label) is int and label != -1:  # -1: a test row has no label
                if names is None:
                    raise DataError(
                        f"{task.name}: {path} has integer labels, and nothing says what they mean: neither a schema in "
                        "it nor dataset_info.json beside it; write it with `to_parquet` or `save_to_disk`"
                    )
                if not 0 <= label < len(names):
                    wrong = f"label {label} is none of the {len(names)} in its schema"
                    raise DataError(f"{task.name}: {path}, row {number}: {wrong}")
                row["label"] = names[label]
            yield row
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{task.name}: {path} can't be read: {reason}") from error


def _table(path: Path) -> _Read:
    """A Parquet or Arrow file."""
    import pyarrow
    from pyarrow import ipc, parquet

    if path.suffix == ".parquet":
        file = parquet.ParquetFile(path)
        schema, batches = file.schema_arrow, file.iter_batches(batch_size=8192)  # the whole table takes more memory
    else:
        stream = pyarrow.memory_map(str(path))
        try:
            table = ipc.open_stream(stream).read_all()
        except pyarrow.ArrowInvalid:  # Arrow's other layout
            table = ipc.open_file(stream).read_all()
        schema, batches = table.schema, table.to_batches(max_chunksize=8192)
    metadata = (schema.metadata or {}).get(b"huggingface")
    return schema.names, metadata, (row for batch in batches for row in batch.to_pylist())


def _lines(path: Path) -> _Read:
    """A file of one object a line."""
    rows = []
    for number, line in enumerate(io.BytesIO(path.read_bytes()), start=1):
        try:
            rows.append(json_files.declared(json_files.parse(line), dict, path))
        except (json_files.NotJson, BadFile) as error:
            raise DataError(f"{path}, line {number}: {error}") from None
    return list(rows[0]) if rows else [], None, rows


def is_lines(path: Path, task: Task) -> bool:
    """Whether a file has one object a line as `to_json` writes them, by its first line, and is not an official file."""
    try:
        with open(path, "rb") as stream:
            row = json_files.converted(json_files.parse(stream.readline(1 << 20)), dict)
    except (OSError, ValueError):
        return False
    columns = _COLUMNS.get(task.kind)
    return columns[-1] in row if columns else type(row.get("label")) is int and "idx" in row


def _text_columns(task: Task) -> tuple[str, ...]:
    return (*task.text_fields, *(("target",) if task.marked_spans else ()))


def _label_names(path: Path, task: Task, metadata: bytes | None) -> list[str] | None:
    """The labels in the file's schema, or in dataset_info.json beside it; None where neither has them."""
    try:
        info = json_files.parse(metadata)["info"] if metadata else None
        for folder in (path.parent, path.parent.parent):
            info = info or json_files.read_if_sound(folder / "dataset_info.json", dict)
        names = info["features"].get("label", {}).get("names") if info else None
        unknown = [name for name in names or () if name not in task.labels]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{task.name}: {path}: its schema can't be read: {error}") from None
    if unknown:
        wrong = f"its label {unknown[0]!r} is none of the task's"
        raise DataError(f"{task.name}: found {path} of another schema: {wrong}")
    return names


# Writing as the official files are ------------------------------------------------------------------------------------


def _text_lines(copy: Copy, rows: list[Row]) -> str:
    """Keys in the order that most official files have, so that the bytes may be theirs, too."""
    task, is_test = copy.task, copy.split.startswith("test")
    fields = [*sorted(_text_columns(task)), *(() if is_test else ("label",))]
    lines = []
    for row in rows:
        number = row.get("corpus_id", row.get("idx") if is_test or task.line_ids else None)
        line = ({} if number is None else {"id": number}) | {name: row[name] for name in fields}
        if task.marked_spans and isinstance(row["target"], dict):
            line["target"] = dict(sorted(row["target"].items()))
        lines.append(_json(line))
    return "\n".join(lines)


def _choice_document(copy: Copy, rows: list[Row]) -> str:
    """Questions with the same number are about the same passage; a test set has the questions' own ids instead."""
    passage, own = ("context", "id") if copy.split.startswith("test") else ("id", "answer")
    items = []
    for _, of_passage in groupby(_rows_of_file(copy, rows), lambda row: row[passage]):
        questions = list(of_passage)
        asked = [{name: question[name] for name in ("question", "choice", own)} for question in questions]
        items.append([questions[0]["context"], asked])
    return f"[{_join(items)}]"


def _rows_of_file(copy: Copy, rows: list[Row]) -> list[Row]:
    """The rows of one official file: a split of a copy may have the rows of several, one file after the other."""
    files = split_files(copy.task, copy.split)
    place, official = files.index(copy.file), [official_file(copy.task, file) for file in files]
    numbers = [file.rows if file and file.rows else len(rows) for file in official]
    start = sum(numbers[:place])
    return rows[start:] if copy.file == files[-1] else rows[start : start + numbers[place]]


def _idiom_lines(copy: Copy, rows: list[Row]) -> str:
    if copy.file not in copy.task.answer_files.values():
        return "\n".join(_json({"content": row["content"], "candidates": row["candidates"]}) for row in rows)
    answers: dict[str, Any] = {}
    for number, row in enumerate(rows, start=1):
        tags = IDIOM_TAG.findall("".join(row["content"]))
        chosen = row["answers"]["candidate_id"]
        if len(chosen) != len(tags):
            raise DataError(f"{copy.task.name}: {copy}, row {number}: {len(chosen)} answers to {len(tags)} blanks")
        answers |= zip(tags, chosen)
    return _json(answers)


def _span_document(copy: Copy, rows: list[Row]) -> str:
    articles = []
    for context, of_context in groupby(rows, lambda row: row["context"]):
        questions = []
        for row in of_context:
            pairs = zip(row["answers"]["text"], row["answers"]["answer_start"])
            answers = [{"text": text, "answer_start": start} for text, start in pairs]
            questions.append({"id": row["id"], "question": row["question"], "answers": answers})
        articles.append({"paragraphs": [{"context": context, "qas": questions}]})
    return f'{{"data": [{_join(articles)}]}}'


def _join(values: list) -> str:
    return ",\n".join(map(_json, values))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


_WRITERS = {CHOICE: _choice_document, IDIOM: _idiom_lines, SPAN: _span_document}
