"""The leaderboard's page in a browser: what is in the ranking, what sorting, filters and a baseline show."""

import csv
import json

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.foundation import atomic
from cluebench.report.leaderboard import Leaderboard, measured_rows, published_rows, rendered
from tests.made_up_runs import write_run, write_small
from tests.pages.conftest import LIGHT_AND_DARK

pytestmark = pytest.mark.slow

NASTY = "<img src=x onerror=alert(1)>|*a*"
SUBMITTED = {"model": "m", "zip": "z.zip", "sha256": "0", "date": "2026-11-28T09:00:00+00:00", "files": [], "dev": {},
             "versions": {}, "test": {"tnews": 58.12}}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two whole grids, one of them with test scores and a report; one with failures, one on made-up data."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "better", "our/better", quality=1.0, rows=400)
    write_run(root / "nasty", NASTY, quality=-2.0, rows=400)
    write_run(root / "failing", "our/failing", quality=2.0, rows=400, state="failures")
    write_small(root / "small", "our/small")
    atomic.write_json(root / "better" / "submit.json", SUBMITTED)
    (root / "better" / "report.html").write_text("<title>its report</title>")
    return root


@pytest.fixture(scope="module")
def board(runs):
    return Leaderboard.of(measured_rows(runs) + published_rows())


@pytest.fixture
def shown(opened, runs, board):
    """shown(board=board, **how) → the page in a browser."""

    def show(board=board, **how):
        (runs / "index.html").write_text(rendered(board, "html", runs))
        return opened(runs / "index.html", **how)

    return show


def names(shown):
    return [text.split("\n")[0] for text in shown.texts("#models tbody tr:visible th")]


def column(shown, place):
    """The first line of each visible cell; the columns are rank, model, AVG, the tasks, …"""
    return [text.split("\n")[0] for text in shown.texts(f"#models tbody tr:visible > :nth-child({place})")]


@pytest.mark.parametrize("scheme", LIGHT_AND_DARK)
@pytest.mark.parametrize("width", [390, 1400])
def test_it_is_quiet_accessible_and_no_wider_than_the_window(shown, width, scheme):
    page = shown(width=width, scheme=scheme)
    page.page.select_option("#baseline", label="our/better")
    page.page.get_by_label("comparable only").uncheck()
    assert not page.overflows and page.accessibility() == []
    assert page.complaints == page.requests == []
    assert NASTY in names(page), "a name is text"


def test_only_comparable_runs_are_ranked_and_the_others_are_shown_when_asked_for(shown):
    page = shown()
    assert len(names(page)) == 29 and "our/failing" not in names(page)
    reasons = " ".join(page.texts(".aside li"))
    assert "our/failing: 5 of the 134 trials missing" in reasons and "our/small: not on the official files" in reasons
    page.page.get_by_label("comparable only").uncheck()
    assert names(page)[-2:] == ["our/failing", "our/small"] and column(page, 1)[-2:] == ["–", "–"]
    page.page.get_by_label("complete only").check()
    assert names(page)[-1] == "our/failing" and "our/small" not in names(page)


def test_where_none_of_the_users_runs_is_ranked_they_are_shown_from_the_start(shown, runs):
    unranked = [row for row in measured_rows(runs) if row.model in ("our/failing", "our/small")]
    page = shown(Leaderboard.of(unranked + published_rows()))
    assert names(page)[-2:] == ["our/failing", "our/small"]


def test_asked_for_runs_that_do_not_compare_are_ranked_and_named(shown, runs):
    page = shown(Leaderboard.of(measured_rows(runs), all_runs=True))
    assert names(page)[0] == "our/failing" and column(page, 1)[0] == "1"
    assert "ranked because of --all_runs" in page.texts(".aside li")[0]


def test_equal_models_share_a_rank(shown, board):
    ranks = {row.model: str(row.rank) for row in board.rows if row.rank}
    page = shown()
    assert dict(zip(names(page), column(page, 1), strict=True)) == ranks
    assert len(set(ranks.values())) < len(ranks)


def test_a_click_on_a_head_or_its_key_sorts(shown):
    page = shown()
    afqmc = page.page.get_by_role("button", name="AFQMC")
    afqmc.click()
    values = list(map(float, column(page, 4)))
    assert values == sorted(values, reverse=True)
    afqmc.focus()
    page.page.keyboard.press("Enter")
    assert list(map(float, column(page, 4))) == sorted(values)


def test_filters_by_size_and_source(shown):
    page = shown()
    page.page.get_by_role("combobox", name="layers × hidden").select_option("6L384H")
    assert names(page) == ["ernie-3.0-mini-zh"]
    page.page.get_by_role("combobox", name="layers × hidden").select_option("any")
    page.page.get_by_role("combobox", name="parameters").select_option("< 20 M")
    assert {"ernie-3.0-nano-zh", "uer/chinese-roberta-tiny"} <= set(names(page)) and "hfl/rbt3" not in names(page)
    page.page.get_by_role("combobox", name="parameters").select_option("any")
    page.page.get_by_label("without published ones").check()
    assert names(page) == ["our/better", NASTY]
    page.page.get_by_role("searchbox").fill("avg>76")
    assert names(page) == ["our/better"]


