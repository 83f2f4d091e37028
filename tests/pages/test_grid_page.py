"""The report of a grid in a browser: what it shows is what the files say, to everybody, and nobody else is asked."""

import json

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.records import finished_trials
from cluebench.records.grid_file import read_grid
from cluebench.report import grid_page, scores
from cluebench.report.page import charts_library
from tests.made_up_runs import write_run, write_small
from tests.pages.conftest import LIGHT_AND_DARK

pytestmark = pytest.mark.slow

MODEL = "made-up/<img src=x onerror=alert(1)><b>bold</b>"
SOME_TASKS = [TASKS[name] for name in ("tnews", "cluewsc2020", "cmrc2018")]


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """A finished grid of three tasks with two seeds, in which some trials failed, and one of a model with a bad name."""
    folder = tmp_path_factory.mktemp("runs") / "model"
    write_run(folder, MODEL, tasks=SOME_TASKS, seeds=(42, 43), rows=300, state="failures")
    grid_page.write_report(folder)
    return folder


def with_every_chart(shown):
    shown.page.evaluate("document.querySelectorAll('details.task').forEach(task => { task.open = true; })")
    for chart in shown.page.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        chart.locator("svg.main-svg").first.wait_for()
    return shown


@pytest.fixture(scope="module")
def report(opened, failures):
    """The page with every task open and every chart drawn."""
    return with_every_chart(opened(failures / "report.html"))


def test_every_chart_is_drawn_without_a_word_and_without_a_request(report):
    assert report.page.locator(".chart.js-plotly-plot").count() == report.page.locator(".chart").count() >= 20
    assert (report.complaints, report.requests) == ([], [])
    assert report.page.locator("a[href*='//'], [src*='//']").count() == 0


@pytest.mark.parametrize("width, scheme", zip((390, 1400), LIGHT_AND_DARK))
def test_it_can_be_read_by_all(opened, failures, width, scheme):
    shown = opened(failures / "report.html", width=width, scheme=scheme)
    shown.page.locator(".chart").first.scroll_into_view_if_needed()
    shown.page.locator(".chart svg.main-svg").first.wait_for()
    assert shown.accessibility() == [] and shown.complaints == []
    shown.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert not shown.overflows


def test_a_model_with_html_in_its_name_stays_text(report):
    assert report.texts("h1") == [MODEL] and report.page.locator("img, h1 b").count() == 0


def test_every_trial_stands_in_the_table_with_its_files(report, failures):
    rows = report.page.locator("#all tbody tr:visible")
    assert rows.count() == (12 + 32 + 6) * 2
    report.page.get_by_role("searchbox").fill("task=tnews score>57")
    above = sum(trial.score[0] > 57 for trial in finished_trials.finished_trials(failures)["tnews"])
    assert rows.count() == above > 0
    report.page.get_by_role("searchbox").fill("")
    report.page.get_by_label("state", exact=True).select_option("state=failed")
    assert rows.count() == 4 and set(report.texts("#all tbody tr:visible td:nth-child(8)")) == {"failed"}
    links = [link.get_attribute("href") for link in report.page.locator("#all a").all()]
    assert len(links) > 150 and all((failures / link).is_file() for link in links)


def test_a_failure_shows_its_detail_and_its_trials(report, failures):
    report.page.locator(".failure summary").last.click()
    assert "Out of memory error on GPU 0" in " ".join(report.texts(".failure .code"))
    trials = [trial for trial in read_grid(failures).trials if trial.failures]
    lines = report.texts(".failure li")
    assert len(lines) == len(trials) and sum(line.endswith("3 times, failed") for line in lines) == 4


