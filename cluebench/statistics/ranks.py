"""Ranks that models share when their difference is not significant."""

from __future__ import annotations

from collections.abc import Callable, Sequence

LEVEL = 0.05


def shared_ranks(scores: Sequence[float], p_value: Callable[[int, int], float], level: float = LEVEL) -> list[int]:
    """The rank of each model: 1 + the number of models in better groups.

    From the best score down (equal ones in the order given), a model joins the group above it unless its difference
    from that group's best is significant; then it is the best of the next group. ``p_value(best, other)`` is asked for
    two places in ``scores``. The level is divided by the number of pairs of models, as any of them may turn out to be
    a group's best and its rival. So at most ``level`` of leaderboards put any model below a best that it equals.
    Two equal models may have different ranks all the same, where only one of them differs significantly from a third
    that is better than both. NaN, an unknown p, is not significant.
    """
    ranks = [0] * len(scores)
    best = rank = 0
    pairs = len(scores) * (len(scores) - 1) / 2
    for place, model in enumerate(sorted(range(len(scores)), key=lambda model: -scores[model])):
        if place == 0 or p_value(best, model) <= level / pairs:
            best, rank = model, place + 1
        ranks[model] = rank
    return ranks
