from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluebench.search.halving import Rule, standings
from cluebench.search.replay import (
    RULES,
    Outcome,
    Point,
    Recorded,
    points,
    recommended,
    summaries,
)
from tests.search.curves import NAN, A, B, C, D, curve, outcome, tasks

HALF_AT_HALF = Rule(2, (Fraction(1, 2),))


def recorded(*scores, train=0.0, evaluating=0.0):
    return Recorded(curve(*scores), round(max(scores), 2), train, evaluating)


def grid(**trials):
    return {{"A": A, "B": B, "C": C, "D": D}[name]: [trial] for name, trial in trials.items()}


#: At half of the steps A and B lead; of the four, D ends best.
FOUR = grid(
    A=recorded(50, 70, 71, 72, train=80, evaluating=20),
    B=recorded(50, 69, 71, 73, train=80, evaluating=20),
    C=recorded(50, 60, 61, 62, train=160, evaluating=40),
    D=recorded(50, 68, 72, 75, train=160, evaluating=40),
)


def test_steps_seconds_score_and_rank_by_hand():
    # Two of four trials do half of their work: 2 · 200 of 1600 steps, and 2 · 100 of 600 seconds.
    found = outcome(HALF_AT_HALF, FOUR, 1.0)
    assert (found.trials, found.stopped, found.chosen, found.rank) == (4, 2, B, 2)
    assert (found.score, found.lost) == (73, 2.0)
    assert found.steps_saved == pytest.approx(1 / 4) and found.seconds_saved == pytest.approx(1 / 3)
    assert not found.safe


def test_seconds_are_those_of_steps_and_evaluations_done():
    # 200 of 800 steps and 2 of 4 evaluations, as evaluations lie unevenly.
    trial = Recorded(replace(curve(1, 2, 3, 4), steps=(100, 200, 300, 800), total_steps=800), 4, 80, 20)
    assert (trial.seconds_until(2), trial.seconds_until(None)) == (80 / 4 + 20 / 2, 100)


def test_without_seconds_of_every_trial_there_are_none():
    assert outcome(HALF_AT_HALF, {**FOUR, **grid(A=recorded(50, 70, 71, 72))}, 1.0).seconds_saved is None


def test_scores_are_ranked_over_seeds():
    two = {A: [recorded(60, 60, 60, 60), recorded(61, 61, 61, 61)], B: [recorded(50, 50, 70, 70)] * 2}
    found = outcome(HALF_AT_HALF, two, 1.0)
    assert (found.trials, found.stopped, found.chosen, found.score, found.lost) == (4, 2, A, 60.5, 9.5)


# Safe -----------------------------------------------------------------------------------------------------------------


def test_safe_is_what_errors_at_a_rung_would_not_have_changed():
    # A alone is within one error of the best, and leads by 3 points at the rung: 1.41 · 2 is less, 1.41 · 2.2 more.
    lead = grid(A=recorded(50, 63, 80, 80), B=recorded(50, 60, 70, 70))
    assert [outcome(HALF_AT_HALF, lead, error).safe for error in (2.0, 2.2)] == [True, False]
    assert not outcome(HALF_AT_HALF, lead, None).safe


def test_what_lies_within_one_error_is_as_good():
    # B goes on and A, better by 1.9, is stopped.
    close = grid(A=recorded(50, 50, 80, 80), B=recorded(50, 60, 78.1, 78.1))
    assert outcome(HALF_AT_HALF, close, 2.0).safe and not outcome(HALF_AT_HALF, close, 1.8).safe
    assert outcome(HALF_AT_HALF, close, 2.0).lost == 1.9


def test_more_worse_settings_than_places_make_a_narrow_lead_unsafe():
    narrow = dict(A=recorded(50, 61, 80, 80), B=recorded(50, 60, 70, 70), C=recorded(50, 60, 70, 70))
    assert outcome(HALF_AT_HALF, grid(A=narrow["A"], B=narrow["B"]), 0.5).safe  # 1 point is more than 0.71
    assert not outcome(HALF_AT_HALF, grid(**narrow), 1.0).safe  # both places go to others
    assert outcome(HALF_AT_HALF, grid(**{**narrow, "C": recorded(50, 59, 70, 70)}), 1.0).safe  # one of them


