from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluebench.benchmark.tasks import Setting
from cluebench.search.halving import Curve, Rule, Standing, in_order, standings
from cluebench.search.replay import RULES
from tests.search.curves import NAN, A, B, C, D, curve, tasks

EIGHTH, QUARTER, HALF = Fraction(1, 8), Fraction(1, 4), Fraction(1, 2)
ON = Standing((None,))


def stopped_after(rule, curves):
    """Setting → evaluations at which it was stopped, of one seed each."""
    found = standings(rule, {setting: [one] for setting, one in curves.items()})
    return {setting: standing.pauses[0] for setting, standing in found.items() if standing.stopped}


# By hand --------------------------------------------------------------------------------------------------------------


def test_the_best_half_goes_on_at_each_rung():
    # Of 8 evaluations the rung at 1/4 sees two, the rung at 1/2 four: A and D lead first, then D alone.
    curves = {
        A: curve(50, 60, 61, 61, 75, 76, 77, 78),
        B: curve(40, 41, 99, 99, 99, 99, 99, 99),
        C: curve(59, 30, 60, 60, 60, 60, 60, 60),
        D: curve(50, 62, 63, 64, 64, 64, 64, 64),
    }
    assert stopped_after(Rule(2, (QUARTER, HALF)), curves) == {B: 2, C: 2, A: 4}
    assert stopped_after(Rule(2, (QUARTER,)), curves) == {B: 2, C: 2}
    # A third of four, rounded up, is two.
    assert stopped_after(Rule(3, (HALF,)), curves) == {A: 4, C: 4}


def test_it_is_the_best_so_far_that_counts():
    curves = {A: curve(70, 50, 50, 50), B: curve(60, 65, 65, 65)}
    assert stopped_after(Rule(2, (HALF,)), curves) == {B: 2}


def test_no_verdict_before_two_evaluations():
    curves = {A: curve(10, 30, 30, 30), B: curve(20, 21, 21, 21)}
    assert curves[A].evaluations_at(EIGHTH) == curves[A].evaluations_at(HALF) == 2
    assert stopped_after(Rule(2, (EIGHTH,)), curves) == {B: 2}


def test_rungs_of_a_task_evaluated_once_an_epoch_are_epochs():
    of_eight = Curve(tuple(range(137, 137 * 8 + 1, 137)), (1.0,) * 8, 137 * 8)
    assert [of_eight.evaluations_at(rung) for rung in (EIGHTH, QUARTER, HALF)] == [2, 2, 4]
    of_three = Curve((90, 180, 270), (1.0,) * 3, 270)
    assert [of_three.evaluations_at(rung) for rung in (EIGHTH, QUARTER, HALF)] == [2, 2, 2]


def test_rungs_that_see_the_same_evaluations_are_one():
    curves = {setting: curve(place, place, place, place) for place, setting in enumerate((A, B, C, D))}
    assert stopped_after(Rule(2, (EIGHTH, QUARTER, HALF)), curves) == {A: 2, B: 2}


def test_a_batch_twice_as_large_has_half_the_steps():
    large = Setting(1e-5, 64, 0.1)
    assert stopped_after(Rule(2, (HALF,)), {A: curve(1, 1, 1, 50, 1, 1, 1, 1), large: curve(49, 49, 99, 99)}) == {
        large: 2
    }


def test_ties_go_as_in_the_table():
    larger_batch, more_dropout = Setting(1e-5, 64, 0.1), Setting(1e-5, 32, 0.2)
    equal = curve(50.004, 50.001, 50, 50)
    other = curve(50, 49, 50, 50)  # equal in two decimals
    for rival in (B, larger_batch, more_dropout):
        assert stopped_after(Rule(2, (HALF,)), {rival: equal, A: other}) == {rival: 2}


def test_the_mean_over_seeds_decides_for_all_of_them():
    two = {A: [curve(60, 60, 60, 60), curve(50, 50, 50, 50)], B: [curve(54, 54, 54, 54)] * 2}
    found = standings(Rule(2, (HALF,)), two)
    assert found == {A: Standing((None, None)), B: Standing((2, 2), stopped=True)}


def test_scores_are_rounded_before_their_mean_as_in_the_table():
    """Unrounded, B's mean would be 50.0053 and shown as 50.01."""
    three = {
        A: [curve(50, 50, 50, 50)] * 3,
        B: [curve(score, score, score, score) for score in (50.004, 50.004, 50.008)],
    }
    assert standings(Rule(2, (HALF,)), three)[B].stopped


# Odd cases ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_one_setting_only_goes_on(rule):
    assert stopped_after(rule, {A: curve(*range(16))}) == {}
    assert standings(rule, {}) == {}


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_trial_that_ends_before_the_first_rung_is_never_stopped(rule):
    assert stopped_after(rule, {A: curve(50), B: curve(40)}) == {}
    assert stopped_after(rule, {A: curve(50, 51), B: curve(40, 41)}) == {}


