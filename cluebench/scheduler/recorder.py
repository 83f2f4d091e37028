"""Writes what happens into the run directories: grid.json, grid.log, report.html, and which models are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from functools import partial

from cluebench.model_files import kept_weights
from cluebench.report.html import write_report
from cluebench.report.scores import protocol_hash, rank
from cluebench.scheduler.jobs import Job, State
from cluebench.scheduler.state import RunDirectory, drop_model

#: Least seconds between two writings of grid.json, and of the report, while things go on happening.
_STATE_EVERY, _REPORT_EVERY = 0.5, 30.0


class Recorder:
    """An observer that keeps one run directory up to date. A full disk stops nothing: it is said, and tried again."""

    def __init__(
        self,
        directory: RunDirectory,
        jobs: Sequence[Job],
        details: Mapping,
        *,
        keep_only_best: bool = False,
        complain: Callable[[str], None] = lambda text: None,
    ):
        self._directory = directory
        self._all_jobs = jobs  # of every model; may grow
        self._details = dict(details)
        self._protocols = {job.trial.task: protocol_hash(job.configuration) for job in self._jobs}
        self._keep_only_best, self._complain = keep_only_best, complain
        self._dirty, self._state_due, self._report_due = True, 0.0, 0.0
        self._complained: set[str] = set()
        self._reporting: threading.Thread | None = None

    @property
    def _jobs(self) -> list[Job]:
        return [job for job in self._all_jobs if job.trial.model == self._directory.model]

    def started(self, job: Job) -> None:
        if job.trial.model != self._directory.model:
            return
        attempt = job.attempt
        cards = f", {attempt.cards} cards" if attempt.cards > 1 else ""
        self.note(
            f"{job.key} started on {', '.join(attempt.devices) or 'devices of an earlier grid'}{cards}, "
            f"accumulation {attempt.accumulation}, attempt {attempt.number}"
        )

    def ended(self, job: Job) -> None:
        if job.trial.model != self._directory.model:
            return
        if job.state is State.DONE:
            score = job.trial.row.format_score(job.score)
            self.note(f"{job.key} done: {score}")
            self.drop_lower_models(job)
        else:
            failure, after = job.failures[-1], "given up" if job.state is State.FAILED else "is tried again"
            self.note(f"{job.key} failed ({failure.kind.value}): {failure.detail}; {after}")

    def note(self, text: str) -> None:
        self._dirty = True
        stamp = datetime.now().astimezone().isoformat(timespec="milliseconds")
        self._try("grid.log", lambda: self._append(f"{stamp} {text}\n"))

    def tick(self, now: float) -> float:
        """Writes what is due; returns when it wants to be called again."""
        if not self._dirty:
            return float("inf")
        if now >= self._state_due:
            self.write_state("running")
            self._dirty, self._state_due = False, now + _STATE_EVERY
        if now >= self._report_due:
            self._write_report_aside()
            self._report_due = now + _REPORT_EVERY
        return self._state_due if self._dirty else float("inf")

    def finish(self) -> None:
        """Writes how it ended: "done", "failed" or, with trials left to run, "stopped"."""
        if self._reporting is not None:
            self._reporting.join()
        left = {job.state for job in self._jobs} - {State.DONE}
        self.write_state("done" if not left else "failed" if left == {State.FAILED} else "stopped")
        self._write_report()

    def _write_report_aside(self) -> None:
        """On a thread of its own: reading every result takes longer than a freed device should wait."""
        if self._reporting is None or not self._reporting.is_alive():
            self._reporting = threading.Thread(target=self._write_report, name="report", daemon=True)
            self._reporting.start()

    def _write_report(self) -> None:
        self._try("report.html", lambda: write_report(self._directory.path))

    def write_state(self, status: str) -> None:
        trials = [trial_state(job) for job in self._jobs]
        self._try("grid.json", lambda: self._directory.write_grid(status, trials, self._protocols, self._details))

    def drop_lower_models(self, job: Job) -> None:
        """After a trial of a task: only the best model of the task stays on disk, once that is whole."""
        if not self._keep_only_best:
            return
        done = [other for other in self._jobs if other.trial.task == job.trial.task and other.state is State.DONE]
        best = max(done, key=lambda other: rank(other.score, other.trial.setting))
        if kept_weights(best.paths.output_dir):
            for other in done:
                if other.key != best.key and other.result is not None:
                    self._try("kept models", partial(drop_model, other.paths, other.result))

    def _append(self, line: str) -> None:
        with open(self._directory.grid_log, "a", encoding="utf-8") as stream:
            stream.write(line)

    def _try(self, what: str, action: Callable[[], object]) -> None:
        try:
            action()
            self._complained.discard(what)
        except OSError as error:
            if what not in self._complained:
                self._complained.add(what)
                with suppress(OSError, ValueError):  # the terminal may be gone as well
                    self._complain(
                        f"{self._directory.path}: {what} can't be written: {error.strerror or error}; going on"
                    )


def trial_state(job: Job) -> dict:
    """A trial as it stands in grid.json."""
    trial = job.trial
    return {
        "task": trial.task,
        "name": trial.name,
        "learning_rate": trial.learning_rate,
        "batch_size": trial.batch_size,
        "dropout": trial.dropout,
        "seed": trial.seed,
        "configuration_hash": job.configuration_hash,
        "state": job.state.value,
        "score": list(job.score) if job.result is not None else None,
        "memory_factor": job.memory_factor,
        "attempts": [
            asdict(attempt) | {"started": _iso(attempt.started), "finished": _iso(attempt.finished)}
            for attempt in job.attempts
        ],
        "failures": [{"kind": failure.kind.value, "detail": failure.detail} for failure in job.failures],
    }


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


class Observers:
    """Several observers as one that can't raise: one that fails falls silent, and the others are told of it."""

    def __init__(self, observers: Sequence):
        self._observers = list(observers)

    def _each(self, what: str, *arguments: object) -> list:
        answers = []
        for observer in list(self._observers):
            try:
                answers.append(getattr(observer, what)(*arguments))
            except Exception as error:
                self._observers = [other for other in self._observers if other is not observer]
                self.note(f"{type(observer).__name__} falls silent ({error}); the grid goes on")
        return answers

    def started(self, job: Job) -> None:
        self._each("started", job)

    def ended(self, job: Job) -> None:
        self._each("ended", job)

    def note(self, text: str) -> None:
        self._each("note", text)

    def tick(self, now: float) -> float:
        return min(self._each("tick", now), default=float("inf"))