def test_the_best_of_each_column_is_that_of_the_rows_shown(shown):
    page = shown()

    def best(place):
        return page.texts(f"#models tbody tr:visible > :nth-child({place}).top b")

    assert best(3) == ["78.71"] and best(9) == ["90.79"]
    page.page.get_by_role("searchbox").fill("rbt")
    assert best(3) == ["70.06"] and best(9) == ["76.64"]


def test_differences_to_a_baseline_are_those_of_the_json(shown, runs):
    base = Leaderboard.of(measured_rows(runs) + published_rows(), baseline="hfl/rbt3")
    models = {one["model"]: one for one in json.loads(rendered(base, "json"))["models"]}
    for page in (shown(base), shown()):
        page.page.select_option("#baseline", label="hfl/rbt3 (published)")
        for place, name in enumerate(TASKS, 4):
            errors = page.texts(f"#models tbody tr:visible > :nth-child({place}) [data-error]")
            expected = [models[model]["difference"] for model in names(page) if model != "hfl/rbt3"]
            numbers = [float(text.replace("−", "-")) for text in errors if "±" not in text]
            assert numbers == [one["scores"][name] for one in expected]
        assert page.texts("#models tr.chosen th")[0].startswith("hfl/rbt3")
    page.page.select_option("#baseline", label="no baseline")
    assert all("±" in text for text in page.texts("#models tbody tr:visible > :nth-child(3) [data-error]"))


def test_a_difference_within_its_error_is_grey(shown):
    page = shown()
    page.page.select_option("#baseline", label="ernie-3.0-base-zh (published)")
    classes = dict(zip(names(page), page.page.locator("#models tbody tr:visible > :nth-child(3) small[data-error]")
                       .evaluate_all("all => all.map(one => one.className)"), strict=True))  # fmt: skip
    assert (classes["ernie-3.0-xbase-zh"], classes["hfl/rbt3"], classes["ernie-gram-zh"]) == ("good", "bad", "dim")


def test_scores_of_test_sets_stand_beside_dev_and_a_model_links_to_its_report(shown):
    page = shown()
    cells = page.texts("#models tbody tr:visible > :nth-child(5)")
    assert [text.split("\n")[-1] for text in cells if "test" in text] == ["test 58.12"]
    link = page.page.get_by_role("link", name="our/better")
    assert link.get_attribute("href") == "better/report.html", "a run root can be moved, or served"
    link.click()
    assert page.page.title() == "its report"


@pytest.mark.parametrize("width", [390, 1400])
def test_head_and_names_stay_in_sight(shown, width):
    page = shown(width=width)
    where = """() => [...document.querySelectorAll('#models thead th.first, #models tbody tr:first-child th')].map(one => {
        const box = one.getBoundingClientRect(), list = document.querySelector('.scroll').getBoundingClientRect();
        return [box.left - list.left, box.top - list.top]; })"""
    (corner, name) = page.page.evaluate(where)
    page.page.evaluate("document.querySelector('.scroll').scrollBy(500, 300)")
    (corner_after, name_after) = page.page.evaluate(where)
    assert abs(corner_after[1] - corner[1]) < 1 and name_after[1] < name[1] - 100
    for after in (corner_after, name_after):
        assert -1 <= after[0] <= 70


def test_the_rows_shown_can_be_saved(shown):
    page = shown()
    page.page.get_by_role("searchbox").fill("better")
    with page.page.expect_download() as download:
        page.page.get_by_role("button", name="CSV").click()
    (row,) = csv.DictReader(download.value.path().read_text().splitlines())
    assert (row["model"], row["architecture"], row["parameters"]) == ("our/better", "12L768H", "102267648")
    assert row["comparable"] == "yes" and float(row["avg"]) > 70 and float(row["hours"]) > 1


def test_filters_as_people_type_them_and_in_chinese(shown):
    page = shown()
    box = page.page.get_by_role("searchbox")
    box.fill("parameters<110M C3 > 70")
    assert {"our/better", "ernie-gram-zh"} <= set(names(page)) and "ernie-3.0-base-zh" not in names(page)
    page.page.locator("#language").select_option("zh")
    assert page.texts("h1") == ["CLUE 排行榜"] and page.accessibility() == []
    box.fill("参数量 > 290M")
    assert set(names(page)) == {"ernie-3.0-xbase-zh", "ernie-2.0-large-zh", "hfl/roberta-wwm-ext-large"}


def test_score_stands_against_cost_in_a_picture(shown):
    page = shown()
    chart = page.page.locator(".chart")
    chart.scroll_into_view_if_needed()
    chart.locator("svg.main-svg").first.wait_for()
    assert set(chart.evaluate("chart => chart._fullData[0].text")) == {"our/better", "our/failing", NASTY}
    assert page.complaints == page.requests == [] and page.page.locator("[data-title*='hare']").count() == 0


def test_columns_beyond_the_window_are_announced(shown):
    page = shown(width=390)
    sign = page.page.get_by_role("button", name="more columns")
    sign.click()
    page.page.evaluate("document.querySelector('.scroll').scrollLeft = 9999")
    sign.wait_for(state="hidden")