def test_a_short_trial_among_long_ones_takes_a_place_and_is_not_stopped():
    assert stopped_after(Rule(2, (HALF,)), {A: curve(50), B: curve(10, 40, 60, 60)}) == {B: 2}
    assert stopped_after(Rule(2, (HALF,)), {A: curve(30), B: curve(10, 40, 60, 60)}) == {}


def test_what_has_no_score_passes_no_rung_unless_nothing_has():
    curves = {A: curve(NAN, NAN, 90, 90), B: curve(NAN, 20, 20, 20), C: curve(NAN, NAN, NAN, NAN)}
    assert stopped_after(Rule(2, (HALF,)), curves) == {A: 2, C: 2}
    assert stopped_after(Rule(2, (HALF,)), {A: curves[A], C: curves[C]}) == {}


def test_the_place_of_a_failed_trial_goes_to_the_next_best():
    curves = {setting: curve(*[60 - place] * 4) for place, setting in enumerate((A, B, C, D))}
    rule = Rule(2, (HALF,))
    assert stopped_after(rule, curves) == {C: 2, D: 2}
    assert stopped_after(rule, {setting: curves[setting] for setting in (A, C, D)}) == {D: 2}


@pytest.mark.parametrize("keep, rungs", [(1, (HALF,)), (2, ()), (2, (HALF, QUARTER)), (2, (Fraction(1),)), (2, (0,))])
def test_a_rule_that_makes_no_sense_is_refused(keep, rungs):
    with pytest.raises(ValueError, match="rising shares"):
        Rule(keep, rungs)


def test_names_of_rules():
    assert str(Rule(2, (EIGHTH, HALF))) == "half at 1/8, 1/2" and str(Rule(5, (HALF,))) == "1/5 at 1/2"


# While trials run -----------------------------------------------------------------------------------------------------


def test_trials_at_a_rung_wait_for_those_on_the_way():
    curves = {A: [curve(50, 60, ended=False, total=400)], B: [curve(70, ended=False, total=400)], C: [curve(10, 20)]}
    assert standings(Rule(2, (HALF,)), curves) == {A: Standing((2,)), B: ON, C: ON}


def so_far(curves, evaluations):
    """What is known once every trial has done at most so many."""
    return {
        setting: [
            one if len(one.steps) <= evaluations
            else Curve(one.steps[:evaluations], one.scores[:evaluations], one.total_steps, ended=False)
            for one in seeds
        ]
        for setting, seeds in curves.items()
    }  # fmt: skip


@given(tasks(), st.sampled_from(RULES), st.integers(0, 12))
def test_a_verdict_given_while_trials_run_is_that_of_the_replay(curves, rule, evaluations):
    now, final = standings(rule, so_far(curves, evaluations)), standings(rule, curves)
    for setting, standing in now.items():
        if standing.stopped:
            assert standing == final[setting]


@given(tasks(), st.sampled_from(RULES))
def test_a_search_that_obeys_reaches_the_verdicts_of_the_replay(curves, rule):
    """Each trial that is not paused does one evaluation a turn; none is paused for ever."""
    done = {setting: [0] * len(seeds) for setting, seeds in curves.items()}
    while True:
        known = {
            setting: [so_far({setting: [one]}, number)[setting][0] for one, number in zip(seeds, done[setting])]
            for setting, seeds in curves.items()
        }
        found = standings(rule, known)
        free = [
            (setting, seed)
            for setting, standing in found.items()
            for seed, paused in enumerate(standing.pauses)
            if paused is None and not standing.stopped and not known[setting][seed].ended
        ]
        if not free:
            break
        for setting, seed in free:
            done[setting][seed] += 1
    assert found == standings(rule, curves)


@given(tasks(), st.sampled_from(RULES), st.randoms())
def test_the_order_in_which_trials_are_given_does_not_matter(curves, rule, random):
    shuffled = list(curves.items())
    random.shuffle(shuffled)
    assert standings(rule, dict(shuffled)) == standings(rule, curves)


@given(tasks(), st.sampled_from(RULES))
def test_something_always_ends_and_a_third_never_keeps_what_half_stops_first(curves, rule):
    found = standings(rule, curves)
    assert not all(standing.stopped for standing in found.values())
    first = rule.rungs[:1]
    kept = [
        {setting for setting, standing in standings(Rule(keep, first), curves).items() if not standing.stopped}
        for keep in (2, 3)
    ]
    assert kept[1] <= kept[0]


@given(tasks())
def test_the_leader_at_a_rung_is_never_stopped_there(curves):
    leading = {
        setting: sum(one.best_of(one.evaluations_at(HALF)) for one in seeds) for setting, seeds in curves.items()
    }
    leader = in_order({setting: score / len(curves[setting]) for setting, score in leading.items()})[0]
    assert not standings(Rule(3, (HALF,)), curves)[leader].stopped
