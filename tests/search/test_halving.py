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

LARGE_BATCH, MORE_DROPOUT = Setting(1e-5, 64, 0.1), Setting(1e-5, 32, 0.2)
AT_HALF = Rule(2, (HALF,))
#: Of 8 evaluations the rung at 1/4 sees two, the rung at 1/2 four: A and D lead first, then D alone.
FOUR = {
    A: curve(50, 60, 61, 61, 75, 76, 77, 78),
    B: curve(40, 41, 99, 99, 99, 99, 99, 99),
    C: curve(59, 30, 60, 60, 60, 60, 60, 60),
    D: curve(50, 62, 63, 64, 64, 64, 64, 64),
}
GOING_DOWN = {setting: curve(*[60 - place] * 4) for place, setting in enumerate((A, B, C, D))}
EQUAL, EQUAL_IN_TWO_DECIMALS = curve(50.004, 50.001, 50, 50), curve(50, 49, 50, 50)
LATE, EARLY, NEVER = curve(NAN, NAN, 90, 90), curve(NAN, 20, 20, 20), curve(NAN, NAN, NAN, NAN)


@pytest.mark.parametrize(
    "rule, curves, stopped",
    [
        (Rule(2, (QUARTER, HALF)), FOUR, {B: 2, C: 2, A: 4}),  # the best half goes on at each rung
        (Rule(2, (QUARTER,)), FOUR, {B: 2, C: 2}),
        (Rule(3, (HALF,)), FOUR, {A: 4, C: 4}),  # a third of four, rounded up, is two
        # the best score so far counts
        (AT_HALF, {A: curve(70, 50, 50, 50), B: curve(60, 65, 65, 65)}, {B: 2}),
        # no verdict before two evaluations
        (Rule(2, (EIGHTH,)), {A: curve(10, 30, 30, 30), B: curve(20, 21, 21, 21)}, {B: 2}),
        # rungs that see the same evaluations are one
        (Rule(2, (EIGHTH, QUARTER, HALF)), GOING_DOWN, {C: 2, D: 2}),
        # a batch twice as large has half the steps
        (AT_HALF, {A: curve(1, 1, 1, 50, 1, 1, 1, 1), LARGE_BATCH: curve(49, 49, 99, 99)}, {LARGE_BATCH: 2}),
        # ties go as in the table
        *((AT_HALF, {rival: EQUAL, A: EQUAL_IN_TWO_DECIMALS}, {rival: 2}) for rival in (B, LARGE_BATCH, MORE_DROPOUT)),
        # a short trial among long ones takes a place and is not stopped
        (AT_HALF, {A: curve(50), B: curve(10, 40, 60, 60)}, {B: 2}),
        (AT_HALF, {A: curve(30), B: curve(10, 40, 60, 60)}, {}),
        # a trial without a score passes no rung, unless none has one
        (AT_HALF, {A: LATE, B: EARLY, C: NEVER}, {A: 2, C: 2}),
        (AT_HALF, {A: LATE, C: NEVER}, {}),
        # the place of a failed trial goes to the next best
        (AT_HALF, GOING_DOWN, {C: 2, D: 2}),
        (AT_HALF, {setting: GOING_DOWN[setting] for setting in (A, C, D)}, {D: 2}),
    ],
)
def test_verdicts_worked_out_by_hand(rule, curves, stopped):
    assert stopped_after(rule, curves) == stopped


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_setting_alone_and_a_trial_that_ends_before_the_first_rung_go_on(rule):
    assert standings(rule, {}) == {} == stopped_after(rule, {A: curve(*range(16))})
    assert stopped_after(rule, {A: curve(50), B: curve(40)}) == {}
    assert stopped_after(rule, {A: curve(50, 51), B: curve(40, 41)}) == {}


@pytest.mark.parametrize("evaluations, at", [(8, [2, 2, 4]), (4, [2, 2, 2]), (3, [2, 2, 2])])
def test_rungs_of_a_task_evaluated_once_an_epoch_are_epochs(evaluations, at):
    epochs = Curve(tuple(range(137, 137 * evaluations + 1, 137)), (1.0,) * evaluations, 137 * evaluations)
    assert [epochs.evaluations_at(rung) for rung in (EIGHTH, QUARTER, HALF)] == at


def test_the_mean_over_seeds_decides_for_all_of_them():
    two = {A: [curve(60, 60, 60, 60), curve(50, 50, 50, 50)], B: [curve(54, 54, 54, 54)] * 2}
    assert standings(AT_HALF, two) == {A: Standing((None, None)), B: Standing((2, 2), stopped=True)}


def test_scores_are_rounded_before_their_mean_as_in_the_table():
    """Unrounded, B's mean would be 50.0053 and shown as 50.01."""
    three = {A: [curve(*[50] * 4)] * 3, B: [curve(*[score] * 4) for score in (50.004, 50.004, 50.008)]}
    assert standings(AT_HALF, three)[B].stopped


@pytest.mark.parametrize("keep, rungs", [(1, (HALF,)), (2, ()), (2, (HALF, QUARTER)), (2, (Fraction(1),)), (2, (0,))])
def test_a_rule_that_makes_no_sense_is_refused(keep, rungs):
    with pytest.raises(ValueError, match="rising shares"):
        Rule(keep, rungs)


def test_names_of_rules():
    assert str(Rule(2, (EIGHTH, HALF))) == "half at 1/8, 1/2" and str(Rule(5, (HALF,))) == "1/5 at 1/2"


# While trials run -----------------------------------------------------------------------------------------------------


def test_trials_at_a_rung_wait_for_those_on_the_way():
    curves = {A: [curve(50, 60, ended=False, total=400)], B: [curve(70, ended=False, total=400)], C: [curve(10, 20)]}
    assert standings(AT_HALF, curves) == {A: Standing((2,)), B: ON, C: ON}


def so_far(curves, evaluations):
    """The curves when every trial has done at most this number of evaluations."""
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
