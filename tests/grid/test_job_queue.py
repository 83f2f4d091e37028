"""Jobs by state and in order, compared with a plain way that counts and sorts all of them each time."""

import random
from collections import Counter

from cluebench.benchmark.tasks import Setting
from cluebench.pretrained.model import Model
from cluebench.records.trial import Trial
from cluebench.scheduler.allocation.job_queue import JobQueue, Sparingly
from cluebench.scheduler.plan.jobs import State
from tests.simulated import job_of


def jobs_of(count):
    return [job_of(Trial(Model.of("m"), "tnews", Setting(1e-5, 32, 0.1), seed), seed) for seed in range(count)]


def test_turns_are_those_of_a_sorted_list_whatever_happens():
    chance = random.Random(3)
    jobs, lengths = jobs_of(60), {}
    queue, now = JobQueue(jobs, lambda job: lengths.get(job.key, 1.0), lambda: 0.0), 0.0
    for _ in range(600):
        now += 1.0
        job, state = chance.choice(jobs), chance.choice(list(State))
        if job.state is State.WAITING and state is State.WAITING:
            continue
        if state is State.WAITING:
            job.not_before = now + chance.choice([0, 0, 5])
        queue.move(job, state)
        if chance.random() < 0.1:
            lengths[chance.choice(jobs).key] = chance.choice([1.0, 2.0, 3.0])
            queue.estimates_changed()
        ready = [job for job in jobs if job.state is State.WAITING and job.not_before <= now]
        expected = sorted(ready, key=lambda job: (-lengths.get(job.key, 1.0), job.number))
        assert [job.number for job in queue.turn(now)] == [job.number for job in expected]
        counts = Counter(job.state for job in jobs)
        assert {state: queue.count(state) for state in State} == {state: counts[state] for state in State}
        assert sorted(job.number for job in queue.in_order()) == [
            job.number for job in jobs if job.state is State.WAITING
        ]


def test_a_started_job_leaves_the_line_and_the_rest_keeps_its_place():
    jobs = jobs_of(5)
    queue = JobQueue(jobs, lambda job: 1.0, lambda: 0.0)
    for job in queue.turn(0.0):
        queue.move(job, State.RUNNING)
        if job.number == 1:
            break
    assert [job.number for job in queue.turn(0.0)] == [2, 3, 4]
    queue.move(jobs[0], State.WAITING)
    assert [job.number for job in queue.turn(0.0)] == [0, 2, 3, 4]


def test_a_turn_costs_no_more_with_ten_thousand_waiting():
    jobs = jobs_of(10_000)
    asked = []
    queue = JobQueue(jobs, lambda job: asked.append(job) or 1.0, lambda: 0.0)
    next(queue.turn(0.0))
    asked.clear()
    queue.move(next(queue.turn(0.0)), State.RUNNING)
    queue.move(jobs[0], State.WAITING)
    assert len(asked) < 30


def test_what_is_costly_takes_a_hundredth_of_the_time():
    now = [0.0]

    def find():
        now[0] += 1.0
        return now[0]

    ask = Sparingly(find, lambda: now[0])
    assert ask() == 1.0 and ask() == 1.0
    now[0] = 100.9
    assert ask() == 1.0
    now[0] = 101.0
    assert ask() == 102.0
