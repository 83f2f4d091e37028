"""Writes what happens into the run directories: grid.json, grid.log, report.html, and which models are kept."""

import json
import os
import shutil
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

from cluebench.foundation import atomic, repository
from cluebench.machine.nvidia import Device
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import kept_weights
from cluebench.records.finished_trials import protocol_hash
from cluebench.records.paths import REMOVED, TrialPaths
from cluebench.records.result import STOPPED, Result
from cluebench.report.grid_page import write_report
from cluebench.scheduler.plan.jobs import Job, State, best_first, by_task
from cluebench.scheduler.run.planned_grid import PlannedGrid, now_utc

#: Least seconds between two writings of grid.json, and of a report; reports take at most this share of the time.
_STATE_EVERY, _REPORT_EVERY, _REPORT_SHARE = 0.5, 30.0, 1 / 30


class Recorder:
    """An observer that keeps a grid's run directories up to date. ``jobs`` may grow, with a call of `charged` for each.

    grid.json and report.html are written on a thread, inside ``with``: that takes longer than a freed device
    may wait. A full disk stops nothing: ``complain`` gets a message, and the next writing tries again.
    """

    def __init__(
        self,
        grid: PlannedGrid,
        jobs: Sequence[Job],
        devices: Sequence[Device] = (),
        complain: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
    ):
        """``devices``: empty for a grid that other processes run."""
        self._directories, self._complain, self._jobs = grid.directories, complain, jobs
        self._on_disk = grid.on_disk
        self._details = {
            "command": sys.argv,
            "data_dir": grid.flags.data_dir,
            "search": str(grid.flags.rule) if grid.flags.rule else None,
            "devices": [f"{device.label} {device.name}".strip() for device in devices],
            "commit": repository.commit(),
        }
        self._keeps_best = grid.flags.save_best_model and not grid.flags.keep_all_models
        self._protocols = {group: protocol_hash(its[0].configuration) for group, its in by_task(jobs).items()}
        self._entries: dict[Model, dict[str, tuple[State, str]]] = {model: {} for model in grid.directories}
        self._changed: set[Model] = set()  # models whose grid.json is outdated
        self._stale: set[Model] = set()  # models whose report is older than their grid.json
        self._reported: dict[Model, float] = dict.fromkeys(grid.directories, 0.0)  # when its report was written last
        self._report_due = 0.0
        self._ended, self._thread = threading.Event(), threading.Thread(target=self._write_until_ended, daemon=True)
        self._complained: set[str] = set()
        for job in jobs:
            self.charged(job)

    # What happens -----------------------------------------------------------------------------------------------------

    def hear(self, text: str, job: Job | None) -> None:
        """Writes a line into grid.log, of all models if it is about the whole grid."""
        about, now = f"{job.key} " if job else "", datetime.now().astimezone().isoformat(timespec="milliseconds")
        for model in [job.trial.model] if job else self._directories:
            self._try(model, "grid.log", _append, self._directories[model].grid_log, f"{now} {about}{text}\n")
        if job is not None:
            self.charged(job)
            self._try(job.trial.model, "results of stopped trials", self._record_stopped, job)
            if job.state is State.DONE:
                self._drop_lower_models(other for other in self._jobs if other.group == job.group)

    def charged(self, job: Job) -> None:
        """A job is new, or the cost of its last attempt is known now."""
        text = json.dumps(trial_state(job), ensure_ascii=False, allow_nan=False)
        self._entries[job.trial.model][job.key] = job.state, text
        self._changed.add(job.trial.model)

    def tick(self, now: float) -> float:
        return float("inf")

    def _record_stopped(self, job: Job) -> None:
        """If the search has stopped a trial, its result states this. Raises OSError."""
        result = self._on_disk(job) if job.state is State.STOPPED else None
        if result is not None and result.status not in ("done", STOPPED):
            replace(result, status=STOPPED).write(job.paths.result)

    def _drop_lower_models(self, of_task: Iterable[Job]) -> None:
        """Only the best model of a task stays on disk, once it is whole."""
        done = best_first(of_task) if self._keeps_best else []
        if done and kept_weights(done[0].paths.output_dir):
            for job in done[1:]:
                if job.paths.output_dir.is_dir():
                    self._try(job.trial.model, "kept models", drop_model, job.paths, job.result)

    # What is written --------------------------------------------------------------------------------------------------

    def __enter__(self) -> "Recorder":
        """From now on writes what changes; at the end how the grid ended."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.finish()

    def write_plan(self) -> None:
        """Writes the jobs as they are, for --status."""
        for model in self._entries:
            self._write_grid(model, "running")

    def finish(self) -> None:
        """Writes how the grid ended: "done", "failed" or, if trials are left to run, "stopped".

        Other processes may have run trials: so it also keeps only the best models, and marks stopped trials.
        """
        for job in self._jobs:
            self._try(job.trial.model, "results of stopped trials", self._record_stopped, job)
            self.charged(job)
        for jobs in by_task(self._jobs).values():
            self._drop_lower_models(jobs)
        for model in self._directories:
            left = self._states(model).keys() - {State.DONE, State.STOPPED}
            self._write_grid(model, "done" if not left else "failed" if left == {State.FAILED} else "stopped")
            self._write_report(model)

    def _write_until_ended(self) -> None:
        while not self._ended.is_set():
            self.write_due(time.monotonic())
            self._ended.wait(_STATE_EVERY)

    def write_due(self, now: float) -> None:
        """Writes each grid.json with changes, and the oldest report if one is due: each every 30 s, or less often.

        A report also shows what running trials have logged, which nobody tells the recorder: so it is written again
        and again while any trial of its model runs.
        """
        for model in [self._changed.pop() for _ in range(len(self._changed))]:  # the loop's thread may add others
            self._write_grid(model, "running")
            self._stale.add(model)
        if now >= self._report_due:
            stale = self._stale | {model for model in self._entries if self._states(model)[State.RUNNING]}
            if stale:
                oldest, begin = min(stale, key=self._reported.__getitem__), time.monotonic()
                self._write_report(oldest)
                self._stale.discard(oldest)
                self._reported[oldest] = now
                self._report_due = now + max(_REPORT_EVERY / len(stale), (time.monotonic() - begin) / _REPORT_SHARE)

    def _states(self, model: Model) -> Counter[State]:
        return Counter(state for state, _ in list(self._entries[model].values()))

    def _write_grid(self, model: Model, status: str) -> None:
        counts = self._states(model)
        grid = {
            "format": 1,
            "model": model.name,
            "model_identity": model.identity,
            "status": status,
            "updated": now_utc(),
            "scheduler": {"pid": os.getpid(), "host": socket.gethostname()},
            "counts": {state.value: counts[state] for state in State},
            **self._details,
            "protocols": {group[1]: its_hash for group, its_hash in self._protocols.items() if group[0] == model},
        }
        head = json.dumps(grid, ensure_ascii=False, indent=2, allow_nan=False).removesuffix("\n}")
        # A line each: thousands of trials are written twice a second.
        trials = ",\n    ".join(text for _, text in list(self._entries[model].values()))
        text = f'{head},\n  "trials": [\n    {trials}\n  ]\n}}\n'
        self._try(model, "grid.json", atomic.write_text, self._directories[model].grid_json, text)

    def _write_report(self, model: Model) -> None:
        self._try(model, "report.html", write_report, self._directories[model].path)

    def _try(self, model: Model, what: str, action: Callable, *arguments: object) -> None:
        """An error of any kind in writing ends neither trials nor the tables at the end."""
        key = f"{self._directories[model].path}: {what}"
        try:
            action(*arguments)
            self._complained.discard(key)
        except Exception as error:
            if key not in self._complained:
                self._complained.add(key)
                with suppress(OSError, ValueError):  # the terminal may be gone as well
                    why = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
                    self._complain(f"{key} can't be written: {why}; going on")


def drop_model(paths: TrialPaths, result: Result) -> None:
    """Removes a finished trial's model, also from the result. Raises OSError."""
    on_disk = Result.read(paths.result) or result  # another machine may have written its cost
    on_disk.best_model = result.best_model = None
    on_disk.write(paths.result)
    # First under another name, so that nobody finds half a model.
    doomed = paths.output_dir.with_name(f".{paths.name}{REMOVED}{os.getpid()}-{time.monotonic_ns()}")
    os.rename(paths.output_dir, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _append(path: Path, line: str) -> None:
    with open(path, "a", encoding="utf-8") as stream:
        stream.write(line)


def trial_state(job: Job) -> dict:
    """A trial's entry in grid.json."""
    trial = job.trial
    attempts = [
        {
            "devices": attempt.labels,
            "started": _iso(attempt.started),
            "finished": _iso(attempt.finished),
            **{name: getattr(attempt, name) for name in ("number", "cards", "accumulation", "outcome", "detail")},
        }
        for attempt in job.attempts
    ]
    return {
        "task": trial.task,
        "name": trial.name,
        **trial.setting._asdict(),
        "seed": trial.seed,
        "configuration_hash": job.configuration_hash,
        "state": job.state,
        "score": list(job.score) if job.result is not None else None,
        "memory_factor": job.memory_factor,
        "spent": asdict(job.spent),
        "attempts": attempts,
        "failures": [asdict(failure) for failure in job.failures],
    }


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
