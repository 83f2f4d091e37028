"""Text of a stranger's file steers neither a terminal nor a page nor a spreadsheet."""

import pytest

from cluebench.foundation.errors import one_line
from cluebench.foundation.notices import notice
from cluebench.foundation.text import shown


@pytest.mark.parametrize("style", ["text", "markdown", "csv"])
def test_what_can_not_be_printed_is_replaced(style):
    text = "甲\x1b[2J\x1b]0;title\x07 乙\u202e\udcff\n丙\u3000丁"
    assert shown(text, style).replace("\\", "") == "甲?[2J?]0;title? 乙?? 丙 丁"


def test_markdown_is_escaped():
    assert shown("a|b <script> [x](y) `c` **d**", "markdown") == r"a\|b \<script\> \[x\](y) \`c\` \*\*d\*\*"


def test_no_cell_is_a_formula():
    assert [shown(text, "csv") for text in ("=1+1", "+1+a", "@x", "-x", "-", "a=b", "-0.5", "+1e-05")] == [
        "'=1+1", "'+1+a", "'@x", "'-x", "-", "a=b", "-0.5", "+1e-05"
    ]  # fmt: skip


def test_a_line_about_an_error_has_at_most_500_characters():
    assert one_line("bad\x1b[31m\nname ") == "bad?[31m name"
    long = one_line("start " + "x" * 10_000 + " end")
    assert len(long) <= 500 and long.startswith("start ") and long.endswith(" end") and " … " in long


def test_a_notice_is_one_line_on_stderr_for_all_cards(monkeypatch, capsys):
    notice("the disk\nis full")
    monkeypatch.setenv("PADDLE_TRAINER_ID", "1")
    notice("the disk is full")
    assert capsys.readouterr() == ("", "the disk is full\n")
