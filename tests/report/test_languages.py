"""The pages' catalogue: every phrase has a Chinese text with the same places to fill, and no text is left over."""

import ast
import html
import re
from string import Formatter

from cluebench.foundation.text import Phrase
from cluebench.report import page
from tests.conftest import ROOT

PATHS = [*page._TEMPLATES.glob("*.html"), *page._TEMPLATES.glob("*.js")]
TEMPLATES = [path.read_text(encoding="utf-8") for path in PATHS]
ROOMS = [ROOT / "cluebench" / name for name in ("report", "records", "foundation")]
SOURCES = [ast.parse(path.read_text(encoding="utf-8")) for room in ROOMS for path in room.glob("*.py")]


def texts(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from [*texts(node.body), *texts(node.orelse)]


def phrases_of_python():
    """What stands in Phrase(…)."""
    for node in (node for tree in SOURCES for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Phrase" and node.args:
            yield from texts(node.args[0])


def phrases_of_templates():
    for text in TEMPLATES:
        text = re.sub(r"\{#.*?#\}", "", text, flags=re.DOTALL)
        yield from re.findall(r"<[^<>]*?\sdata-t[^<>]*>([^<>{}]+)<", text)
        yield from re.findall(r'"([^"]+)"\|t(?:_attr)?\b', text)
        for pair in re.findall(r'\("([^"]+)" if [^()]+ else "([^"]+)"\)\|t\b', text):
            yield from pair
        yield from re.findall(r'\s(?:title|aria-label|placeholder|data-hint)="([^"{}]+)"', text)
        yield from re.findall(r'\bt\("([^"]+)"', text)
        yield from re.findall(r'\bmade\([^)]*\}, "([^"]+)"', text)


NEEDED = {html.unescape(text.strip()) for text in [*phrases_of_python(), *phrases_of_templates()]} - {""}


def test_the_phrases_of_the_sources_are_found():
    assert len(NEEDED) > 120 and {"What now?", "{reason} ({tasks})", "{number} row", "copied"} <= NEEDED


def test_every_phrase_has_its_chinese():
    assert [text for text in sorted(NEEDED) if not page.chinese().get(text)] == []


def test_a_translation_is_used_and_has_the_places_of_its_phrase():
    known = {node.value for tree in SOURCES for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    written = "".join(TEMPLATES)
    unused = [text for text in page.chinese() if text not in known and html.escape(text, False) not in written]
    assert [text for text in unused if text not in written] == []
    for pair in page.chinese().items():
        first, second = ({field for _, field, _, _ in Formatter().parse(one)} - {None} for one in pair)
        assert first == second, pair


def test_a_phrase_is_its_english_text_and_knows_what_was_filled_in():
    inner = Phrase("{n} of {all}", n=1, all=2)
    outer = Phrase("{what} (C3)", what=inner)
    assert outer == "1 of 2 (C3)"
    assert outer.parts() == ["{what} (C3)", {"what": ["{n} of {all}", {"n": "1", "all": "2"}]}]
    assert Phrase("a {brace}") == "a {brace}"
