"""What was packed for the leaderboard, and its scores: submit.json, beside the zip and in the run directory."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import cluebench
from cluebench.benchmark.tasks import task_named
from cluebench.foundation import atomic, json_files
from cluebench.foundation.errors import BadFile, UsageError
from cluebench.foundation.file_facts import visible
from cluebench.foundation.json_files import Percent, declared
from cluebench.report.run import Run

RECORD = "submit.json"


@dataclass(frozen=True)
class Submitted:
    """A zip that was packed."""

    model: str  # the name it is for on the leaderboard
    zip: str  # file name
    sha256: str  # of the zip
    date: str  # ISO 8601, UTC
    files: list[str]  # in the zip
    dev: dict[str, dict[str, list[Percent] | None]]  # task → "score" in percent and "error", None if unknown
    versions: dict[str, str]
    test: dict[str, Percent] = field(default_factory=dict)  # task → the leaderboard's score
    format: Literal[1] = 1

    @classmethod
    def read(cls, path: Path) -> "Submitted | None":
        """None if there is no such record, or if it is broken, which is reported."""
        return json_files.read_if_sound(path, cls, otherwise="it counts for nothing")


def remember(output: Path, run: Path | None, model: str, files: Sequence[str]) -> list[str]:
    """Writes the record of a zip beside it and into its run directory; returns warnings. Raises OSError.

    A name under which another zip was packed before is warned about: a leaderboard keeps one row a name.
    """
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    found = {}
    for path in visible(output.parent, "*.json"):
        with suppress(BadFile, FileNotFoundError):  # any other file
            found[path] = json_files.read(path, Submitted)
    if run and (record := Submitted.read(run / RECORD)):
        found[run / RECORD] = record
    same = [record for record in found.values() if record.sha256 == digest and record.model == model]
    others = {record.sha256: record for record in found.values() if record.model == model and record.sha256 != digest}
    dev: dict[str, dict[str, Any]] = {}
    versions = {"cluebench": cluebench.__version__}
    if run:
        opened = Run(run)
        for result in opened.results:
            versions |= result.versions
        for name, best in opened.bests.items():
            errors = opened.evidence[name].error if name in opened.evidence else None
            dev[name] = {"score": list(best.score), "error": errors and list(errors)}
    made = Submitted(
        model=model,
        zip=output.name,
        sha256=digest,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        files=list(files),
        dev=dev,
        versions=versions,
        test=same[0].test if same else {},
    )
    _write(made, output, run)
    return [
        f"warning: {record.zip} was packed for {model} on {record.date[:10]}: the leaderboard overwrites what it has "
        "under that name, and a task that is missing now loses its score there; --name gives another name"
        for record in others.values()
    ]


def enter(output: Path, run: Path | None, given: Sequence[str]) -> Submitted:
    """Adds the leaderboard's scores (``TNEWS=58.12``) to the record of a zip. Raises UsageError."""
    try:
        record = json_files.read(beside(output), Submitted)
    except FileNotFoundError:
        message = f"--score: there is no {beside(output)}: pack the zip first, or name it by --output"
        raise UsageError(message) from None
    test = dict(record.test)
    for text in given:
        name, _, number = text.partition("=")
        try:
            test[task_named(name).name] = declared(float(number), Percent, text)
        except (ValueError, UsageError):
            raise UsageError(f"--score {text}: give a task and its score, such as TNEWS=58.12") from None
    record = replace(record, test=test)
    _write(record, output, run)
    return record


def beside(output: Path) -> Path:
    """The record of a zip."""
    return output.with_suffix(".json")


def _write(record: Submitted, output: Path, run: Path | None) -> None:
    """Whole or not at all. Raises OSError."""
    for path in (beside(output), *([run / RECORD] if run else [])):
        atomic.write_json(path, asdict(record))
