"""What a model really sees of an example: its inputs as tokens, as JSON values and as text for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task
from cluebench.data.official import split_files
from cluebench.data.rows import NO_AGREED_LABEL, load_rows
from cluebench.data.source import DataSource
from cluebench.features import Features, IdiomFeatures, SpanFeatures, TextEncoder, load_features
from cluebench.foundation.json_files import parse

# Examples -------------------------------------------------------------------------------------------------------------


def shown_examples(
    task: Task,
    split: str,
    source: DataSource,
    encoder: TextEncoder,
    limit: int,
    *,
    max_seq_length: int,
    doc_stride: int | None = None,
) -> Iterator[dict[str, Any]]:
    """The first ``limit`` rows of a split and their model inputs, as JSON values; one for each blank of a record.

    ``example`` is the row; ``tokens`` and ``token_type_ids`` hold a sequence without padding, in ``choices`` one for
    each option scored, in ``windows`` one for each window, with the places of the answer's first and last token and
    the characters each token covers. Raises as load_features does.
    """
    features = load_features(
        task, split, source, encoder, None, max_seq_length=max_seq_length, limit=limit, doc_stride=doc_stride
    )
    if task.is_classification:
        rows: Sequence = list(islice(_rows_as_written(task, split, source), limit))
    else:
        rows = load_rows(source, task, split, limit)
    settings = {"max_seq_length": max_seq_length}
    if task.doc_stride is not None:
        settings["doc_stride"] = doc_stride or task.doc_stride
    for example, tag, inputs in _SHOWN[task.kind](encoder, rows, features):
        yield {"task": task.name, "example": example, **tag, **settings, **inputs}


#: (the row, the blank's tag where there is one, the inputs)
_Parts = tuple[dict, dict, dict]


def _texts(encoder: TextEncoder, rows: Sequence, features: Features) -> Iterator[_Parts]:
    for number, row in enumerate(rows):
        yield row, {}, _sequences(encoder, features.batch([number]))[0]


def _rows_as_written(task: Task, split: str, source: DataSource) -> Iterator[dict]:
    """The rows with all their fields, whatever the task uses of them."""
    for file in split_files(task, split):
        for line in source.read(task, file).removeprefix(b"\xef\xbb\xbf").split(b"\n"):
            if line.strip() and ((row := parse(line)).get("label") != NO_AGREED_LABEL or split.startswith("test")):
                yield row


def _questions(encoder: TextEncoder, rows: Sequence, features: Features) -> Iterator[_Parts]:
    for number, row in enumerate(rows):
        example = {
            "id": row.id,
            "context": row.context.split("\n"),
            "question": row.question,
            "choice": list(row.options),
            "answer": None if row.answer is None else row.options[row.answer],
        }
        choices = _sequences(encoder, features.batch([number]))
        yield example, {}, {"choices": choices, "label": row.answer}


def _blanks(encoder: TextEncoder, rows: Sequence, features: IdiomFeatures) -> Iterator[_Parts]:
    for blank, (number, tag) in enumerate(zip(features.records.tolist(), features.tags)):
        row = rows[number]
        example = {"idx": number, "candidates": list(row.candidates), "content": list(row.passages), "answers": None}
        if row.answers is not None:
            indices = list(row.answers.values())
            example["answers"] = {"text": [row.candidates[index] for index in indices], "candidate_id": indices}
        label = None if row.answers is None else row.answers[tag]
        choices = _sequences(encoder, features.batch([blank]))
        yield example, {"tag": tag}, {"choices": choices, "label": label}


def _windows(encoder: TextEncoder, rows: Sequence, features: SpanFeatures) -> Iterator[_Parts]:
    for number, row in enumerate(rows):
        example = {
            "id": row.id,
            "context": row.context,
            "question": row.question,
            "answers": {"text": list(row.answers), "answer_start": list(row.answer_starts)},
        }
        windows = []
        for window in np.flatnonzero(features.rows == number).tolist():
            batch = features.batch([window])
            places = {"start": "start_positions", "end": "end_positions"}
            windows.append(
                {
                    **_sequences(encoder, batch)[0],
                    **{name: int(batch[key][0]) if key in batch else None for name, key in places.items()},
                    "offsets": features.offsets(window),
                }
            )
        yield example, {}, {"windows": windows}


def _sequences(encoder: TextEncoder, batch: dict[str, np.ndarray]) -> list[dict[str, list]]:
    """Tokens and token types of every sequence of one example, without padding."""
    width = batch["input_ids"].shape[-1]
    found = []
    for ids, types in zip(batch["input_ids"].reshape(-1, width), batch["token_type_ids"].reshape(-1, width)):
        length = int(np.flatnonzero(ids != encoder.pad_id)[-1]) + 1  # a sequence ends in [SEP]
        tokens = encoder.tokenizer.convert_ids_to_tokens(ids[:length].tolist())
        found.append({"tokens": tokens, "token_type_ids": types[:length].tolist()})
    return found


_SHOWN: dict[str, Callable[..., Iterator[_Parts]]] = {
    SINGLE: _texts,
    PAIR: _texts,
    CHOICE: _questions,
    IDIOM: _blanks,
    SPAN: _windows,
}


# For people -----------------------------------------------------------------------------------------------------------


def described(task: Task, example: dict[str, Any]) -> Iterator[str]:
    """Lines that say what `shown_examples` found: a headline, then each sequence, one line a token type."""
    row, limit = example["example"], example["max_seq_length"]
    name = example.get("tag", row.get("id", row.get("idx")))
    yield f"{task.title}" + ("" if name is None else f"  {name}") + _gold(example)
    for number, sequence in enumerate(example.get("choices", ())):
        chosen = "  <- the answer" if number == example["label"] else ""
        yield f"  option {number}, {_length(sequence, limit)}{chosen}"
        yield from _by_type(sequence)
    for number, sequence in enumerate(example.get("windows", ()), start=1):
        yield f"  window {number} of {len(example['windows'])}, {_length(sequence, limit)}{_answer(sequence)}"
        yield from _by_type(sequence)
    if "tokens" in example:
        yield f"  {_length(example, limit)}"
        yield from _by_type(example)


def _gold(example: dict[str, Any]) -> str:
    label = example["example"].get("label")
    return f"  label {label}" if isinstance(label, str) else ""


def _length(sequence: dict[str, Any], limit: int) -> str:
    count = len(sequence["tokens"])
    return f"{count} tokens" + (f", all that max_seq_length {limit} allows" if count == limit else "")


def _answer(window: dict[str, Any]) -> str:
    if window["start"] is None:
        return ""
    if window["end"] == 0:
        return ", without the answer: labelled with [CLS]"
    tokens = " ".join(window["tokens"][window["start"] : window["end"] + 1])
    return f", answer at {window['start']} to {window['end']}: {tokens}"


def _by_type(sequence: dict[str, Any]) -> Iterator[str]:
    """``0: [CLS] … [SEP]`` and ``1: … [SEP]``: the tokens of each run of one token type."""
    types = np.array(sequence["token_type_ids"])
    bounds = [0, *(np.flatnonzero(np.diff(types)) + 1).tolist(), len(types)]
    for start, end in zip(bounds[:-1], bounds[1:]):
        yield f"    {types[start]}: {' '.join(sequence['tokens'][start:end])}"
