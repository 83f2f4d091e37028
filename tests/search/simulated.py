"""The scheduler's own loop on simulated time, whose trials score what was recorded."""

import json
import random
from dataclasses import replace
from pathlib import Path

from cluebench.pretrained.model import Model
from cluebench.records.paths import parse_trial_name
from cluebench.records.result import DevPoint, Result
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.estimates import forward_tokens
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import State
from cluebench.search.halving import Curve, in_order
from cluebench.search.replay import Recorded, scores_of
from tests.search.curves import curve
from tests.simulated import Outcome, Run

MODEL = Model.of("ernie-3.0-base-zh")


def real_runs():
    """Task → setting → the recording of its one seed, by benchmarks/curves/record.py."""
    tasks = json.loads(Path(__file__).with_name("curves.json").read_text())
    return {
        task: {parse_trial_name(name)[0]: [_recorded(**trial)] for name, trial in trials.items()}
        for task, trials in tasks.items()
    }


def _recorded(scores, total_steps, train_seconds, eval_seconds):
    """Evaluated after every other step, and after the last."""
    steps = [*range(2, total_steps, 2), total_steps]
    assert len(steps) == len(scores)
    return Recorded(Curve(tuple(steps), tuple(scores), total_steps), max(scores), train_seconds, eval_seconds)


def with_durations(grids, seed):
    """The same curves at the published grid's sizes, wrong by a factor of each task and of each trial."""
    chance, found = random.Random(seed), {}
    for task, grid in grids.items():
        factor = chance.lognormvariate(0, 0.3)
        found[task] = {}
        for setting, (one,) in grid.items():
            seconds = forward_tokens(Trial(MODEL, task, setting), GridFlags()) / 60_000
            seconds *= factor * chance.lognormvariate(0, 0.1)
            found[task][setting] = [replace(one, train_seconds=seconds, eval_seconds=0.0)]
    return found


def recorded(*scores, seconds=1.0):
    """A trial that is evaluated every 100 steps."""
    found = curve(*scores)
    return Recorded(found, found.best_of(len(scores)), seconds)


class LiveSearch(Run):
    """``grids``: task → setting → a recording a seed. ``trouble``: of a job that starts, an Outcome instead of its own."""

    def __init__(self, grids, rule, devices, trouble=lambda job: None, **flags):
        self.results, self.work, self.trouble = {}, 0.0, trouble
        self.recordings = {
            Trial(MODEL, task, setting, 42 + seed): one
            for task, grid in grids.items()
            for setting, seeds in grid.items()
            for seed, one in enumerate(seeds)
        }
        super().__init__(self.recordings, devices, self.outcome, rule=rule, trial_timeout=0, **flags)

    def outcome(self, job, device_ids):
        """One attempt: on from where the trial stands, to the given rung, or to its end."""
        if (trouble := self.trouble(job)) is not None:
            return trouble
        one, before = self.recordings[job.trial], self.results.get(job.key)
        rung = self.halving.pause_at(job) if self.halving else None
        until = one.curve.evaluations_at(rung) if rung else None
        until = None if until == len(one.curve.steps) else until
        seconds = one.seconds_until(until) - (one.seconds_until(len(before.dev_curve)) if before else 0.0)
        points = [DevPoint(step, 0, (score,)) for step, score in zip(one.curve.steps, one.curve.scores)][:until]
        self.results[job.key] = Result(
            job.trial.task, MODEL.name, {}, job.configuration_hash, "paused" if until else "done", best_score=(one.score,),
            dev_curve=points, total_steps=one.curve.total_steps, train_seconds=one.seconds_until(until),
        )  # fmt: skip
        self.work += seconds
        return Outcome(seconds, score=None)

    def written(self, job):
        return self.results.get(job.key)

    def finished(self, job):
        self.engine.result_of(job)
        result = self.results.get(job.key)
        return replace(result) if result and result.status == "done" else None

    # What came of it --------------------------------------------------------------------------------------------------

    def of(self, task, state):
        return {job.trial.setting for job in self.jobs if job.trial.task == task and job.state is state}

    def evaluations(self, task):
        """Setting → evaluations made, of its first seed."""
        return {
            job.trial.setting: len(self.results[job.key].dev_curve)
            for job in self.jobs
            if job.trial.task == task and job.trial.seed == 42 and job.key in self.results
        }

    def chosen(self, task):
        """As in the table."""
        grid = {}
        for job in self.jobs:
            if job.trial.task == task and job.state is State.DONE:
                grid.setdefault(job.trial.setting, []).append(self.recordings[job.trial])
        return in_order(scores_of(grid))[0]