def test_all_settings_as_good_as_the_best_are_lowered():
    close = dict(A=recorded(50, 61, 80, 80), D=recorded(50, 61, 79.5, 79.5))
    worse = dict(B=recorded(50, 60, 70, 70), C=recorded(50, 60, 70, 70))
    assert not outcome(HALF_AT_HALF, grid(**close, **worse), 1.0).safe


@given(tasks(), st.sampled_from(RULES), st.floats(0, 20))
def test_what_is_safe_loses_at_most_one_error(curves, rule, error):
    found = outcome(rule, of_curves(curves), error)
    assert not found.safe or found.lost <= error + 1e-9


@given(tasks(), st.sampled_from(RULES))
def test_shares_ranks_and_losses_agree(curves, rule):
    found = outcome(rule, of_curves(curves), 1.0)
    assert 0 <= found.steps_saved < 1 and 0 <= found.lost
    assert (found.stopped == 0) == (found.steps_saved == 0) and (found.rank > 1 or found.lost == 0)
    assert found.stopped < found.trials and (found.stopped or found.rank == 1)
    assert not standings(rule, curves)[found.chosen].stopped


def of_curves(curves):
    """As if each had needed a second a step; a trial without a finite score ended in 0."""
    return {
        setting: [Recorded(one, max(0.0, one.best_of(len(one.steps))), float(one.total_steps)) for one in seeds]
        for setting, seeds in curves.items()
    }


def test_a_curve_with_nan_is_replayed():
    found = outcome(HALF_AT_HALF, {A: [Recorded(curve(NAN, NAN, 90, 90), 90)], B: [recorded(10, 20, 20, 20)]}, 1.0)
    assert (found.chosen, found.rank, found.lost, found.safe) == (B, 2, 70, False)


# Over grids -----------------------------------------------------------------------------------------------------------


def made_up(rule=HALF_AT_HALF, saved=0.25, seconds=None, lost=0.0, safe=True):
    return Outcome(rule, 4, 2, saved, seconds, A, 70, lost, 1 if lost == 0 else 2, safe)


def test_mean_and_worst_over_grids():
    (found,) = summaries([[made_up(saved=0.5, seconds=0.4)], [made_up(saved=0.25, seconds=0.2, lost=1.5, safe=False)]])
    assert (found.steps_saved, found.least_steps_saved) == (0.375, 0.25)
    assert (found.seconds_saved, found.least_seconds_saved) == (pytest.approx(0.3), 0.2)
    assert (found.lost, found.most_lost, found.worst_rank, found.safe, found.grids) == (0.75, 1.5, 2, 1, 2)
    (without,) = summaries([[made_up(seconds=0.4)], [made_up()]])
    assert without.seconds_saved is None and without.saved == 0.25


def test_the_safe_rule_that_saves_most_is_recommended():
    cheap, dear, wrong = (Rule(2, (Fraction(1, share),)) for share in (4, 2, 8))
    grids = [[made_up(cheap, 0.3), made_up(dear, 0.2), made_up(wrong, 0.4, safe=False)]]
    assert recommended(grids).rule == cheap
    assert recommended([*grids, [made_up(cheap, 0.3, safe=False), made_up(dear), made_up(wrong)]]).rule == dear


def test_none_is_recommended_where_nothing_is_safe_or_nothing_is_saved():
    assert recommended([[made_up(safe=False)]]) is None
    assert recommended([[made_up(saved=0.0)]]) is None
    assert recommended([[outcome(rule, grid(A=recorded(*range(16))), 1.0) for rule in RULES]]) is None


def test_the_points_of_a_picture():
    assert points([[made_up(saved=0.5, lost=1.0)], [made_up(saved=0.25)]]) == [
        Point("grid", 1.0, 0.0, 0.0),
        Point("half at 1/2", 0.625, 0.5, 1.0),
    ]


def test_the_rules_replayed():
    assert len({str(rule) for rule in RULES}) == 14
