"""Ranks that models share if their difference is not significant."""

from collections.abc import Callable, Sequence

LEVEL = 0.05


def shared_ranks(scores: Sequence[float], p_value: Callable[[int, int], float], level: float = LEVEL) -> list[int]:
    """The rank of each model: 1 + the number of models in better groups.

    From the best score down (equal scores in the given order), a model joins the group above it unless it differs
    significantly from that group's best; then it is the best of the next group. ``p_value(best, other)`` takes two
    places in ``scores``. The level is divided by the number of pairs of models, because any pair may become a group's
    best and its rival. So at most ``level`` of leaderboards rank any model below a best that it equals. Two equal
    models may still have different ranks, if only one of them differs significantly from a third that is better than
    both. NaN, an unknown p, is not significant.
    """
    ranks = [0] * len(scores)
    best = rank = 0
    pairs = len(scores) * (len(scores) - 1) / 2
    for place, model in enumerate(sorted(range(len(scores)), key=lambda model: -scores[model])):
        if place == 0 or p_value(best, model) <= level / pairs:
            best, rank = model, place + 1
        ranks[model] = rank
    return ranks
