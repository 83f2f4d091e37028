"""What every page shares: its table script, its style, and that nothing leaves it or gets into it as HTML."""

import json
import re

import pytest
from jinja2 import ChoiceLoader, DictLoader, UndefinedError

from cluebench.report import page

pytestmark = pytest.mark.slow

TABLE = """{% extends "base.html" %}
{% block title %}{{ name }}{% endblock %}
{% block body %}<main><h1>{{ name }}</h1>
<div class="scroll" tabindex="0" role="region" aria-label="trials"><table id="trials" data-sortable><thead><tr>
<th>task</th><th class="number" data-key="lr">learning rate</th><th class="number">score</th><th>state</th><th data-key="">files</th></tr></thead>
<tbody>{% for row in data %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}<td>log</td></tr>{% endfor %}</tbody></table></div>
<button type="button" data-copy="python a.py --name '{{ name }}'">copy</button></main>{% endblock %}"""
ROWS = [
    ["TNEWS", 3e-05, 57.1, "done"],
    ["CSL", 1e-05, 81.25, "done"],
    ["C3, \"x\"", 2e-05, "-", "failed"],
    ["CSL", 3e-05, 9.5, "done"],
]  # fmt: skip
NAME = "</script><img src=x onerror=alert(1)><b>a&b"


@pytest.fixture
def shown(opened, tmp_path, monkeypatch):
    """shown(**how) → the table of ROWS in a browser."""
    loader = page._templates().loader
    monkeypatch.setattr(page._templates(), "loader", ChoiceLoader([DictLoader({"trials.html": TABLE}), loader]))
    (tmp_path / "trials.html").write_text(page.rendered("trials.html", ROWS, name=NAME))
    return lambda **how: opened(tmp_path / "trials.html", **how)


def column(shown, place):
    return shown.texts(f"tbody tr:visible td:nth-child({place})")


def test_a_column_is_sorted_by_its_numbers_and_rows_without_one_stay_last(shown):
    table = shown()
    head = table.page.locator("th", has_text="score")
    head.get_by_role("button").focus()
    table.page.keyboard.press("Enter")
    assert column(table, 3) == ["81.25", "57.1", "9.5", "-"] and head.get_attribute("aria-sort") == "descending"
    table.page.keyboard.press("Enter")
    assert column(table, 3) == ["9.5", "57.1", "81.25", "-"] and head.get_attribute("aria-sort") == "ascending"
    table.page.get_by_role("button", name="task").click()
    assert column(table, 1) == ['C3, "x"', "CSL", "CSL", "TNEWS"] and head.get_attribute("aria-sort") == "none"


@pytest.mark.parametrize(
    "asked, scores",
    [
        ("", ["57.1", "81.25", "-", "9.5"]),
        ("csl", ["81.25", "9.5"]),
        ("score>50", ["57.1", "81.25"]),
        ("score>=57.1 task!=csl", ["57.1"]),
        ("csl lr=3e-5", ["9.5"]),
        ("<10 csl state=done", ["81.25", "9.5"]),
        ("score<10", ["9.5"]),
        ("nothing", []),
    ],
)
def test_rows_are_filtered_by_words_and_numbers(shown, asked, scores):
    table = shown()
    table.page.get_by_role("searchbox").fill(asked)
    assert column(table, 3) == scores
    assert table.texts("[aria-live]") == [f"{len(scores)} of 4 shown"]


def test_what_is_shown_can_be_saved(shown):
    table = shown()
    table.page.get_by_role("searchbox").fill("lr<=2e-5")
    saved = {}
    for kind in ("CSV", "JSON"):
        with table.page.expect_download() as download:
            table.page.get_by_role("button", name=kind).click()
        saved[kind] = download.value.path().read_text()
    assert saved["CSV"] == 'task,lr,score,state\nCSL,1e-05,81.25,done\n"C3, ""x""",2e-05,-,failed\n'
    assert json.loads(saved["JSON"])[0] == {"task": "CSL", "lr": 1e-05, "score": 81.25, "state": "done"}
    table.page.get_by_role("button", name="copy").click()
    assert table.page.evaluate("navigator.clipboard.readText()") == f"python a.py --name '{NAME}'"


def test_a_name_with_html_in_it_stays_text(shown):
    table = shown()
    assert table.texts("h1") == [NAME] and table.page.title() == NAME
    assert table.page.locator("img, main b").count() == 0
    (data,) = re.findall('id="data">(.*?)</script>', table.page.content())
    assert json.loads(data) == ROWS and (table.complaints, table.requests) == ([], [])


def test_a_page_is_given_every_name_it_uses():
    with pytest.raises(UndefinedError, match="missing"):
        page._templates().from_string("{{ missing }}").render()


def test_nothing_is_asked_of_a_host_whatever_a_script_tries(shown):
    table = shown()
    table.page.evaluate("fetch('https://example.org/').catch(() => 0); new Image().src = 'https://example.org/x.png'")
    table.page.wait_for_timeout(100)
    assert any("Content Security Policy" in line for line in table.complaints)
