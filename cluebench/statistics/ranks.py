"""Ranks that models share when their difference is not significant."""

from __future__ import annotations

from collections.abc import Callable, Sequence

LEVEL = 0.05


def shared_ranks(scores: Sequence[float], p_value: Callable[[int, int], float], level: float = LEVEL) -> list[int]:
    """The rank of each model: 1 + the number of models in better groups.

    From the best score down (equal ones in the order given), a model joins the group above it unless its difference
    from that group's best is significant; then it is the best of the next group. ``p_value(best, other)`` is asked for
    two places in ``scores``. The level is divided by the number of pairs among the models from the group's best down to
    the one in question: the best of many equal models lies far above the last by luck alone. So any two of equal
    models, however many there are, are put apart in at most ``level`` of cases, and models further down change nothing
    above them. NaN, an unknown p, is not significant.
    """
    ranks = [0] * len(scores)
    best, rank = 0, 1
    group: list[int] = []
    for place, model in enumerate(sorted(range(len(scores)), key=lambda model: -scores[model])):
        if group:
            pairs = (len(group) + 1) * len(group) / 2
            if p_value(best, model) <= level / pairs:
                group = []
        if not group:
            best, rank = model, place + 1
        group.append(model)
        ranks[model] = rank
    return ranks