def test_a_curve_shows_the_values_of_the_results(report, failures):
    chart = report.page.locator("[data-task=tnews][data-chart=curves]")
    chart.scroll_into_view_if_needed()
    trials = finished_trials.finished_trials(failures)["tnews"]
    best = max(trials, key=lambda trial: scores.rank(trial.score, trial.setting))
    point = max(best.result.dev_curve, key=lambda point: point.score[0])
    x, y = chart.evaluate(
        "(chart, [x, y]) => { const { xaxis, yaxis } = chart._fullLayout, box = chart.querySelector('.nsewdrag').getBoundingClientRect();"
        " return [box.x + xaxis.l2p(x), box.y + yaxis.l2p(y)]; }", [point.step, point.score[0]],
    )  # fmt: skip
    for nearer in (4, 1, 0):
        report.page.mouse.move(x - nearer, y)
        report.page.wait_for_timeout(120)  # what moves faster is not looked at
    hover = chart.locator(".hoverlayer .hovertext").text_content()
    assert f"{best.score[0]:.2f}" in hover and f"{point.step}: {point.score[0]:.2f}" in hover.replace(",", "")
    assert f"lr {best.setting.learning_rate}, batch {best.setting.batch_size}" in hover


def test_a_click_on_a_value_keeps_the_lines_through_it(report):
    chart = report.page.locator("[data-task=cluewsc2020][data-chart=parallel]")
    kept = "chart => chart._fullData.filter(trace => trace.opacity > .5).length"
    every = chart.evaluate(kept)
    chart.locator(".annotation", has_text="3e-05").click(force=True)
    assert 0 < chart.evaluate(kept) < every / 3 and not report.overflows
    chart.locator(".annotation", has_text="3e-05").click(force=True)
    assert chart.evaluate(kept) == every


def test_a_map_has_a_cell_a_setting_and_can_be_had_for_a_seed(report, failures):
    cells = report.texts("#tnews table.heat:visible td")
    assert len(cells) == 12 and sum(cell.endswith("best") for cell in cells) == 1
    best = scores.best_settings(finished_trials.finished_trials(failures))["tnews"]
    assert f"{best.score[0]:.2f} best" in cells
    report.page.locator("#tnews [data-maps]").select_option("43")
    of_seed = report.texts("#tnews table.heat:visible td")
    trials = finished_trials.finished_trials(failures)["tnews"]
    single = {f"{trial.score[0]:.2f}" for trial in trials if trial.seed == 43}
    assert len(of_seed) == 12 and single <= {cell.removesuffix(" best") for cell in of_seed}


def test_what_is_drawn_can_be_saved(report, failures):
    with report.page.expect_download() as download:
        report.page.locator("#take").click()
    saved = json.loads(download.value.path().read_text())
    assert list(saved) == ["tnews", "cluewsc2020", "cmrc2018"]
    found = {tuple(trial["score"]) for trial in saved["cmrc2018"]["trials"]}
    assert found == {trial.score for trial in finished_trials.finished_trials(failures)["cmrc2018"]}
    assert all(trial["losses"][1] for trial in saved["tnews"]["trials"])


def test_a_command_is_copied_by_a_click(report):
    report.page.locator("#scores tr", has_text="TNEWS").get_by_role("button").click()
    command = report.page.evaluate("navigator.clipboard.readText()")
    assert command.startswith("python classification/run_clue_classifier.py --task_name TNEWS")
    assert "--output_dir reproduced/tnews" in command


def test_a_link_to_a_task_opens_it(opened, failures):
    shown = opened(failures / "report.html")
    assert shown.page.locator("details.task[open]").count() == 1
    shown.page.locator("nav").get_by_text("CMRC2018").click()
    shown.page.locator("#cmrc2018[open] .chart svg.main-svg").first.wait_for()


# Two languages --------------------------------------------------------------------------------------------------------


def untranslated(shown):
    """Texts of the page that stand in English while Chinese is chosen, and have letters."""
    return shown.page.evaluate(
        """() => [...document.querySelectorAll("[data-t]")].flatMap(one => [one.phrase, ...Object.values(one.phrases ?? {})])
        .filter(phrase => phrase).flatMap(function parts([text, values]) {
          return [text, ...Object.values(values ?? {}).filter(Array.isArray).flatMap(parts).map(one => one)]; })
        .filter(text => /[a-z]{2}/.test(text) && t(text) === text && !/^(dropout|\\{name\\})/.test(text))"""
    )


