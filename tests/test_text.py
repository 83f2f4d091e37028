"""Text of a stranger's file steers neither a terminal nor a page nor a spreadsheet."""

import pytest

from cluebench.foundation.errors import one_line
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


def test_errors_and_notices_go_the_same_way():
    assert one_line("bad\x1b[31m\nname") == "bad?[31m name"
