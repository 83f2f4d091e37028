"""Writes what happens into the run directories: grid.json, grid.log, report.html, and which models are kept."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from functools import partial

from cluebench.pretrained.model_files import kept_weights
from cluebench.records.finished_trials import protocol_hash
from cluebench.report.grid_page import write_report
from cluebench.report.scores import rank
from cluebench.scheduler.plan.jobs import Job, State
from cluebench.scheduler.run.run_directory import RunDirectory, drop_model, record_stopped

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
        self._entries: dict[str, str] = {}  # trial key → its JSON, as it was last written
        self._states: dict[str, str] = {}  # trial key → its state in that
        self._changed: dict[str, Job] = {job.key: job for job in self._jobs}  # not written yet
        self._seen = len(jobs)
        self._done = {job.key: job for job in self._jobs if job.state is State.DONE} if keep_only_best else {}
        self._keep_only_best, self._complain = keep_only_best, complain
        self._dirty, self._stale, self._state_due, self._report_due = True, True, 0.0, 0.0
        self._complained: set[str] = set()
        self._writing = self._reporting = threading.Thread()  # none yet

    @property
    def _jobs(self) -> list[Job]:
        return [job for job in self._all_jobs if job.trial.model == self._directory.model]

    def started(self, job: Job) -> None:
        if job.trial.model != self._directory.model:
            return
        self._changed[job.key] = job
        attempt = job.attempt
        cards = f", {attempt.cards} cards" if attempt.cards > 1 else ""
        self.note(
            f"{job.key} started on {', '.join(attempt.devices) or 'devices of an earlier grid'}{cards}, "
            f"accumulation {attempt.accumulation}, attempt {attempt.number}"
        )

    def ended(self, job: Job) -> None:
        if job.trial.model != self._directory.model:
            return
        self._changed[job.key] = job
        if job.state is State.DONE:
            score = job.trial.row.format_score(job.score)
            self.note(f"{job.key} done: {score}")
            self.drop_lower_models(job)
        else:
            failure, after = job.failures[-1], "given up" if job.state is State.FAILED else "is tried again"
            self.note(f"{job.key} failed ({failure.kind.value}): {failure.detail}; {after}")

    def judged(self, job: Job) -> None:
        if job.trial.model != self._directory.model:
            return
        self._changed[job.key] = job
        self.note(f"{job.key} {job.standing()}")
        if job.state is State.STOPPED:
            self._try("results of stopped trials", partial(record_stopped, job))

    def charged(self, job: Job) -> None:
        """It is known by now what the job's last attempt cost."""
        if job.trial.model == self._directory.model:
            self._changed[job.key], self._dirty = job, True

    def note(self, text: str) -> None:
        self._dirty = True
        stamp = datetime.now().astimezone().isoformat(timespec="milliseconds")
        self._try("grid.log", lambda: self._append(f"{stamp} {text}\n"))

    def tick(self, now: float) -> float:
        """Writes what is due; returns when it wants to be called again.

        The page also shows what running trials have logged, of which nobody tells: it is written while anything runs,
        and first when there is a grid.json that it can read.
        """
        if self._dirty and now >= self._state_due and not self._writing.is_alive():
            self._writing = _aside("grid.json", partial(self._write, "running", self._renewed()))
            self._dirty, self._stale, self._state_due = False, True, now + _STATE_EVERY
        shows_more = self._stale or State.RUNNING.value in self._states.values()
        is_writing = self._writing.is_alive() or self._reporting.is_alive()
        if shows_more and self._states and now >= self._report_due and not is_writing:
            self._reporting = _aside("report", self._write_report)
            self._stale, self._report_due = False, now + _REPORT_EVERY
        due = [self._state_due] * self._dirty + [self._report_due] * shows_more
        return max(min(due, default=float("inf")), now + 0.05)

    def begin(self) -> None:
        """Writes the plan, for --status."""
        self._write("running", self._renewed())

    def conclude(self) -> None:
        """Keeps only the best models, and writes how it ended."""
        for job in list(self._done.values()):
            self.drop_lower_models(job)
        self.finish()

    def finish(self) -> None:
        """Writes how it ended: "done", "failed" or, with trials left to run, "stopped"."""
        for thread in filter(threading.Thread.is_alive, (self._writing, self._reporting)):
            thread.join()
        self._changed = {job.key: job for job in self._jobs}
        left = {job.state for job in self._jobs if not job.is_settled}
        self._write("done" if not left else "failed" if left == {State.FAILED} else "stopped", self._renewed())
        self._write_report()

    def _renewed(self) -> list[str]:
        """The JSON of every trial: made anew for those that may have changed since it was last asked for."""
        added, self._seen = self._all_jobs[self._seen :], len(self._all_jobs)
        self._changed |= {job.key: job for job in added if job.trial.model == self._directory.model}
        for key, job in self._changed.items():
            self._entries[key] = json.dumps(trial_state(job), ensure_ascii=False, allow_nan=False)
            self._states[key] = job.state.value
        # Who runs may stop doing so without anyone being told, as when the grid is interrupted.
        self._changed = {key: job for key, job in self._changed.items() if job.state is State.RUNNING}
        return list(self._entries.values())

    def _write_report(self) -> None:
        """Whatever keeps a page from being made: trials, and the tables at the end, don't depend on it."""
        self._try("report.html", lambda: write_report(self._directory.path), Exception)

    def _write(self, status: str, trials: Sequence[str]) -> None:
        counts = Counter(self._states.values())
        self._try(
            "grid.json", lambda: self._directory.write_grid(status, trials, counts, self._protocols, self._details)
        )

    def drop_lower_models(self, job: Job) -> None:
        """After a trial of a task: only the best model of the task stays on disk, once that is whole."""
        if not self._keep_only_best:
            return
        self._done[job.key] = job
        done = [other for other in self._done.values() if other.trial.task == job.trial.task]
        best = max(done, key=lambda other: rank(other.score, other.trial.setting))
        if kept_weights(best.paths.output_dir):
            for other in done:
                if other is not best and other.result is not None:
                    self._try("kept models", partial(drop_model, other.paths, other.result))
                    if not other.paths.output_dir.is_dir():
                        del self._done[other.key]

    def _append(self, line: str) -> None:
        with open(self._directory.grid_log, "a", encoding="utf-8") as stream:
            stream.write(line)

    def _try(self, what: str, action: Callable[[], object], failing: type[Exception] = OSError) -> None:
        try:
            action()
            self._complained.discard(what)
        except failing as error:
            if what not in self._complained:
                self._complained.add(what)
                with suppress(OSError, ValueError):  # the terminal may be gone as well
                    why = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
                    self._complain(f"{self._directory.path}: {what} can't be written: {why}; going on")


def _aside(name: str, action: Callable[[], None]) -> threading.Thread:
    """On a thread of its own: it takes longer than a freed device should wait."""
    thread = threading.Thread(target=action, name=name, daemon=True)
    thread.start()
    return thread


def trial_state(job: Job) -> dict:
    """A trial as it stands in grid.json."""
    trial = job.trial
    return {
        "task": trial.task,
        "name": trial.name,
        **trial.setting._asdict(),
        "seed": trial.seed,
        "configuration_hash": job.configuration_hash,
        "state": job.state.value,
        "score": list(job.score) if job.result is not None else None,
        "memory_factor": job.memory_factor,
        "spent": asdict(job.spent),
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

    def judged(self, job: Job) -> None:
        self._each("judged", job)

    def note(self, text: str) -> None:
        self._each("note", text)

    def tick(self, now: float) -> float:
        return min(self._each("tick", now), default=float("inf"))
