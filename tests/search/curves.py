"""Curves and settings to judge."""

from hypothesis import strategies as st

from cluebench.benchmark.tasks import Setting
from cluebench.search.halving import Curve
from cluebench.search.replay import replay

A, B, C, D = (Setting(rate, 32, 0.1) for rate in (1e-5, 2e-5, 3e-5, 5e-5))


NAN = float("nan")


def curve(*scores, ended=True, total=None):
    """Evaluated every 100 steps."""
    return Curve(tuple(range(100, 100 * len(scores) + 1, 100)), scores, total or 100 * len(scores), ended)


@st.composite
def tasks(draw):
    settings = draw(st.lists(st.builds(Setting, st.sampled_from([1e-5, 2e-5, 3e-5]), st.sampled_from([16, 32]),
                                       st.sampled_from([0.0, 0.1])), min_size=1, max_size=9, unique=True))  # fmt: skip
    scores = st.lists(st.one_of(st.floats(0, 100), st.just(NAN)), min_size=1, max_size=12)
    seeds = draw(st.integers(1, 2))
    return {setting: [curve(*draw(scores)) for _ in range(seeds)] for setting in settings}


def outcome(rule, grid, error):
    (found,) = replay(grid, error, [rule])
    return found
