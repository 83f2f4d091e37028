import json

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data.official import fingerprint_of, official_md5s
from cluebench.foundation.errors import UsageError
from cluebench.report.comparison import Contender, compare, notes, rendered, sentence
from cluebench.report.evidence import measured, published
from cluebench.statistics import paired

RIGHT = np.arange(2000) % 3 > 0


def with_gains(right, gains, losses):
    """The rows with the first so many wrong ones right and the first so many right ones wrong."""
    changed = right.copy()
    changed[np.flatnonzero(~right)[:gains]] = True
    changed[np.flatnonzero(right)[:losses]] = False
    return changed


@pytest.fixture
def contender(evidence):
    def make(name, **tasks):
        return Contender(name, {task: evidence(task, right) for task, right in tasks.items()})

    return make


def test_mcnemar_decides_where_rows_are_independent(contender):
    found = compare(contender("a", tnews=RIGHT), contender("b", tnews=with_gains(RIGHT, 40, 15)))
    (tnews,) = found.tasks
    assert (tnews.test, tnews.only_first_right, tnews.only_second_right) == ("McNemar", 15, 40)
    assert tnews.p == paired.mcnemar(RIGHT, with_gains(RIGHT, 40, 15))[2].p == tnews.p_holm
    assert tnews.difference == pytest.approx(-1.25) and tnews.low < -1.25 < tnews.high
    assert found.average is None
    assert sentence(found) == "b is better on TNEWS."


def test_bootstrap_decides_where_rows_share_a_passage_or_seeds_are_averaged(evidence, predictions):
    clusters, better = np.arange(2000) // 4, with_gains(RIGHT, 40, 15)
    first, second = (Contender(n, {"c3": evidence("c3", r, clusters)}) for n, r in (("a", RIGHT), ("b", better)))
    (c3,) = compare(first, second).tasks
    assert (c3.test, c3.rows, c3.clusters, c3.only_first_right) == ("bootstrap", 2000, 500, None)
    seeds = measured([predictions("tnews", RIGHT), predictions("tnews", better, seed=43)])
    (tnews,) = compare(Contender("a", {"tnews": seeds}), Contender("b", {"tnews": evidence("tnews", RIGHT)})).tasks
    assert tnews.test == "bootstrap" and tnews.difference == pytest.approx(0.625)


def test_holm_is_over_the_tasks_and_the_average_over_all_of_them(contender):
    slightly, clearly = with_gains(RIGHT, 24, 10), with_gains(RIGHT, 80, 10)
    first = contender("a", tnews=RIGHT, afqmc=RIGHT, csl=clearly)
    second = contender("b", tnews=slightly, afqmc=clearly, csl=RIGHT)
    found = compare(first, second)
    assert [one.task for one in found.tasks] == ["AFQMC", "TNEWS", "CSL"]
    p = {one.task: one.p for one in found.tasks}
    assert 0.025 * 2 > p["TNEWS"] * 2 and p["TNEWS"] < 0.05
    assert [one.p_holm for one in found.tasks] == paired.holm([one.p for one in found.tasks]).tolist()
    assert found.average.difference == pytest.approx(-0.7 / 3) and found.average.p_holm is None
    assert sentence(found).startswith("b is better on AFQMC")
    assert "a is better on CSL" in sentence(found)


def test_equal_models_are_not_distinguished(contender):
    same = contender("a", tnews=RIGHT, afqmc=RIGHT)
    found = compare(same, contender("b", tnews=with_gains(RIGHT, 10, 10), afqmc=RIGHT))
    text = "a and b do not differ clearly on any of the two tasks; over the mean of the two tasks neither is better"
    assert sentence(found) == f"{text} than the other."
    assert compare(same, same).average.p == 1


def test_the_rest_is_counted(contender):
    clearly = with_gains(RIGHT, 80, 10)
    first = contender("a", tnews=RIGHT, afqmc=RIGHT, csl=RIGHT, ocnli=RIGHT)
    second = contender("b", tnews=RIGHT, afqmc=clearly, csl=clearly, ocnli=RIGHT)
    text = "b is better on AFQMC and CSL; no clear difference on the other two; over the mean of the four tasks "
    assert sentence(compare(first, second)).startswith(f"{text}b is better by 1.75 (")


def test_against_published_scores_the_test_is_unpaired_and_says_so(evidence):
    theirs = {name: published(TASKS[name], (100 * RIGHT.mean() + 4,)) for name in ("tnews", "cluewsc2020")}
    sums = {name: fingerprint_of(TASKS[name], official_md5s(TASKS[name])) for name in theirs}
    ours = {
        name: evidence(name, RIGHT[:rows], data=sums[name]) for name, rows in (("tnews", 2000), ("cluewsc2020", 304))
    }
    found = compare(Contender("a", ours), Contender("b (published)", theirs))
    assert {one.test for one in (*found.tasks, found.average)} == {"unpaired"}
    assert [one.is_significant for one in found.tasks] == [True, False]
    assert any("published scores have no rows" in note for note in notes(found))
    assert not any("bootstrap" in note for note in notes(found))


def test_other_data_rows_or_protocols_are_refused(evidence, contender):
    first = contender("a", tnews=RIGHT, csl=RIGHT)
    second = Contender("b", {"tnews": first.evidence["tnews"], "csl": evidence("csl", RIGHT, epochs=5, data="other")})
    differing = r"CSL: a and b .* differ in data \(0123456789abcdef and other\), epochs \(3 and 5\)"
    with pytest.raises(UsageError, match=differing):
        compare(first, second)
    with pytest.raises(UsageError, match=r"their dev rows \(2000 and 1999 of them\)"):
        compare(first, contender("b", tnews=RIGHT[1:]))
    old = Contender("old", {}, {"tnews": "no dev predictions"})
    with pytest.raises(UsageError, match=r"a and old have no task in common .* \(old: no dev predictions\)"):
        compare(first, old)


def test_formats_show_the_same_numbers(contender):
    first = contender("a", tnews=RIGHT, csl=RIGHT)
    better = contender("b", tnews=with_gains(RIGHT, 40, 15), csl=RIGHT)
    second = Contender("b", better.evidence, {"c3": "no dev predictions"})
    found = compare(first, second)
    text, markdown = (rendered([found], style).splitlines() for style in ("text", "markdown"))
    assert text[:2] == ["first: a", "second: b"]
    (row,) = [line.split() for line in text if line.startswith("TNEWS")]
    assert row[:4] == ["TNEWS", "66.65", "67.90", "-1.25"] and row[-2:] == ["McNemar", "2000"]
    assert any(line.startswith("| TNEWS | 66.65 | 67.90 | -1.25 |") for line in markdown)
    assert "left out: C3 of b: no dev predictions" in text
    (values,) = json.loads(rendered([found], "json"))
    assert values["sentence"] in text and values["sentence"] in markdown
    assert values["tasks"][0]["task"] == "TNEWS" and values["tasks"][0]["significant"] is True
    assert values["average"]["difference"] == pytest.approx(-0.625)
    assert rendered([found, found], "text").count("first: a") == 2
    assert rendered([found], "json") == rendered([compare(first, second)], "json"), "twice the same numbers"