def test_one_page_holds_both_languages_and_remembers_the_choice(report, opened, failures):
    assert report.texts("#scores h2") == ["Best scores"]
    report.page.locator("#language").select_option("zh")
    assert report.texts("#scores h2") == ["最优分数"]
    assert report.page.evaluate("document.documentElement.lang") == "zh-CN"
    assert untranslated(report) == []
    curves = report.page.locator("[data-task=tnews][data-chart=curves]")
    assert "优化步数" in curves.text_content() and "optimizer step" not in curves.text_content()
    assert report.accessibility() == []
    report.page.reload()
    assert report.texts("#scores h2") == ["最优分数"]
    report.page.locator("#language").select_option("en")
    assert report.texts("#scores h2") == ["Best scores"]


def test_a_chinese_browser_gets_chinese(browser, failures):
    context = browser.new_context(locale="zh-CN", viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto((failures / "report.html").as_uri())
    assert page.locator("#scores h2").inner_text() == "最优分数"
    page.get_by_role("searchbox").fill("分数 > 57")
    assert 0 < page.locator("#all tbody tr:visible").count() < 100
    context.close()


# What to do next, and choosing trials ---------------------------------------------------------------------------------


def test_what_to_do_next_has_commands(report):
    advice = report.texts("#next .advice > li")
    assert advice[0].startswith("4 trials failed (out of memory)") and "--save_best_model True" in advice[-1]
    assert any("More seeds of the best settings" in text and "--confirm_seeds 5 --top_k 3" in text for text in advice)
    report.page.locator("#next button").last.click()
    assert report.page.evaluate("navigator.clipboard.readText()").endswith("--save_best_model True")


def test_a_click_chooses_a_trial_everywhere(opened, failures):
    shown = opened(failures / "report.html")
    shown.page.locator("nav").get_by_text("TNEWS").click()
    shown.page.locator("[data-task=tnews][data-chart=curves] svg.main-svg").first.wait_for()
    cell = shown.page.locator("#tnews table.heat:visible td[data-trials]").nth(4)
    ids = cell.get_attribute("data-trials").split()
    cell.click()
    assert len(ids) == 2 and shown.texts("#chosen-count") == ["2 chosen"]
    rows = shown.page.locator("#all tr.lit")
    assert sorted(rows.evaluate_all("all => all.map(one => one.dataset.trials)")) == sorted(ids)
    lit = shown.page.locator("[data-task=tnews][data-chart=curves] .trace.lit")
    assert lit.count() == 2, "the curves of both seeds stand out"
    shown.page.locator("#only-chosen").check()
    assert shown.page.locator("#all tbody tr:visible").count() == 2
    shown.page.get_by_role("button", name="clear").click()
    assert shown.page.locator("#all tbody tr:visible").count() == 100 and shown.page.locator(".lit").count() == 0


def test_the_filter_takes_what_people_type(opened, failures):
    report = opened(failures / "report.html")  # where nothing is chosen or filtered yet
    box, rows = report.page.get_by_role("searchbox"), report.page.locator("#all tbody tr:visible")
    for asked in ("score > 57", "score>57", "batch_size=16", "learning_rate=3e-5", "learning rate = 3e-5"):
        box.fill(asked)
        assert 0 < rows.count() < 100 and box.get_attribute("aria-invalid") == "false", asked
    box.fill("speed > 3")
    message = report.texts("#trials [aria-live]")[0]
    assert "no column is called speed" in message and "score" in message and box.get_attribute("aria-invalid") == "true"
    box.fill("")


def test_curves_are_coloured_and_laid_out_as_chosen(opened, failures):
    report = with_every_chart(opened(failures / "report.html"))
    chart = report.page.locator("[data-task=cmrc2018][data-chart=curves]")
    names = "chart => [...new Set(chart._fullData.filter(one => one.showlegend).map(one => one.name))]"
    assert chart.evaluate(names) == ["1e-05", "2e-05", "3e-05"]
    report.page.locator("#cmrc2018 [data-option=colour]").select_option("batch_size")
    assert chart.evaluate(names) == ["24", "32"]
    report.page.locator("#cmrc2018 [data-option=axis]").select_option("epoch")
    assert chart.evaluate("chart => Math.max(...chart._fullData.flatMap(one => one.x))") == pytest.approx(2)


# Other grids ----------------------------------------------------------------------------------------------------------


def test_made_up_and_limited_data_are_named_before_any_score(opened, tmp_path):
    write_small(tmp_path / "small")
    grid_page.write_report(tmp_path / "small")
    shown = opened(tmp_path / "small" / "report.html", width=390)
    banners = shown.texts(".banner")
    assert len(banners) == 2 and "made-up data" in banners[0] and "only the first 600 rows" in banners[1]
    shown.page.locator(".pair summary").first.click()
    (right, *_), (predicted, *_) = shown.texts(".example dd:nth-of-type(2)"), shown.texts(".example dd:nth-of-type(3)")
    assert shown.texts(".pair summary")[0].startswith(f"{right} → {predicted}")
    assert not shown.overflows and shown.accessibility() == [] and shown.complaints == []


def test_a_running_grid_says_that_its_page_is_written_again(opened, tmp_path):
    write_run(tmp_path, "m", tasks=SOME_TASKS[:1], rows=100, state="running")
    grid_page.write_report(tmp_path)
    shown = opened(tmp_path / "report.html")
    assert "while the grid runs" in shown.texts("header .note")[0]
    (row,) = shown.texts("#running tbody tr")
    assert "TNEWS" in row and "/9000" in row and row.endswith("min")
    assert "best on dev so far" in shown.texts("#scores th") and shown.texts("#all tbody td.running") == ["running"]
    chart = shown.page.locator("[data-chart=curves]")
    chart.locator("svg.main-svg").first.wait_for()
    assert chart.evaluate("chart => chart._fullData.filter(one => one.line.dash === 'dash').length") == 1
    cells = shown.texts("table.heat td")
    assert "waiting" in cells and sum(cell.endswith(" %") for cell in cells) == 1
    assert shown.page.locator("[data-chart=rules], #next").count() == 0
    shown.page.get_by_role("searchbox").fill("waiting")
    shown.page.locator("#tnews").evaluate("task => { task.open = false; }")
    shown.page.reload()
    assert shown.page.get_by_role("searchbox").input_value() == "waiting", "a page that reloads keeps its place"
    assert not shown.page.locator("#tnews").evaluate("task => task.open")


def test_an_empty_folder_has_a_page(opened, tmp_path):
    grid_page.write_report(tmp_path)
    shown = opened(tmp_path / "report.html", width=390)
    assert "no grid.json" in shown.texts("header")[0] and not shown.overflows and shown.complaints == []


def test_what_halving_has_stopped_is_marked_and_its_curves_are_drawn(opened, tmp_path):
    write_run(tmp_path, "m", tasks=SOME_TASKS[:1], rows=100, state="halving")
    grid_page.write_report(tmp_path)
    shown = opened(tmp_path / "report.html")
    assert "halving: 6 of 12 trials stopped early" in shown.texts("header .count")
    assert sum(cell.endswith(" stopped") for cell in shown.texts("table.heat td")) == 6
    chart = shown.page.locator("[data-chart=curves]")
    chart.locator("svg.main-svg").first.wait_for()
    drawn = chart.evaluate("chart => chart._fullData.map(trace => [trace.line.dash, trace.x.at(-1)])")
    furthest = {dash: x for dash, x in sorted(drawn, key=lambda pair: pair[1])}
    assert len(drawn) == 12 and furthest["dash"] < furthest["solid"]


def test_a_page_of_134_trials_has_less_than_6_mb_and_one_of_1000_less_than_15(failures):
    library, trials = len(charts_library().encode()), 100
    of_a_trial = ((failures / "report.html").stat().st_size - library) / trials
    assert library + 134 * of_a_trial < 6e6 and library + 1000 * of_a_trial < 15e6
