"""The READMEs: both languages say the same, and their commands work when pasted in the repository's root, in order."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from cluebench.benchmark.published import published_models
from cluebench.benchmark.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
PAIRS = [("README.md", "README_zh.md"), ("grid_search_tools/README.md", "grid_search_tools/README_zh.md")]
PAIRS += [
    (str(page.relative_to(ROOT)), str(page.with_stem(f"{page.stem}_zh").relative_to(ROOT)))
    for page in sorted((ROOT / "docs").glob("*.md"))
    if not page.stem.endswith("_zh")
]
PAGES = [*(page for pair in PAIRS for page in pair), "CONTRIBUTING.md"]
#: Commands that have flags of their own; the two that run one trial hand theirs to a fine-tuning script.
WITHOUT_HELP = {"grid_search_tools/run_cls.sh", "grid_search_tools/run_mrc.sh"}
#: Options of Slurm's commands, as far as their first hyphen.
SLURM_OPTIONS = {f"--{name}" for name in "batch cpus exclusive full gres mem open requeue signal".split()}


@dataclass
class Section:
    """What stands between one heading and the next."""

    level: int
    title: str
    blocks: list[str] = field(default_factory=list)  # code blocks, the language on the first line
    text: str = ""

    @property
    def slug(self) -> str:
        """What a link to the section ends in."""
        return "#" + re.sub(r"[^\w\- ]", "", self.title.lower()).replace(" ", "-")

    @property
    def spans(self) -> list[str]:
        """Inline code: flags, file names, values."""
        return re.findall(r"`([^`]+)`", self.text)

    @property
    def links(self) -> list[str]:
        return re.findall(r"\]\(([^)]+)\)", self.text)

    @property
    def numbers(self) -> set[str]:
        """Those of two digits or more in the text and in comments: smaller ones may be words."""
        comments = re.findall(r"(?m)(?:^|\s)#.*", "\n".join(self.blocks))
        return set(re.findall(r"(?<![A-Za-z0-9.])\d[\d.,]*\d", re.sub("`.*?`", "", "\n".join([self.text, *comments]))))

    def lines(self, pattern: str) -> int:
        return len(re.findall(f"^{pattern}", self.text, re.MULTILINE))


@cache
def sections(page: str) -> list[Section]:
    found: list[Section] = []
    block = None
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("```"):
            block = None if block is not None else found[-1].blocks
            if block is not None:
                block.append(line.strip("` "))
        elif block is not None:
            block[-1] += "\n" + line
        elif heading := re.match(r"(#+) (.*)", line):
            found.append(Section(len(heading[1]), heading[2]))
        else:
            found[-1].text += line + "\n"
    return found


def without_comments(block: str) -> str:
    lines = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in block.splitlines())
    return "\n".join(re.sub(r"\s+", " ", line) for line in lines if line)


def commands(page: str) -> list[list[str]]:
    """The words of every command in the shell blocks of a page, without variables set in front of it."""
    found = []
    for section in sections(page):
        for block in section.blocks:
            language, _, content = without_comments(block).partition("\n")
            if language == "shell":
                lines = content.replace("\\\n", " ").replace(" && ", "\n").splitlines()
                found += [[word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)] for line in lines]
    return found


def script_of(words: list[str]) -> int | None:
    """Which word is the script that a command runs."""
    return next((place for place, word in enumerate(words) if word.endswith((".py", ".sh"))), None)


@cache
def flags_known_to(script: str) -> set[str]:
    program = "bash" if script.endswith(".sh") else sys.executable
    shown = subprocess.run(
        [program, script, "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert shown.returncode == 0, shown.stderr
    return set(re.findall(r"--\w+", shown.stdout))


# Two languages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("english, chinese", PAIRS)
def test_both_languages_have_the_same_sections(english, chinese):
    assert [one.level for one in sections(english)] == [one.level for one in sections(chinese)]


def both(english, chinese):
    pairs = zip(sections(english), sections(chinese), strict=True)
    return [pytest.param(one, other, id=one.title) for one, other in pairs]


@pytest.mark.parametrize("one, other", [pair for pages in PAIRS for pair in both(*pages)])
def test_a_section_says_the_same_in_both_languages(one, other):
    assert [without_comments(block) for block in one.blocks] == [without_comments(block) for block in other.blocks]
    assert set(one.spans) == set(other.spans)
    for what in (r"\|", r"\d+\. ", "- "):
        assert one.lines(what) == other.lines(what), f"lines that begin with {what}"
    assert one.numbers == other.numbers


@pytest.mark.parametrize("_, chinese", PAIRS)
def test_a_thing_has_one_name_in_chinese(_, chinese):
    others = (
        "开发集",
        "训练日程",
        "学习速率",
        "热身",
        "超参网格",
    )  # 验证集, 训练设置, 学习率, 预热, 超参数网格
    assert [word for word in others if word in (ROOT / chinese).read_text(encoding="utf-8")] == []


def section_numbers(page):
    """Slug → place among the page's headings."""
    return {section.slug: number for number, section in enumerate(sections(page))}


