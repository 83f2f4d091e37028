"""How close the scheduler comes to the best possible end of a grid, against first-in-first-out with a 15 s poll.

    python benchmarks/scheduler_makespan.py

Simulates the 134 trials of a 12-layer model on 1 to 64 devices with the scheduler's own loop, on simulated time. A
trial takes what the table of estimates says, times an error of each task (log-normal, 30 %) and of each trial (10 %)
that the scheduler does not know. Printed are makespans over the lower bound max(total / devices, longest trial) of
trials on one card each, which only trials on several cards (at an assumed 95 % of their speed together) can beat.
"""

import heapq
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from cluebench.machine.nvidia import Device
from cluebench.pretrained.model import Model
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.estimates import forward_tokens
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job
from cluebench.scheduler.plan.trials import build_plan

sys.path.append(str(Path(__file__).resolve().parent.parent))
from tests.simulated import Outcome, Run  # noqa: E402

MODEL = "ernie-3.0-base-zh"
FORWARD_TOKENS_PER_SECOND = 60_000
POLL_SECONDS = 15.0
DEVICES = (1, 2, 4, 8, 64)
#: Speed-up of a trial on several cards, as a share of their number.
CARD_EFFICIENCY = 0.95
REPETITIONS = 5


def true_durations(trials: Sequence[Trial], seed: int, wrong: float = 1.0) -> dict[str, float]:
    """Trial key → seconds on one card; each is besides so many times longer, or shorter, than was estimated."""
    chance = random.Random(seed)
    tasks = {trial.task: chance.lognormvariate(0, 0.3) for trial in trials}
    return {
        trial.key: forward_tokens(trial, GridFlags())
        / FORWARD_TOKENS_PER_SECOND
        * tasks[trial.task]
        * chance.lognormvariate(0, 0.1)
        * (wrong ** chance.choice((-1, 1)) if wrong != 1 else 1.0)
        for trial in trials
    }


def bound(durations: dict[str, float], count: int) -> float:
    """Seconds that a grid takes at least on ``count`` cards, with each trial on one of them."""
    return max(sum(durations.values()) / count, max(durations.values()))


def ours(trials: Sequence[Trial], durations: dict[str, float], count: int, mrc_cards: int | None) -> float:
    """Makespan in seconds of the scheduler's loop on ``count`` cards whose memory is no limit."""
    cards = [Device(f"GPU-{number}", f"gpu {number}", "gpu", joinable=True) for number in range(count)]

    def outcome(job: Job, device_ids: Sequence[str]) -> Outcome:
        speed = len(device_ids) * CARD_EFFICIENCY if len(device_ids) > 1 else 1.0
        return Outcome(durations[job.key] / speed)

    return Run(trials, cards, outcome, trial_timeout=0, mrc_cards=mrc_cards).run().time.now


def first_in_first_out(trials: Sequence[Trial], durations: dict[str, float], count: int) -> float:
    """Makespan in seconds of trials in the plan's order, one card each, a freed card noticed at the next poll."""
    free_at = [0.0] * count
    end = 0.0
    for trial in trials:
        free = heapq.heappop(free_at)
        start = -(-free // POLL_SECONDS) * POLL_SECONDS
        heapq.heappush(free_at, start + durations[trial.key])
        end = max(end, start + durations[trial.key])
    return end


def main() -> int:
    trials = build_plan([Model.of(MODEL)], GridFlags())
    print(f"{len(trials)} trials of {MODEL}; makespan / lower bound, worst of {REPETITIONS} draws of the durations")
    print(f"{'devices':>7}  {'one card a trial':>16}  {'published cards':>15}  {'FIFO, 15 s poll':>15}  {'bound':>8}")
    worst_of_all = 0.0
    for count in DEVICES:
        draws = [true_durations(trials, seed) for seed in range(REPETITIONS)]
        shown = [
            max(ours(trials, draw, count, 1) / bound(draw, count) for draw in draws),
            max(ours(trials, draw, count, None) / bound(draw, count) for draw in draws),
            max(first_in_first_out(trials, draw, count) / bound(draw, count) for draw in draws),
        ]
        hours = sum(bound(draw, count) for draw in draws) / len(draws) / 3600
        print(f"{count:>7}  {shown[0]:>16.3f}  {shown[1]:>15.3f}  {shown[2]:>15.3f}  {hours:>6.1f} h")
        if count <= 8:
            worst_of_all = max(worst_of_all, *shown[:2])
    print("\neach trial's duration wrong by this factor, one way or the other: published cards / bound")
    for wrong in (2.0, 4.0):
        draws = [true_durations(trials, seed, wrong) for seed in range(REPETITIONS)]
        for count in (4, 8):
            worst = max(ours(trials, draw, count, None) / bound(draw, count) for draw in draws)
            print(f"{wrong:>7.0f}x on {count} devices: {worst:.3f}")
    print(f"ratio: {worst_of_all:.3f} of the lower bound on 1 to 8 devices, at most 1.05 claimed")
    return 0 if worst_of_all <= 1.05 else 1


if __name__ == "__main__":
    sys.exit(main())
