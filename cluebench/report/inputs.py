"""The inputs of a model for an example: its tokens, as JSON values and as text."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, Task
from cluebench.data.official import split_files
from cluebench.data.rows import NO_AGREED_LABEL, load_rows
from cluebench.data.source import DataSource
from cluebench.features import FeatureRequest, Features, IdiomFeatures, SpanFeatures, TextEncoder, load_features
from cluebench.foundation.json_files import parse

# Examples -------------------------------------------------------------------------------------------------------------


def shown_examples(
    task: Task, split: str, source: DataSource, encoder: TextEncoder, limit: int
) -> Iterator[dict[str, Any]]:
    """The first ``limit`` rows of a split and their model inputs, as JSON values; a record has one for each blank.

    ``task``: with the lengths to use. ``example`` is the row; ``tokens`` and ``token_type_ids`` are a sequence without
    padding; in ``choices`` there is one for each option, in ``windows`` one for each window, with the places of the
    answer's first and last token and the characters of each token. Raises as load_features does.
    """
    settings: dict[str, Any] = {"max_seq_length": task.max_seq_length}
    if task.doc_stride is not None:
        settings["doc_stride"] = task.doc_stride
    features = load_features(FeatureRequest(task, split, source, encoder, limit=limit), None)
    if task.is_classification:
        rows: Sequence = list(islice(_rows_as_written(task, split, source), limit))
    else:
        rows = load_rows(source, task, split, limit)
    for example, tag, inputs in _SHOWN[task.kind](encoder, rows, features):
        yield {"task": task.name, "example": example, **tag, **settings, **inputs}


#: (the row, the blank's tag if it has one, the inputs)
_Parts = tuple[dict, dict, dict]


def _texts(encoder: TextEncoder, rows: Sequence, features: Features) -> Iterator[_Parts]:
    for number, row in enumerate(rows):
        yield row, {}, _sequences(encoder, features.batch([number]))[0]


def _rows_as_written(task: Task, split: str, source: DataSource) -> Iterator[dict]:
    """The rows with all their fields, even those that the task does not use."""
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
        yield example, {}, {"choices": _sequences(encoder, features.batch([number])), "label": row.answer}


def _blanks(encoder: TextEncoder, rows: Sequence, features: IdiomFeatures) -> Iterator[_Parts]:
    for blank, (number, tag) in enumerate(zip(features.records.tolist(), features.tags)):
        row = rows[number]
        example = {"idx": number, "candidates": list(row.candidates), "content": list(row.passages), "answers": None}
        if row.answers is not None:
            indices = list(row.answers.values())
            example["answers"] = {"text": [row.candidates[index] for index in indices], "candidate_id": indices}
        label = None if row.answers is None else row.answers[tag]
        yield example, {"tag": tag}, {"choices": _sequences(encoder, features.batch([blank])), "label": label}


def _windows(encoder: TextEncoder, rows: Sequence, features: SpanFeatures) -> Iterator[_Parts]:
    places = {"start": "start_positions", "end": "end_positions"}
    for number, row in enumerate(rows):
        answers = {"text": list(row.answers), "answer_start": list(row.answer_starts)}
        example = {"id": row.id, "context": row.context, "question": row.question, "answers": answers}
        windows = []
        for window in np.flatnonzero(features.rows == number).tolist():
            batch = features.batch([window])
            of_answer = {name: int(batch[key][0]) if key in batch else None for name, key in places.items()}
            windows.append({**_sequences(encoder, batch)[0], **of_answer, "offsets": features.offsets(window)})
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
    SINGLE: _texts, PAIR: _texts, CHOICE: _questions, IDIOM: _blanks, SPAN: _windows,
}  # fmt: skip


# As text --------------------------------------------------------------------------------------------------------------


def described(task: Task, example: dict[str, Any]) -> Iterator[str]:
    """The lines of an example of `shown_examples`: a headline, then each sequence, a line for each token type."""
    row, limit = example["example"], example["max_seq_length"]
    name, label = example.get("tag", row.get("id", row.get("idx"))), row.get("label")
    yield task.title + ("" if name is None else f"  {name}") + (f"  label {label}" if isinstance(label, str) else "")
    sequences = [("", example, "")] if "tokens" in example else []
    for number, option in enumerate(example.get("choices", ())):
        sequences.append((f"option {number}, ", option, "  <- the answer" if number == example["label"] else ""))
    windows = example.get("windows", ())
    for number, window in enumerate(windows, start=1):
        sequences.append((f"window {number} of {len(windows)}, ", window, _answer(window)))
    for title, sequence, answer in sequences:
        count = len(sequence["tokens"])
        full = f", all that max_seq_length {limit} allows" if count == limit else ""
        yield f"  {title}{count} tokens{full}{answer}"
        yield from _by_type(sequence)


def _answer(window: dict[str, Any]) -> str:
    if window["start"] is None:
        return ""
    if window["end"] == 0:
        return ", without the answer: labelled with [CLS]"
    tokens = " ".join(window["tokens"][window["start"] : window["end"] + 1])
    return f", answer at {window['start']} to {window['end']}: {tokens}"


def _by_type(sequence: dict[str, Any]) -> Iterator[str]:
    """``0: [CLS] … [SEP]`` and ``1: … [SEP]``: a line for each run of tokens of one type."""
    types = np.array(sequence["token_type_ids"])
    bounds = [0, *(np.flatnonzero(np.diff(types)) + 1).tolist(), len(types)]
    for start, end in zip(bounds[:-1], bounds[1:]):
        yield f"    {types[start]}: {' '.join(sequence['tokens'][start:end])}"