@pytest.mark.parametrize("english, chinese", PAIRS)
def test_links_of_both_languages_lead_to_the_same_places(english, chinese):
    def place(page, link):
        """The file, and the number of its section: headings differ."""
        file, hash_, title = link.partition("#")
        numbers = section_numbers(page if not file else f"{Path(page).parent / file}") if hash_ else {}
        return file.replace("_zh", ""), numbers.get(f"#{title}")

    def places(page):
        return sorted(str(place(page, link)) for section in sections(page) for link in section.links)

    assert places(english) == places(chinese)


@pytest.mark.parametrize("page", PAGES)
def test_linked_files_and_sections_exist(page):
    links = [link for section in sections(page) for link in section.links if not link.startswith("http")]
    for file, hash_, title in (link.partition("#") for link in links):
        linked = Path(page).parent / file if file else Path(page)
        assert (ROOT / linked).is_file(), linked
        assert not hash_ or f"#{title}" in section_numbers(str(linked)), f"{linked}#{title}"


def test_contributing_names_files_that_are_there():
    spans = [span for section in sections("CONTRIBUTING.md") for span in section.spans]
    paths = [span for span in spans if "/" in span and span.split("/")[0] in os.listdir(ROOT) and "<" not in span]
    assert len(paths) > 20
    patterns = {path: [path, f"{path}.py", f"cluebench/{path}.py"] for path in paths}
    assert [path for path in paths if not any(any(ROOT.glob(pattern)) for pattern in patterns[path])] == []


# Commands -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_commands_name_what_is_there_from_the_root(page):
    assert commands(page) or page.startswith("docs/")
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(page):
        assert words[0] in {"make", "python", "python3", "bash", "source", "pip"}, words
        if words[0] == "make":
            assert words[1] in targets, words
        for word in words:
            if word.endswith((".py", ".sh", ".txt")):
                assert (ROOT / word).is_file(), f"{word} in {' '.join(words)}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_flags_of_commands_are_known(page):
    for words in commands(page):
        place = script_of(words)
        if place is None or words[place] in WITHOUT_HELP or words[place].startswith("benchmarks/"):
            continue
        for word in words[place + 1 :]:
            if word.startswith("--"):
                assert word in flags_known_to(words[place]), " ".join(words)


@pytest.mark.slow
@pytest.mark.parametrize("page", [english for english, _ in PAIRS])
def test_flags_in_the_text_are_known_to_some_command(page):
    scripts = {words[place] for page in PAGES for words in commands(page) if (place := script_of(words)) is not None}
    known = set().union(*(flags_known_to(script) for script in scripts - WITHOUT_HELP if "/test" not in script))
    mentioned = {flag for section in sections(page) for span in section.spans for flag in re.findall(r"--\w+", span)}
    assert mentioned <= known | SLURM_OPTIONS | {"--help"}


# Facts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAIRS[0])
def test_published_scores_are_the_published_ones(page):
    rows = re.findall(r"^\| `(.+?)` \| (\S+) \| (\S+) \| (.*) \|$", (ROOT / page).read_text(), re.MULTILINE)
    assert [(name, size, average, scores.split(" | ")) for name, size, average, scores in rows] == [
        (row.name, row.architecture, row.average, [row.scores[task] for task in TASKS])
        for row in published_models().values()
    ]


@pytest.mark.parametrize("page", PAIRS[0])
def test_the_map_names_what_is_there(page):
    """Several names in one cell stand in the folder of the first."""
    cells = re.findall(r"^\| (`.*?`) \| ", sections(page)[-2].text, re.MULTILINE)
    assert len(cells) > 3
    for cell in cells:
        first, *others = re.findall("`(.+?)`", cell)
        for path in (ROOT / first, *((ROOT / first).parent / other for other in others)):
            assert path.exists() or (ROOT / path.name).exists(), path
